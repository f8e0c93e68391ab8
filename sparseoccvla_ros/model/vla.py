"""The three parts of the model, each built by itself: they may run in three processes.

OccupancyPerception  images -> queries, points
SceneLanguage        queries -> language prefix, answers, forecast, reasoning tokens
TrajectoryPlanner    queries, reasoning tokens, ego state, command -> scored trajectories
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from sparseoccvla_ros.model.checkpoint import TOKENIZER_FOLDER, load_checkpoint
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.language import SceneLanguage, load_tokenizer, new_llm, pretrained_llm
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.model.planner import TrajectoryPlanner

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}


def build_perception(config: VLAConfig, *, weights: Path | None, seed: int = 0) -> OccupancyPerception:
    """The perception part, in evaluation mode, on the CPU.

    Args:
        config: of the whole model.
        weights: checkpoint folder; None: pretrained ResNet where the configuration names one, the rest random.
        seed: of the random weights; a part is the same whether or not other parts are built around it.

    Raises:
        FileNotFoundError, CheckpointError: see :func:`load_checkpoint`.
    """
    with _seeded(seed, 'perception'):
        perception = OccupancyPerception(config)
    if weights is None and config.backbone.pretrained is not None:
        perception.backbone.load_pretrained_resnet(config.backbone.pretrained)
    perception.backbone.to(DTYPES[config.precision])
    return _finished(perception, 'perception', config, weights)


def build_language(config: VLAConfig, *, weights: Path | None, seed: int = 0) -> SceneLanguage:
    """The language part, as :func:`build_perception`.

    Without ``weights`` the language model is the pretrained one where the configuration names one. A checkpoint brings
    its own tokenizer.

    Raises:
        ValueError: see :class:`SceneLanguage` and :func:`pretrained_llm`; or ``weights`` for a quantized model.
    """
    dtype = DTYPES[config.precision]
    if weights is not None and config.language.quantization is not None:
        raise ValueError(
            f'language.quantization is {config.language.quantization}; only pretrained weights can be quantized, not '
            f'those of a checkpoint ({weights})'
        )
    tokenizer = load_tokenizer(weights / TOKENIZER_FOLDER if weights is not None else config.language.tokenizer)
    with _seeded(seed, 'language'):
        if weights is None and config.language.pretrained is not None:
            llm = pretrained_llm(config.language, dtype)
        else:
            llm = new_llm(config.language, dtype)
        language = SceneLanguage(config, llm, tokenizer)
    return _finished(language, 'language', config, weights)


def build_planner(config: VLAConfig, *, weights: Path | None, seed: int = 0) -> TrajectoryPlanner:
    """The planner part, as :func:`build_perception`."""
    with _seeded(seed, 'planner'):
        planner = TrajectoryPlanner(config)
    return _finished(planner, 'planner', config, weights)


def _finished(module: nn.Module, part: str, config: VLAConfig, weights: Path | None) -> nn.Module:
    if weights is not None:
        load_checkpoint(weights, {part: module}, config)
    return module.eval()


@contextmanager
def _seeded(seed: int, part: str) -> Iterator[None]:
    """A random state of this part's own, and the caller's left as it was."""
    digest = hashlib.sha256(f'{seed}/{part}'.encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:7], 'big'))
        yield

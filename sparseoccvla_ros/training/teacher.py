"""The frozen network whose features the queries learn to resemble: a CLIP, or the backbone of an earlier stage."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sparseoccvla_ros.model.checkpoint import CONFIG_FILE
from sparseoccvla_ros.model.clip_teacher import ClipTeacher
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.distillation import DistillationConfig
from sparseoccvla_ros.model.vla import build_perception


class Teacher(Protocol):
    """``width`` D of a feature."""

    width: int

    def extract(self, images: Tensor) -> Tensor:
        """Images uint8 [N, H, W, 3] RGB to features [N, D, h, w]."""


class BackboneTeacher:
    """The image backbone of a checkpoint, in evaluation mode and without gradients.

    A plain object, no module, as :class:`ClipTeacher`. ``hidden_layer`` counts its pyramid levels from the coarsest.
    """

    def __init__(self, folder: Path, hidden_layer: int, device: torch.device | str = 'cpu') -> None:
        """Load it.

        Raises:
            FileNotFoundError, CheckpointError: see :func:`load_checkpoint`.
            ValueError: there are not so many levels.
        """
        config = load_model_config(folder / CONFIG_FILE)
        levels = len(config.backbone.stage_widths)
        if -hidden_layer > levels:
            raise ValueError(f'distillation.hidden_layer ({hidden_layer}) exceeds the {levels} levels of {folder}')
        perception = build_perception(config, weights=folder)
        self._backbone = perception.backbone.float().to(device).eval().requires_grad_(False)
        self._level = hidden_layer
        self.width = config.backbone.fpn_width

    @torch.no_grad()
    def extract(self, images: Tensor) -> Tensor:
        """See :class:`Teacher`."""
        return self._backbone(images)[self._level]


def load_teacher(config: DistillationConfig, device: torch.device) -> Teacher:
    """The teacher that a configuration names: a checkpoint folder of ours, or a CLIP by folder or hub id.

    Raises:
        FileNotFoundError: a path that does not exist.
        others: see :class:`BackboneTeacher` and :class:`ClipTeacher`.
    """
    folder = Path(config.teacher)
    if (folder / CONFIG_FILE).is_file():
        return BackboneTeacher(folder, config.hidden_layer, device)
    if not folder.is_dir() and (config.teacher.count('/') > 1 or config.teacher[0] in './~'):  # no id of a hub
        raise FileNotFoundError(f'losses.distillation.teacher: there is no folder {folder}')
    return ClipTeacher(config, device)

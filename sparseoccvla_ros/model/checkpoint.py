"""Weights on disk: ``DIR/model.safetensors`` and ``DIR/config.yaml``, and ``DIR/tokenizer/`` with a language part.

Names are prefixed by their part: ``perception.``, ``language.``, ``planner.``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sparseoccvla_ros.model.config import VLAConfig, config_to_yaml, load_model_config

MODEL_FILE = 'model.safetensors'
CONFIG_FILE = 'config.yaml'
TOKENIZER_FOLDER = 'tokenizer'
PARTS = ('perception', 'language', 'planner')
#: Settings that may differ from those a checkpoint was saved with: how it is run, and where weights and tokenizer once
#: came from, which the checkpoint has itself.
RUN_SETTINGS = (
    'precision', 'planner.steps', 'planner.min_diversity', 'backbone.pretrained', 'language.pretrained',
    'language.tokenizer',
)  # fmt: skip
#: Sections of a configuration that say nothing of a part; each part sees what stands before it.
FOREIGN_SECTIONS = {'perception': ('language', 'forecaster', 'planner'), 'language': ('planner',), 'planner': ()}
#: Names shown of a long list of names that do not fit.
SHOWN = 8


class CheckpointError(ValueError):
    """The checkpoint cannot be used; the message says what was expected and what was found."""


def save_checkpoint(directory: Path, modules: Mapping[str, nn.Module], config: VLAConfig) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, never a part of either.

    Args:
        directory: made if it is not there.
        modules: part name ('perception', 'language', 'planner') to module.
        config: of the whole model.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        f'{part}.{name}': tensor.detach().cpu().contiguous()
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    # tied embeddings are one tensor under two names, which safetensors does not write
    seen = set()
    for name, tensor in tensors.items():
        if tensor.data_ptr() in seen:
            tensors[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    for module in modules.values():
        tokenizer = getattr(module, 'tokenizer', None)
        if tokenizer is not None:
            tokenizer.save_pretrained(directory / TOKENIZER_FOLDER)
    text = config_to_yaml(config)
    # the weights name their config by hash: if a crash falls between the two renames, the pair is refused
    metadata = {'format': 'pt', 'config_sha256': _sha256(text)}
    with tempfile.TemporaryDirectory(dir=directory, prefix='.saving-') as folder:
        staged = Path(folder)
        (staged / CONFIG_FILE).write_text(text, encoding='utf-8')
        save_file(tensors, staged / MODEL_FILE, metadata=metadata)
        with (staged / MODEL_FILE).open('rb') as written:
            os.fsync(written.fileno())
        # save_file leaves it to its owner alone; others may read it as they may the configuration
        (staged / MODEL_FILE).chmod((staged / CONFIG_FILE).stat().st_mode)
        for name in (CONFIG_FILE, MODEL_FILE):
            (staged / name).replace(directory / name)


def load_checkpoint(directory: Path, parts: Mapping[str, nn.Module], config: VLAConfig) -> None:
    """Load the given parts; everything is read and checked before the first weight is assigned.

    Raises:
        FileNotFoundError: a file is missing.
        CheckpointError: damaged file, another model's configuration (as far as these parts depend on it), or names or
            shapes that do not fit (listed).
    """
    config_path, model_path = directory / CONFIG_FILE, directory / MODEL_FILE
    for path in (config_path, model_path):
        if not path.is_file():
            raise FileNotFoundError(f'{directory} is no checkpoint: {path.name} is missing')
    text = config_path.read_text(encoding='utf-8')
    _require_same_model(directory, load_model_config(config_path), config, parts)
    try:
        with safe_open(model_path, framework='pt') as file:
            recorded = (file.metadata() or {}).get('config_sha256')
            stored = {name: file.get_tensor(name) for name in file.keys() if name.split('.')[0] in parts}  # noqa: SIM118
            foreign = [name for name in file.keys() if name.split('.')[0] not in PARTS]  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f'{model_path} is damaged: {error}') from error
    if recorded != _sha256(text):
        raise CheckpointError(f'{config_path} is not the configuration that {model_path.name} was saved with')
    expected = {f'{part}.{name}': t for part, module in parts.items() for name, t in module.state_dict().items()}
    _require_same_tensors(model_path, stored, expected, foreign)
    for part, module in parts.items():
        own = {name.removeprefix(f'{part}.'): t for name, t in stored.items() if name.startswith(f'{part}.')}
        module.load_state_dict(own, strict=True)


def _require_same_model(directory: Path, stored: VLAConfig, config: VLAConfig, parts: Iterable[str]) -> None:
    """Compare all of two configurations that matters to any of the parts, but :data:`RUN_SETTINGS`."""
    foreign = set.intersection(*(set(FOREIGN_SECTIONS[part]) for part in parts))
    expected, found = dict(_leaves(config)), dict(_leaves(stored))
    differences = [
        f'{key}: expected {expected.get(key)}, found {found.get(key)}'
        for key in {**expected, **found}
        if expected.get(key) != found.get(key) and key not in RUN_SETTINGS and key.split('.')[0] not in foreign
    ]
    if differences:
        raise CheckpointError(f'{directory} holds another model: {"; ".join(differences[:SHOWN])}')


def _leaves(value: Any, prefix: str = '') -> list[tuple[str, Any]]:
    """Dotted keys and values of nested dataclasses."""
    if not dataclasses.is_dataclass(value):
        return [(prefix, value)]
    return [
        leaf
        for field in dataclasses.fields(value)
        for leaf in _leaves(getattr(value, field.name), f'{prefix}.{field.name}' if prefix else field.name)
    ]


def _require_same_tensors(
    path: Path, stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], foreign: list[str]
) -> None:
    problems = []
    for what, names in (
        ('missing', sorted(expected.keys() - stored.keys())),
        ('unexpected', sorted(stored.keys() - expected.keys()) + sorted(foreign)),
    ):
        if names:
            problems.append(f'{len(names)} {what}: {", ".join(names[:SHOWN])}')
    for name in sorted(expected.keys() & stored.keys()):
        wanted, found = list(expected[name].shape), list(stored[name].shape)
        if wanted != found:
            problems.append(f'{name}: expected shape {wanted}, found {found}')
    if problems:
        raise CheckpointError(f'{path} does not fit: {"; ".join(problems[: 2 + SHOWN])}')


def file_sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""From a node's parameters to what the model builders take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn

from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.nodes.base import ManagedNode
from sparseoccvla_ros.nodes.parameters import ModelParameters
from sparseoccvla_ros.resources import share_path

Part = TypeVar('Part', bound=nn.Module, covariant=True)


class Builder(Protocol[Part]):
    """build_perception, build_language or build_planner."""

    def __call__(self, config: VLAConfig, *, weights: Path | None, seed: int) -> Part:
        """The part, in evaluation mode, on the CPU."""


def build_part(node: ManagedNode, build: Builder[Part]) -> tuple[VLAConfig, torch.device, Part]:
    """The node's part of the model as its parameters say, on their device.

    Raises:
        ValueError, OSError: configuration, device or weights are wrong; names what was found and expected.
    """
    parameters: ModelParameters = node.parameters
    begin_s = time.perf_counter()
    config = load_model_config(parameters.model_config)
    device = torch_device(parameters.device)
    part = build(config, weights=weights_path(parameters.weights), seed=parameters.seed).to(device)
    node.get_logger().info(
        f'model {config.name} ({weights_text(parameters)}), {device}, {time.perf_counter() - begin_s:.1f} s'
    )
    return config, device, part


def torch_device(name: str) -> torch.device:
    """The device asked for; never another one.

    Raises:
        ValueError: not a device name, or the device is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'parameter device is {name!r}; expected cpu, cuda or cuda:N') from error
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f'parameter device is {name!r}; this process sees {torch.cuda.device_count()} CUDA devices')
    return device


def weights_path(weights: str) -> Path | None:
    """Directory of a checkpoint, as given or in the installed share; None for an empty name (untrained)."""
    if not weights:
        return None
    path = Path(weights).expanduser()
    if path.is_dir():
        return path
    try:
        return share_path(Path('weights', weights))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f'parameter weights is {weights!r}; expected a checkpoint directory or a name in weights/'
        ) from error


def weights_text(parameters: ModelParameters) -> str:
    """What to say of the weights in logs and answers."""
    return parameters.weights or f'untrained (seed {parameters.seed})'

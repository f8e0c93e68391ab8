"""From a node's parameters to what the model builders take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn

from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.model.placement import checkpoint_folder, torch_device
from sparseoccvla_ros.nodes.base import ManagedNode
from sparseoccvla_ros.nodes.parameters import ModelParameters

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
    try:
        device = torch_device(parameters.device)
        weights = checkpoint_folder(parameters.weights)
    except ValueError as error:
        raise ValueError(f'parameter {error}') from error
    part = build(config, weights=weights, seed=parameters.seed).to(device)
    node.get_logger().info(
        f'model {config.name} ({weights_text(parameters)}), {device}, {time.perf_counter() - begin_s:.1f} s'
    )
    return config, device, part


def weights_text(parameters: ModelParameters) -> str:
    """What to say of the weights in logs and answers."""
    return parameters.weights or f'untrained (seed {parameters.seed})'

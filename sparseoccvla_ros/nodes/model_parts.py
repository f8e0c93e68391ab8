"""From a node's parameters to what the model builders take."""

from __future__ import annotations

from pathlib import Path

import torch

from sparseoccvla_ros.nodes.parameters import ModelParameters
from sparseoccvla_ros.resources import share_path


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
    return path if path.is_dir() else share_path(f'weights/{weights}')


def weights_text(parameters: ModelParameters) -> str:
    """What to say of the weights in logs and answers."""
    return parameters.weights or f'untrained (seed {parameters.seed})'

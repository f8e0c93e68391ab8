"""Where a model's weights come from and where it runs: what users name, checked."""

from __future__ import annotations

from pathlib import Path

import torch

from sparseoccvla_ros.resources import share_path


def torch_device(name: str) -> torch.device:
    """The device asked for; never another one.

    Raises:
        ValueError: not a device name, or the device is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device is {name!r}; expected cpu, cuda or cuda:N') from error
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f'device is {name!r}; this process sees {torch.cuda.device_count()} CUDA devices')
    return device


def checkpoint_folder(weights: str) -> Path | None:
    """Folder of a checkpoint, as given or in the installed share; None for an empty name (untrained).

    Raises:
        ValueError: neither a folder nor the name of weights that come with the package.
    """
    if not weights:
        return None
    path = Path(weights).expanduser()
    if path.is_dir():
        return path
    try:
        return share_path(Path('weights', weights))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f'weights is {weights!r}; expected a checkpoint directory or a name in weights/') from error

"""The state of an interrupted training, so that it goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def save_run(
    path: Path, run: Mapping[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Write the state so that a kill in between leaves the old one.

    Args:
        path: of the file.
        run: what tells this run from others: arguments and configuration, as plain values.
        module: its trainable parameters are kept; the others are as they were built.
        optimizer, step: as they are.
    """
    partial = path.with_suffix('.partial')
    state = {'run': dict(run), 'weights': _trainable(module), 'optimizer': optimizer.state_dict(), 'step': step}
    torch.save(state, partial)
    partial.replace(path)


def resume_run(path: Path, run: Mapping[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load what :func:`save_run` wrote, if it is there; the step to go on with.

    Raises:
        ValueError: it is of another run, or of another model.
    """
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    differing = [name for name in run if state['run'].get(name) != run[name]]
    if differing:
        raise ValueError(f'{path} is of a run with another {", ".join(differing)}')
    weights = _trainable(module)
    if weights.keys() != state['weights'].keys():
        raise ValueError(f'{path} holds {len(state["weights"])} tensors, {len(weights)} are trained')
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor.copy_(state['weights'][name])
    optimizer.load_state_dict(state['optimizer'])
    return state['step']


def _trainable(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that are trained, by name, sharing their memory."""
    return {name: parameter.data for name, parameter in module.named_parameters() if parameter.requires_grad}

"""The state of an interrupted training, so that it goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor

from sparseoccvla_ros.evaluation.replay_summary import revision

#: Whole tensors on the CPU, whatever the processes share them by.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


class RunStateError(ValueError):
    """A state is of another run; the message says what was expected and what was found."""


class RunWriteError(OSError):
    """A state cannot be written; the message says why and what is left."""


def save_run(
    path: Path,
    run: Mapping[str, Any],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    averages: Mapping[str, Tensor] | None = None,
    *,
    writes: bool = True,
) -> None:
    """Write the state so that a kill, or a full disk, leaves the old one.

    Args:
        path: of the file.
        run: what tells this run from others: arguments and configuration, as plain values.
        module: its trainable parameters and its buffers are kept; the others are as they were built.
        optimizer, step: as they are.
        averages: of the weights, if they are averaged.
        writes: False in all processes but one: each of them has to call this, as they share the tensors.

    Raises:
        RunWriteError: the disk is full or cannot be written.
    """
    weights, optimizer_state = get_state_dict(module, optimizer, options=_WHOLE)
    kept = _kept(module)
    weights = {name: tensor for name, tensor in weights.items() if name in kept}
    whole = {name: _whole(tensor) for name, tensor in (averages or {}).items()}
    if not writes:
        return
    partial = path.with_suffix('.partial')
    state = {
        'run': dict(run),
        'revision': revision(),
        'weights': weights,
        'optimizer': optimizer_state,
        'step': step,
        'averages': whole,
    }
    try:
        with partial.open('wb') as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own writer says RuntimeError when the disk is full
        partial.unlink(missing_ok=True)
        left = f'the state before it is kept in {path}' if path.is_file() else 'there is no earlier one'
        raise RunWriteError(f'step {step}: the state cannot be written ({error}); {left}') from error


def resume_run(
    path: Path,
    run: Mapping[str, Any],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Mapping[str, Tensor] | None = None,
) -> tuple[int, str]:
    """Load what :func:`save_run` wrote, if it is there.

    Returns:
        the step to go on with, and the revision of the sources that wrote it; 0 and '' without a state.

    Raises:
        RunStateError: it is damaged, of another run, or of another model.
    """
    if not path.is_file():
        return 0, ''
    try:
        state = torch.load(path, weights_only=True, map_location='cpu')
    except (RuntimeError, UnpicklingError, EOFError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunStateError(f'{path} is damaged ({first}); without it the stage begins anew') from error
    differing = differences(state['run'], run)
    if differing:
        raise RunStateError(f'{path} is of a run with another {"; ".join(differing)}')
    expected, found = _kept(module), state['weights'].keys()
    if not expected >= found >= _kept(module, buffers=False):
        raise RunStateError(f'{path} holds {len(found)} tensors, {len(expected)} are trained')
    if averages is not None:
        for name, average in averages.items():
            average.copy_(_shared_as(average, state['averages'][name]))
    options = StateDictOptions(full_state_dict=True, ignore_frozen_params=True, strict=False)
    set_state_dict(
        module,
        optimizer,
        model_state_dict=state['weights'],
        optim_state_dict=state['optimizer'],
        options=options,
    )
    return state['step'], state['revision']


def _kept(module: nn.Module, *, buffers: bool = True) -> set[str]:
    """Names of what learns, a tied weight under each of its names, and of the buffers."""
    learn = {name for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
    return learn | ({name for name, _ in module.named_buffers()} if buffers else set())


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = '') -> list[str]:
    """Dotted keys whose values differ, with both."""
    listed = []
    for name in {**expected, **found}:
        one, other = expected.get(name), found.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            listed += differences(other, one, f'{prefix}{name}.')
        elif _plain(one) != _plain(other):
            listed.append(f'{prefix}{name}: expected {_short(one)}, found {_short(other)}')
    return listed


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _shared_as(like: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor in the shares of another one."""
    if isinstance(like, DTensor):
        return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)
    return whole


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()

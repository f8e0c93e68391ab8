"""How much memory a computation takes, in a process of its own (Linux)."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module's function in a fresh process, so that no earlier computation's memory is reused."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_mib(run: Callable[[], object], device: str) -> float:
    """Memory that a call adds, at its peak, to what is held before it, MiB."""
    gc.collect()
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    Path('/proc/self/clear_refs').write_text('5')  # the kernel counts the peak from here
    before_kib = _status_kib('VmRSS')
    run()
    return (_status_kib('VmHWM') - before_kib) / 1024


def _status_kib(field: str) -> int:
    lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{field}:'))

"""Durations of an engine's stages, true on a GPU too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StageTimer:
    """Collects ``stage_ms``. A GPU runs behind its caller, so each stage waits for the device before it ends."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.stage_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the enclosed block as ``name``."""
        begin_s = time.perf_counter()
        yield
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
        self.stage_ms[name] = (time.perf_counter() - begin_s) * 1e3

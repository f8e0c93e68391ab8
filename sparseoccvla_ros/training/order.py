"""The order in which samples are learnt from: every epoch shuffled anew, by the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The samples of an epoch, each once: int64 [count]."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def sample_at(position: int, seed: int, count: int) -> tuple[int, int]:
    """(epoch, sample) of a place in the endless row of samples."""
    epoch, place = divmod(position, count)
    return epoch, int(epoch_order(seed, epoch, count)[place])


class StepBatches:
    """Positions of this process's batches from a step on, endless: for DataLoader's ``batch_sampler``.

    Consecutive batches of the row go to the processes in turn, so that two processes together learn from what one
    would with batches of twice the size.

    Args:
        first_step: the training's step to begin with.
        batch_size: of one process.
        accumulate: batches of a process in one step.
        process: number of this one. processes: of all.
    """

    def __init__(self, first_step: int, batch_size: int, accumulate: int, process: int, processes: int) -> None:
        self._batch = first_step * accumulate
        self._batch_size, self._process, self._processes = batch_size, process, processes

    def __iter__(self) -> Iterator[list[int]]:
        batch = self._batch
        while True:
            begin = (batch * self._processes + self._process) * self._batch_size
            yield list(range(begin, begin + self._batch_size))
            batch += 1

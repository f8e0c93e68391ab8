"""What a training says: a line a step on the terminal and in OUT/log.jsonl, and curves for tensorboard."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
import torch
from torch.utils.tensorboard import SummaryWriter

from sparseoccvla_ros.training.run_state import RunWriteError

LOG_FILE = 'log.jsonl'


class TrainingLog:
    """Use as a context; writes nothing unless ``enabled``.

    What a killed run wrote after its last saved state, warnings and a line torn by the kill are removed when it goes
    on, so that no step is in the file twice.

    Args:
        out: folder.
        done: steps that the saved state has.
        steps: of the whole training.
        enabled: of the main process.
    """

    def __init__(self, out: Path, done: int, steps: int, *, enabled: bool) -> None:
        self._steps, self._enabled = steps, enabled
        self._begin_s, self._first = time.monotonic(), done
        self._waited_s = self._seconds = 0.0
        if not enabled:
            return
        path = out / LOG_FILE
        kept = []
        if path.is_file():
            kept = [line for line in path.read_text(encoding='utf-8').splitlines() if 0 < _step_of(line) <= done]
        partial = path.with_suffix('.partial')
        partial.write_text(''.join(f'{line}\n' for line in kept), encoding='utf-8')
        partial.replace(path)
        self._file = path.open('a', encoding='utf-8')
        self._board = SummaryWriter(str(out / 'tensorboard'), purge_step=done + 1)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._enabled:
            if self._seconds:
                self.note(f'waited for data {self._waited_s / self._seconds:.1%} of the time')
            for file in (self._file, self._board):
                # what a full disk did not take is still waiting; why the training ends is more to the point
                with suppress(OSError) if kind else nullcontext():
                    file.close()

    def step(
        self, step: int, terms: Mapping[str, float], lr: float, gradient_norm: float, seconds: float, waited_s: float
    ) -> None:
        """One step: its weighted terms, the learning rate, the norm before clipping, its time and the wait for data.

        Raises:
            RunWriteError: the disk is full.
        """
        self._waited_s, self._seconds = self._waited_s + waited_s, self._seconds + seconds
        if not self._enabled:
            return
        loss = sum(terms.values())
        row = {
            'step': step,
            'loss': round(loss, 6),
            **{name: round(value, 6) for name, value in terms.items()},
            'lr': lr,
            'gradient_norm': round(gradient_norm, 4),
            'step_ms': round(1e3 * seconds, 1),
            'wait_share': round(waited_s / seconds, 4),
            'rss_mb': round(psutil.Process().memory_info().rss / 2**20),
            **({'gpu_mb': round(torch.cuda.max_memory_allocated() / 2**20)} if torch.cuda.is_initialized() else {}),
        }
        self._write(row, f'step {step}')
        try:
            for name, value in row.items():
                if name != 'step':
                    self._board.add_scalar(name.replace('.', '/'), value, step)
        except OSError as error:
            raise RunWriteError(f'step {step}: {self._board.log_dir} cannot be written ({error})') from error
        groups: dict[str, float] = defaultdict(float)
        for name, value in terms.items():
            groups[name.split('.')[0]] += value
        parts = ' '.join(f'{name} {value:.4f}' for name, value in groups.items())
        left_s = (time.monotonic() - self._begin_s) / (step - self._first) * (self._steps - step)
        print(  # noqa: T201
            f'{step}/{self._steps} loss {loss:.4f} {parts} lr {lr:.2e} norm {gradient_norm:.2f} '
            f'{1e3 * seconds:.0f} ms wait {waited_s / seconds:.0%} left {left_s / 60:.0f} min',
            flush=True,
        )

    def note(self, text: str) -> None:
        """A line that is no step."""
        if self._enabled:
            print(text, flush=True)  # noqa: T201

    def warn(self, text: str) -> None:
        """On the terminal's error stream, and in the file.

        Raises:
            RunWriteError: the disk is full.
        """
        if self._enabled:
            print(f'warning: {text}', file=sys.stderr, flush=True)  # noqa: T201
            self._write({'warning': text}, 'a warning')

    def _write(self, row: Mapping[str, object], what: str) -> None:
        try:
            self._file.write(json.dumps(row) + '\n')
            self._file.flush()
        except OSError as error:  # a full disk
            raise RunWriteError(f'{what}: {self._file.name} cannot be written ({error})') from error


def _step_of(line: str) -> int:
    """The step of a line; 0 for one that is none."""
    try:
        return int(json.loads(line).get('step', 0))
    except (ValueError, AttributeError):
        return 0

"""Tables in Markdown and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Table:
    """A titled table of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table under its title."""
        lines = [self.columns, ('---',) * len(self.columns), *self.rows]
        return '\n'.join([f'### {self.title}', '', *(f'| {" | ".join(line)} |' for line in lines)])


@dataclass(frozen=True)
class Verdict:
    """Whether the data set meets one requirement, with the figure that says so."""

    requirement: str
    figure: str
    met: bool

    def line(self) -> str:
        """'met: ...' or 'MISSED: ...'."""
        return f'{"met" if self.met else "MISSED"}: {self.requirement}: {self.figure}'


def percent(share: float) -> str:
    """'12.3 %'; small shares with three digits."""
    return f'{100.0 * share:.1f} %' if share >= 0.01 or share == 0.0 else f'{100.0 * share:.3f} %'


def spread(values: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    """'median (5th to 95th percentile)'; '-' of nothing."""
    if len(values) == 0:
        return '-'
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), (5, 50, 95))
    return f'{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'

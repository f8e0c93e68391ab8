"""Two predictors on the same samples: difference and ratio of a score, with intervals over the same resampled scenes.

Two intervals of their own that overlap say little: hard scenes are hard for both. Resamples of a
:class:`~.bootstrap.SceneBootstrap` draw the same scenes for both, so that what is left is the difference between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap

Array = np.ndarray


@dataclass(frozen=True)
class Paired:
    """``difference`` is own minus other, ``ratio`` own by other: None where the other is 0, in any resample for the
    interval. Intervals are [low, high], None where there are none.
    """

    own: float
    other: float
    difference: float
    difference_interval: list[float] | None
    ratio: float | None
    ratio_interval: list[float] | None

    def summary(self) -> dict[str, object]:
        """For a JSON file."""
        return asdict(self)


def paired(
    own: Mapping[str, float | None],
    other: Mapping[str, float | None],
    own_draws: Mapping[str, Array],
    other_draws: Mapping[str, Array],
    bootstrap: SceneBootstrap,
) -> dict[str, Paired]:
    """Compare the scores that both have.

    Args:
        own, other: scores by name; None or nan where there is none.
        own_draws, other_draws: the same [R] in the resamples of ``bootstrap``; empty without one.
        bootstrap: what the draws are of.
    """
    found = {}
    for name in own:
        a, b = own[name], other.get(name)
        if a is None or b is None or np.isnan(a) or np.isnan(b):
            continue
        differences: dict[str, Array] = {}
        if name in own_draws and name in other_draws:
            differences['difference'] = own_draws[name] - other_draws[name]
            if (other_draws[name] > 0.0).all():
                differences['ratio'] = own_draws[name] / other_draws[name]
        ends = bootstrap.intervals(differences)
        found[name] = Paired(
            own=float(a),
            other=float(b),
            difference=float(a - b),
            difference_interval=ends.get('difference'),
            ratio=float(a / b) if b > 0.0 else None,
            ratio_interval=ends.get('ratio'),
        )
    return found

"""Confidence intervals by bootstrap over scenes.

Keyframes of a scene show the same street and are not independent, so that the unit is the scene. A resample draws as
many scenes as there are, with replacement, and the metric is computed anew from the sums over the drawn ones: a ratio
of sums stays one, and is never a mean of the scenes' own ratios. The interval holds the middle 95 % of the resamples.
One in which a metric does not exist (no car in the drawn scenes) does not count for that metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Array = np.ndarray

LEVEL = 0.95
RESAMPLES = 1000
LEAST_SCENES = 2


class SceneSums:
    """Integer arrays of one shape, added up scene by scene."""

    def __init__(self, *shape: int) -> None:
        self._zero = np.zeros(shape, dtype=np.int64)
        self._sums: dict[str, Array] = {}

    def add(self, scene: str, values: Array) -> None:
        """Add an array to the scene's."""
        self._sums[scene] = self._sums.get(scene, self._zero) + values

    @property
    def scenes(self) -> list[str]:
        """Names in the order in which they came."""
        return list(self._sums)

    @property
    def total(self) -> Array:
        """The sum over all scenes."""
        return sum(self._sums.values(), self._zero.copy())

    def of(self, scenes: Sequence[str]) -> Array:
        """The sums [S, ...] of scenes; zeros for one that nothing was added to."""
        return np.stack([self._sums.get(scene, self._zero) for scene in scenes])


class SceneBootstrap:
    """Resamples of a set of scenes, the same for every metric. The order in which scenes are given does not matter.

    ``off`` says why there are no intervals; '' where there are.
    """

    def __init__(self, scenes: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.scenes, self.resamples, self.seed = sorted(set(scenes)), resamples, seed
        count, self.off = len(self.scenes), ''
        if not resamples:
            self.off = 'no intervals: switched off'
        elif count < LEAST_SCENES:
            self.off = f'no intervals: they need at least {LEAST_SCENES} known scenes with scores, found {count}'
        else:
            # how often each scene is drawn: [R, S], rows add up to S
            draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=resamples)
            self._draws = draws.astype(np.float64)  # a fast product, exact up to 2^53

    def sums(self, by_scene: SceneSums) -> Array:
        """Sums over the drawn scenes, [R, ...]."""
        return np.tensordot(self._draws, by_scene.of(self.scenes).astype(np.float64), axes=1)

    def means(self, scenes: Sequence[str], values: Array) -> Array:
        """Means over the samples of the drawn scenes, [R, ...]; nan where these have none.

        Args:
            scenes: of each sample.
            values: [N, ...], one per sample.
        """
        values = np.asarray(values, dtype=np.float64)
        index = np.searchsorted(self.scenes, scenes) if len(values) else np.zeros(0, dtype=np.int64)
        sums = np.zeros((len(self.scenes), *values.shape[1:]))
        np.add.at(sums, index, values)
        samples = self._draws @ np.bincount(index, minlength=len(self.scenes))
        samples = samples.reshape(-1, *[1] * (values.ndim - 1))
        totals = np.tensordot(self._draws, sums, axes=1)
        return np.divide(totals, samples, out=np.full_like(totals, np.nan), where=samples > 0)

    def intervals(self, figures: Mapping[str, Array]) -> dict[str, list[float] | None]:
        """Low and high end by name, of figures [R] in the resamples; None for one that no resample has."""
        tail = 50.0 * (1.0 - LEVEL)
        found = {name: values[~np.isnan(values)] for name, values in figures.items()}
        return {
            name: np.percentile(values, [tail, 100.0 - tail]).tolist() if values.size else None
            for name, values in found.items()
        }

    def summary(self) -> dict[str, object]:
        """How the intervals were made, for a JSON file."""
        return {
            'unit': 'scene',
            'scenes': len(self.scenes),
            'resamples': self.resamples,
            'seed': self.seed,
            'level': LEVEL,
            'off': self.off,
        }

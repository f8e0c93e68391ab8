"""mIoU and IoU of forecast occupancy at 1, 2 and 3 s, in two conventions that must not be mixed.

Both use confusion counts summed over all samples at one time ahead, without a mask, and the IoU
TP / (TP + FP + FN) of classes 0..16. They differ in the classes that do not occur in the truth at that time:

- ``sparseworld``: a class absent from truth and prediction is left out; one that is only predicted counts as 0.
- ``occworld``: a class absent from the truth counts as 1, predicted or not, so small sets score far higher.

Geometric IoU (occupied against free) is the same in both. Where the truth has nothing occupied at all there is no
score: nan, although ``occworld`` taken to the letter gives 1 and ``sparseworld`` 0. ``mean_1_2_3s`` is the mean of the
three values, nan if one of them is. Metrics take many counts at once, [..., 18, 18], and give [...].

Sources: SparseWorld (``occ_metrics.py``), OccWorld (``utils/metric_util.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.evaluation.bootstrap import SceneSums
from sparseoccvla_ros.evaluation.occupancy_metrics import (
    LABELS,
    confusion_counts,
    geometric_iou,
    integer_labels,
    intersection_and_union,
    mean_of_numbers,
    ratio,
)

Array = np.ndarray

#: The times ahead that papers compare, and over which they take the mean, seconds.
MEAN_TIMES_S = (1.0, 2.0, 3.0)


def sparseworld_miou(counts: Array) -> Array:
    """mIoU: only classes absent from both sides are left out; nan if the truth is empty."""
    correct, union = intersection_and_union(counts)
    ious = ratio(correct, union)[..., :FREE]
    return np.where(counts[..., :FREE, :].any(axis=(-2, -1)), mean_of_numbers(ious), np.nan)[()]


def occworld_miou(counts: Array) -> Array:
    """mIoU: classes absent from the truth count as 1; nan if the truth is empty."""
    correct, union = intersection_and_union(counts)
    in_truth = counts.sum(axis=-1)[..., :FREE] > 0
    ious = np.where(in_truth, ratio(correct, union)[..., :FREE], 1.0)
    return np.where(in_truth.any(axis=-1), ious.mean(axis=-1), np.nan)[()]


#: Every mIoU is named after one of these.
CONVENTIONS: MappingProxyType[str, Callable[[Array], Array]] = MappingProxyType(
    {'sparseworld': sparseworld_miou, 'occworld': occworld_miou}
)


class ForecastScore:
    """Forecast mIoU in both conventions and geometric IoU, over samples that are added one by one."""

    def __init__(self, times_s: Sequence[float] = MEAN_TIMES_S) -> None:
        """Score at ``times_s``, seconds ahead of the sample, in the order of the grids.

        Raises:
            ValueError: no time, one that is not finite, or one given twice.
        """
        self.times_s = tuple(float(time_s) for time_s in times_s)
        if not self.times_s or len(set(self.times_s)) < len(self.times_s) or not np.isfinite(self.times_s).all():
            raise ValueError(f'times_s must be distinct finite seconds, not {self.times_s}')
        self.samples = 0
        self.by_scene = SceneSums(len(self.times_s), LABELS, LABELS)

    @property
    def counts(self) -> Array:
        """Confusion counts [T, 18, 18] of all samples."""
        return self.by_scene.total

    def add(self, predicted: Array, truth: Array, scene: str = '') -> None:
        """Add one sample.

        Args:
            predicted: labels [T, X, Y, Z] at the T times, integers 0..17.
            truth: labels of the same shape; what is outside 0..17 (255: unlabelled) is not counted.
            scene: where the sample is from, for intervals.

        Raises:
            ValueError: not one grid per time, or arrays that :func:`confusion_counts` refuses.
        """
        predicted, truth = integer_labels('predicted', predicted), integer_labels('truth', truth)
        expected = len(self.times_s)
        for name, labels in (('predicted', predicted), ('truth', truth)):
            if labels.ndim != 4 or labels.shape[0] != expected:
                raise ValueError(f'{name} {labels.shape} must be [{expected}, X, Y, Z], for times {self.times_s} s')
        counts = np.stack([confusion_counts(*grids) for grids in zip(predicted, truth, strict=True)])
        self.by_scene.add(scene, counts)
        self.samples += 1

    def result(self) -> dict[str, float]:
        """Fractions 0..1: ``sparseworld/miou/<t>s``, ``occworld/miou/<t>s`` and ``geometric_iou/<t>s`` of each time.

        With 1, 2 and 3 s among the times there is ``mean_1_2_3s`` of each as well.
        """
        return {name: float(value) for name, value in self.figures(self.counts).items()}

    def figures(self, counts: Array) -> dict[str, Array]:
        """The same of other counts [..., T, 18, 18], each [...]."""
        scores = {f'{name}/miou': miou for name, miou in CONVENTIONS.items()} | {'geometric_iou': geometric_iou}
        return {
            key: value for name, score in scores.items() for key, value in self.at_times(name, score(counts)).items()
        }

    def at_times(self, name: str, values: Array) -> dict[str, Array]:
        """Values [..., T] as ``<name>/<t>s``, and their mean at 1, 2 and 3 s where these are among the times."""
        at_time = {time_s: values[..., number] for number, time_s in enumerate(self.times_s)}
        result = {f'{name}/{time_s:g}s': value for time_s, value in at_time.items()}
        if set(MEAN_TIMES_S) <= set(at_time):
            result[f'{name}/mean_1_2_3s'] = np.mean([at_time[time_s] for time_s in MEAN_TIMES_S], axis=0)
        return result

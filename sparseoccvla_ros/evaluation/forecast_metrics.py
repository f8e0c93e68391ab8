"""mIoU and IoU of forecast occupancy at 1, 2 and 3 s, in two conventions that must not be mixed.

Both use confusion counts summed over all samples at one time ahead, without a mask, and the IoU
TP / (TP + FP + FN) of classes 0..16. They differ in the classes that do not occur in the truth at that time:

- ``sparseworld``: a class absent from truth and prediction is left out; one that is only predicted counts as 0.
- ``occworld``: a class absent from the truth counts as 1, predicted or not, so small sets score far higher.

Geometric IoU (occupied against free) is the same in both. Where the truth has nothing occupied at all there is no
score: nan, although ``occworld`` taken to the letter gives 1 and ``sparseworld`` 0. ``mean_1_2_3s`` is the mean of the
three values, nan if one of them is.

Sources: SparseWorld (``occ_metrics.py``), OccWorld (``utils/metric_util.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np

from sparseoccvla_ros.data.occ3d import FREE
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


def sparseworld_miou(counts: Array) -> float:
    """mIoU of ``counts`` [18, 18]: only classes absent from both sides are left out; nan if the truth is empty."""
    correct, union = intersection_and_union(counts)
    return mean_of_numbers(ratio(correct, union)[:FREE]) if counts[:FREE].any() else float('nan')


def occworld_miou(counts: Array) -> float:
    """mIoU of ``counts`` [18, 18]: classes absent from the truth count as 1; nan if the truth is empty."""
    correct, union = intersection_and_union(counts)
    in_truth = counts.sum(axis=1) > 0
    ious = np.where(in_truth, ratio(correct, union), 1.0)[:FREE]
    return float(ious.mean()) if in_truth[:FREE].any() else float('nan')


#: Every mIoU is named after one of these.
CONVENTIONS: MappingProxyType[str, Callable[[Array], float]] = MappingProxyType(
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
        self.counts = np.zeros((len(self.times_s), LABELS, LABELS), dtype=np.int64)

    def add(self, predicted: Array, truth: Array) -> None:
        """Add one sample.

        Args:
            predicted: labels [T, X, Y, Z] at the T times, integers 0..17.
            truth: labels of the same shape; what is outside 0..17 (255: unlabelled) is not counted.

        Raises:
            ValueError: not one grid per time, or arrays that :func:`confusion_counts` refuses.
        """
        predicted, truth = integer_labels('predicted', predicted), integer_labels('truth', truth)
        expected = len(self.times_s)
        for name, labels in (('predicted', predicted), ('truth', truth)):
            if labels.ndim != 4 or labels.shape[0] != expected:
                raise ValueError(f'{name} {labels.shape} must be [{expected}, X, Y, Z], for times {self.times_s} s')
        self.counts += np.stack([confusion_counts(*grids) for grids in zip(predicted, truth, strict=True)])
        self.samples += 1

    def result(self) -> dict[str, float]:
        """Fractions 0..1: ``sparseworld/miou/<t>s``, ``occworld/miou/<t>s`` and ``geometric_iou/<t>s`` of each time.

        With 1, 2 and 3 s among the times there is ``mean_1_2_3s`` of each as well.
        """
        scores = {f'{name}/miou': miou for name, miou in CONVENTIONS.items()} | {'geometric_iou': geometric_iou}
        result = {}
        for name, score in scores.items():
            at_time = {time_s: score(counts) for time_s, counts in zip(self.times_s, self.counts, strict=True)}
            result.update({f'{name}/{time_s:g}s': value for time_s, value in at_time.items()})
            if set(MEAN_TIMES_S) <= set(at_time):
                result[f'{name}/mean_1_2_3s'] = float(np.mean([at_time[time_s] for time_s in MEAN_TIMES_S]))
        return result

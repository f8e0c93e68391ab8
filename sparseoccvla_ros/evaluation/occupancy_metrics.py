"""Occ3D mIoU and geometric IoU of occupancy grids, from confusion counts.

Definitions, with row = truth and column = prediction of counts summed over all samples:

- IoU of a class = TP / (TP + FP + FN), and nan where the class has no voxel in the truth, even if it was predicted.
- Occ3D mIoU = mean of the IoU of classes 0..16 that are not nan; free space is not one of them.
- Geometric IoU = the same ratio for "occupied by any class" against "free"; nan where the truth has nothing occupied.

A truth with no voxel of any class has no score: nan, never 0 or 1. Voxels outside the mask, or with a truth outside
0..17 (255: unlabelled), are not counted. All values are fractions 0..1; the papers print percent. Metrics take many
counts at once, [..., 18, 18], and give [...].

Source: Occ3D (arXiv 2304.14365) and its evaluation as used by OPUS and SparseOcc.
"""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE
from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap, SceneSums

Array = np.ndarray

#: The classes and free space.
LABELS = FREE + 1


def integer_labels(name: str, labels: Array) -> Array:
    """``labels`` as an array.

    Raises:
        ValueError: they are no integers; ``name`` says whose they are.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f'{name} has dtype {labels.dtype}; labels are integers')
    return labels


def confusion_counts(predicted: Array, truth: Array, mask: Array | None = None) -> Array:
    """Count each pair of true and predicted label.

    Args:
        predicted: labels of any shape, integers 0..17, 17 = free.
        truth: labels of the same shape; what is outside 0..17 is not counted.
        mask: bool or 0/1 of the same shape, true where to count; None counts everywhere.

    Returns:
        int64 [18, 18], row = truth, column = prediction.

    Raises:
        ValueError: shapes differ, a dtype is wrong, a mask has values other than 0 and 1, or a counted prediction is
            outside 0..17: left out like the truth, it would pass for a better score.
    """
    predicted, truth = integer_labels('predicted', predicted), integer_labels('truth', truth)
    if predicted.shape != truth.shape:
        raise ValueError(f'predicted {predicted.shape} and truth {truth.shape} differ in shape')
    counted = truth < LABELS
    if np.issubdtype(truth.dtype, np.signedinteger):
        counted &= truth >= 0
    if mask is not None:
        counted &= _boolean_mask(mask, truth.shape)
    truth, predicted = truth[counted], predicted[counted]
    if predicted.size and not 0 <= predicted.min() <= predicted.max() < LABELS:
        raise ValueError(f'predicted labels {predicted.min()}..{predicted.max()} are not within 0..{FREE}')
    # 18 x 18 pairs need 9 bits: the smallest type that holds them halves the time for the 640,000 voxels of a grid
    pairs = truth.astype(np.uint16) * np.uint16(LABELS) + predicted.astype(np.uint16)
    return np.bincount(pairs, minlength=LABELS * LABELS).reshape(LABELS, LABELS).astype(np.int64, copy=False)


def intersection_and_union(counts: Array) -> tuple[Array, Array]:
    """TP [..., 18] and TP + FP + FN [..., 18] of each label of ``counts`` [..., 18, 18]."""
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    return correct, counts.sum(axis=-1) + counts.sum(axis=-2) - correct


def class_iou(counts: Array) -> Array:
    """IoU [..., 18] of each class and of free space; nan where the truth has no such voxel, predicted or not."""
    correct, union = intersection_and_union(counts)
    return ratio(correct, np.where(counts.sum(axis=-1) > 0, union, 0))


def occ3d_miou(counts: Array) -> Array:
    """Mean IoU over those of classes 0..16 that occur in the truth; nan if none does."""
    return mean_of_numbers(class_iou(counts)[..., :FREE])


def geometric_iou(counts: Array) -> Array:
    """IoU of occupied against free; nan if the truth has nothing occupied."""
    truth = counts[..., :FREE, :].sum(axis=(-2, -1))
    correct = counts[..., :FREE, :FREE].sum(axis=(-2, -1))
    union = truth + counts[..., FREE, :FREE].sum(axis=-1)
    return ratio(correct, np.where(truth > 0, union, 0))


def ratio(numerators: Array, denominators: Array) -> Array:
    """Quotients, float64; nan where the denominator is 0."""
    quotients = np.full(np.shape(denominators), np.nan)
    np.divide(numerators, denominators, out=quotients, where=np.asarray(denominators) > 0)
    return quotients[()]  # a single one as a number


def mean_of_numbers(values: Array) -> Array:
    """Mean over the last axis of what is not nan; nan if nothing is left."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0.0).sum(axis=-1), there.sum(axis=-1))


def _boolean_mask(mask: Array, shape: tuple[int, ...]) -> Array:
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f'mask {mask.shape} and truth {shape} differ in shape')
    if mask.dtype == bool:
        return mask
    if not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(f'mask has dtype {mask.dtype}; it must be bool or 0/1 integers')
    if mask.size and not 0 <= mask.min() <= mask.max() <= 1:
        raise ValueError(f'mask has values {mask.min()}..{mask.max()}; it must be 0/1')
    return mask.astype(bool)


class OccupancyScore:
    """Occ3D mIoU and geometric IoU over samples that are added one by one.

    Scores inside and outside a mask are not comparable, so the mask is named once and stands in every result's name.
    """

    def __init__(self, mask_name: str | None = 'camera') -> None:
        """``mask_name``: which mask every sample comes with (``camera``, ``lidar``); None: samples have no mask."""
        self.prefix = 'no_mask' if mask_name is None else f'{mask_name}_mask'
        self.samples = 0
        self.by_scene = SceneSums(LABELS, LABELS)
        self._masked = mask_name is not None

    @property
    def counts(self) -> Array:
        """Confusion counts [18, 18] of all samples."""
        return self.by_scene.total

    def add(self, predicted: Array, truth: Array, mask: Array | None = None, scene: str = '') -> None:
        """Add a sample, or a batch of them.

        Args:
            predicted: labels [..., X, Y, Z], integers 0..17.
            truth: labels of the same shape; what is outside 0..17 is not counted.
            mask: bool or 0/1 of the same shape; None exactly when the score was made without a mask.
            scene: where the sample is from, for intervals.

        Raises:
            ValueError: a mask is missing or not expected, or arrays that :func:`confusion_counts` refuses.
        """
        if self._masked and mask is None:
            raise ValueError(f'a sample without mask cannot count in a score named {self.prefix}')
        if not self._masked and mask is not None:
            raise ValueError(f'a sample with a mask cannot count in a score named {self.prefix}')
        self.by_scene.add(scene, confusion_counts(predicted, truth, mask))
        self.samples += 1

    def result(self) -> dict[str, float]:
        """Fractions 0..1: ``<mask>/miou``, ``<mask>/geometric_iou`` and ``<mask>/iou/<class>``; nan = not in the truth.

        ``<mask>`` is ``camera_mask``, ``lidar_mask`` or ``no_mask``.
        """
        return {name: float(value) for name, value in self._figures(self.counts).items()}

    def resampled(self, bootstrap: SceneBootstrap) -> dict[str, Array]:
        """The same [R] of each resample."""
        return self._figures(bootstrap.sums(self.by_scene))

    def _figures(self, counts: Array) -> dict[str, Array]:
        scores = {'miou': occ3d_miou(counts), 'geometric_iou': geometric_iou(counts)}
        ious = class_iou(counts)
        scores |= {f'iou/{name}': ious[..., label] for label, name in enumerate(CLASS_NAMES)}
        return {f'{self.prefix}/{name}': value for name, value in scores.items()}

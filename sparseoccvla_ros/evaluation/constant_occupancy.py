"""Predictors of occupancy that see nothing: the same labels for every keyframe, learnt from training labels.

``most_likely``: of each voxel the label it has most often, free among them. That is the best constant in the share of
right voxels, but it says free wherever a voxel is occupied in less than about half of the keyframes.
``best_threshold``: occupied where the share of occupied labels exceeds t, with the most frequent occupied class; t in
hundredths with the highest mIoU on the TRAINING labels.

Either has one map counted in the whole grid and one counted where cameras see, each judged on its own ground: what the
cameras see is occupied far more often, and a map of the whole grid would be an easy opponent there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, load_labels
from sparseoccvla_ros.data.splits import split_scenes
from sparseoccvla_ros.evaluation.occupancy_metrics import LABELS, occ3d_miou

Array = np.ndarray

#: Thresholds are 0, 1/STEPS, ... below 1.
STEPS = 100


@dataclass(frozen=True, eq=False)
class ConstantMaps:
    """Labels uint8 [200, 200, 16] to be judged in the whole grid, and within camera masks; ``title`` tells whence."""

    name: str
    title: str
    grid: Array
    camera: Array


class LabelCounts:
    """How often each of the V voxels of a grid has each label, over keyframes added one by one: int32 [V, 18]."""

    def __init__(self, shape: tuple[int, ...] = GRID_SHAPE) -> None:
        self._shape = shape
        self.counts = np.zeros((np.prod(shape), LABELS), dtype=np.int32)

    def add(self, semantics: Array, mask: Array | None = None) -> None:
        """Count a keyframe's labels [X, Y, Z], where the mask of that shape says so; unlabelled ones never."""
        labels = semantics.reshape(-1)
        counted = labels < LABELS
        if mask is not None:
            counted &= mask.reshape(-1) > 0
        voxels = np.flatnonzero(counted)
        self.counts[voxels, labels[voxels]] += 1

    def most_likely(self) -> Array:
        """The most frequent label of each voxel, uint8 [X, Y, Z]; free where there is none."""
        labels = np.where(self.counts.any(axis=1), self.counts.argmax(axis=1), FREE)
        return labels.astype(np.uint8).reshape(self._shape)

    def best_threshold(self) -> tuple[Array, float]:
        """The map uint8 [X, Y, Z] with the highest mIoU on the counted labels, and its t; the lowest of equals."""
        classes = self.counts[:, :FREE].argmax(axis=1)
        occupied = self.counts[:, :FREE].sum(axis=1, dtype=np.int64)
        total = occupied + self.counts[:, FREE]
        # occupied at t = k / STEPS exactly if k <= level
        level = -(-STEPS * occupied // np.maximum(total, 1)) - 1
        # truth of the voxels that come to be predicted as a class at each level: [STEPS, 17, 18]
        place, wanted = level * FREE + classes, level >= 0
        gained = np.stack(
            [
                np.bincount(place[wanted], self.counts[wanted, label], minlength=STEPS * FREE).reshape(STEPS, FREE)
                for label in range(LABELS)
            ],
            axis=-1,
        )
        confusion = np.zeros((STEPS, LABELS, LABELS))
        confusion[:, :, :FREE] = np.cumsum(gained[::-1], axis=0)[::-1].swapaxes(1, 2)
        confusion[:, :, FREE] = self.counts.sum(axis=0, dtype=np.int64) - confusion[:, :, :FREE].sum(axis=-1)
        miou = occ3d_miou(confusion)
        best = 0 if np.isnan(miou).all() else int(np.nanargmax(miou))
        labels = np.where(level >= best, classes, FREE).astype(np.uint8)
        return labels.reshape(self._shape), best / STEPS


def learn_constants(tables: NuScenesTables, gts_root: Path, judged_tokens: Collection[str]) -> list[ConstantMaps]:
    """Both predictors, learnt from all keyframes of the training split of a data set.

    Args:
        tables: of the data set.
        gts_root: its labels, Occ3D's ``gts`` folder.
        judged_tokens: keyframes that the predictors are to be judged on.

    Raises:
        NuScenesError: there is no training split, it is empty or wrong, or one of its keyframes is to be judged.
        Occ3DError: labels cannot be read.
    """
    names, judged = split_scenes(tables, 'train'), frozenset(judged_tokens)
    grid, camera, masked = LabelCounts(), LabelCounts(), False
    for name in names:
        for sample in tables.scene(name).samples:
            if sample.token in judged:
                raise NuScenesError(f'the constant learns from {name}, which is to be judged; name other scenes')
            labels = load_labels(gts_root, name, sample.token)
            grid.add(labels.semantics)
            if labels.mask_camera is not None:
                camera.add(labels.semantics, labels.mask_camera)
                masked = True
    seen = camera if masked else grid
    (whole, whole_t), (within, within_t) = grid.best_threshold(), seen.best_threshold()
    likely = f'most likely voxel map of {len(names)} training scenes'
    best = f'best threshold t={whole_t:g}, within camera masks t={within_t:g}'
    return [
        ConstantMaps('most_likely', likely, grid.most_likely(), seen.most_likely()),
        ConstantMaps('best_threshold', best, whole, within),
    ]

"""RayIoU: where simulated lidar rays first meet the predicted and the true occupancy.

Definition: rays leave each origin in the directions of :func:`lidar_ray_directions`, through both grids. Each gives a
label and a distance (:func:`cast_rays`). Rays whose truth is free are dropped. At a threshold, a ray is a true
positive if both labels agree and the distances differ by strictly less. IoU of a class = TP / (rays whose truth it is
+ rays whose prediction it is - TP) over all samples, nan if there are no such rays; a class that is only predicted
counts as 0. RayIoU = mean over classes 0..16 that are not nan and thresholds 1, 2, 4 m. Fractions 0..1.

Source: SparseOcc (arXiv 2312.17118), ``ray_metrics.py`` and ``ego_pose_dataset.py``, and the voxel walk of 4D-Occ
(arXiv 2302.13130), ``lib/dvr``. Grids are indexed x, y, z in the ego frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparseoccvla_ros.data.occ3d import FREE, RANGE_M, VOXEL_M
from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap, SceneSums
from sparseoccvla_ros.evaluation.occupancy_metrics import (
    LABELS,
    confusion_counts,
    integer_labels,
    mean_of_numbers,
    ratio,
)
from sparseoccvla_ros.geometry import inverse

Array = np.ndarray

THRESHOLDS_M = (1.0, 2.0, 4.0)
ORIGIN_LIMIT_M = 39.0
"""Of |x| and |y|: a lidar nearer to the border of the labelled 40 m sees next to nothing of it."""
ORIGINS_PER_FRAME = 8

_AZIMUTHS = 360
_TOP_PITCH_RAD = 0.21
"""Where the nuScenes lidar's field of view ends; the last ray is the first above it."""
_BORDER = 0x80
"""Bit of the cells around the box in which rays are walked; the lower bits stand for the grids."""
_FAR_VOXELS, _BOX_CELLS = 1e6, 1 << 24
"""How far outside the grid an origin may be: what its box costs in memory, and what its voxel's number can hold."""


def lidar_ray_directions() -> Array:
    """Unit directions [14040, 3], float32, ego frame: 39 pitches, from -45 degrees upwards, x 360 azimuths from +x.

    The first ten pitches meet a ground 1 m below at 1, 2, ..., 10 m, as lidar rings do; from there upwards the last
    step between pitches is kept.
    """
    pitches_rad = [math.atan(distance_m) - 0.5 * math.pi for distance_m in range(1, 11)]
    while pitches_rad[-1] < _TOP_PITCH_RAD:
        pitches_rad.append(pitches_rad[-1] + (pitches_rad[-1] - pitches_rad[-2]))
    pitch, azimuth = np.meshgrid(pitches_rad, np.deg2rad(np.arange(_AZIMUTHS)), indexing='ij')
    rays = np.stack([np.cos(pitch) * np.cos(azimuth), np.cos(pitch) * np.sin(azimuth), np.sin(pitch)], axis=-1)
    return rays.reshape(-1, 3).astype(np.float32)


def scene_ray_origins(map_from_ego: Array, ego_from_lidar: Array) -> list[Array]:
    """Where rays leave from in each frame of a scene: the lidar's positions in all of its frames.

    Args:
        map_from_ego: [F, 4, 4], ego pose of every frame of one scene, in order of time.
        ego_from_lidar: [4, 4], or [F, 4, 4] where it changes.

    Returns:
        For each frame [O, 3], metres, in its ego frame, float64: positions with |x| and |y| below 39 m in order of
        time, and evenly spaced 8 of them where there are more.

    Raises:
        ValueError: a shape is wrong or a value is not finite.
    """
    map_from_ego, ego_from_lidar = np.asarray(map_from_ego, np.float64), np.asarray(ego_from_lidar, np.float64)
    frames = len(map_from_ego)
    if map_from_ego.shape != (frames, 4, 4) or ego_from_lidar.shape not in ((4, 4), (frames, 4, 4)):
        raise ValueError(f'map_from_ego {map_from_ego.shape}, ego_from_lidar {ego_from_lidar.shape}: need [F, 4, 4]')
    if not (np.isfinite(map_from_ego).all() and np.isfinite(ego_from_lidar).all()):
        raise ValueError('a pose of the scene is not finite')
    lidars_map = (map_from_ego @ ego_from_lidar)[:, :, 3]  # [F, 4], homogeneous
    origins = []
    for ego_from_map in inverse(map_from_ego):
        lidars_ego = (lidars_map @ ego_from_map.T)[:, :3]
        near = lidars_ego[(np.abs(lidars_ego[:, :2]) < ORIGIN_LIMIT_M).all(axis=1)]
        if len(near) > ORIGINS_PER_FRAME:
            near = near[np.round(np.linspace(0, len(near) - 1, ORIGINS_PER_FRAME)).astype(np.int64)]
        origins.append(near)
    return origins


def cast_rays(
    grids: Sequence[Array],
    origin_ego: Array,
    directions: Array,
    low_m: Sequence[float] = RANGE_M[:3],
    voxel_m: float = VOXEL_M,
) -> tuple[Array, Array]:
    """The first voxel that is not free on each ray, in each of several grids of one shape.

    A ray walks from voxel to voxel, next across the nearest boundary; of equal ones z comes before y, y before x. Its
    distance is where it *leaves* the voxel that stopped it. One that meets nothing is free, and its distance is where
    it leaves the grid. Around an origin outside the grid everything is free, and a ray that meets nothing then ends
    where it leaves the box around the grid and the origin.

    The walk is in voxel units and float64, but its ends are rounded to float32 first and its result is float32:
    boundaries that are nearly equal, and distances that differ by nearly a threshold, then fall as in the reference.
    All grids share one walk, of all rays at once: under 300 bytes per ray, and per voxel 1 + G.

    Args:
        grids: up to 7 of [X, Y, Z], labels 0..255, 17 = free.
        origin_ego: [3], metres.
        directions: [N, 3], any length that is not zero.
        low_m: the grid's lowest corner, metres.
        voxel_m: edge of a voxel, metres.

    Returns:
        Labels [G, N], uint8, and distances [G, N], float32, metres.

    Raises:
        ValueError: wrong shapes or dtypes, an origin not finite or far away, a direction not finite or zero.
    """
    start, rays = _in_voxels(origin_ego, directions, low_m, voxel_m)
    first = np.floor(start).astype(np.int64)
    boxes, stops, corner = _boxed(grids, first)
    count = len(rays)

    # rows x, y, z: when a ray crosses its next boundary, the time between two, and where that leads in the box
    forward = rays >= 0
    cell_steps = np.array([stops.shape[1] * stops.shape[2], stops.shape[2], 1])
    never = np.finfo(np.float64).max  # not inf: times 0 it stays a number
    with np.errstate(divide='ignore', invalid='ignore'):
        times = np.where(rays != 0, (first + forward - start) / rays, never).T.copy()
        periods = np.where(rays != 0, 1.0 / np.abs(rays), never).T.copy()
    strides = np.where(forward, cell_steps, -cell_steps).T.copy()
    cells, entered, ids = np.full(count, (first - corner) @ cell_steps), np.zeros(count), np.arange(count)
    pending = np.full(count, _BORDER | ((1 << len(boxes)) - 1), dtype=np.uint8)  # what has not stopped a ray yet

    labels = np.full((len(boxes), count), FREE, dtype=np.uint8)
    hit_at, gone_at = np.zeros((len(boxes), count)), np.zeros(count)
    stops, finished = stops.reshape(-1), 0
    while ids.size:
        before_z = np.minimum(times[0], times[1])
        left = np.minimum(before_z, times[2])
        stopped = stops.take(cells) & pending
        at = np.flatnonzero(stopped)
        if at.size:
            for g, box in enumerate(boxes):
                hit = at[stopped[at] & (1 << g) > 0]
                labels[g, ids[hit]] = box.take(cells[hit])
                hit_at[g, ids[hit]] = left[hit]
            gone = stopped[at] == _BORDER
            gone_at[ids[at[gone]]] = entered[at[gone]]
            pending[at] &= ~stopped[at]
            done = at[gone | (pending[at] == _BORDER)]
            pending[done], strides[:, done] = 0, 0  # they stand still until they are taken out
            finished += done.size
            if 4 * finished >= ids.size:
                keep = np.flatnonzero(pending)
                times, periods, strides = times.take(keep, 1), periods.take(keep, 1), strides.take(keep, 1)
                cells, ids, pending, finished = cells[keep], ids[keep], pending[keep], 0
                before_z, left = before_z[keep], left[keep]
        x_first, z_later = times[0] < times[1], before_z < times[2]
        crossed = np.stack([x_first & z_later, ~x_first & z_later, ~z_later])
        times += periods * crossed
        for steps in strides * crossed:
            cells += steps
        entered = left
    distances = np.where(labels == FREE, gone_at, hit_at)
    return labels, distances.astype(np.float32) * np.float32(voxel_m)


def _in_voxels(origin_ego: Array, directions: Array, low_m: Sequence[float], voxel_m: float) -> tuple[Array, Array]:
    """Start [3] and unit directions [N, 3], in voxel units from the grid's corner, float64 of float32 ends."""
    origin, directions = np.asarray(origin_ego, np.float32), np.asarray(directions, np.float32)
    if origin.shape != (3,) or directions.ndim != 2 or directions.shape[1] != 3:
        raise ValueError(f'origin {origin.shape} and directions {directions.shape} must be [3] and [N, 3]')
    low, voxel = np.asarray(low_m, np.float32), np.float32(voxel_m)
    start = ((origin - low) / voxel).astype(np.float64)
    if not (np.abs(start) < _FAR_VOXELS).all():
        raise ValueError(f'origin {origin} is not near the grid')
    rays = ((directions + origin - low) / voxel).astype(np.float64) - start
    lengths = np.sqrt((rays**2).sum(axis=1, keepdims=True))
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError('a direction is zero or not finite')
    return start, rays / lengths


def _boxed(grids: Sequence[Array], first: Array) -> tuple[Array, Array, Array]:
    """Grids in a box that also holds the voxel ``first`` [3], with a border of one cell all around.

    Returns:
        The grids [G, cells], uint8; what stops a ray in each cell [x, y, z], uint8 with a bit per grid and one for the
        border; the voxel [3] that is the box's corner.
    """
    grids = [integer_labels('grid', grid) for grid in grids]
    shape = grids[0].shape if grids else ()
    if not 1 <= len(grids) <= 7 or len(shape) != 3 or any(grid.shape != shape for grid in grids):
        raise ValueError(f'grids must be 1 to 7 of one shape [X, Y, Z], not {[grid.shape for grid in grids]}')
    below = np.maximum(0, -first) + 1
    size = below + np.maximum(shape, first + 1) + 1
    if np.prod(size, dtype=np.float64) > _BOX_CELLS:
        raise ValueError(f'the origin, in voxel {first}, is not near the grid {shape}')
    boxes = np.full((len(grids), *size), FREE, dtype=np.uint8)
    stops = np.zeros(size, dtype=np.uint8)
    inside = tuple(slice(low, low + edge) for low, edge in zip(below, shape, strict=True))
    for g, (box, grid) in enumerate(zip(boxes, grids, strict=True)):
        if grid.dtype != np.uint8 and grid.size and not 0 <= grid.min() <= grid.max() <= 255:
            raise ValueError(f'labels {grid.min()}..{grid.max()} are not within 0..255')
        box[inside] = grid
        stops |= (box != FREE).view(np.uint8) << np.uint8(g)
    for axis in range(3):
        np.moveaxis(stops, axis, 0)[[0, -1]] = _BORDER
    return boxes.reshape(len(grids), -1), stops, -below


class RayIoU:
    """RayIoU over samples that are added one by one."""

    def __init__(
        self,
        directions: Array | None = None,
        thresholds_m: Sequence[float] = THRESHOLDS_M,
        low_m: Sequence[float] = RANGE_M[:3],
        voxel_m: float = VOXEL_M,
    ) -> None:
        """The default is Occ3D's grid and the public rays; arguments as in :func:`cast_rays`."""
        self.directions = lidar_ray_directions() if directions is None else directions
        self.thresholds_m = tuple(thresholds_m)
        self.samples = 0
        self._counts = SceneSums(LABELS, LABELS)
        self._correct = SceneSums(len(self.thresholds_m), LABELS)
        self._grid = (low_m, voxel_m)

    @property
    def counts(self) -> Array:
        """Confusion counts [18, 18] of all rays whose truth is not free."""
        return self._counts.total

    @property
    def correct(self) -> Array:
        """True positives [thresholds, 18]."""
        return self._correct.total

    def add(self, predicted: Array, truth: Array, origins_ego: Array, scene: str = '') -> None:
        """Add one sample.

        Args:
            predicted: labels [X, Y, Z], integers 0..17.
            truth: labels of the same shape; rays that first meet one outside 0..17 (255: unlabelled) are not counted.
            origins_ego: [O, 3], metres, at least one; :func:`scene_ray_origins` gives those of a data set.
            scene: where the sample is from, for intervals.

        Raises:
            ValueError: no origin, a counted ray meets a predicted label outside 0..17, or :func:`cast_rays` refuses.
        """
        origins_ego = np.asarray(origins_ego)
        if origins_ego.ndim != 2 or len(origins_ego) == 0:
            raise ValueError(f'origins_ego {origins_ego.shape} must be [O, 3] with at least one origin')
        counts, correct = np.zeros_like(self.counts), np.zeros_like(self.correct)  # none of it, if an origin is refused
        for origin_ego in origins_ego:
            labels, distances_m = cast_rays((predicted, truth), origin_ego, self.directions, *self._grid)
            occupied = labels[1] != FREE
            counts += confusion_counts(*labels, occupied)
            errors_m = np.abs(distances_m[0] - distances_m[1])
            for true_positives, threshold_m in zip(correct, self.thresholds_m, strict=True):
                true_positives += np.diagonal(confusion_counts(*labels, occupied & (errors_m < threshold_m)))
        self._counts.add(scene, counts)
        self._correct.add(scene, correct)
        self.samples += 1

    def class_iou(self) -> Array:
        """IoU [thresholds, 17] of classes 0..16; nan where no ray has the class on either side."""
        return _class_iou(self.counts, self.correct)

    def result(self) -> dict[str, float]:
        """Fractions 0..1: ``rayiou/<t>m`` of each threshold and ``rayiou/mean``; nan without any counted ray."""
        return {name: float(value) for name, value in self._figures(self.counts, self.correct).items()}

    def resampled(self, bootstrap: SceneBootstrap) -> dict[str, Array]:
        """The same [R] of each resample."""
        return self._figures(bootstrap.sums(self._counts), bootstrap.sums(self._correct))

    def _figures(self, counts: Array, correct: Array) -> dict[str, Array]:
        means = mean_of_numbers(_class_iou(counts, correct))
        named = {f'rayiou/{limit_m:g}m': means[..., number] for number, limit_m in enumerate(self.thresholds_m)}
        return named | {'rayiou/mean': means.mean(axis=-1)}


def _class_iou(counts: Array, correct: Array) -> Array:
    """IoU [..., thresholds, 17] of counts [..., 18, 18] and true positives [..., thresholds, 18]."""
    rays = counts.sum(axis=-1) + counts.sum(axis=-2)
    return ratio(correct, rays[..., None, :] - correct)[..., :FREE]

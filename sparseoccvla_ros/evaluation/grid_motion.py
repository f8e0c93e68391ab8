"""Voxel grids of Occ3D's space, seen from where the vehicle stands at another time."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.data.occ3d import GRID_SHAPE, RANGE_M, VOXEL_M

Array = np.ndarray


class GridMotion:
    """Brings grids [200, 200, 16] of one ego frame into another: each voxel takes what lies at its middle.

    Nearest neighbour, in all six degrees of freedom. With no motion nothing changes; with any other, thin things lose
    or gain a voxel here and there: two exact grids of the same still street no longer agree entirely.

    Args:
        source_ego_from_target_ego: [4, 4], from the ego frame of the result into that of the grids that are moved.

    Raises:
        ValueError: it is not a finite [4, 4].
    """

    def __init__(self, source_ego_from_target_ego: Array) -> None:
        pose = np.asarray(source_ego_from_target_ego, dtype=np.float64)
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise ValueError(f'source_ego_from_target_ego must be a finite [4, 4], got {pose}')
        low_m = np.array(RANGE_M[:3])
        middles_m = [low + VOXEL_M * (np.arange(cells) + 0.5) for low, cells in zip(low_m, GRID_SHAPE, strict=True)]
        x, y, z = (middles[:, None] * pose[:3, axis] for axis, middles in enumerate(middles_m))  # [cells, 3] each
        source_m = x[:, None, None] + y[None, :, None] + (z + pose[:3, 3])[None, None]  # [X, Y, Z, 3]
        # a middle that no motion, or one by whole voxels, leaves a rounding error beside a middle stays well inside
        index = np.floor((source_m - low_m) / VOXEL_M).astype(np.int64)
        self._within = ((index >= 0) & (index < GRID_SHAPE)).all(axis=-1)
        index[~self._within] = 0
        self._source = np.ravel_multi_index(tuple(np.moveaxis(index, -1, 0)), GRID_SHAPE)

    def moved(self, grid: Array, outside: int) -> Array:
        """A grid in the target frame; ``outside`` where it lies beyond the range of ``grid``.

        Raises:
            ValueError: another shape.
        """
        if grid.shape != GRID_SHAPE:
            raise ValueError(f'grid must be {GRID_SHAPE}, got {grid.shape}')
        return np.where(self._within, grid.reshape(-1)[self._source], np.asarray(outside, dtype=grid.dtype))

"""The map image of a scene: where a car may drive, from above."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES
from sparseoccvla_ros.world.scene import Scene
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import GROUND_LABELS

#: The devkit takes this resolution for granted.
MAP_M_PER_PX = 0.1
#: The map reaches this far beyond the ego's way, as far as boxes do.
MARGIN_M = 75.0
#: Pixels along a side of the squares that are looked at first; only those that differ from a neighbour are looked at
#: pixel by pixel. Nothing wider than such a square escapes; of pointed ends, the tip may.
SQUARE_PX = 8
DRIVEABLE = CLASS_NAMES.index('driveable_surface')


def draw_driveable_map(scene: Scene) -> np.ndarray:
    """Driveable area uint8 [H, W], 255 where a car may drive; the world's (0, 0) is the lower left corner."""
    way_m = np.array([scene.world_from_ego(time_s)[:2, 3] for time_s in np.arange(0.0, scene.duration_s + 0.5, 0.5)])
    columns, rows = (int((way_m[:, axis].max() + MARGIN_M) / (SQUARE_PX * MAP_M_PER_PX)) + 1 for axis in (0, 1))
    side_m = SQUARE_PX * MAP_M_PER_PX
    y, x = np.meshgrid((np.arange(rows) + 0.5) * side_m, (np.arange(columns) + 0.5) * side_m, indexing='ij')
    coarse = _driveable(scene.plan, x.ravel(), y.ravel()).reshape(rows, columns)
    around = np.pad(coarse, 1, mode='edge')
    low, high = coarse.copy(), coarse.copy()
    for down in range(3):
        for right in range(3):
            neighbour = around[down : down + rows, right : right + columns]
            low, high = low & neighbour, high | neighbour
    image = np.repeat(np.repeat(coarse, SQUARE_PX, axis=0), SQUARE_PX, axis=1)
    row, column = np.nonzero(low != high)
    inner = np.arange(SQUARE_PX)
    fine_row = (row[:, None, None] * SQUARE_PX + inner[None, :, None]).repeat(SQUARE_PX, axis=2).ravel()
    fine_column = (column[:, None, None] * SQUARE_PX + inner[None, None, :]).repeat(SQUARE_PX, axis=1).ravel()
    image[fine_row, fine_column] = _driveable(
        scene.plan, (fine_column + 0.5) * MAP_M_PER_PX, (fine_row + 0.5) * MAP_M_PER_PX
    )
    return np.where(image, 255, 0).astype(np.uint8)[::-1]


def _driveable(plan: Plan, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    return GROUND_LABELS[plan.ground_at(x_m, y_m)] == DRIVEABLE

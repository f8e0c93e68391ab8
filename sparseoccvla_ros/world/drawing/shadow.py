"""Shadows on the ground: a raster seen from above."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from sparseoccvla_ros.world.bodies.solids import Solid

REACH_M, CELL_M, SNAP_M = 64.0, 0.125, 16.0
#: What stands farther beyond the raster's edge throws no shadow into it.
BEYOND_M = 50.0
DARK, OUTSIDE = 40, 0.75


def snapped_origin(eye_m: np.ndarray, reach_m: float) -> np.ndarray:
    """Corner [2] of a square raster around a place [2] whose cells are fixed in the world.

    So nothing in it crawls when the eye moves, and what stands still need not be drawn anew for each image.
    """
    return np.floor((eye_m - reach_m + 0.5 * SNAP_M) / SNAP_M) * SNAP_M


class ShadowMap:
    """Shadows of one scene's solids.

    Args:
        solids: all of them.
        thing: index of each one's thing [S].
        still: whether it never moves [S].
        towards_light: unit vector [3], world axes.
        blur_m: width of the shadows' edges.
    """

    def __init__(
        self, solids: Sequence[Solid], thing: np.ndarray, still: np.ndarray, towards_light: np.ndarray, blur_m: float
    ) -> None:
        self._thing, self._still = thing, still
        # Every solid's corners in one array; the last is repeated where there are fewer.
        most = max((len(solid.vertices_m) for solid in solids), default=1)
        corners = [np.pad(s.vertices_m, ((0, most - len(s.vertices_m)), (0, 0)), mode='edge') for s in solids]
        self._corners_m = np.array(corners, dtype=np.float32).reshape(-1, most, 3)
        self._slope = towards_light[:2] / towards_light[2]
        self._blur = 2 * int(0.5 * blur_m / CELL_M) + 1
        self._cached: tuple[np.ndarray, np.ndarray] | None = None

    def lit(self, eye_m: np.ndarray, poses: np.ndarray, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """Share of light [N] float32 that reaches world points; ``eye_m`` [2] is the camera's place."""
        cells = int(2.0 * REACH_M / CELL_M)
        origin = snapped_origin(eye_m, REACH_M)
        near = np.abs(poses[:, :2, 3] - eye_m).max(axis=1, initial=0.0) < REACH_M + BEYOND_M
        near = near[self._thing]
        if self._cached is None or not np.array_equal(self._cached[0], origin):
            still = np.full((cells, cells), 255, dtype=np.uint8)
            self._cast(still, origin, np.nonzero(near & self._still)[0], poses)
            self._cached = (origin, still)
        lit = self._cached[1].copy()
        self._cast(lit, origin, np.nonzero(near & ~self._still)[0], poses)
        lit = cv2.blur(lit, (self._blur, self._blur))
        column = ((x_m - origin[0]) / CELL_M).astype(np.int64)
        row = ((y_m - origin[1]) / CELL_M).astype(np.int64)
        inside = (column >= 0) & (column < cells) & (row >= 0) & (row < cells)
        share = np.full(len(x_m), OUTSIDE, dtype=np.float32)
        share[inside] = lit[row[inside], column[inside]] * np.float32(1.0 / 255.0)
        return share

    def _cast(self, lit: np.ndarray, origin: np.ndarray, numbers: np.ndarray, poses: np.ndarray) -> None:
        # Things only turn about z.
        pose = poses[self._thing[numbers]].astype(np.float32)
        corners = self._corners_m[numbers]
        height = corners[..., 2] + pose[:, 2, 3, None]
        fallen = np.empty((*corners.shape[:2], 2), dtype=np.float32)
        for axis in range(2):
            flat = pose[:, axis, 0, None] * corners[..., 0] + pose[:, axis, 1, None] * corners[..., 1]
            place = flat + (pose[:, axis, 3, None] - np.float32(origin[axis])) - height * np.float32(self._slope[axis])
            fallen[..., axis] = (place / np.float32(CELL_M) - np.float32(0.5)) * np.float32(16.0)
        # What lies wholly beside the raster is left out.
        edge = np.float32(16.0 * len(lit))
        low, high = fallen.min(axis=1), fallen.max(axis=1)
        inside = ((high > 0.0) & (low < edge)).all(axis=1)
        for outline in np.round(fallen[inside]).astype(np.int32):
            cv2.fillConvexPoly(lit, cv2.convexHull(outline), DARK, shift=4)

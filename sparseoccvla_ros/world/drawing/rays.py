"""Grids of rays: a camera's and a turning LiDAR's.

In the sensor's frame the ray of row r and column c is ``columns[c] + rows[r]``; a point on it is told by its multiple
t of that vector: for a camera its depth, for the LiDAR its horizontal distance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.sensors.camera import PinholeCamera

NEAR_M = 0.05
#: Windows are wider by this share of a column or row, so that rounding costs no ray.
SLACK = 1e-6


@dataclass(frozen=True)
class Windows:
    """Where a grid can show convex solids: rows [top, bottom) and columns [left, right), int64 [N], of ``solid`` [N].

    ``nearest`` [N] is a lower bound of t. A solid out of view has no window; one across the end of a turn has two.
    """

    solid: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray
    nearest: np.ndarray

    def __post_init__(self) -> None:
        some = np.nonzero((self.top < self.bottom) & (self.left < self.right))[0]
        for name, values in vars(self).items():
            object.__setattr__(self, name, values[some])


class Rays(ABC):
    """A grid of rays: ``columns`` [W, 3], ``rows`` [H, 3]; what begins beyond t = ``far_m`` is not drawn."""

    def __init__(self, columns: np.ndarray, rows: np.ndarray, far_m: float) -> None:
        self.columns = columns
        self.rows = rows
        self.far_m = far_m

    @abstractmethod
    def may_show(self, middle_m: np.ndarray, radius_m: np.ndarray) -> np.ndarray:
        """Whether spheres [N, 3], [N] in the sensor's frame touch the field of view; errs by a yes only. bool [N]."""

    @abstractmethod
    def windows(self, vertices_m: np.ndarray, normals: np.ndarray, offsets_m: np.ndarray) -> Windows:
        """Find the windows of convex solids that are given in the sensor's frame.

        Args:
            vertices_m: [S, V, 3]; a solid with fewer corners repeats one.
            normals: [S, P, 3], outward; 0 where a solid has fewer planes.
            offsets_m: [S, P]; a point is inside where ``normals @ point <= offsets_m``.
        """


class PinholeRays(Rays):
    """Through the pixel centres, (column + 0.5, row + 0.5), of a camera."""

    def __init__(self, camera: PinholeCamera, far_m: float) -> None:
        k = camera.intrinsics_px
        columns, rows = np.zeros((camera.width_px, 3)), np.zeros((camera.height_px, 3))
        columns[:, 0] = (np.arange(camera.width_px) + 0.5 - k[0, 2]) / k[0, 0]
        rows[:, 1] = (np.arange(camera.height_px) + 0.5 - k[1, 2]) / k[1, 1]
        rows[:, 2] = 1.0
        super().__init__(columns, rows, far_m)
        self._camera = camera

    def may_show(self, middle_m: np.ndarray, radius_m: np.ndarray) -> np.ndarray:
        k = self._camera.intrinsics_px
        seen = (middle_m[:, 2] + radius_m > NEAR_M) & (middle_m[:, 2] - radius_m < self.far_m)
        for axis, size_px in ((0, self._camera.width_px), (1, self._camera.height_px)):
            for edge_px, sign in ((0.0, -1.0), (size_px, 1.0)):
                edge = (edge_px - k[axis, 2]) / k[axis, axis]
                seen &= sign * (middle_m[:, axis] - edge * middle_m[:, 2]) / np.hypot(1.0, edge) < radius_m
        return seen

    def windows(self, vertices_m: np.ndarray, normals: np.ndarray, offsets_m: np.ndarray) -> Windows:
        ahead = vertices_m[..., 2] > NEAR_M
        low, high = _slopes(vertices_m, ahead)
        cut = np.nonzero(ahead.any(axis=1) & ~ahead.all(axis=1))[0]
        if len(cut):
            points, used = _cuts(vertices_m[cut], ahead[cut])
            cut_low, cut_high = _slopes(points, used)
            low[cut], high[cut] = np.minimum(low[cut], cut_low), np.maximum(high[cut], cut_high)
        k = self._camera.intrinsics_px
        focal, centre = np.array([k[0, 0], k[1, 1]]), k[:2, 2]
        size = np.array([self._camera.width_px, self._camera.height_px], dtype=np.float64)
        # Pixel centres lie at halves.
        first = np.clip(np.ceil(low * focal + centre - 0.5 - SLACK), 0.0, size).astype(np.int64)
        last = np.clip(np.floor(high * focal + centre + 0.5 + SLACK), 0.0, size).astype(np.int64)
        nearest = vertices_m[..., 2].min(axis=1)
        nearest = np.where(nearest > NEAR_M, nearest, 0.0)
        return Windows(np.arange(len(low)), first[:, 1], last[:, 1], first[:, 0], last[:, 0], nearest)


class TurningRays(Rays):
    """Those of a sensor that turns about its z axis.

    ``steps`` columns make a full turn counter-clockwise from ``start_rad`` (0: the x axis); rows have the given
    ascending elevations [H], radians.
    """

    def __init__(self, start_rad: float, steps: int, elevation_rad: np.ndarray, far_m: float) -> None:
        azimuth = start_rad + 2.0 * np.pi / steps * np.arange(steps)
        columns, rows = np.zeros((steps, 3)), np.zeros((len(elevation_rad), 3))
        columns[:, 0], columns[:, 1] = np.cos(azimuth), np.sin(azimuth)
        rows[:, 2] = np.tan(elevation_rad)
        super().__init__(columns, rows, far_m)
        self._start_rad = start_rad

    def nearest_to(self, points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row and column [N] of the ray next to each point [N, 3] in the sensor's frame, and its t [N]."""
        t = np.hypot(points_m[:, 0], points_m[:, 1])
        slopes = self.rows[:, 2]
        row = np.searchsorted(0.5 * (slopes[1:] + slopes[:-1]), points_m[:, 2] / np.maximum(t, NEAR_M))
        turn_rad = np.arctan2(points_m[:, 1], points_m[:, 0]) - self._start_rad
        steps = len(self.columns)
        return row, np.round(turn_rad * (steps / (2.0 * np.pi))).astype(np.int64) % steps, t

    def may_show(self, middle_m: np.ndarray, radius_m: np.ndarray) -> np.ndarray:
        return np.hypot(middle_m[:, 0], middle_m[:, 1]) - radius_m < self.far_m

    def windows(self, vertices_m: np.ndarray, normals: np.ndarray, offsets_m: np.ndarray) -> Windows:
        x, y, z = np.moveaxis(vertices_m, -1, 0)
        low, high = z.min(axis=1), z.max(axis=1)
        nearest, farthest = _distance(vertices_m, normals, offsets_m), np.hypot(x, y).max(axis=1)
        # Steepest: the highest z over the least distance if it is above the sensor, over the greatest if below.
        with np.errstate(divide='ignore'):
            lowest = low / np.where(low < 0.0, nearest, farthest)
            steepest = high / np.where(high > 0.0, nearest, farthest)
        top = np.searchsorted(self.rows[:, 2], lowest - SLACK)
        bottom = np.searchsorted(self.rows[:, 2], steepest + SLACK, side='right')
        middle_rad = np.arctan2(y.mean(axis=1), x.mean(axis=1))
        turn_rad = np.arctan2(y, x) - middle_rad[:, None]
        turn_rad -= 2.0 * np.pi * np.round(turn_rad / (2.0 * np.pi))
        first_rad, last_rad = turn_rad.min(axis=1), turn_rad.max(axis=1)
        steps = len(self.columns)
        per_rad = steps / (2.0 * np.pi)
        left = np.ceil((middle_rad + first_rad - self._start_rad) * per_rad - SLACK).astype(np.int64)
        right = np.floor((middle_rad + last_rad - self._start_rad) * per_rad + SLACK).astype(np.int64) + 1
        # Half a turn or more: the sensor's axis passes through the solid.
        right = np.where(last_rad - first_rad > np.pi - SLACK, left + steps, right)
        left, right = left % steps, left % steps + right - left
        # What passes the end of the turn goes on at its beginning.
        return Windows(
            solid=np.tile(np.arange(len(left)), 2),
            top=np.tile(top, 2),
            bottom=np.tile(bottom, 2),
            left=np.concatenate([left, np.zeros_like(left)]),
            right=np.concatenate([np.minimum(right, steps), right - steps]),
            nearest=np.tile(nearest, 2),
        )


def _slopes(points_m: np.ndarray, use: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest (x / z, y / z), each [S, 2], of the marked points of [S, V, 3]; inf, -inf without any."""
    slope = points_m[..., :2] / np.where(use, points_m[..., 2], 1.0)[..., None]
    low = np.where(use[..., None], slope, np.inf).min(axis=1)
    return low, np.where(use[..., None], slope, -np.inf).max(axis=1)


def _cuts(vertices_m: np.ndarray, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where lines from a corner before the near plane to one behind it pierce it: a superset of the hull's edges.

    Returns:
        points [S, V * V, 3] and which of them count, bool [S, V * V].
    """
    depth_m = vertices_m[..., 2]
    crosses = ahead[:, :, None] & ~ahead[:, None, :]
    span_m = np.where(crosses, depth_m[:, None, :] - depth_m[:, :, None], 1.0)
    share = (NEAR_M - depth_m[:, :, None]) / span_m
    points = vertices_m[:, :, None] + share[..., None] * (vertices_m[:, None, :] - vertices_m[:, :, None])
    points[..., 2] = NEAR_M
    return points.reshape(len(points), -1, 3), crosses.reshape(len(points), -1)


def _distance(vertices_m: np.ndarray, normals: np.ndarray, offsets_m: np.ndarray) -> np.ndarray:
    """A lower bound [S] of the horizontal distance from the sensor's axis to convex solids, >= 0."""
    # All of a solid lies beyond the line through its nearest corner, square to the direction of its middle ...
    middle = vertices_m[..., :2].mean(axis=1)
    length = np.maximum(np.hypot(middle[:, 0], middle[:, 1]), 1e-9)
    beyond = np.einsum('svi,si->sv', vertices_m[..., :2], middle / length[:, None]).min(axis=1)
    # ... and beyond each of its planes, which are cut at the solid's least and greatest height.
    flat = np.hypot(normals[..., 0], normals[..., 1])
    low, high = vertices_m[..., 2].min(axis=1)[:, None], vertices_m[..., 2].max(axis=1)[:, None]
    steep = normals[..., 2]
    walls = (np.minimum(steep * low, steep * high) - offsets_m) / np.where(flat > 1e-6, flat, np.inf)
    return np.maximum(np.maximum(beyond, walls.max(axis=1)), 0.0)

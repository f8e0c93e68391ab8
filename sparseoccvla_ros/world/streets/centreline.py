"""A smooth plane curve, and places told by arc length along it and distance to its left."""

from __future__ import annotations

import math

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar


class Centreline:
    """A plane curve given by its curvature; ``s_m`` is arc length, ``d_m`` the distance to its left.

    The heading stays within (-pi/2, pi/2), so the curve advances along x everywhere.
    """

    STEP_M = 0.1

    def __init__(self, curvature_per_m: np.ndarray, start_m: tuple[float, float]) -> None:
        """Integrate curvatures [N], 1/m, one each ``STEP_M``, from a point where the curve runs along x.

        Raises:
            ValueError: the curve turns back.
        """
        turned = 0.5 * (curvature_per_m[1:] + curvature_per_m[:-1]) * self.STEP_M
        heading_rad = np.concatenate([[0.0], np.cumsum(turned)])
        if np.abs(heading_rad).max() > 1.4:
            raise ValueError(f'centreline turns by {np.abs(heading_rad).max():.2f} rad; at most 1.4 rad is expected')
        middle_rad = 0.5 * (heading_rad[1:] + heading_rad[:-1])
        self.curvature_per_m = curvature_per_m
        self.heading_rad = heading_rad
        self.x_m = start_m[0] + np.concatenate([[0.0], np.cumsum(np.cos(middle_rad))]) * self.STEP_M
        self.y_m = start_m[1] + np.concatenate([[0.0], np.cumsum(np.sin(middle_rad))]) * self.STEP_M
        self.length_m = (len(curvature_per_m) - 1) * self.STEP_M
        # s at equal steps of x: the first guess of `project`.
        self._s_of_x = np.interp(
            np.arange(self.x_m[0], self.x_m[-1], 1.0), self.x_m, np.arange(len(self.x_m)) * self.STEP_M
        )

    def _at(self, table: np.ndarray, s_m: np.ndarray) -> np.ndarray:
        position = np.clip(s_m / self.STEP_M, 0.0, len(table) - 1.0)
        index = np.minimum(position.astype(np.int64), len(table) - 2)
        fraction = position - index
        return table[index] * (1.0 - fraction) + table[index + 1] * fraction

    def place(self, s_m: np.ndarray, d_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World x, y (metres) and heading (radians) at arc length ``s_m`` and ``d_m`` to the left; any shape."""
        s_m, d_m = np.asarray(s_m, dtype=np.float64), np.asarray(d_m, dtype=np.float64)
        heading = self._at(self.heading_rad, s_m)
        x = self._at(self.x_m, s_m) - d_m * np.sin(heading)
        y = self._at(self.y_m, s_m) + d_m * np.cos(heading)
        return x, y, heading

    def pose(self, s_m: float, d_m: float, turn_rad: float = 0.0) -> np.ndarray:
        """``world_from_object`` [4, 4] of an object at (s, d) that faces ``turn_rad`` left of the curve's direction."""
        # Plain numbers: this runs for every moving thing in every image, where numpy's calls would cost ten times more.
        position = min(max(s_m / self.STEP_M, 0.0), len(self.x_m) - 1.0)
        index = min(int(position), len(self.x_m) - 2)
        fraction = position - index
        x, y, heading = (
            float(table[index]) * (1.0 - fraction) + float(table[index + 1]) * fraction
            for table in (self.x_m, self.y_m, self.heading_rad)
        )
        return transform_from_planar(x - d_m * math.sin(heading), y + d_m * math.cos(heading), heading + turn_rad)

    def curvature_at(self, s_m: np.ndarray) -> np.ndarray:
        """Signed curvature, 1/m, left positive."""
        return self._at(self.curvature_per_m, np.asarray(s_m, dtype=np.float64))

    def project(self, x_m: np.ndarray, y_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Arc length and left distance, metres, of world points [N].

        Newton steps on the foot of the perpendicular: good to millimetres within half a radius of the curve;
        farther out, where only grass lies, the result is still continuous in most places but not the nearest foot.
        """
        guess = np.clip((x_m - self.x_m[0]).astype(np.int64), 0, len(self._s_of_x) - 1)
        s_m = self._s_of_x[guess]
        for _ in range(4):
            heading = self._at(self.heading_rad, s_m)
            cos, sin = np.cos(heading), np.sin(heading)
            dx, dy = x_m - self._at(self.x_m, s_m), y_m - self._at(self.y_m, s_m)
            along, left = dx * cos + dy * sin, dy * cos - dx * sin
            s_m = np.clip(s_m + along / np.maximum(1.0 - self.curvature_at(s_m) * left, 0.4), 0.0, self.length_m)
        return s_m, left

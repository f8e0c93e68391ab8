"""A smooth plane curve, and places told by arc length along it and distance to its left."""

from __future__ import annotations

import math

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar


class Centreline:
    """A plane curve given by its curvature; ``s_m`` is arc length, ``d_m`` the distance to its left.

    The heading stays within 1.4 rad of that at the start, so the curve advances along one direction everywhere. Beyond
    its ends it continues straight: arc lengths below 0 and above ``length_m`` are places on these lines.
    """

    STEP_M = 0.1

    def __init__(
        self, curvature_per_m: np.ndarray, start_m: tuple[float, float] = (0.0, 0.0), start_heading_rad: float = 0.0
    ) -> None:
        """Integrate curvatures [N], 1/m, one each ``STEP_M``, from a point and a heading.

        Raises:
            ValueError: the curve turns back.
        """
        turned = 0.5 * (curvature_per_m[1:] + curvature_per_m[:-1]) * self.STEP_M
        bearing_rad = np.concatenate([[0.0], np.cumsum(turned)])
        if np.abs(bearing_rad).max() > 1.4:
            raise ValueError(f'centreline turns by {np.abs(bearing_rad).max():.2f} rad; at most 1.4 rad is expected')
        heading_rad = bearing_rad + start_heading_rad
        middle_rad = 0.5 * (heading_rad[1:] + heading_rad[:-1])
        self.curvature_per_m = curvature_per_m
        self.heading_rad = heading_rad
        self.x_m = start_m[0] + np.concatenate([[0.0], np.cumsum(np.cos(middle_rad))]) * self.STEP_M
        self.y_m = start_m[1] + np.concatenate([[0.0], np.cumsum(np.sin(middle_rad))]) * self.STEP_M
        self.length_m = (len(curvature_per_m) - 1) * self.STEP_M
        self.is_straight = not curvature_per_m.any()
        # s at equal steps along the first direction: the first guess of `project`.
        self._along = np.array([math.cos(start_heading_rad), math.sin(start_heading_rad)])
        along_m = (self.x_m - start_m[0]) * self._along[0] + (self.y_m - start_m[1]) * self._along[1]
        self._s_of_along = np.interp(np.arange(0.0, along_m[-1], 1.0), along_m, np.arange(len(along_m)) * self.STEP_M)

    def _at(self, table: np.ndarray, s_m: np.ndarray) -> np.ndarray:
        position = np.clip(s_m * (1.0 / self.STEP_M), 0.0, len(table) - 1.0)
        index = np.minimum(position.astype(np.int64), len(table) - 2)
        fraction = position - index
        return table[index] * (1.0 - fraction) + table[index + 1] * fraction

    def place(self, s_m: np.ndarray, d_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World x, y (metres) and heading (radians) at arc length ``s_m`` and ``d_m`` to the left; any shape."""
        s_m, d_m = np.asarray(s_m, dtype=np.float64), np.asarray(d_m, dtype=np.float64)
        heading = self._at(self.heading_rad, s_m)
        beyond = s_m - np.clip(s_m, 0.0, self.length_m)
        cos, sin = np.cos(heading), np.sin(heading)
        x = self._at(self.x_m, s_m) - d_m * sin + beyond * cos
        y = self._at(self.y_m, s_m) + d_m * cos + beyond * sin
        return x, y, heading

    def pose(self, s_m: float, d_m: float, turn_rad: float = 0.0) -> np.ndarray:
        """``world_from_object`` [4, 4] of an object at (s, d) that faces ``turn_rad`` left of the curve's direction."""
        x, y, heading = self.place(np.float64(s_m), np.float64(d_m))
        return transform_from_planar(float(x), float(y), float(heading) + turn_rad)

    def curvature_at(self, s_m: np.ndarray) -> np.ndarray:
        """Signed curvature, 1/m, left positive."""
        return self._at(self.curvature_per_m, np.asarray(s_m, dtype=np.float64))

    def project(self, x_m: np.ndarray, y_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Arc length and left distance, metres, of world points [N].

        Newton steps on the foot of the perpendicular: good to millimetres within half a radius of the curve;
        farther out the result is still continuous in most places but not the nearest foot.
        """
        dx, dy = x_m - self.x_m[0], y_m - self.y_m[0]
        along = dx * self._along[0] + dy * self._along[1]
        if self.is_straight:
            return along, dy * self._along[0] - dx * self._along[1]
        guess = np.clip(along.astype(np.int64), 0, len(self._s_of_along) - 1)
        s_m = self._s_of_along[guess] + np.minimum(along, 0.0) + np.maximum(along - len(self._s_of_along) + 1, 0.0)
        left = np.zeros_like(s_m)
        for _ in range(3):
            heading = self._at(self.heading_rad, s_m)
            beyond = s_m - np.clip(s_m, 0.0, self.length_m)
            cos, sin = np.cos(heading), np.sin(heading)
            dx, dy = x_m - self._at(self.x_m, s_m) - beyond * cos, y_m - self._at(self.y_m, s_m) - beyond * sin
            along, left = dx * cos + dy * sin, dy * cos - dx * sin
            bent = np.where(beyond == 0.0, self.curvature_at(s_m), 0.0)
            s_m = s_m + along / np.maximum(1.0 - bent * left, 0.4)
        return s_m, left

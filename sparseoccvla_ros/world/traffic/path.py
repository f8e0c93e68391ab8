"""The curve that a road user moves along."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

STEP_M = 0.5


@dataclass(frozen=True)
class Path:
    """A smooth plane curve in the world by arc length, one sample each ``STEP_M``.

    ``points_m`` [N, 2] and unit ``tangents`` [N, 2]; ``curvature_per_m`` [N], left positive. Between samples it is the
    cubic through both points with both tangents, so places and directions are continuous and fit each other.
    """

    points_m: np.ndarray
    tangents: np.ndarray
    curvature_per_m: np.ndarray

    @property
    def length_m(self) -> float:
        """Arc length."""
        return (len(self.points_m) - 1) * STEP_M

    @staticmethod
    def through(points_m: np.ndarray) -> Path:
        """A curve through points [M, 2], M >= 4, that lie closer together than its bends."""
        chord = np.linalg.norm(np.diff(points_m, axis=0), axis=1)
        keep = np.concatenate([[True], chord > 1e-3])
        points_m = points_m[keep]
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_m, axis=0), axis=1))])
        spline = CubicSpline(along, points_m)
        # Arc length of the spline itself, then samples at equal arc lengths.
        fine = np.linspace(0.0, along[-1], max(int(along[-1] / 0.1), 2))
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(spline(fine), axis=0), axis=1))])
        place = np.interp(np.arange(0.0, length[-1], STEP_M), length, fine)
        first, second = spline(place, 1), spline(place, 2)
        speed = np.linalg.norm(first, axis=1)
        bent = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / speed**3
        return Path(spline(place), first / speed[:, None], bent)

    def at(self, s_m: float) -> tuple[float, float, float, float]:
        """World x, y, heading (radians) and curvature (1/m) at an arc length; beyond the ends it goes straight on."""
        # Plain numbers: this runs for every road user in every image, where numpy's calls would cost ten times more.
        last = len(self.points_m) - 1
        place = s_m / STEP_M
        index = min(max(int(place), 0), last - 1)
        u = min(max(place - index, 0.0), 1.0)
        x0, y0 = self.points_m[index].tolist()
        x1, y1 = self.points_m[index + 1].tolist()
        cx0, cy0 = self.tangents[index].tolist()
        cx1, cy1 = self.tangents[index + 1].tolist()
        a, b = u * u * (3.0 - 2.0 * u), STEP_M * u * (1.0 - u) ** 2
        c = STEP_M * u * u * (u - 1.0)
        x = x0 + a * (x1 - x0) + b * cx0 + c * cx1
        y = y0 + a * (y1 - y0) + b * cy0 + c * cy1
        da, db, dc = 6.0 * u * (1.0 - u) / STEP_M, (1.0 - u) * (1.0 - 3.0 * u), u * (3.0 * u - 2.0)
        dx = da * (x1 - x0) + db * cx0 + dc * cx1
        dy = da * (y1 - y0) + db * cy0 + dc * cy1
        heading = math.atan2(dy, dx)
        beyond = s_m - min(max(s_m, 0.0), last * STEP_M)
        bent = float(self.curvature_per_m[index]) * (1.0 - u) + float(self.curvature_per_m[index + 1]) * u
        return x + beyond * math.cos(heading), y + beyond * math.sin(heading), heading, bent if beyond == 0.0 else 0.0

    def speed_limits_mps(self, lateral_mps2: float, brake_mps2: float, cap_mps: np.ndarray) -> np.ndarray:
        """Greatest speed at each sample [N] with which comfortable braking meets every bend and cap [N] ahead."""
        limit = np.minimum(np.sqrt(lateral_mps2 / np.maximum(np.abs(self.curvature_per_m), 1e-4)), cap_mps)
        gain = 2.0 * brake_mps2 * STEP_M
        # v(s)^2 <= v(s + ds)^2 + 2 b ds backwards along the path, as one running minimum.
        squared = limit[::-1] ** 2 - gain * np.arange(len(limit))
        return np.sqrt(np.minimum.accumulate(squared)[::-1] + gain * np.arange(len(limit))[::-1])


def turn_points(angle_rad: float, tangent_m: float) -> np.ndarray:
    """Points [M, 2] of a turn that starts at the origin along x and leaves at ``angle_rad``.

    Its curvature rises, stays and falls, a quarter, a half and a quarter of its length; both straight lines that it
    joins meet ``tangent_m`` ahead of the start.
    """
    share = np.linspace(0.0, 1.0, 201)
    profile = np.clip(np.minimum(share, 1.0 - share) * 4.0, 0.0, 1.0)
    heading = np.concatenate([[0.0], np.cumsum(0.5 * (profile[1:] + profile[:-1]))])
    heading *= angle_rad / heading[-1]
    middle = 0.5 * (heading[1:] + heading[:-1])
    steps = np.column_stack([np.cos(middle), np.sin(middle)])
    unit = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    # By symmetry the start and the end lie equally far from where the lines meet.
    end = unit[-1]
    tangent = end[0] - end[1] / math.tan(angle_rad)
    points = unit * (tangent_m / tangent)
    count = max(int(np.linalg.norm(np.diff(points, axis=0), axis=1).sum() / 0.5), 8)
    return points[np.round(np.linspace(0, 200, count + 1)).astype(int)]

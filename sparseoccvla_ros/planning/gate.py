"""The safety gate: what a plan must satisfy before it leaves the planner, checked outside the network.

Accelerations and jerks are differences of the mean speeds of 0.5 s steps, so each is a weighted mean of the true one
over the steps: a plan inside the limits is never refused for coarse sampling, and what exceeds a limit for most of a
step is found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import GROUND_CLASSES
from sparseoccvla_ros.planning.trajectory import (
    WAYPOINT_STEP_S,
    Trajectory,
    resample,
    steps_along,
    trajectory_from_waypoints,
)
from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.runtime.scene import OccupancyPoints

Array = np.ndarray

TOLERANCE = 0.05
"""Relative: measured speeds and network outputs are not exact, and a limit is never met to the last digit."""

SPEED_TOLERANCE_MPS = 0.3
"""Of the measured speed at the start, against the plan's first step."""

POSITION_TOLERANCE_M = 0.02
"""Of a waypoint: at walking speed the direction of a step, and with it the curvature, is mostly noise."""

COLLISION_RATE_HZ = 10.0
"""The footprint is swept at this rate: 3 m apart at the top speed, less than the vehicle's length."""

GROUND_CLEARANCE_M = 0.3
"""Occupied points below this are taken for the road."""


@dataclass(frozen=True)
class Check:
    """One check's outcome: passed while ``value`` <= ``limit``, both in ``unit``."""

    name: str
    value: float
    limit: float
    unit: str
    detail: str = ''

    @property
    def passed(self) -> bool:
        """False as well where the value is NaN."""
        return self.value <= self.limit

    @property
    def reason(self) -> str:
        """What is wrong, with value and limit; '' if passed."""
        if self.passed:
            return ''
        unit = f' {self.unit}' if self.unit else ''
        return f'{self.name} {self.value:.3g}{unit} exceeds {self.limit:.3g}{unit}{self.detail}'


@dataclass(frozen=True)
class GateReport:
    """All checks of one plan."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is wrong, one text per failed check."""
        return tuple(check.reason for check in self.checks if not check.passed)


class SafetyGate:
    """Checks plans of waypoints ``step_s`` apart against a vehicle's limits and the occupancy."""

    def __init__(self, limits: VehicleLimits, step_s: float = WAYPOINT_STEP_S) -> None:
        self.limits = limits
        self._step_s = step_s

    def check(self, waypoints_ego_m: Array, speed_mps: float, occupancy: OccupancyPoints | None = None) -> GateReport:
        """All checks of one plan.

        Args:
            waypoints_ego_m: [N, 2], ego frame at the stamp, the first one step after it.
            speed_mps: the vehicle's measured speed at the stamp, along ego x.
            occupancy: occupied points in the same frame; None leaves the collision check out.
        """
        waypoints_ego_m = np.asarray(waypoints_ego_m, dtype=np.float64)
        bad = int(np.count_nonzero(~np.isfinite(waypoints_ego_m)) + (not math.isfinite(speed_mps)))
        finite = Check('non-finite values', bad, 0, '')
        if not finite.passed:
            return GateReport((finite,))
        checks = [finite, *self._kinematics(waypoints_ego_m, speed_mps)]
        if occupancy is not None:
            checks.append(
                self.collision(trajectory_from_waypoints(waypoints_ego_m, speed_mps, self._step_s), occupancy)
            )
        return GateReport(tuple(checks))

    def _kinematics(self, waypoints_ego_m: Array, speed_mps: float) -> list[Check]:
        limits, dt = self.limits, self._step_s
        lengths_m, directions_rad = steps_along(waypoints_ego_m)
        speeds = lengths_m / dt
        accels = np.diff(speeds) / dt
        jerks = np.diff(accels) / dt
        # Over the first half step the mean speed may differ from the measured one by a constant acceleration's share.
        change = speeds[0] - speed_mps
        start_accel = math.copysign(max(0.0, abs(change) - SPEED_TOLERANCE_MPS), change) / (0.5 * dt)
        curvatures, lateral_accels = self._turning(lengths_m, directions_rad)
        values = [
            ('speed', speeds.max(), limits.max_speed_mps, 'm/s'),
            ('reverse speed', -speeds.min(), limits.max_reverse_speed_mps, 'm/s'),
            ('acceleration at the start', start_accel, limits.max_accel_mps2, 'm/s2'),
            ('deceleration at the start', -start_accel, limits.max_decel_mps2, 'm/s2'),
            ('acceleration', accels.max(initial=0.0), limits.max_accel_mps2, 'm/s2'),
            ('deceleration', (-accels).max(initial=0.0), limits.max_decel_mps2, 'm/s2'),
            ('curvature', curvatures.max(), limits.max_curvature_1pm, '1/m'),
            ('lateral acceleration', lateral_accels.max(), limits.max_lateral_accel_mps2, 'm/s2'),
            ('jerk', np.abs(jerks).max(initial=0.0), limits.max_jerk_mps3, 'm/s3'),
        ]
        return [Check(name, float(value), limit * (1.0 + TOLERANCE), unit) for name, value, limit, unit in values]

    def _turning(self, lengths_m: Array, directions_rad: Array) -> tuple[Array, Array]:
        """Curvature and lateral acceleration [N] at the start of each step.

        Two chords of a circle, with an angle delta between them: its curvature is 4 sin(delta / 2) / (d1 + d2), exact
        for equal chords. Before the first step stands one of no length along ego x: the circle touches that axis.
        """
        distances_m = np.abs(lengths_m)
        before_m = np.concatenate([[0.0], distances_m[:-1]])
        turns_rad = np.abs(np.diff(directions_rad, prepend=0.0))
        noise_rad = POSITION_TOLERANCE_M / np.maximum(distances_m, POSITION_TOLERANCE_M)
        turns_rad = np.maximum(0.0, turns_rad - noise_rad)
        curvatures = 4.0 * np.sin(0.5 * turns_rad) / np.maximum(before_m + distances_m, POSITION_TOLERANCE_M)
        speeds = np.where(before_m > 0.0, 0.5 * (before_m + distances_m), distances_m) / self._step_s
        return curvatures, curvatures * speeds**2

    def collision(self, trajectory: Trajectory, occupancy: OccupancyPoints) -> Check:
        """Occupied points that the footprint sweeps over, obstacles only.

        Points inside the footprint at the start are left out: the vehicle stands there, so they are its own or noise.
        """
        dense = resample(trajectory, COLLISION_RATE_HZ)
        obstacles_m = self._obstacles(occupancy, dense)
        inside = self._inside(dense, 0, obstacles_m)
        obstacles_m = obstacles_m[~inside]
        hit = np.zeros(len(obstacles_m), dtype=bool)
        first_s = math.nan
        for i in range(1, len(dense)):
            inside = self._inside(dense, i, obstacles_m)
            if inside.any() and not hit.any():
                first_s = float(dense.times_s[i])
            hit |= inside
        return Check(
            'collision: occupied points in the way:', int(hit.sum()), 0, '', f', the first after {first_s:.1f} s'
        )

    def _obstacles(self, occupancy: OccupancyPoints, dense: Trajectory) -> Array:
        """Points [M, 2] of obstacle classes at the vehicle's height, within its reach of the path."""
        points_m = occupancy.points_ego
        # A kerb is no reason to refuse a plan: sidewalks and terrain count as ground too.
        keep = ~np.isin(occupancy.labels, GROUND_CLASSES)
        keep &= (points_m[:, 2] > GROUND_CLEARANCE_M) & (points_m[:, 2] < self.limits.height_m)
        reach_m = self.limits.center_offset_m + 0.5 * math.hypot(self.limits.length_m, self.limits.width_m)
        low = dense.positions_m.min(axis=0) - reach_m
        high = dense.positions_m.max(axis=0) + reach_m
        keep &= ((points_m[:, :2] > low) & (points_m[:, :2] < high)).all(axis=1)
        return points_m[keep, :2].astype(np.float64)

    def _inside(self, dense: Trajectory, i: int, points_m: Array) -> Array:
        """Which points [M] the footprint covers at the i-th point of the plan."""
        cos, sin = math.cos(dense.heading_rad[i]), math.sin(dense.heading_rad[i])
        offset = points_m - dense.positions_m[i]
        ahead = offset[:, 0] * cos + offset[:, 1] * sin - self.limits.center_offset_m
        aside = offset[:, 1] * cos - offset[:, 0] * sin
        return (np.abs(ahead) <= 0.5 * self.limits.length_m) & (np.abs(aside) <= 0.5 * self.limits.width_m)

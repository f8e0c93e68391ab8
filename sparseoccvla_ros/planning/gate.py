"""The safety gate: what a plan must satisfy before it leaves the planner, checked outside the network.

Which figure of a plan is held against which limit, what can be seen in waypoints 0.5 s apart and what cannot:
``docs/planning.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.planning.kinematics import motion_of
from sparseoccvla_ros.planning.obstacles import Contact, Footprint, Obstacles
from sparseoccvla_ros.planning.trajectory import WAYPOINT_STEP_S, resample, trajectory_from_waypoints
from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.runtime.scene import OccupancyPoints

Array = np.ndarray

TOLERANCE = 0.03
"""Relative, of every limit of motion: measured speeds and network outputs are not exact, and the means are those of
arcs and of constant accelerations, which no drive consists of to the last digit."""

STANDSTILL_MPS = 0.1
"""Slower than this a vehicle stands: no reverse driving, even where the vehicle must not reverse at all."""

START_OFFSET_M = 0.05
"""How far the first waypoint may lie from all places that the vehicle can reach until then."""

SWEEP_RATE_HZ = 10.0
"""The footprint is swept at this rate: 3 m apart at 30 m/s, less than the vehicle's length; beside the path the sweep
misses an eighth of lateral acceleration times 0.1 s squared, 6 mm at 5 m/s2."""


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
    def text(self) -> str:
        """Value and limit."""
        unit = f' {self.unit}' if self.unit else ''
        return f'{self.value:.3g} of {self.limit:.3g}{unit}{self.detail}'

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
        self._footprint = Footprint(limits.length_m, limits.width_m, limits.center_offset_m)

    def check(
        self,
        waypoints_ego_m: Array,
        speed_mps: float,
        occupancy: OccupancyPoints | None = None,
        forecast: Sequence[tuple[float, OccupancyPoints]] = (),
    ) -> GateReport:
        """All checks of one plan.

        Args:
            waypoints_ego_m: [N, 2], ego frame at the stamp, the first one step after it.
            speed_mps: the vehicle's measured speed at the stamp, along ego x.
            occupancy: occupied points at the stamp, in the same frame; None leaves the collision checks out.
            forecast: (seconds after the stamp, occupied points then), in the same frame; if empty, the present
                occupancy is taken to stay as it is.

        Raises:
            ValueError: see :meth:`obstacles`.
        """
        obstacles = None if occupancy is None else self.obstacles(occupancy, forecast)
        return self.check_against(obstacles, waypoints_ego_m, speed_mps)

    def obstacles(
        self, occupancy: OccupancyPoints, forecast: Sequence[tuple[float, OccupancyPoints]] = ()
    ) -> Obstacles:
        """What stands in this vehicle's way: made once, for all plans of a scene.

        Raises:
            ValueError: the forecast's times are not positive and rising.
        """
        return Obstacles(occupancy, forecast, self.limits.height_m)

    def check_against(self, obstacles: Obstacles | None, waypoints_ego_m: Array, speed_mps: float) -> GateReport:
        """:meth:`check` with obstacles that were made before."""
        waypoints_ego_m = np.asarray(waypoints_ego_m, dtype=np.float64)
        bad = int(np.count_nonzero(~np.isfinite(waypoints_ego_m)) + (not math.isfinite(speed_mps)))
        finite = Check('non-finite values', bad, 0, '')
        if not finite.passed:
            return GateReport((finite,))
        checks = [finite, *self._motion(waypoints_ego_m, speed_mps)]
        if obstacles is not None:
            checks += self._collisions(obstacles, waypoints_ego_m, speed_mps)
        return GateReport(tuple(checks))

    def _motion(self, waypoints_ego_m: Array, speed_mps: float) -> list[Check]:
        limits = self.limits
        motion = motion_of(waypoints_ego_m, speed_mps, self._step_s)
        first_accel, accels = motion.accels_mps2[:1], motion.accels_mps2[1:]
        start_m = self._start_offset_m(waypoints_ego_m[0], speed_mps)
        values = [
            ('speed', motion.speeds_mps, limits.max_speed_mps, 'm/s'),
            ('reverse speed', -motion.speeds_mps, limits.max_reverse_speed_mps, 'm/s'),
            ('acceleration at the start', first_accel, limits.max_accel_mps2, 'm/s2'),
            ('deceleration at the start', -first_accel, limits.max_decel_mps2, 'm/s2'),
            ('acceleration', accels, limits.max_accel_mps2, 'm/s2'),
            ('deceleration', -accels, limits.max_decel_mps2, 'm/s2'),
            ('curvature', motion.curvatures_1pm, limits.max_curvature_1pm, '1/m'),
            ('lateral acceleration', motion.lateral_accels_mps2, limits.max_lateral_accel_mps2, 'm/s2'),
            ('jerk', np.abs(motion.jerks_mps3), limits.max_jerk_mps3, 'm/s3'),
        ]
        checks = []
        for name, figures, limit, unit in values:
            allowed = limit * (1.0 + TOLERANCE)
            if name == 'reverse speed':
                allowed = max(allowed, STANDSTILL_MPS)
            checks.append(Check(name, float(np.max(figures, initial=0.0)), allowed, unit))
        checks.append(Check('distance from the vehicle at the start', start_m, START_OFFSET_M, 'm'))
        return checks

    def _start_offset_m(self, first_m: Array, speed_mps: float) -> float:
        """How far the first waypoint lies from all that the vehicle can reach in one step, by speed and steering.

        A plan is drawn from the vehicle's place whatever its waypoints are: one that begins elsewhere shows as a first
        step that cannot be driven.
        """
        limits, dt = self.limits, self._step_s
        direction_rad = math.atan2(first_m[1], first_m[0])
        sign = 1.0
        if abs(direction_rad) > 0.5 * math.pi:  # backwards
            direction_rad, sign = direction_rad - math.copysign(math.pi, direction_rad), -1.0
        chord_m = math.hypot(first_m[0], first_m[1])
        arc_m = sign * chord_m / float(np.sinc(direction_rad / math.pi))
        slowest_mps = max(speed_mps - limits.max_decel_mps2 * dt, min(speed_mps, -limits.max_reverse_speed_mps))
        braking_s = (speed_mps - slowest_mps) / limits.max_decel_mps2
        least_m = 0.5 * (speed_mps + slowest_mps) * braking_s + slowest_mps * (dt - braking_s)
        most_m = speed_mps * dt + 0.5 * limits.max_accel_mps2 * dt**2
        along_m = max(0.0, least_m - arc_m, arc_m - most_m)
        curvature = min(
            limits.max_curvature_1pm, limits.max_lateral_accel_mps2 / max(min(abs(speed_mps), chord_m / dt), 0.1) ** 2
        )
        aside_m = max(0.0, abs(direction_rad) - 0.5 * curvature * abs(arc_m)) * chord_m
        return math.hypot(along_m, aside_m)

    def _collisions(self, obstacles: Obstacles, waypoints_ego_m: Array, speed_mps: float) -> list[Check]:
        dense = resample(trajectory_from_waypoints(waypoints_ego_m, speed_mps, self._step_s), SWEEP_RATE_HZ)
        present, forecast = obstacles.contacts(self._footprint, dense)
        checks = [_collision('collision with the present occupancy', present)]
        if forecast is not None:
            checks.append(_collision('collision with the forecast occupancy', forecast))
        return checks


def _collision(name: str, contact: Contact) -> Check:
    detail = f', the first after {contact.first_s:.1f} s ({contact.first_class})' if contact.count else ''
    return Check(name, contact.count, 0, 'voxels', detail)

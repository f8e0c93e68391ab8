"""From a planned trajectory to acceleration and steering, many times a second.

Along the path: the plan's own acceleration, plus feedback on speed and on the distance to where the plan would be now
(critically damped). Across: pure pursuit of a point ahead on the path (Coulter, "Implementation of the Pure Pursuit
Path Tracking Algorithm", CMU-RI-TR-92-01), which is exact on a straight line and on a circle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.geometry import transform_points, yaw_of
from sparseoccvla_ros.planning.trajectory import Trajectory, resample
from sparseoccvla_ros.world.driving.bicycle import Bicycle, BicycleState

#: The pursued point lies this far ahead: a time at the present speed, and a least distance.
LOOK_AHEAD_S, LOOK_AHEAD_M = 0.6, 3.0
#: Feedback on speed (1/s) and on distance (1/s^2): damped critically.
SPEED_GAIN, DISTANCE_GAIN = 2.0, 1.0
#: A car that is farther behind than this does not hurry more.
LARGEST_LAG_M = 3.0
RESAMPLED_HZ = 10.0
#: Points of the path nearer to each other have no direction that means anything.
LINE_STEP_M = 0.02
#: A plan that is shorter stands still: its direction is its first heading.
SHORTEST_M = 0.05


@dataclass(frozen=True, eq=False)
class DrivePlan:
    """A planned trajectory in the world.

    ``stamp_s`` is the time it starts from. By time, [N]: ``times_s`` after the stamp, ``along_m`` arc length,
    ``speed_mps``, ``accel_mps2``. By place: ``line_m`` [M, 2] the path without repeated points, ``line_along_m`` [M]
    its arc length, and ``end_heading_rad``, in which it goes on beyond its end.
    """

    stamp_s: float
    times_s: np.ndarray
    along_m: np.ndarray
    speed_mps: np.ndarray
    accel_mps2: np.ndarray
    line_m: np.ndarray
    line_along_m: np.ndarray
    end_heading_rad: float

    @staticmethod
    def of(trajectory: Trajectory, world_from_frame: np.ndarray, stamp_s: float) -> DrivePlan:
        """Carry a trajectory into the world.

        Args:
            trajectory: N >= 2 points from its stamp on, times rising.
            world_from_frame: [4, 4] of the frame that the trajectory is in: the ego's at the stamp, or odom.
            stamp_s: the trajectory's time 0, in seconds of the world.

        Raises:
            ValueError: too few points, times that do not rise, or a number that is not finite.
        """
        parts = (trajectory.times_s, trajectory.positions_m, trajectory.heading_rad, trajectory.speed_mps)
        if len(trajectory) < 2 or not (np.diff(trajectory.times_s) > 0.0).all():
            raise ValueError(f'a plan needs at least 2 points at rising times, found times {trajectory.times_s}')
        if not all(np.isfinite(part).all() for part in parts):
            raise ValueError('a point of the plan is not finite')
        heading = np.unwrap(trajectory.heading_rad)
        smooth = resample(
            Trajectory(
                trajectory.times_s,
                trajectory.positions_m,
                heading,
                np.maximum(trajectory.speed_mps, 0.0),
                trajectory.accel_mps2,
                trajectory.yaw_rate_radps,
            ),
            RESAMPLED_HZ,
        )
        flat = np.column_stack([smooth.positions_m, np.zeros(len(smooth))])
        points = transform_points(world_from_frame, flat)[:, :2]
        turned = yaw_of(world_from_frame)
        # Forwards only: where a plan rolls back, or the curve through its points swings past its end, one waits.
        middle = turned + 0.5 * (smooth.heading_rad[1:] + smooth.heading_rad[:-1])
        forward = (np.diff(points, axis=0) * np.column_stack([np.cos(middle), np.sin(middle)])).sum(axis=1)
        along = np.maximum.accumulate(np.concatenate([[0.0], np.cumsum(forward)]))
        keep = np.concatenate([[True], np.diff(np.floor(along / LINE_STEP_M)) > 0])
        line, line_along, end = points[keep], along[keep], float(smooth.heading_rad[-1]) + turned
        if along[-1] < SHORTEST_M:
            first = float(smooth.heading_rad[0]) + turned
            line = points[0] + np.array([[0.0, 0.0], [math.cos(first), math.sin(first)]])
            line_along, end = np.array([0.0, 1.0]), first
        return DrivePlan(
            stamp_s, smooth.times_s, along, smooth.speed_mps, np.gradient(smooth.speed_mps, smooth.times_s),
            line, line_along, end,
        )  # fmt: skip

    def project(self, x_m: float, y_m: float) -> float:
        """Arc length of the point of the path that is nearest; the ends go straight on."""
        step = np.diff(self.line_m, axis=0)
        length = np.linalg.norm(step, axis=1)
        share = ((np.array([x_m, y_m]) - self.line_m[:-1]) * step).sum(axis=1) / length**2
        share = np.clip(share, [-np.inf, *[0.0] * (len(step) - 1)], [*[1.0] * (len(step) - 1), np.inf])
        away = np.hypot(*(self.line_m[:-1] + share[:, None] * step - [x_m, y_m]).T)
        nearest = int(away.argmin())
        return float(self.line_along_m[nearest] + share[nearest] * length[nearest])

    def place(self, along_m: float) -> tuple[float, float]:
        """World x, y at an arc length; beyond the end straight on."""
        beyond = max(along_m - float(self.line_along_m[-1]), 0.0)
        x, y = (float(np.interp(along_m, self.line_along_m, self.line_m[:, axis])) for axis in (0, 1))
        return x + beyond * math.cos(self.end_heading_rad), y + beyond * math.sin(self.end_heading_rad)


class Tracker:
    """Tells a car how to follow a plan.

    Args:
        bicycle: the car.
        max_plan_age_s: a plan whose stamp is older, or that has come to its end, is not followed any more: the car
            brakes with the comfortable deceleration of its limits, still on the plan's path.
    """

    def __init__(self, bicycle: Bicycle, max_plan_age_s: float) -> None:
        self._bicycle = bicycle
        self._max_plan_age_s = max_plan_age_s

    def is_fresh(self, plan: DrivePlan, now_s: float) -> bool:
        """Whether the plan is still followed."""
        return now_s - plan.stamp_s <= min(self._max_plan_age_s, float(plan.times_s[-1])) + 1e-9

    def controls(self, state: BicycleState, now_s: float, plan: DrivePlan | None) -> tuple[float, float]:
        """Wanted acceleration (m/s^2) and wheel angle (rad). Without a plan: a comfortable stop, wheels as they are."""
        brake = -self._bicycle.limits.comfort_decel_mps2
        if plan is None:
            return brake, state.steering_rad
        at_m = plan.project(state.x_m, state.y_m)
        steering = self._pursue(state, plan, at_m)
        if not self.is_fresh(plan, now_s):
            return brake, steering
        passed_s = now_s - plan.stamp_s
        wanted_m, speed, accel = (
            float(np.interp(passed_s, plan.times_s, part)) for part in (plan.along_m, plan.speed_mps, plan.accel_mps2)
        )
        lag = min(max(wanted_m - at_m, -LARGEST_LAG_M), LARGEST_LAG_M)
        return accel + SPEED_GAIN * (speed - state.speed_mps) + DISTANCE_GAIN * lag, steering

    def _pursue(self, state: BicycleState, plan: DrivePlan, at_m: float) -> float:
        ahead = max(LOOK_AHEAD_M, LOOK_AHEAD_S * state.speed_mps)
        x, y = plan.place(max(at_m, 0.0) + ahead)
        dx, dy = x - state.x_m, y - state.y_m
        left = -math.sin(state.heading_rad) * dx + math.cos(state.heading_rad) * dy
        return self._bicycle.steering_rad(2.0 * left / max(dx * dx + dy * dy, 1e-6))

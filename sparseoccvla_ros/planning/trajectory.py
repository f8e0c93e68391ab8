"""Waypoints to trajectories: headings, speeds, accelerations and yaw rates along a planned path."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar, wrap_angle

Array = np.ndarray

WAYPOINT_STEP_S = 0.5
"""Time between the planner's waypoints."""

STANDSTILL_STEP_M = 0.05
"""A step shorter than this (0.1 m/s) has no direction that means anything: the heading is kept."""


@dataclass(frozen=True)
class Trajectory:
    """Points [N] along a plan, in the ego frame at the scene's stamp. As planned, the first is the ego's own place at
    time 0; what :func:`remaining` leaves begins later.

    ``times_s`` after the stamp; ``positions_m`` [N, 2]; ``heading_rad`` counter-clockwise from ego x; ``speed_mps``
    along the heading, negative backwards; ``accel_mps2`` along the heading; ``yaw_rate_radps``.
    """

    times_s: Array
    positions_m: Array
    heading_rad: Array
    speed_mps: Array
    accel_mps2: Array
    yaw_rate_radps: Array

    def __len__(self) -> int:
        return len(self.times_s)


def steps_along(waypoints_ego_m: Array) -> tuple[Array, Array]:
    """Signed lengths [N] and directions [N] of the straight steps ego -> waypoint 1 -> ... -> waypoint N.

    The direction is the vehicle's heading over the step. It starts at 0 (ego x) and is kept over steps shorter than
    :data:`STANDSTILL_STEP_M`. A step that points more than a right angle away from it is driven backwards: its length
    is negative.
    """
    steps = np.diff(np.vstack([np.zeros((1, 2)), waypoints_ego_m]), axis=0)
    lengths_m = np.linalg.norm(steps, axis=1)
    directions_rad = np.empty(len(steps))
    heading_rad = 0.0
    for i, (step, length_m) in enumerate(zip(steps, lengths_m, strict=True)):
        if length_m >= STANDSTILL_STEP_M:
            turn_rad = float(wrap_angle(math.atan2(step[1], step[0]) - heading_rad))
            if abs(turn_rad) > 0.5 * math.pi:
                turn_rad = float(wrap_angle(turn_rad + math.pi))
                lengths_m[i] = -length_m
            heading_rad += turn_rad
        else:
            lengths_m[i] = step[0] * math.cos(heading_rad) + step[1] * math.sin(heading_rad)
        directions_rad[i] = heading_rad
    return lengths_m, directions_rad


def trajectory_from_waypoints(waypoints_ego_m: Array, speed_mps: float, step_s: float = WAYPOINT_STEP_S) -> Trajectory:
    """Trajectory of N + 1 points through the ego and its N waypoints.

    At a waypoint, the speed is the mean of the steps before and after it, which is exact for constant acceleration; the
    heading lies between their directions as the waypoint between their middles (:func:`headings_at`), which is exact
    for a constant curvature. The last goes on as the steps before it changed.

    Args:
        waypoints_ego_m: [N, 2], ``step_s`` apart, the first ``step_s`` after the stamp. N >= 1.
        speed_mps: the vehicle's speed at the stamp, along ego x.
        step_s: time between waypoints.

    Raises:
        ValueError: wrong shape, or a value that is not finite.
    """
    waypoints_ego_m = np.asarray(waypoints_ego_m, dtype=np.float64)
    if waypoints_ego_m.ndim != 2 or waypoints_ego_m.shape[1] != 2 or not len(waypoints_ego_m):
        raise ValueError(f'waypoints must be [N, 2], found {list(waypoints_ego_m.shape)}')
    if not (np.isfinite(waypoints_ego_m).all() and math.isfinite(speed_mps)):
        raise ValueError('waypoints or speed are not finite')
    lengths_m, directions_rad = steps_along(waypoints_ego_m)
    step_speeds_mps = lengths_m / step_s
    speeds_mps = _at_nodes(step_speeds_mps, speed_mps)
    heading_rad = headings_at(lengths_m, directions_rad)
    times_s = np.arange(len(waypoints_ego_m) + 1) * step_s
    return Trajectory(
        times_s=times_s,
        positions_m=np.vstack([np.zeros((1, 2)), waypoints_ego_m]),
        heading_rad=heading_rad,
        speed_mps=speeds_mps,
        accel_mps2=np.gradient(speeds_mps, times_s),
        yaw_rate_radps=np.gradient(heading_rad, times_s),
    )


def headings_at(lengths_m: Array, directions_rad: Array) -> Array:
    """Headings at the N + 1 nodes of N steps, the vehicle's own, 0, first.

    A step's direction is the heading in the middle of its arc, so the heading at a node is found between the middles of
    the steps before and after it.
    """
    sizes_m = np.maximum(np.abs(lengths_m), STANDSTILL_STEP_M)
    before = sizes_m[1:] / (sizes_m[1:] + sizes_m[:-1])
    inner = before * directions_rad[:-1] + (1.0 - before) * directions_rad[1:]
    before_last = inner[-1] if len(inner) else 0.0
    return np.concatenate([[0.0], inner, [2.0 * directions_rad[-1] - before_last]])


def _at_nodes(of_steps: Array, first: float) -> Array:
    """Values at the N + 1 nodes of N steps, from the steps' own values and the value at the first node."""
    inner = 0.5 * (of_steps[1:] + of_steps[:-1])
    before_last = inner[-1] if len(inner) else first
    return np.concatenate([[first], inner, [2.0 * of_steps[-1] - before_last]])


def resample(trajectory: Trajectory, rate_hz: float) -> Trajectory:
    """The same plan at another rate: a cubic through positions and velocities, so that both stay smooth.

    Points lie at the plan's beginning, at multiples of ``1 / rate_hz`` after it, and at its end.

    Raises:
        ValueError: ``rate_hz`` is not positive.
    """
    if not rate_hz > 0.0:
        raise ValueError(f'rate_hz ({rate_hz}) must be positive')
    first_s, end_s = float(trajectory.times_s[0]), float(trajectory.times_s[-1])
    numbers = np.arange(math.floor(first_s * rate_hz + 1e-9) + 1, math.floor(end_s * rate_hz + 1e-9) + 1)
    times_s = np.concatenate([[first_s], numbers / rate_hz])
    if end_s - times_s[-1] > 1e-9:
        times_s = np.append(times_s, end_s)
    return _at_times(trajectory, times_s)


def remaining(trajectory: Trajectory, start_s: float) -> Trajectory:
    """What of a plan lies ahead at ``start_s`` after its stamp: where the vehicle should be then, and all later points.

    Times stay relative to the stamp.

    Raises:
        ValueError: ``start_s`` is not within the plan, or is its end.
    """
    first_s, end_s = float(trajectory.times_s[0]), float(trajectory.times_s[-1])
    if not first_s <= start_s < end_s:
        raise ValueError(f'start_s ({start_s}) must be in [{first_s}, {end_s}), the time that the plan covers')
    later_s = trajectory.times_s[trajectory.times_s > start_s + 1e-9]
    return _at_times(trajectory, np.concatenate([[start_s], later_s]))


def _at_times(trajectory: Trajectory, times_s: Array) -> Trajectory:
    return Trajectory(
        times_s=times_s,
        positions_m=_hermite_positions(trajectory, times_s),
        heading_rad=np.interp(times_s, trajectory.times_s, trajectory.heading_rad),
        speed_mps=np.interp(times_s, trajectory.times_s, trajectory.speed_mps),
        accel_mps2=np.interp(times_s, trajectory.times_s, trajectory.accel_mps2),
        yaw_rate_radps=np.interp(times_s, trajectory.times_s, trajectory.yaw_rate_radps),
    )


def _hermite_positions(trajectory: Trajectory, times_s: Array) -> Array:
    knots_s = trajectory.times_s
    index = np.clip(np.searchsorted(knots_s, times_s, side='right') - 1, 0, len(knots_s) - 2)
    span_s = (knots_s[index + 1] - knots_s[index])[:, None]
    s = (times_s - knots_s[index])[:, None] / span_s
    heading = np.stack([np.cos(trajectory.heading_rad), np.sin(trajectory.heading_rad)], axis=1)
    velocity = trajectory.speed_mps[:, None] * heading
    p0, p1 = trajectory.positions_m[index], trajectory.positions_m[index + 1]
    v0, v1 = velocity[index] * span_s, velocity[index + 1] * span_s
    return (
        (1 + 2 * s) * (1 - s) ** 2 * p0 + s * (1 - s) ** 2 * v0 + s**2 * (3 - 2 * s) * p1 + s**2 * (s - 1) * v1
    )  # [N, 2]


def poses_in(target_from_ego: Array, trajectory: Trajectory) -> Array:
    """``target_from_point`` [N, 4, 4] of the trajectory's points, for example in odom.

    The plan lies in the ego's ground plane: height and tilt of the points are the ego's at the stamp.
    """
    points = zip(trajectory.positions_m, trajectory.heading_rad, strict=True)
    return np.stack([target_from_ego @ transform_from_planar(x, y, yaw) for (x, y), yaw in points])


def stop_trajectory(
    speed_mps: float, decel_mps2: float, step_s: float = WAYPOINT_STEP_S, least_s: float = 3.0
) -> Trajectory:
    """Straight on along the current heading, braking at ``decel_mps2`` to standstill, at least ``least_s`` long.

    Raises:
        ValueError: speed not finite, or deceleration not positive.
    """
    if not math.isfinite(speed_mps) or not decel_mps2 > 0.0:
        raise ValueError(f'speed_mps ({speed_mps}) must be finite and decel_mps2 ({decel_mps2}) positive')
    stop_s = abs(speed_mps) / decel_mps2
    count = math.ceil(max(least_s, stop_s) / step_s - 1e-9)
    times_s = np.arange(count + 1) * step_s
    braking_s = np.minimum(times_s, stop_s)
    sign = math.copysign(1.0, speed_mps)
    x_m = speed_mps * braking_s - sign * 0.5 * decel_mps2 * braking_s**2
    return Trajectory(
        times_s=times_s,
        positions_m=np.stack([x_m, np.zeros_like(x_m)], axis=1),
        heading_rad=np.zeros_like(x_m),
        speed_mps=speed_mps - sign * decel_mps2 * braking_s,
        accel_mps2=np.where(times_s < stop_s, -sign * decel_mps2, 0.0),
        yaw_rate_radps=np.zeros_like(x_m),
    )

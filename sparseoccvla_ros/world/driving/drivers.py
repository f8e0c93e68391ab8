"""Simple drivers, to compare with: one that knows the route and the rules, one that knows nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparseoccvla_ros.planning.trajectory import Trajectory
from sparseoccvla_ros.world.driving.closed_loop import ClosedLoop, Summary
from sparseoccvla_ros.world.driving.tracking import DrivePlan

HORIZON_S, PLAN_STEP_S = 3.0, 0.5

Driver = Callable[[ClosedLoop], DrivePlan | None]


def follow_route(loop: ClosedLoop) -> DrivePlan:
    """Along the route at the acceleration that the rules of all other drivers ask for in the ego's place.

    It sees everything, through walls too: an upper bound, and the proof that a scene can be driven.
    """
    state, route = loop.scene.state, loop.scene.route
    accel = loop.scene.simulation.vehicle_at(0, loop.scene.simulation.time_s)[2]
    times = np.arange(round(HORIZON_S / PLAN_STEP_S) + 1) * PLAN_STEP_S
    driven = np.minimum(times, state.speed_mps / -accel) if accel < 0.0 else times
    along = loop.progress.along_m + (state.speed_mps + 0.5 * accel * driven) * driven
    places = np.array([route.at(s_m) for s_m in along])
    speed = np.maximum(state.speed_mps + accel * times, 0.0)
    heading = np.unwrap(places[:, 2])
    trajectory = Trajectory(
        times, places[:, :2], heading, speed, np.where(speed > 0.0, accel, 0.0), speed * places[:, 3]
    )
    return DrivePlan.of(trajectory, np.eye(4), loop.time_s)


def keep_going(loop: ClosedLoop) -> DrivePlan:
    """Straight on at the present speed, whatever is there."""
    speed = loop.scene.state.speed_mps
    times = np.arange(round(HORIZON_S / PLAN_STEP_S) + 1) * PLAN_STEP_S
    still = np.zeros_like(times)
    straight = np.column_stack([speed * times, still])
    trajectory = Trajectory(times, straight, still, np.full_like(times, speed), still, still)
    return DrivePlan.of(trajectory, loop.scene.world_from_ego(loop.time_s), loop.time_s)


def drive(loop: ClosedLoop, driver: Driver, plan_period_s: float = 0.1) -> Summary:
    """Drive to the end with a new plan each ``plan_period_s``, seconds."""
    every = max(round(plan_period_s / 0.1), 1)
    number = 0
    while loop.ended is None:
        loop.step(driver(loop) if number % every == 0 else None)
        number += 1
    return loop.summary()

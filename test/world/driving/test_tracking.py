import math

import numpy as np
import pytest

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.planning.trajectory import Trajectory, trajectory_from_waypoints
from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.world.driving.bicycle import Bicycle, BicycleState
from sparseoccvla_ros.world.driving.tracking import DrivePlan, Tracker

CAR = Bicycle(VehicleLimits(), wheelbase_m=2.59)
STEP_S = 0.02
TIMES_S = np.arange(7) * 0.5


def straight(speed, accel=0.0, stamp_s=0.0, start_m=(0.0, 0.0)):
    """Along world x."""
    along = speed * TIMES_S + 0.5 * accel * TIMES_S**2
    points = np.column_stack([start_m[0] + along, np.full(7, start_m[1])])
    zero = np.zeros(7)
    trajectory = Trajectory(TIMES_S, points, zero, speed + accel * TIMES_S, np.full(7, accel), zero)
    return DrivePlan.of(trajectory, np.eye(4), stamp_s)


def on_circle(speed, radius_m, stamp_s):
    """Counter-clockwise about (0, radius), as far round as a car that has driven since time 0."""
    turned = speed / radius_m * (stamp_s + TIMES_S)
    points = radius_m * np.column_stack([np.sin(turned), 1.0 - np.cos(turned)])
    flat = np.full(7, speed)
    trajectory = Trajectory(TIMES_S, points, turned, flat, 0.0 * flat, flat / radius_m)
    return DrivePlan.of(trajectory, np.eye(4), stamp_s)


def follow(state, plan_at, seconds, max_plan_age_s=1.5):
    """Drive with the plan that ``plan_at(time)`` gives at each moment; all states."""
    tracker, states = Tracker(CAR, max_plan_age_s), [state]
    for number in range(round(seconds / STEP_S)):
        now_s = number * STEP_S
        controls = tracker.controls(states[-1], now_s, plan_at(now_s))
        states.append(CAR.moved(CAR.told(states[-1], *controls, STEP_S), STEP_S))
    return states


def test_a_car_on_its_plan_stays_on_it():
    end = follow(BicycleState(0.0, 0.0, 0.0, 8.0, 0.0, 0.0), lambda _: straight(8.0), 1.5)[-1]
    np.testing.assert_allclose((end.x_m, end.y_m, end.speed_mps), (12.0, 0.0, 8.0), atol=1e-6)


@pytest.mark.parametrize('speed', [2.0, 8.0, 20.0])
@pytest.mark.parametrize('turned', [0.0, 0.3])
def test_from_beside_it_comes_back_without_swinging(speed, turned):
    start = BicycleState(-2.0, 1.0, turned, 0.8 * speed, 0.0, 0.0)
    fixed_s = lambda now: straight(speed, stamp_s=0.5 * int(now / 0.5), start_m=(0.5 * int(now / 0.5) * speed, 0.0))  # noqa: E731
    states = follow(start, fixed_s, 14.0)
    left = np.array([item.y_m for item in states])
    assert abs(left[-1]) < 0.01
    # Turned away at 20 m/s it first goes out by more than 2 m.
    assert left.min() > -0.15 * left.max()
    assert states[-1].speed_mps == pytest.approx(speed, rel=0.01)
    # Where the plan would be, too: not only on its line.
    assert states[-1].x_m == pytest.approx(14.0 * speed, rel=0.01)


@pytest.mark.parametrize(('speed', 'radius_m'), [(4.0, 6.0), (8.0, 20.0)])
def test_on_a_circle_it_stays_on_the_circle(speed, radius_m):
    start = BicycleState(0.0, 0.3, 0.0, speed, 0.0, 0.0)
    states = follow(start, lambda now: on_circle(speed, radius_m, 0.5 * int(now / 0.5)), 8.0)
    away = [math.hypot(item.x_m, item.y_m - radius_m) - radius_m for item in states[200:]]
    assert np.abs(away).max() < 0.05
    assert states[-1].heading_rad == pytest.approx(speed / radius_m * 8.0, abs=0.05)


def test_a_plan_that_speeds_up_and_one_that_stops_are_driven_in_time():
    end = follow(BicycleState(0.0, 0.0, 0.0, 3.0, 0.0, 0.0), lambda _: straight(3.0, 2.0), 1.5)[-1]
    assert end.speed_mps == pytest.approx(6.0, abs=0.1)
    assert end.x_m == pytest.approx(3.0 * 1.5 + 1.5**2, abs=0.1)
    waypoints = np.column_stack([6.0 * TIMES_S[1:] - TIMES_S[1:] ** 2, np.zeros(6)])
    plan = DrivePlan.of(trajectory_from_waypoints(waypoints, 6.0), np.eye(4), 0.0)
    states = follow(BicycleState(0.0, 0.0, 0.0, 6.0, 0.0, 0.0), lambda _: plan, 5.0, max_plan_age_s=3.0)
    assert states[-1].speed_mps == 0.0
    assert states[-1].x_m == pytest.approx(9.0, abs=0.3)


def test_a_stale_plan_leads_to_a_comfortable_stop_on_its_path():
    # The last plan bends to the left; nothing comes after it.
    states = follow(BicycleState(0.0, 0.0, 0.0, 6.0, 0.0, 0.0), lambda _: on_circle(6.0, 20.0, 0.0), 6.0)
    speed = np.array([item.speed_mps for item in states])
    assert speed[round(1.5 / STEP_S)] == pytest.approx(6.0, abs=0.05)
    assert speed[-1] == 0.0
    # Its comfortable deceleration of 3 m/s^2, reached within the jerk limit: it stands after 2 s and a little.
    assert np.diff(speed).min() / STEP_S == pytest.approx(-3.0, abs=1e-6)
    assert speed[round(3.4 / STEP_S)] > 0.1
    assert speed[round(3.7 / STEP_S)] == 0.0
    away = [math.hypot(item.x_m, item.y_m - 20.0) - 20.0 for item in states]
    assert np.abs(away).max() < 0.1


def test_without_any_plan_it_stops_with_its_wheels_as_they_are():
    states = follow(BicycleState(0.0, 0.0, 0.0, 6.0, 0.0, 0.1), lambda _: None, 4.0)
    assert states[-1].speed_mps == 0.0
    assert {item.steering_rad for item in states} == {0.1}


def test_a_plan_to_stand_keeps_a_standing_car_where_it_is():
    end = follow(BicycleState(5.0, 2.0, 0.4, 0.0, 0.0, 0.0), lambda _: standing(), 1.4)[-1]
    assert (end.x_m, end.y_m, end.speed_mps) == (5.0, 2.0, 0.0)


def standing():
    zero = np.zeros(7)
    trajectory = Trajectory(TIMES_S, np.zeros((7, 2)), zero, zero, zero, zero)
    return DrivePlan.of(trajectory, transform_from_planar(5.0, 2.0, 0.4), 0.0)


def test_where_a_plan_stops_the_path_does_not_turn_back():
    # It stands from 2.09 s on, between two of its points: a cubic through them swings past the place and comes back.
    speed, decel = 7.322, 3.5
    driven = np.minimum(TIMES_S, speed / decel)
    points = np.column_stack([speed * driven - 0.5 * decel * driven**2, 0.0 * TIMES_S])
    zero = np.zeros(7)
    trajectory = Trajectory(TIMES_S, points, zero, np.maximum(speed - decel * TIMES_S, 0.0), zero - decel, zero)
    plan = DrivePlan.of(trajectory, np.eye(4), 0.0)
    assert (np.diff(plan.along_m) >= 0.0).all()
    assert (np.diff(plan.line_m[:, 0]) > 0.0).all()
    for x in (0.0, 3.0, 7.0, 12.0):
        for y in (-0.01, 0.0, 2.0):
            assert plan.project(x, y) == pytest.approx(x, abs=1e-3)


def test_a_plan_means_the_same_in_any_frame():
    waypoints = np.array([[3.0, 0.1], [6.0, 0.5], [9.0, 1.2], [12.0, 2.2], [15.0, 3.5], [18.0, 5.1]])
    trajectory = trajectory_from_waypoints(waypoints, 6.0)
    place = transform_from_planar(310.0, 95.0, 2.0)
    here, there = DrivePlan.of(trajectory, np.eye(4), 0.0), DrivePlan.of(trajectory, place, 0.0)
    first = follow(BicycleState(0.0, 0.0, 0.0, 6.0, 0.0, 0.0), lambda _: here, 1.4)[-1]
    second = follow(BicycleState(310.0, 95.0, 2.0, 6.0, 0.0, 0.0), lambda _: there, 1.4)[-1]
    carried = place @ transform_from_planar(first.x_m, first.y_m, first.heading_rad)
    np.testing.assert_allclose(carried[:2, 3], (second.x_m, second.y_m), atol=1e-6)
    assert first.y_m > 0.5


@pytest.mark.parametrize(
    ('times', 'x', 'message'),
    [
        ([0.0], [0.0], 'at least 2 points'),
        ([0.0, 0.5, 0.5], [0.0, 1.0, 2.0], 'rising times'),
        ([0.0, 0.5, 1.0], [0.0, float('nan'), 2.0], 'not finite'),
    ],
)
def test_a_plan_that_cannot_be_driven_is_refused(times, x, message):
    zero = np.zeros(len(times))
    trajectory = Trajectory(np.array(times), np.column_stack([x, zero]), zero, zero, zero, zero)
    with pytest.raises(ValueError, match=message):
        DrivePlan.of(trajectory, np.eye(4), 0.0)

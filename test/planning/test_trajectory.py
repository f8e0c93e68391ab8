"""Waypoints to trajectories, against motions worked out by hand."""

import math

import numpy as np
import pytest

from sparseoccvla_ros.geometry import transform_from, transform_from_planar, yaw_of
from sparseoccvla_ros.planning.trajectory import (
    poses_in,
    remaining,
    resample,
    steps_along,
    stop_trajectory,
    trajectory_from_waypoints,
)

TIMES_S = np.arange(1, 7) * 0.5


def straight(v0, accel):
    return np.stack([v0 * TIMES_S + 0.5 * accel * TIMES_S**2, np.zeros(6)], axis=1)


def circle(speed, rate):
    radius = speed / rate
    return np.stack([radius * np.sin(rate * TIMES_S), radius * (1 - np.cos(rate * TIMES_S))], axis=1)


def test_constant_acceleration_is_exact():
    trajectory = trajectory_from_waypoints(straight(4.0, 1.2), 4.0)
    times_s = np.arange(7) * 0.5
    np.testing.assert_allclose(trajectory.times_s, times_s)
    np.testing.assert_allclose(trajectory.speed_mps, 4.0 + 1.2 * times_s)
    np.testing.assert_allclose(trajectory.accel_mps2, 1.2)
    np.testing.assert_allclose(trajectory.heading_rad, 0.0)
    np.testing.assert_allclose(trajectory.positions_m[0], 0.0)
    np.testing.assert_allclose(trajectory.positions_m[1:], straight(4.0, 1.2))


@pytest.mark.parametrize('rate', [0.3, -0.3])
def test_constant_turn_has_its_headings_and_rate(rate):
    trajectory = trajectory_from_waypoints(circle(6.0, rate), 6.0)
    np.testing.assert_allclose(trajectory.heading_rad, rate * trajectory.times_s, atol=1e-9)  # left is positive
    np.testing.assert_allclose(trajectory.yaw_rate_radps, rate, atol=1e-9)
    # Chords are shorter than arcs: by (0.3 * 0.5)^2 / 24 of the speed.
    np.testing.assert_allclose(trajectory.speed_mps, 6.0, atol=0.01)


def test_standstill_keeps_the_heading():
    """A stop after a turn: noise of a centimetre must not spin the vehicle."""
    waypoints = circle(3.0, 0.4)
    waypoints[3:] = waypoints[2] + np.array([[0.004, -0.01], [-0.01, 0.004], [0.0, 0.01]])
    trajectory = trajectory_from_waypoints(waypoints, 3.0)
    np.testing.assert_allclose(trajectory.heading_rad[4:], trajectory.heading_rad[4])
    assert trajectory.heading_rad[4] == pytest.approx(0.5, abs=0.02)  # the last chord's direction
    assert np.abs(trajectory.speed_mps[4:]).max() < 0.05
    parked = trajectory_from_waypoints(np.zeros((6, 2)), 0.0)
    for values in (parked.heading_rad, parked.speed_mps, parked.accel_mps2, parked.yaw_rate_radps):
        np.testing.assert_array_equal(values, 0.0)


def test_backwards_is_negative_speed_and_no_turn():
    trajectory = trajectory_from_waypoints(straight(-2.0, 0.0), -2.0)
    np.testing.assert_allclose(trajectory.speed_mps, -2.0)
    np.testing.assert_allclose(trajectory.heading_rad, 0.0, atol=1e-12)
    lengths_m, directions_rad = steps_along(np.array([[2.0, 0.0], [1.0, 0.1]]))
    assert lengths_m[1] == pytest.approx(-math.hypot(1.0, 0.1))
    assert directions_rad[1] == pytest.approx(-math.atan(0.1))  # back towards the left: the nose points right


def test_headings_unwind_beyond_pi():
    trajectory = trajectory_from_waypoints(circle(4.0, 1.3), 4.0)
    assert trajectory.heading_rad[-1] == pytest.approx(3.9, abs=1e-6)


@pytest.mark.parametrize('waypoints', [np.zeros((6, 3)), np.zeros((0, 2)), np.zeros(12), np.full((6, 2), np.nan)])
def test_bad_waypoints_are_refused(waypoints):
    with pytest.raises(ValueError, match='waypoints'):
        trajectory_from_waypoints(waypoints, 1.0)
    with pytest.raises(ValueError, match='speed'):
        trajectory_from_waypoints(np.zeros((6, 2)), math.nan)


@pytest.mark.parametrize('rate_hz', [2.0, 10.0, 7.0, 50.0])
def test_resampling_keeps_the_motion(rate_hz):
    coarse = trajectory_from_waypoints(straight(4.0, 1.2), 4.0)
    fine = resample(coarse, rate_hz)
    t = fine.times_s
    assert t[0] == 0.0
    assert t[-1] == pytest.approx(3.0)
    np.testing.assert_allclose(t[:-1] * rate_hz, np.arange(len(t) - 1), atol=1e-9)
    np.testing.assert_allclose(fine.positions_m[:, 0], 4.0 * t + 0.6 * t**2, atol=1e-9)
    np.testing.assert_allclose(fine.speed_mps, 4.0 + 1.2 * t, atol=1e-9)
    turn = resample(trajectory_from_waypoints(circle(6.0, 0.3), 6.0), rate_hz)
    np.testing.assert_allclose(turn.positions_m[:, 0], 20 * np.sin(0.3 * turn.times_s), atol=0.005)
    np.testing.assert_allclose(turn.positions_m[:, 1], 20 * (1 - np.cos(0.3 * turn.times_s)), atol=0.005)
    np.testing.assert_allclose(turn.heading_rad, 0.3 * turn.times_s, atol=1e-6)


@pytest.mark.parametrize('rate_hz', [2.0, 10.0, 7.0])
@pytest.mark.parametrize('start_s', [0.0, 0.13, 0.5, 2.9])
def test_what_remains_is_the_same_motion_later(start_s, rate_hz):
    """On a circle of constant speed, where place and heading at any time are known."""
    whole = trajectory_from_waypoints(circle(6.0, 0.3), 6.0)
    rest = remaining(whole, start_s)
    assert rest.times_s[0] == start_s
    assert rest.times_s[-1] == pytest.approx(3.0)
    np.testing.assert_allclose(rest.times_s[1:], whole.times_s[whole.times_s > start_s])
    for trajectory in (rest, resample(rest, rate_hz)):
        t = trajectory.times_s
        assert (np.diff(t) > 0.0).all()
        np.testing.assert_allclose(trajectory.positions_m[:, 0], 20 * np.sin(0.3 * t), atol=0.005)
        np.testing.assert_allclose(trajectory.positions_m[:, 1], 20 * (1 - np.cos(0.3 * t)), atol=0.005)
        np.testing.assert_allclose(trajectory.heading_rad, 0.3 * t, atol=1e-6)
    inner = resample(rest, rate_hz).times_s[1:-1] * rate_hz
    np.testing.assert_allclose(inner, np.round(inner), atol=1e-9)


@pytest.mark.parametrize('start_s', [-0.1, 3.0, math.nan])
def test_a_plan_that_is_over_has_no_rest(start_s):
    with pytest.raises(ValueError, match='start_s'):
        remaining(trajectory_from_waypoints(straight(4.0, 0.0), 4.0), start_s)


def test_resampling_goes_through_the_waypoints():
    coarse = trajectory_from_waypoints(np.cumsum(np.random.default_rng(0).uniform(-1, 3, (6, 2)), axis=0), 2.0)
    np.testing.assert_allclose(resample(coarse, 10.0).positions_m[::5], coarse.positions_m, atol=1e-9)
    with pytest.raises(ValueError, match='rate_hz'):
        resample(coarse, 0.0)


def test_poses_in_odom():
    trajectory = trajectory_from_waypoints(circle(6.0, 0.3), 6.0)
    odom_from_ego = transform_from_planar(100.0, 50.0, math.pi / 2)
    poses = poses_in(odom_from_ego, trajectory)
    assert poses.shape == (7, 4, 4)
    np.testing.assert_allclose(poses[0], odom_from_ego, atol=1e-12)
    x, y = circle(6.0, 0.3)[-1]
    np.testing.assert_allclose(poses[-1, :3, 3], [100.0 - y, 50.0 + x, 0.0], atol=1e-9)  # x ahead is odom's y
    assert yaw_of(poses[-1]) == pytest.approx(math.pi / 2 + 0.9)
    uphill = transform_from([0.0, 0.0, 2.0], [0.0, -math.sin(0.05), 0.0, math.cos(0.05)])  # nose up by 0.1 rad
    assert poses_in(uphill, trajectory)[-1, 2, 3] == pytest.approx(2.0 + x * math.sin(0.1))


@pytest.mark.parametrize('speed_mps', [0.0, 0.7, 5.0, 20.0, -1.0])
def test_stop_trajectory_ends_at_rest_within_the_braking_distance(speed_mps):
    stop = stop_trajectory(speed_mps, 3.0)
    assert stop.times_s[-1] >= max(3.0, abs(speed_mps) / 3.0)
    assert stop.speed_mps[0] == speed_mps
    assert stop.speed_mps[-1] == pytest.approx(0.0)
    assert stop.positions_m[-1] == pytest.approx([speed_mps * abs(speed_mps) / 6.0, 0.0])  # v^2 / 2a
    assert np.abs(stop.accel_mps2).max() <= 3.0
    assert (np.abs(np.diff(stop.speed_mps)) <= 3.0 * 0.5 + 1e-9).all()
    np.testing.assert_array_equal(stop.heading_rad, 0.0)
    with pytest.raises(ValueError, match='decel_mps2'):
        stop_trajectory(1.0, 0.0)

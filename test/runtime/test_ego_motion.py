"""Poses and motion state from odometry, against motions worked out by hand and against a real vehicle's own sensors."""

import math
import threading

import numpy as np
import pytest

from sparseoccvla_ros.geometry import (
    inverse,
    quat_xyzw_from_wxyz,
    transform_from,
    transform_from_planar,
    yaw_of,
)
from sparseoccvla_ros.runtime.ego_motion import AddOutcome, PoseBuffer

START_NS = 1_532_402_927_000_000_000  # a real stamp: float32 or float64 seconds would lose it


def ns(seconds):
    return START_NS + round(seconds * 1e9)


def accelerating(t, v0=4.0, accel=1.5, yaw=0.7):
    """Straight on, constant acceleration, heading 0.7 rad in odom."""
    s = v0 * t + 0.5 * accel * t * t
    return transform_from_planar(100.0 + s * math.cos(yaw), -50.0 + s * math.sin(yaw), yaw)


def turning(t, speed=6.0, rate=0.4):
    """Circle of radius speed / rate, tangent to the odom x axis at t = 0."""
    radius = speed / rate
    return transform_from_planar(radius * math.sin(rate * t), radius * (1 - math.cos(rate * t)), rate * t)


def filled(motion, rate_hz, until_s=3.0, **limits):
    buffer = PoseBuffer(**limits)
    for i in range(int(until_s * rate_hz) + 1):
        assert buffer.add(ns(i / rate_hz), motion(i / rate_hz)) is AddOutcome.ADDED
    return buffer


@pytest.mark.parametrize('rate_hz', [2, 10, 100])
@pytest.mark.parametrize('late_s', [0.0, 0.05, 0.4])
def test_constant_acceleration_is_exact_at_any_rate(rate_hz, late_s):
    state = filled(accelerating, rate_hz).state_at(ns(3.0 + late_s))
    assert state.speed_mps == pytest.approx(4.0 + 1.5 * (3.0 + late_s), abs=1e-6)
    assert state.accel_mps2 == pytest.approx(1.5, abs=1e-6)
    assert state.yaw_rate_radps == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(state.odom_from_ego, accelerating(3.0 + late_s), atol=1e-6)


@pytest.mark.parametrize('rate_hz', [2, 10, 100])
@pytest.mark.parametrize('late_s', [0.0, 0.4])
def test_constant_turn_is_exact_at_any_rate(rate_hz, late_s):
    state = filled(turning, rate_hz).state_at(ns(3.0 + late_s))
    assert state.speed_mps == pytest.approx(6.0, abs=1e-6)
    assert state.accel_mps2 == pytest.approx(0.0, abs=1e-6)
    assert state.yaw_rate_radps == pytest.approx(0.4, abs=1e-9)
    np.testing.assert_allclose(state.odom_from_ego, turning(3.0 + late_s), atol=1e-6)


def test_turn_across_pi_keeps_its_rate():
    state = filled(lambda t: turning(t + 6.5), 10).state_at(ns(3.0))  # yaw passes pi at t = 1.35 s
    assert state.yaw_rate_radps == pytest.approx(0.4, abs=1e-9)


def test_backwards_is_negative_speed():
    state = filled(lambda t: transform_from_planar(-2.0 * t, 0.0, 0.0), 20).state_at(ns(3.0))
    assert state.speed_mps == pytest.approx(-2.0, abs=1e-9)


def test_six_poses_within_45_ms_count_as_one():
    """A bag of keyframes only: each camera's own pose, every 0.5 s. Millimetre noise must not become acceleration."""
    rng = np.random.default_rng(0)
    buffer = PoseBuffer()
    for keyframe in range(7):
        for camera in range(6):
            t = 0.5 * keyframe + 0.0075 * camera
            pose = accelerating(t)
            pose[:2, 3] += rng.normal(scale=0.002, size=2)
            buffer.add(ns(t), pose)
        if keyframe == 1:
            assert 'too short' in buffer.missing_reason(ns(0.55))
    state = buffer.state_at(ns(3.05))
    assert state.speed_mps == pytest.approx(4.0 + 1.5 * 3.05, abs=0.05)
    assert state.accel_mps2 == pytest.approx(1.5, abs=0.1)


def test_dense_noise_is_averaged():
    rng = np.random.default_rng(1)
    buffer = PoseBuffer()
    for i in range(301):
        pose = accelerating(i / 100)
        pose[:2, 3] += rng.normal(scale=0.002, size=2)
        buffer.add(ns(i / 100), pose)
    # A single difference would be wrong by 0.002 * sqrt(2) / 0.01 = 0.28 m/s, an acceleration by 50 m/s2. A quadratic
    # over 51 samples has 2 * sqrt(180 / 51) * 0.002 / 0.5^2 = 0.03 m/s2; over 0.2 s it would be ten times that.
    state = buffer.state_at(ns(3.0))
    assert state.speed_mps == pytest.approx(8.5, abs=0.02)
    assert state.accel_mps2 == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize('rate_hz', [2, 30])
def test_later_samples_never_change_an_earlier_state(rate_hz):
    """The state is causal: what the planner was given can be computed again from any longer recording."""

    def swerving(t):
        return transform_from_planar(5.0 * t + 0.3 * t**3, math.sin(t), 0.2 * math.sin(2.0 * t))

    buffer = filled(swerving, rate_hz, until_s=2.0)
    asked = [ns(t) for t in (1.0, 1.01, 1.5, 1.77, 2.0)]
    before = [buffer.state_at(stamp) for stamp in asked]
    assert None not in before
    for i in range(1, 40):
        buffer.add(ns(2.0 + i / rate_hz * 0.9), swerving(7.0 * i))  # wild, and not what the motion promised
    for state, again in zip(before, (buffer.state_at(stamp) for stamp in asked), strict=True):
        if again is None:  # forgotten by the bounded history, never changed
            assert buffer.newest_ns - state.stamp_ns > 7e9
            continue
        assert (again.speed_mps, again.accel_mps2, again.yaw_rate_radps) == (
            state.speed_mps,
            state.accel_mps2,
            state.yaw_rate_radps,
        )
        np.testing.assert_array_equal(again.odom_from_ego, state.odom_from_ego)


def test_measured_twist_is_used_where_every_sample_has_it():
    buffer = PoseBuffer()
    for i in range(31):
        t = i / 10
        buffer.add(ns(t), accelerating(t), speed_mps=10.0 + 2.0 * t, yaw_rate_radps=0.1 * t)
    state = buffer.state_at(ns(3.0))
    assert (state.speed_mps, state.accel_mps2) == pytest.approx((16.0, 2.0))
    assert state.yaw_rate_radps == pytest.approx(0.3)
    buffer.add(ns(3.1), accelerating(3.1))  # one sample without: the poses decide
    assert buffer.state_at(ns(3.1)).speed_mps == pytest.approx(4.0 + 1.5 * 3.1)


def test_no_state_without_recent_odometry():
    buffer = filled(accelerating, 10, max_state_age_s=0.5)
    assert buffer.state_at(ns(3.5)) is not None
    assert buffer.state_at(ns(3.501)) is None
    assert 'too old: 0.60 s, limit 0.50 s' in buffer.missing_reason(ns(3.6))
    assert buffer.state_at(ns(-0.001)) is None
    assert buffer.missing_reason(ns(-0.001)) == 'odometry missing'
    assert PoseBuffer().missing_reason(0) == 'odometry missing'
    assert buffer.missing_reason(ns(3.0)) == ''


def test_pose_between_samples_is_interpolated():
    buffer = PoseBuffer()
    buffer.add(ns(0.0), transform_from_planar(0.0, 0.0, 0.0))
    buffer.add(ns(0.4), transform_from_planar(4.0, -2.0, 0.2))
    pose = buffer.pose_at(ns(0.1))
    np.testing.assert_allclose(pose[:3, 3], [1.0, -0.5, 0.0], atol=1e-12)
    assert yaw_of(pose) == pytest.approx(0.05)
    np.testing.assert_array_equal(buffer.pose_at(ns(0.4)), transform_from_planar(4.0, -2.0, 0.2))


def test_pose_is_carried_on_for_a_limited_time():
    buffer = filled(turning, 20, max_extrapolation_s=0.1)
    np.testing.assert_allclose(buffer.pose_at(ns(3.1)), turning(3.1), atol=0.03)  # straight on in a turn
    assert buffer.pose_at(ns(3.1)) is not None
    assert buffer.pose_at(ns(3.1001)) is None
    assert buffer.pose_at(ns(-0.0001)) is None
    alone = PoseBuffer(max_extrapolation_s=0.1)
    alone.add(ns(0.0), np.eye(4))
    assert alone.pose_at(ns(0.0)) is not None
    assert alone.pose_at(ns(0.01)) is None  # one sample has no rate


def test_no_pose_inside_a_gap():
    buffer = PoseBuffer(max_gap_s=1.0)
    for t in (0.0, 1.0, 2.01):
        buffer.add(ns(t), accelerating(t))
    assert buffer.pose_at(ns(0.5)) is not None
    assert buffer.pose_at(ns(1.5)) is None
    assert buffer.pose_at(ns(2.01)) is not None


def test_order_of_arrival_does_not_matter():
    stamps = [i / 20 for i in range(21)]
    shuffled = np.random.default_rng(2).permutation(stamps)
    in_order, mixed = PoseBuffer(), PoseBuffer()
    for t in stamps:
        in_order.add(ns(t), turning(t))
    outcomes = [mixed.add(ns(t), turning(t)) for t in shuffled]
    assert AddOutcome.INSERTED in outcomes
    assert mixed.drops == {'inserted out of order': outcomes.count(AddOutcome.INSERTED)}
    for t in (0.31, 0.77, 1.0):
        np.testing.assert_array_equal(mixed.pose_at(ns(t)), in_order.pose_at(ns(t)))
        assert mixed.state_at(ns(t)).speed_mps == in_order.state_at(ns(t)).speed_mps


def test_bad_samples_are_refused_and_counted():
    buffer = PoseBuffer()
    buffer.add(ns(0.0), np.eye(4))
    assert buffer.add(ns(0.0), turning(1.0)) is AddOutcome.DUPLICATE
    broken = np.eye(4)
    broken[0, 3] = math.nan
    assert buffer.add(ns(0.1), broken) is AddOutcome.NOT_FINITE
    assert buffer.add(ns(0.1), np.eye(4), speed_mps=math.inf) is AddOutcome.NOT_FINITE
    np.testing.assert_array_equal(buffer.pose_at(ns(0.0)), np.eye(4))
    assert buffer.newest_ns == ns(0.0)
    assert buffer.drops == {'duplicate stamp': 1, 'not finite': 2}


def test_clock_jump_back_forgets_what_came_before():
    buffer = filled(accelerating, 10, max_backward_s=1.0)
    assert buffer.add(ns(2.05), accelerating(2.05)) is AddOutcome.INSERTED
    assert buffer.add(ns(0.5), accelerating(0.5)) is AddOutcome.CLOCK_JUMP
    assert buffer.newest_ns == ns(0.5)
    assert buffer.pose_at(ns(2.0)) is None
    assert buffer.drops['clock jumped back'] == 1


def test_history_is_bounded():
    buffer = filled(accelerating, 100, until_s=30.0, history_s=2.0)
    assert buffer.pose_at(ns(28.0)) is not None
    assert buffer.pose_at(ns(27.98)) is None


def test_the_given_matrix_is_copied():
    pose = np.eye(4)
    buffer = PoseBuffer()
    buffer.add(ns(0.0), pose)
    pose[0, 3] = 9.0
    buffer.pose_at(ns(0.0))[0, 3] = 7.0
    assert buffer.pose_at(ns(0.0))[0, 3] == 0.0


@pytest.mark.parametrize(
    ('limits', 'named'),
    [
        ({'max_gap_s': 0.0}, 'max_gap_s'),
        ({'history_s': math.nan}, 'history_s'),
        ({'window_s': 2.0}, 'max_window_s'),
        ({'max_extrapolation_s': -0.1}, 'max_extrapolation_s'),
    ],
)
def test_impossible_limits_are_named(limits, named):
    with pytest.raises(ValueError, match=named):
        PoseBuffer(**limits)


def test_readers_and_writers_at_once():
    buffer = PoseBuffer(history_s=2.0)
    failures = []
    writing = threading.Event()

    def read():
        writing.wait()
        for i in range(2000):
            pose = buffer.pose_at(ns(i / 400))
            if pose is not None and abs(pose[0, 3] - 5.0 * (i / 400)) > 1e-6:
                failures.append(i)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for i in range(1000):
        buffer.add(ns(i / 200), transform_from_planar(5.0 * i / 200, 0.0, 0.0))
        if i == 100:
            writing.set()
    for reader in readers:
        reader.join(timeout=20)
        assert not reader.is_alive()
    assert not failures


@pytest.mark.planning_real
def test_real_vehicle_agrees_with_its_own_sensors(planning_dir):
    """2 Hz poses against the recorded speed and yaw rate (vehicle bus): causal, and as good as the sensors here."""
    recordings = sorted(planning_dir.glob('*.npz'))
    assert recordings
    for path in recordings:
        data = np.load(path, allow_pickle=False)
        stamps = [int(stamp) * 1000 for stamp in data['timestamp_us']]
        rotations = quat_xyzw_from_wxyz(data['global_from_ego_quat_wxyz'])
        buffer = PoseBuffer(history_s=1e4)
        speeds, measured_speeds, rates, measured_rates = [], [], [], []
        first = None
        for i, stamp in enumerate(stamps):
            global_from_ego = transform_from(data['global_from_ego_translation_m'][i], rotations[i])
            first = global_from_ego if first is None else first
            buffer.add(stamp, inverse(first) @ global_from_ego)
            state = buffer.state_at(stamp)
            assert (state is None) == (i < 2)
            if state is not None:
                speeds.append(state.speed_mps)
                rates.append(state.yaw_rate_radps)
                measured_speeds.append(np.linalg.norm(data['ego_status'][i, 6:8]))
                measured_rates.append(data['ego_status'][i, 5])
        speed_error = np.abs(np.subtract(speeds, measured_speeds))
        assert np.median(speed_error) < 0.3
        assert speed_error.max() < 0.8
        assert np.abs(np.subtract(rates, measured_rates)).max() < 0.05

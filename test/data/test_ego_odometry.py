import numpy as np
import pytest

from sparseoccvla_ros.data.ego_odometry import TWIST_BASELINE_NS, level_origin, odometry
from sparseoccvla_ros.geometry import transform_from, transform_from_planar, yaw_of

SPEED_MPS, YAW_RATE_RADPS = 5.0, 0.2


def _circle(stamps_ns):
    poses = []
    for stamp_ns in stamps_ns:
        yaw = YAW_RATE_RADPS * stamp_ns * 1e-9
        radius_m = SPEED_MPS / YAW_RATE_RADPS
        poses.append((stamp_ns, transform_from_planar(radius_m * np.sin(yaw), radius_m * (1 - np.cos(yaw)), yaw)))
    return poses


def test_circle_gives_its_speed_and_yaw_rate():
    samples = odometry(_circle(range(0, 2_000_000_000, 25_000_000)), np.eye(4))
    for sample in samples:
        # forward speed of a chord over 25 ms; the side component is the chord's turn, half of 0.2 rad/s * 25 ms
        assert np.linalg.norm(sample.velocity_ego_mps) == pytest.approx(SPEED_MPS, abs=1e-5)
        np.testing.assert_allclose(sample.velocity_ego_mps, [SPEED_MPS, -SPEED_MPS * 0.0025, 0.0], atol=1e-4)
        np.testing.assert_allclose(sample.angular_velocity_ego_radps, [0.0, 0.0, YAW_RATE_RADPS], atol=1e-9)


def test_no_later_pose_changes_a_twist():
    stamps_ns = [0, 7_000_000, 15_000_000, 26_000_000, 41_000_000, 80_000_000, 120_000_000]
    poses = _circle(stamps_ns)
    full = odometry(poses, np.eye(4))
    for last in range(3, len(poses)):  # the first three hold the first velocity measured, at 26 ms
        cut = odometry(poses[: last + 1], np.eye(4))
        for ours, theirs in zip(cut, full, strict=False):
            np.testing.assert_array_equal(ours.velocity_ego_mps, theirs.velocity_ego_mps)
            np.testing.assert_array_equal(ours.angular_velocity_ego_radps, theirs.angular_velocity_ego_radps)


def test_first_poses_hold_the_first_measured_twist():
    samples = odometry(_circle([0, 7_000_000, 15_000_000, 26_000_000]), np.eye(4))
    for sample in samples[:3]:
        np.testing.assert_array_equal(sample.velocity_ego_mps, samples[3].velocity_ego_mps)


def test_noise_of_close_poses_does_not_become_velocity():
    """0.1 mm of noise over 0.5 ms would be 0.2 m/s; over the baseline it is 5 mm/s."""
    rng = np.random.default_rng(0)
    stamps_ns = np.cumsum(rng.integers(500_000, 8_000_000, 200))
    poses = []
    for stamp_ns in stamps_ns:
        poses.append((int(stamp_ns), transform_from_planar(SPEED_MPS * stamp_ns * 1e-9 + rng.normal(0, 1e-4), 0, 0)))
    speeds = [sample.velocity_ego_mps[0] for sample in odometry(poses, np.eye(4))]
    assert np.abs(np.array(speeds) - SPEED_MPS).max() < 6 * np.sqrt(2) * 1e-4 / (TWIST_BASELINE_NS * 1e-9)


def test_single_pose_and_none():
    (sample,) = odometry(_circle([5]), np.eye(4))
    np.testing.assert_array_equal(sample.velocity_ego_mps, np.zeros(3))
    assert odometry([], np.eye(4)) == []


def test_order_and_repetition_do_not_matter():
    poses = _circle(range(0, 200_000_000, 12_000_000))
    expected = odometry(poses, np.eye(4))
    got = odometry([*poses[::-1], *poses], np.eye(4))
    assert [s.stamp_ns for s in got] == [s.stamp_ns for s in expected]
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours.odom_from_ego, theirs.odom_from_ego)
        np.testing.assert_array_equal(ours.velocity_ego_mps, theirs.velocity_ego_mps)


def test_odom_starts_at_the_first_pose_but_level():
    pitch = np.radians(3.0)
    tilted = transform_from([100.0, 200.0, 1.0], [0.0, np.sin(pitch / 2), 0.0, np.cos(pitch / 2)])
    origin = level_origin(tilted)
    np.testing.assert_allclose(origin[:3, 2], [0.0, 0.0, 1.0])  # z stays up
    np.testing.assert_allclose(origin[:3, 3], [100.0, 200.0, 1.0])
    (sample,) = odometry([(0, tilted)], origin)
    np.testing.assert_allclose(sample.odom_from_ego[:3, 3], 0.0, atol=1e-12)
    assert yaw_of(sample.odom_from_ego) == pytest.approx(0.0)
    # the pitch is still in the pose: nose down by 3 degrees
    assert sample.odom_from_ego[2, 0] == pytest.approx(-np.sin(pitch))

"""Values worked by hand or taken from the ROS interface definitions."""

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Transform
from nav_msgs.msg import Odometry

from sparseoccvla_ros.nodes.conversions.basic import (
    duration_from,
    header_from,
    matrix_from_pose,
    matrix_from_transform,
    number_array,
    odom_from_ego_of,
    pose_from_matrix,
    stamp_ns_from,
    time_from,
)

#: The reference stamp of the public nuScenes sample ca9a282c: 1532402927.612460 s (microseconds in the tables).
STAMP_NS = 1_532_402_927_612_460_000


def test_stamps_split_into_seconds_and_nanoseconds():
    assert time_from(STAMP_NS) == Time(sec=1_532_402_927, nanosec=612_460_000)
    assert stamp_ns_from(Time(sec=1_532_402_927, nanosec=612_460_001)) == STAMP_NS + 1
    assert header_from(STAMP_NS, 'odom').frame_id == 'odom'


@pytest.mark.parametrize(
    ('seconds', 'sec', 'nanosec'), [(0.0, 0, 0), (0.5, 0, 500_000_000), (2.999999999, 2, 999_999_999), (3.0, 3, 0)]
)
def test_durations_are_exact_to_the_nanosecond(seconds, sec, nanosec):
    duration = duration_from(seconds)
    assert (duration.sec, duration.nanosec) == (sec, nanosec)


def test_a_quarter_turn_to_the_left_carries_forward_to_left():
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = 10.0, 20.0, 1.0
    pose.orientation.z = pose.orientation.w = np.sqrt(0.5)
    expected = [[0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 1], [0, 0, 0, 1]]
    np.testing.assert_allclose(matrix_from_pose(pose), expected, atol=1e-15)
    transform = Transform()
    transform.translation.x, transform.translation.y, transform.translation.z = 10.0, 20.0, 1.0
    transform.rotation = pose.orientation
    np.testing.assert_allclose(matrix_from_transform(transform), expected, atol=1e-15)
    odometry = Odometry()
    odometry.pose.pose = pose
    np.testing.assert_allclose(odom_from_ego_of(odometry), expected, atol=1e-15)
    back = pose_from_matrix(np.array(expected, dtype=float))
    np.testing.assert_allclose([back.orientation.z, back.orientation.w], np.sqrt([0.5, 0.5]), atol=1e-15)


@pytest.mark.parametrize('broken', ['nan', 'zero'])
def test_a_pose_that_is_none_is_refused(broken):
    odometry = Odometry()
    if broken == 'nan':
        odometry.pose.pose.position.x = float('nan')
    else:
        odometry.pose.pose.orientation.w = 0.0
    with pytest.raises(ValueError, match=r'finite|zero norm'):
        odom_from_ego_of(odometry)


def test_number_arrays_hold_little_endian_ieee_bytes():
    assert number_array('f', np.array([1.0, -2.0])).tobytes() == bytes.fromhex('0000803f000000c0')
    assert number_array('B', np.array([[1, 2], [3, 255]])).tolist() == [1, 2, 3, 255]
    transposed = np.arange(6).reshape(2, 3).T
    assert number_array('f', transposed).tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0], 'row-major whatever the strides'

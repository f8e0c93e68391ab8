"""Stamps, poses, transforms and number arrays."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Pose, Transform
from nav_msgs.msg import Odometry
from std_msgs.msg import Header

from sparseoccvla_ros.geometry import transform_from, translation_and_quat_xyzw


def stamp_ns_from(stamp: Time) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def time_from(stamp_ns: int) -> Time:
    """builtin_interfaces/Time of nanoseconds."""
    sec, nanosec = divmod(int(stamp_ns), 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def duration_from(duration_s: float) -> Duration:
    """builtin_interfaces/Duration of seconds, to the nanosecond."""
    sec, nanosec = divmod(round(duration_s * 1e9), 1_000_000_000)
    return Duration(sec=sec, nanosec=nanosec)


def header_from(stamp_ns: int, frame_id: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=time_from(stamp_ns), frame_id=frame_id)


def number_array(code: str, values: np.ndarray) -> array.array:
    """``array.array`` of type ``code`` for a message's number sequence.

    rclpy has no fast path for an ndarray: assigning one directly costs 18 to 459 ms.
    """
    numbers = array.array(code)
    numbers.frombytes(np.ascontiguousarray(values, dtype=np.dtype(code)).data.cast('B'))
    return numbers


def matrix_from_transform(transform: Transform) -> np.ndarray:
    """``parent_from_child`` [4, 4] of a geometry_msgs/Transform.

    Raises:
        ValueError: not finite, or a quaternion of zero length.
    """
    translation, rotation = transform.translation, transform.rotation
    return transform_from(
        np.array([translation.x, translation.y, translation.z]),
        np.array([rotation.x, rotation.y, rotation.z, rotation.w]),
    )


def matrix_from_pose(pose: Pose) -> np.ndarray:
    """``frame_from_body`` [4, 4] of a geometry_msgs/Pose; raises ValueError as above."""
    position, orientation = pose.position, pose.orientation
    return transform_from(
        np.array([position.x, position.y, position.z]),
        np.array([orientation.x, orientation.y, orientation.z, orientation.w]),
    )


def pose_from_matrix(frame_from_body: np.ndarray) -> Pose:
    """geometry_msgs/Pose of a transform [4, 4]."""
    translation, quat_xyzw = translation_and_quat_xyzw(frame_from_body)
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = map(float, translation)
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = map(float, quat_xyzw)
    return pose


def odom_from_ego_of(odometry: Odometry) -> np.ndarray:
    """``odom_from_ego`` [4, 4] of an Odometry message; raises ValueError if the pose is not finite."""
    return matrix_from_pose(odometry.pose.pose)

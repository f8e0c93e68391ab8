"""Rigid transforms, projection and range encoding.

Conventions (``docs/conventions.md``): metres, radians, REP-103 axes (ego: x forward, y left, z up;
camera optical: z forward, x right, y down). A transform is a 4x4 float64 matrix named
``target_from_source``; in a product the inner names match: ``odom_from_ego @ ego_from_camera``.
Quaternions are x, y, z, w inside the package; nuScenes' w, x, y, z is converted in one place,
:func:`quat_xyzw_from_wxyz`. Pixel coordinates are measured from the image's corner, so that they
scale with the image: ``u_px / width_px`` does not change when an image is resized.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

Array = np.ndarray


def quat_xyzw_from_wxyz(quat_wxyz: Array) -> Array:
    """Reorder quaternions [..., 4] from w, x, y, z (nuScenes) to x, y, z, w (ROS, scipy)."""
    return np.roll(np.asarray(quat_wxyz, dtype=np.float64), -1, axis=-1)


def transform_from(translation_m: Array, quat_xyzw: Array) -> Array:
    """Build ``target_from_source`` [4, 4] from the source's origin and rotation in the target frame.

    Raises:
        ValueError: the quaternion has zero length or a value is not finite.
    """
    translation_m = np.asarray(translation_m, dtype=np.float64)
    quat_xyzw = np.asarray(quat_xyzw, dtype=np.float64)
    if not (np.isfinite(translation_m).all() and np.isfinite(quat_xyzw).all()):
        raise ValueError(f'transform is not finite: {translation_m}, {quat_xyzw}')
    target_from_source = np.eye(4)
    target_from_source[:3, :3] = Rotation.from_quat(quat_xyzw).as_matrix()
    target_from_source[:3, 3] = translation_m
    return target_from_source


def transform_from_planar(x_m: float, y_m: float, yaw_rad: float) -> Array:
    """Build ``target_from_source`` [4, 4] of a source that stands at (x, y) with heading ``yaw_rad``."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[cos, -sin, 0.0, x_m], [sin, cos, 0.0, y_m], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def inverse(target_from_source: Array) -> Array:
    """Return ``source_from_target``, for rigid transforms [..., 4, 4]."""
    rotation = np.swapaxes(target_from_source[..., :3, :3], -1, -2)
    source_from_target = np.zeros_like(target_from_source)
    source_from_target[..., :3, :3] = rotation
    source_from_target[..., :3, 3] = -np.einsum('...ij,...j->...i', rotation, target_from_source[..., :3, 3])
    source_from_target[..., 3, 3] = 1.0
    return source_from_target


def translation_and_quat_xyzw(target_from_source: Array) -> tuple[Array, Array]:
    """Split a transform [4, 4] into translation [3], metres, and quaternion [4], x y z w with w >= 0."""
    quat_xyzw = Rotation.from_matrix(target_from_source[:3, :3]).as_quat(canonical=True)
    return target_from_source[:3, 3].copy(), quat_xyzw


def yaw_of(target_from_source: Array) -> float:
    """Heading of the source's x axis in the target's x-y plane, radians in (-pi, pi]."""
    return float(np.arctan2(target_from_source[1, 0], target_from_source[0, 0]))


def wrap_angle(angle_rad: Array | float) -> Array | float:
    """Wrap angles to [-pi, pi)."""
    return (np.asarray(angle_rad) + np.pi) % (2.0 * np.pi) - np.pi


def transform_points(target_from_source: Array, points_source: Array) -> Array:
    """Carry points [..., 3] from the source into the target frame."""
    return points_source @ target_from_source[:3, :3].T + target_from_source[:3, 3]


def interpolate(target_from_source_0: Array, target_from_source_1: Array, fraction: float) -> Array:
    """Pose between two poses: linear in translation, great-circle in rotation.

    ``fraction`` 0 gives the first, 1 the second; values outside extrapolate at constant rates.
    """
    delta = Rotation.from_matrix(target_from_source_0[:3, :3].T @ target_from_source_1[:3, :3])
    blended = np.eye(4)
    blended[:3, :3] = target_from_source_0[:3, :3] @ Rotation.from_rotvec(fraction * delta.as_rotvec()).as_matrix()
    blended[:3, 3] = (1.0 - fraction) * target_from_source_0[:3, 3] + fraction * target_from_source_1[:3, 3]
    return blended


def image_from_ego(intrinsics_px: Array, camera_from_ego: Array) -> Array:
    """Homogeneous projection [..., 4, 4]: ego metres (x, y, z, 1) to (u * depth, v * depth, depth, 1), pixels.

    ``intrinsics_px`` is [..., 3, 3], ``camera_from_ego`` [..., 4, 4] into the optical frame.
    """
    projection = np.array(camera_from_ego, dtype=np.float64)
    projection[..., :3, :] = intrinsics_px @ camera_from_ego[..., :3, :]
    return projection


def project_points(projection: Array, points_ego: Array) -> tuple[Array, Array]:
    """Project points with :func:`image_from_ego`.

    Args:
        projection: [4, 4].
        points_ego: [N, 3], metres.

    Returns:
        pixels [N, 2] (u, v) and depths [N] in metres. A point at depth <= 0 is behind the camera; its
        pixel has no meaning (nan at depth 0).
    """
    homogeneous = points_ego @ projection[:3, :3].T + projection[:3, 3]
    depth_m = homogeneous[:, 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        return homogeneous[:, :2] / depth_m[:, None], depth_m


def encode_points(points_m: Array, point_range_m: Array) -> Array:
    """Metres [..., 3] to fractions of the range (x0, y0, z0, x1, y1, z1); not clamped."""
    point_range_m = np.asarray(point_range_m)
    low, high = point_range_m[:3], point_range_m[3:]
    return (points_m - low) / (high - low)


def decode_points(fractions: Array, point_range_m: Array) -> Array:
    """Inverse of :func:`encode_points`."""
    point_range_m = np.asarray(point_range_m)
    low, high = point_range_m[:3], point_range_m[3:]
    return fractions * (high - low) + low

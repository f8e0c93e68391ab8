"""Builds the ROS messages that the bag writer writes, without a ROS installation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sparseoccvla_ros.data.ego_odometry import OdometrySample
from sparseoccvla_ros.data.nuscenes import LIDAR_COLUMNS, NuScenesError, SensorFrame, load_lidar_points
from sparseoccvla_ros.data.typestore import package_typestore
from sparseoccvla_ros.geometry import translation_and_quat_xyzw
from sparseoccvla_ros.sensors.decode import CameraFault, decode_compressed

if TYPE_CHECKING:  # it comes with torch, which readers of bags need not wait for
    from sparseoccvla_ros.runtime.scene import Command

CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
DRIVING_COMMAND = 'sparseoccvla_ros/msg/DrivingCommand'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
IMAGE = 'sensor_msgs/msg/Image'
ODOMETRY = 'nav_msgs/msg/Odometry'
POINT_CLOUD = 'sensor_msgs/msg/PointCloud2'
TF = 'tf2_msgs/msg/TFMessage'

_POINT_FIELD_FLOAT32 = 7
_IMAGE_FORMATS = {b'\xff\xd8\xff': 'jpeg', b'\x89PNG': 'png'}
NS_PER_S = 1_000_000_000


def transform(stamp_ns: int, parent: str, child: str, parent_from_child: np.ndarray) -> object:
    """geometry_msgs/TransformStamped of ``parent_from_child`` [4, 4]."""
    (x, y, z), quat_xyzw = translation_and_quat_xyzw(parent_from_child)
    return _make(
        'geometry_msgs/msg/TransformStamped',
        header=_header(stamp_ns, parent),
        child_frame_id=child,
        transform=_make('geometry_msgs/msg/Transform', translation=_vector((x, y, z)), rotation=_quaternion(quat_xyzw)),
    )


def transforms(stamped: Sequence[object]) -> object:
    """tf2_msgs/TFMessage of TransformStamped messages."""
    return _make(TF, transforms=list(stamped))


def driving_command(stamp_ns: int, command: Command) -> object:
    """sparseoccvla_ros/DrivingCommand; it is about no frame."""
    return _make(DRIVING_COMMAND, header=_header(stamp_ns, ''), command=int(command))


def odometry(sample: OdometrySample, odom_frame: str, base_frame: str) -> object:
    """nav_msgs/Odometry; covariances zero, which by convention means unknown."""
    (x, y, z), quat_xyzw = translation_and_quat_xyzw(sample.odom_from_ego)
    pose = _make(
        'geometry_msgs/msg/Pose',
        position=_make('geometry_msgs/msg/Point', x=float(x), y=float(y), z=float(z)),
        orientation=_quaternion(quat_xyzw),
    )
    twist = _make(
        'geometry_msgs/msg/Twist',
        linear=_vector(sample.velocity_ego_mps),
        angular=_vector(sample.angular_velocity_ego_radps),
    )
    unknown = np.zeros(36)
    return _make(
        ODOMETRY,
        header=_header(sample.stamp_ns, odom_frame),
        child_frame_id=base_frame,
        pose=_make('geometry_msgs/msg/PoseWithCovariance', pose=pose, covariance=unknown),
        twist=_make('geometry_msgs/msg/TwistWithCovariance', twist=twist, covariance=unknown),
    )


def camera_info(frame: SensorFrame, frame_id: str) -> object:
    """sensor_msgs/CameraInfo of a rectified camera: no distortion, no rotation, ``p`` = [k | 0]."""
    if frame.intrinsics_px is None or frame.width_px <= 0 or frame.height_px <= 0:
        raise NuScenesError(f'{frame.channel} sample_data {frame.token} has no camera_intrinsic or no image size')
    region = _make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return _make(
        CAMERA_INFO,
        header=_header(frame.stamp_ns, frame_id),
        height=frame.height_px,
        width=frame.width_px,
        distortion_model='plumb_bob',
        d=np.zeros(5),
        k=frame.intrinsics_px.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([frame.intrinsics_px, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def compressed_image(frame: SensorFrame, frame_id: str) -> object:
    """sensor_msgs/CompressedImage with the image file's bytes as they are.

    Raises:
        NuScenesError: the file is missing, or neither JPEG nor PNG.
    """
    content = frame.read_bytes()
    return _make(
        COMPRESSED_IMAGE,
        header=_header(frame.stamp_ns, frame_id),
        format=_image_format(content, frame),
        data=np.frombuffer(content, np.uint8),
    )


def raw_image(frame: SensorFrame, frame_id: str) -> object:
    """sensor_msgs/Image, rgb8.

    Raises:
        NuScenesError: the file is missing, neither JPEG nor PNG, or corrupt.
    """
    content = frame.read_bytes()
    _image_format(content, frame)
    try:
        image = decode_compressed(content)
    except CameraFault as error:
        raise NuScenesError(f'{frame.channel} file {frame.path} of sample_data {frame.token}: {error}') from error
    height_px, width_px = image.shape[:2]
    return _make(
        IMAGE,
        header=_header(frame.stamp_ns, frame_id),
        height=height_px,
        width=width_px,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * width_px,
        data=image.reshape(-1),
    )


def point_cloud(frame: SensorFrame, frame_id: str) -> object:
    """sensor_msgs/PointCloud2 with the sweep's five float32 columns as they are."""
    points = load_lidar_points(frame)
    step = 4 * len(LIDAR_COLUMNS)
    columns = [
        _make('sensor_msgs/msg/PointField', name=name, offset=4 * index, datatype=_POINT_FIELD_FLOAT32, count=1)
        for index, name in enumerate(LIDAR_COLUMNS)
    ]
    return _make(
        POINT_CLOUD,
        header=_header(frame.stamp_ns, frame_id),
        height=1,
        width=len(points),
        fields=columns,
        is_bigendian=False,
        point_step=step,
        row_step=step * len(points),
        data=points.view(np.uint8).reshape(-1),
        is_dense=bool(np.isfinite(points).all()),
    )


def _image_format(content: bytes, frame: SensorFrame) -> str:
    for magic, name in _IMAGE_FORMATS.items():
        if content.startswith(magic):
            return name
    raise NuScenesError(f'{frame.channel} file {frame.path} of sample_data {frame.token} is neither JPEG nor PNG')


def _header(stamp_ns: int, frame_id: str) -> object:
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    stamp = _make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
    return _make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)


def _vector(xyz: Sequence[float]) -> object:
    x, y, z = (float(value) for value in xyz)
    return _make('geometry_msgs/msg/Vector3', x=x, y=y, z=z)


def _quaternion(quat_xyzw: Sequence[float]) -> object:
    x, y, z, w = (float(value) for value in quat_xyzw)
    return _make('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w)


def _make(msgtype: str, **values: object) -> object:
    return package_typestore().types[msgtype](**values)

"""What the simulator publishes, as serialized messages: the same builders as the bag writer's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sparseoccvla_ros.data import ros_messages
from sparseoccvla_ros.data.bag_writer import MAP_FRAME
from sparseoccvla_ros.data.ego_odometry import OdometrySample, level_origin
from sparseoccvla_ros.data.nuscenes import SensorFrame
from sparseoccvla_ros.data.topics import TopicPreset
from sparseoccvla_ros.data.typestore import package_typestore
from sparseoccvla_ros.geometry import inverse, transform_from_planar, yaw_of
from sparseoccvla_ros.msg import PlannedTrajectory
from sparseoccvla_ros.nodes.conversions.basic import matrix_from_pose, stamp_ns_from
from sparseoccvla_ros.planning.trajectory import Trajectory
from sparseoccvla_ros.world.driving.observation import CameraShot
from sparseoccvla_ros.world.driving.tracking import DrivePlan
from sparseoccvla_ros.world.rig import Rig
from sparseoccvla_ros.world.scene import Scene

JPEG_QUALITY = 90


@dataclass(frozen=True, eq=False)
class RenderedFrame(SensorFrame):
    """A camera image that is in no file."""

    content: bytes

    def read_bytes(self) -> bytes:
        """The encoded image."""
        return self.content


class SimulatorMessages:
    """Messages of one drive. Odometry begins at the ego's pose at time 0, with the world as ``map``.

    Args:
        scene: the drive's scene.
        rig: the car's cameras.
        preset: frames, and the kind of images.
        start_ns: stamp of the scene's time 0.
    """

    def __init__(self, scene: Scene, rig: Rig, preset: TopicPreset, start_ns: int) -> None:
        self._scene = scene
        self._rig = rig
        self._preset = preset
        self._start_ns = start_ns
        in_map = preset.odom_frame == MAP_FRAME
        #: ``world_from_odom`` [4, 4].
        self.world_from_odom = np.eye(4) if in_map else level_origin(scene.world_from_ego(0.0))
        self._odom_from_world = inverse(self.world_from_odom)

    def stamp_ns(self, time_s: float) -> int:
        """Stamp of a time of the scene."""
        return self._start_ns + round(time_s * 1e9)

    def static_transforms(self, time_s: float) -> bytes:
        """tf2_msgs/TFMessage: all cameras on the car, and the map."""
        stamp_ns, preset = self.stamp_ns(time_s), self._preset
        found = [
            ros_messages.transform(
                stamp_ns, preset.base_frame, preset.camera_frame_id(item.camera.name), item.camera.ego_from_camera
            )
            for item in self._rig.cameras
        ]
        if preset.odom_frame != MAP_FRAME:
            found.append(ros_messages.transform(stamp_ns, MAP_FRAME, preset.odom_frame, self.world_from_odom))
        return _serialized(ros_messages.transforms(found), ros_messages.TF)

    def odometry(self, time_s: float) -> tuple[bytes, bytes]:
        """nav_msgs/Odometry and tf2_msgs/TFMessage of the ego at a time: the same pose."""
        motion, preset = self._scene.ego_motion(time_s), self._preset
        sample = OdometrySample(
            self.stamp_ns(time_s),
            self._odom_from_world @ self._scene.world_from_ego(time_s),
            np.array([motion.speed_mps, 0.0, 0.0]),
            np.array([0.0, 0.0, motion.yaw_rate_radps]),
        )
        moving = ros_messages.transform(sample.stamp_ns, preset.odom_frame, preset.base_frame, sample.odom_from_ego)
        odometry = ros_messages.odometry(sample, preset.odom_frame, preset.base_frame)
        return (
            _serialized(odometry, ros_messages.ODOMETRY),
            _serialized(ros_messages.transforms([moving]), ros_messages.TF),
        )

    def camera(self, shot: CameraShot) -> tuple[bytes, bytes]:
        """sensor_msgs/CameraInfo and the image, both stamped with the shot's time."""
        camera, stamp_ns = shot.camera, self.stamp_ns(shot.time_s)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        encoded, content = cv2.imencode('.jpg', shot.capture.rgb[..., ::-1], quality)
        if not encoded:
            raise ValueError(f'cannot encode an image of {shot.capture.rgb.shape} as JPEG')
        frame = RenderedFrame(
            token='',
            channel=camera.name,
            modality='camera',
            stamp_ns=stamp_ns,
            path=Path(),
            is_key_frame=True,
            width_px=camera.width_px,
            height_px=camera.height_px,
            intrinsics_px=camera.intrinsics_px,
            ego_from_sensor=camera.ego_from_camera,
            global_from_ego=shot.world_from_ego,
            pose_stamp_ns=stamp_ns,
            content=content.tobytes(),
        )
        frame_id = self._preset.camera_frame_id(camera.name)
        compressed = self._preset.image_type == 'compressed'
        make = ros_messages.compressed_image if compressed else ros_messages.raw_image
        return (
            _serialized(ros_messages.camera_info(frame, frame_id), ros_messages.CAMERA_INFO),
            _serialized(make(frame, frame_id), self._preset.image_msgtype),
        )

    def plan(self, message: PlannedTrajectory) -> DrivePlan:
        """The plan of a trajectory in odom.

        Raises:
            ValueError: it has too few points, or a number that is not finite.
        """
        poses = [matrix_from_pose(point.pose) for point in message.points]
        times = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points]
        trajectory = Trajectory(
            np.array(times),
            np.array([pose[:2, 3] for pose in poses]).reshape(-1, 2),
            np.array([yaw_of(pose) for pose in poses]),
            np.array([point.speed_mps for point in message.points]),
            np.array([point.acceleration_mps2 for point in message.points]),
            np.array([point.yaw_rate_radps for point in message.points]),
        )
        # odom stands level in the world: its place and heading are all there is to it.
        x, y = self.world_from_odom[:2, 3]
        world_from_odom = transform_from_planar(x, y, yaw_of(self.world_from_odom))
        stamp_s = (stamp_ns_from(message.header.stamp) - self._start_ns) * 1e-9
        return DrivePlan.of(trajectory, world_from_odom, stamp_s)


def _serialized(message: object, kind: str) -> bytes:
    return bytes(package_typestore().serialize_cdr(message, kind))

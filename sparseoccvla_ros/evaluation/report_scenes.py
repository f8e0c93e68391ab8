"""Collects from the played and the recorded bag what the report shows of a scene: pictures, occupancy, plans."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparseoccvla_ros.data.bag_reader import BagReader
from sparseoccvla_ros.data.topics import TopicPreset
from sparseoccvla_ros.data.typestore import package_typestore
from sparseoccvla_ros.evaluation.bag_input import ReplaySet
from sparseoccvla_ros.evaluation.replay_summary import stamp_ns_of
from sparseoccvla_ros.geometry import inverse, transform_from
from sparseoccvla_ros.runtime.ego_motion import PoseBuffer
from sparseoccvla_ros.runtime.scene import OccupancyPoints
from sparseoccvla_ros.sensors.decode import CameraFault, decode_compressed, decode_raw

#: The whole bag is one history here.
WHOLE_BAG_S = 1e6


@dataclass(frozen=True)
class CameraPicture:
    """A camera's image, uint8 RGB [H, W, 3], and ``camera_from_ego`` [4, 4] from the SCENE's ego frame, which takes the
    vehicle's motion between scene and exposure into account. ``intrinsics_px`` [3, 3]. None: not known.
    """

    image: np.ndarray
    intrinsics_px: np.ndarray | None
    camera_from_ego: np.ndarray | None


@dataclass
class SceneMaterial:
    """Everything the report draws of one scene. ``ego_from_odom`` [4, 4] is None without a pose."""

    stamp_ns: int
    pictures: dict[str, CameraPicture] = field(default_factory=dict)
    occupancy: OccupancyPoints | None = None
    grid: Any = None
    trajectory: Any = None
    ego_from_odom: np.ndarray | None = None


def collect_scenes(
    input_bag: Path,
    output_bag: Path,
    preset: TopicPreset,
    sets: Sequence[ReplaySet],
    trajectories: Mapping[int, Any],
) -> list[SceneMaterial]:
    """Read the material of the scenes made of ``sets`` (a few), in their order."""
    scenes = {camera_set.stamp_ns: SceneMaterial(camera_set.stamp_ns) for camera_set in sets}
    for stamp_ns, scene in scenes.items():
        scene.trajectory = trajectories.get(stamp_ns)
    _read_outputs(output_bag, scenes)
    _read_inputs(input_bag, preset, sets, scenes)
    return list(scenes.values())


def points_of_cloud(cloud: Any) -> OccupancyPoints:
    """Points of a PointCloud2 with fields x y z label score (decoded by the package's typestore)."""
    kinds = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8'}  # sensor_msgs/PointField
    order = '>' if cloud.is_bigendian else '<'
    dtype = np.dtype(
        {
            'names': [entry.name for entry in cloud.fields],
            'formats': [order + kinds[entry.datatype] for entry in cloud.fields],
            'offsets': [entry.offset for entry in cloud.fields],
            'itemsize': cloud.point_step,
        }
    )
    values = np.frombuffer(cloud.data.tobytes(), dtype, count=cloud.width * cloud.height)
    return OccupancyPoints(
        points_ego=np.stack([values['x'], values['y'], values['z']], axis=-1).astype(np.float32),
        labels=values['label'].astype(np.uint8),
        scores=values['score'].astype(np.float32),
    )


def _read_outputs(bag: Path, scenes: Mapping[int, SceneMaterial]) -> None:
    typestore = package_typestore()
    with BagReader(bag) as reader:
        for raw in reader.messages(('/occupancy', '/occupancy_grid')):
            scene = scenes.get(raw.header_stamp_ns)
            if scene is None:
                continue
            message = typestore.deserialize_cdr(raw.data, raw.msgtype)
            if raw.topic == '/occupancy':
                scene.occupancy = points_of_cloud(message)
            else:
                scene.grid = message


def _read_inputs(
    bag: Path, preset: TopicPreset, sets: Sequence[ReplaySet], scenes: Mapping[int, SceneMaterial]
) -> None:
    cameras = {camera for camera_set in sets for camera in camera_set.camera_stamps_ns}
    image_topics = {preset.image_topic(camera): camera for camera in cameras}
    info_topics = {preset.camera_info_topic(camera): camera for camera in cameras}
    pose_topic = preset.odometry if preset.pose_source == 'odometry' else preset.tf
    wanted = {
        (camera, stamp_ns): scenes[camera_set.stamp_ns]
        for camera_set in sets
        for camera, stamp_ns in camera_set.camera_stamps_ns.items()
    }
    poses = PoseBuffer(history_s=WHOLE_BAG_S, max_extrapolation_s=0.25)
    parents: dict[str, tuple[str, np.ndarray]] = {}
    infos: dict[str, Any] = {}
    images: dict[tuple[str, int], np.ndarray] = {}
    typestore = package_typestore()
    with BagReader(bag) as reader:
        topics = {*image_topics, *info_topics, pose_topic, preset.tf_static} & reader.topics.keys()
        for raw in reader.messages(topics):
            camera = image_topics.get(raw.topic)
            if camera is not None and (camera, raw.header_stamp_ns) not in wanted:
                continue
            if info_topics.get(raw.topic) in infos:
                continue
            message = typestore.deserialize_cdr(raw.data, raw.msgtype)
            if camera is not None:
                _decode(message, preset.image_type, images, (camera, raw.header_stamp_ns))
            elif raw.topic in info_topics:
                infos[info_topics[raw.topic]] = message
            if raw.topic == preset.tf_static:
                _add_transforms(message, parents)
            if raw.topic == pose_topic:
                _add_pose(message, preset, poses)
    for (camera, stamp_ns), scene in wanted.items():
        if (camera, stamp_ns) in images:
            scene.pictures[camera] = _picture(images[camera, stamp_ns], infos.get(camera), preset, parents)
    for scene in scenes.values():
        _apply_motion(scene, poses, {camera: stamp_ns for (camera, stamp_ns), of in wanted.items() if of is scene})


def _decode(message: Any, image_type: str, images: dict[tuple[str, int], np.ndarray], key: tuple[str, int]) -> None:
    try:
        if image_type == 'compressed':
            images[key] = decode_compressed(message.data.tobytes())
        else:
            data = message.data.tobytes()
            images[key] = decode_raw(data, message.encoding, message.height, message.width, message.step)
    except CameraFault:
        # the stack saw the same bytes and told so in its status; here the place of the picture stays empty
        return


def _add_transforms(message: Any, parents: dict[str, tuple[str, np.ndarray]]) -> None:
    for stamped in message.transforms:
        parents[stamped.child_frame_id] = (stamped.header.frame_id, _matrix(stamped.transform))


def _add_pose(message: Any, preset: TopicPreset, poses: PoseBuffer) -> None:
    if preset.pose_source == 'odometry':
        pose = message.pose.pose
        poses.add(stamp_ns_of(message.header.stamp), _matrix_of(pose.position, pose.orientation))
        return
    for stamped in message.transforms:
        if (stamped.header.frame_id, stamped.child_frame_id) == (preset.odom_frame, preset.base_frame):
            poses.add(stamp_ns_of(stamped.header.stamp), _matrix(stamped.transform))


def _picture(
    image: np.ndarray, info: Any, preset: TopicPreset, parents: Mapping[str, tuple[str, np.ndarray]]
) -> CameraPicture:
    if info is None:
        return CameraPicture(image, None, None)
    projection = np.asarray(info.p, dtype=np.float64).reshape(3, 4)
    intrinsics_px = projection[:, :3] if projection.any() else np.asarray(info.k, dtype=np.float64).reshape(3, 3)
    ego_from_camera = _chain(info.header.frame_id, preset.base_frame, parents)
    return CameraPicture(image, intrinsics_px, None if ego_from_camera is None else inverse(ego_from_camera))


def _chain(frame: str, root: str, parents: Mapping[str, tuple[str, np.ndarray]]) -> np.ndarray | None:
    """``root_from_frame`` along static transforms, None if they do not lead there."""
    root_from_frame = np.eye(4)
    visited: Collection[str] = set()
    while frame != root:
        if frame not in parents or frame in visited:
            return None
        visited = {*visited, frame}
        frame, parent_from_child = parents[frame]
        root_from_frame = parent_from_child @ root_from_frame
    return root_from_frame


def _apply_motion(scene: SceneMaterial, poses: PoseBuffer, camera_stamps_ns: Mapping[str, int]) -> None:
    odom_from_scene = poses.pose_at(scene.stamp_ns)
    if odom_from_scene is None:
        return
    scene.ego_from_odom = inverse(odom_from_scene)
    for camera, picture in list(scene.pictures.items()):
        odom_from_exposure = poses.pose_at(camera_stamps_ns[camera])
        if picture.camera_from_ego is not None and odom_from_exposure is not None:
            moved = picture.camera_from_ego @ inverse(odom_from_exposure) @ odom_from_scene
            scene.pictures[camera] = CameraPicture(picture.image, picture.intrinsics_px, moved)


def _matrix(transform: Any) -> np.ndarray:
    return _matrix_of(transform.translation, transform.rotation)


def _matrix_of(position: Any, rotation: Any) -> np.ndarray:
    return transform_from(
        np.array([position.x, position.y, position.z]), np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    )

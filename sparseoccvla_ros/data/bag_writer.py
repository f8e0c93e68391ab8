"""Writes a nuScenes-layout scene as a rosbag2 bag (MCAP) that plain ``ros2 bag play`` plays.

What goes in, when and under which frames is in ``docs/data.md``. No ROS installation is needed: the ``rosbags`` package
has the message definitions and the file format.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from sparseoccvla_ros.data import ros_messages
from sparseoccvla_ros.data.bag_reader import BagError
from sparseoccvla_ros.data.ego_future import route_commands
from sparseoccvla_ros.data.ego_odometry import level_origin, odometry
from sparseoccvla_ros.data.nuscenes import LIDAR, NuScenesError, NuScenesTables, SensorFrame
from sparseoccvla_ros.data.topics import COMMAND_TOPIC, TopicPreset
from sparseoccvla_ros.data.typestore import package_typestore

BAG_VERSION = 9
"""rosbag2's metadata version of Jazzy and later."""

LIDAR_TOPIC = f'/{LIDAR}'
MAP_FRAME = 'map'


@dataclass(frozen=True)
class BagSummary:
    """What was written. ``counts`` maps a topic to its number of messages; times are nanoseconds."""

    path: Path
    scene: str
    preset: str
    start_ns: int
    end_ns: int
    counts: dict[str, int]

    @property
    def duration_s(self) -> float:
        """Time from the first to the last message."""
        return (self.end_ns - self.start_ns) * 1e-9


@dataclass(order=True)
class _Entry:
    """One message to write: made only when its turn comes, so that a scene's images are never in memory together.

    The order of the fields is the order in the bag: by time, and at one time what later messages need comes first.
    """

    stamp_ns: int
    rank: int
    topic: str
    message: Callable[[], object] = field(compare=False)
    msgtype: str = field(compare=False)


_RANK_STATIC, _RANK_COMMAND, _RANK_ODOMETRY, _RANK_TF, _RANK_CAMERA_INFO, _RANK_IMAGE, _RANK_LIDAR = range(7)


def write_scene_bag(tables: NuScenesTables, scene_name: str, out: Path | str, preset: TopicPreset) -> BagSummary:
    """Write one scene.

    Every camera image at its own time with its CameraInfo, odometry and ``odom -> base_link`` on /tf at the time of
    every known pose, the LiDAR sweeps whose files are there, the route's driving command at the start and at every
    keyframe where it changes (the world has routes, nuScenes has none), and one /tf_static message with ``base_link ->
    camera`` and ``map -> odom``; the last two are transient local. If ``preset.odom_frame`` is ``map`` itself, poses
    are the global ones; otherwise odom starts at the scene's first pose (:func:`level_origin`). The log time of a
    message is its stamp.

    Args:
        out: the bag's folder; it must not exist. It appears only when it is complete.

    Raises:
        NuScenesError: the scene or something it needs is missing or broken; nothing is left behind.
        BagError: ``out`` exists or cannot be written.
    """
    out = Path(out)
    if out.exists():
        raise BagError(f'{out} exists already; choose another name or remove it first')
    entries = list(_entries(tables.frames(scene_name), scene_name, preset))
    entries += _commands(tables, scene_name, start_ns=min(entries).stamp_ns)
    entries.sort()
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.bag-', dir=out.absolute().parent) as folder:
            unfinished = Path(folder, out.absolute().name)  # the name is part of the bag: its file is called after it
            counts = _write(entries, unfinished)
            unfinished.rename(out)
    except OSError as error:
        raise BagError(f'cannot write {out}: {error.strerror}') from error
    return BagSummary(out, scene_name, preset.name, entries[0].stamp_ns, entries[-1].stamp_ns, counts)


def _entries(frames: list[SensorFrame], scene_name: str, preset: TopicPreset) -> Iterator[_Entry]:
    cameras = [frame for frame in frames if frame.modality == 'camera']
    if not cameras:
        raise NuScenesError(f'scene {scene_name} has no camera images')
    poses = [(frame.pose_stamp_ns, frame.global_from_ego) for frame in frames]
    in_map = preset.odom_frame == MAP_FRAME
    global_from_odom = np.eye(4) if in_map else level_origin(min(poses, key=lambda pose: pose[0])[1])

    start_ns = min(min(frame.stamp_ns for frame in frames), min(stamp_ns for stamp_ns, _ in poses))
    transforms = _sensor_transforms(frames, preset, start_ns)
    if not in_map:
        transforms.append(ros_messages.transform(start_ns, MAP_FRAME, preset.odom_frame, global_from_odom))
    yield _Entry(start_ns, _RANK_STATIC, preset.tf_static, lambda: ros_messages.transforms(transforms), ros_messages.TF)

    for sample in odometry(poses, global_from_odom):
        moving = ros_messages.transform(sample.stamp_ns, preset.odom_frame, preset.base_frame, sample.odom_from_ego)
        message = ros_messages.odometry(sample, preset.odom_frame, preset.base_frame)
        yield _Entry(sample.stamp_ns, _RANK_ODOMETRY, preset.odometry, lambda m=message: m, ros_messages.ODOMETRY)
        yield _Entry(
            sample.stamp_ns, _RANK_TF, preset.tf, lambda m=moving: ros_messages.transforms([m]), ros_messages.TF
        )

    for frame in frames:
        if frame.modality == 'camera':
            frame_id = preset.camera_frame_id(frame.channel)
            info_topic, image_topic = preset.camera_info_topic(frame.channel), preset.image_topic(frame.channel)
            make = ros_messages.compressed_image if preset.image_type == 'compressed' else ros_messages.raw_image
            yield _Entry(
                frame.stamp_ns,
                _RANK_CAMERA_INFO,
                info_topic,
                lambda f=frame, i=frame_id: ros_messages.camera_info(f, i),
                ros_messages.CAMERA_INFO,
            )
            yield _Entry(
                frame.stamp_ns,
                _RANK_IMAGE,
                image_topic,
                lambda f=frame, i=frame_id, m=make: m(f, i),
                preset.image_msgtype,
            )
        elif frame.channel == LIDAR and frame.path.is_file():
            yield _Entry(
                frame.stamp_ns,
                _RANK_LIDAR,
                LIDAR_TOPIC,
                lambda f=frame: ros_messages.point_cloud(f, LIDAR),
                ros_messages.POINT_CLOUD,
            )


def _commands(tables: NuScenesTables, scene_name: str, start_ns: int) -> Iterator[_Entry]:
    """The route's at the start, and at each keyframe where it changes; never what the recorded future would tell."""
    commands = route_commands(tables, scene_name)
    last = None
    for sample in tables.scene(scene_name).samples:
        command = commands.get(sample.token)
        if command is None or command is last:
            continue
        stamp_ns = start_ns if last is None else sample.stamp_ns
        last = command
        yield _Entry(
            stamp_ns,
            _RANK_COMMAND,
            COMMAND_TOPIC,
            lambda t=stamp_ns, c=command: ros_messages.driving_command(t, c),
            ros_messages.DRIVING_COMMAND,
        )


def _sensor_transforms(frames: list[SensorFrame], preset: TopicPreset, stamp_ns: int) -> list[object]:
    mounted: dict[str, SensorFrame] = {}
    for frame in frames:
        if frame.modality == 'camera' or frame.channel == LIDAR:
            mounted.setdefault(frame.channel, frame)
    return [
        ros_messages.transform(
            stamp_ns,
            preset.base_frame,
            preset.camera_frame_id(channel) if frame.modality == 'camera' else LIDAR,
            frame.ego_from_sensor,
        )
        for channel, frame in sorted(mounted.items())
    ]


def _write(entries: list[_Entry], path: Path) -> dict[str, int]:
    store = package_typestore()
    connections: dict[str, Connection] = {}
    counts: Counter[str] = Counter()
    with Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
        for entry in entries:
            if entry.topic not in connections:
                connections[entry.topic] = writer.add_connection(
                    entry.topic,
                    entry.msgtype,
                    typestore=store,
                    offered_qos_profiles=[_qos(latched=entry.rank in (_RANK_STATIC, _RANK_COMMAND))],
                )
            content = store.serialize_cdr(entry.message(), entry.msgtype)
            writer.write(connections[entry.topic], entry.stamp_ns, content)
            counts[entry.topic] += 1
    return dict(counts)


def _qos(*, latched: bool) -> Qos:
    """Profile that playback offers the topic with.

    Reliable serves reliable and best-effort subscribers alike. /tf_static and the command are transient local, so that
    a node which starts after playback began still gets them.
    """
    forever = QosTime(9_223_372_036, 854_775_807)  # rmw's infinite duration, as recorded bags have it
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )

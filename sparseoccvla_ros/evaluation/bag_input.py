"""What a bag offers to the stack: are the topics there, and which images form which camera set."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sparseoccvla_ros.data.bag_reader import RawMessage
from sparseoccvla_ros.data.topics import TopicPreset, load_preset, preset_names
from sparseoccvla_ros.sensors.synchronizer import CameraSet, CycleSynchronizer

NS_PER_S = 1_000_000_000
TF_TYPE = 'tf2_msgs/msg/TFMessage'
ODOMETRY_TYPE = 'nav_msgs/msg/Odometry'
CAMERA_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'


class BagInputError(ValueError):
    """The bag does not hold what the stack needs; the message lists what was expected and what is there."""


@dataclass(frozen=True)
class CameraSettings:
    """The perception parameters that decide which images form a set, by the names they have there."""

    cameras: tuple[str, ...]
    reference_camera: str
    min_cameras: int
    set_timeout_s: float
    max_spread_s: float


@dataclass(frozen=True)
class ReplaySet:
    """One camera set of a bag.

    ``camera_stamps_ns`` holds each present camera's own image stamp. ``last_index`` is the place of its last image in
    the order of the bag's messages; everything before ``end_index`` is older than the next set's first image.
    """

    stamp_ns: int
    camera_stamps_ns: dict[str, int]
    last_index: int
    end_index: int


def check_topics(topics: Mapping[str, str], preset: TopicPreset, settings: CameraSettings) -> tuple[str, ...]:
    """Check that a bag's ``topics`` (name -> message type) hold what the stack reads under ``preset``.

    Returns:
        the cameras whose images or camera_info are missing, if enough others are there.

    Raises:
        BagInputError: fewer cameras than min_cameras, no static transforms, or no pose source.
    """
    needed = _camera_topics(preset, settings.cameras)
    missing_cameras = tuple(camera for camera, pairs in needed.items() if not pairs.items() <= topics.items())
    absent = _absent({**_shared_topics(preset)}, topics)
    if len(settings.cameras) - len(missing_cameras) < settings.min_cameras:
        for pairs in needed.values():
            absent.update(_absent(pairs, topics))
    if absent:
        raise BagInputError(_complaint(absent, topics, preset, settings.cameras))
    return missing_cameras


def likely_preset(topics: Mapping[str, str], cameras: Iterable[str]) -> str | None:
    """The shipped preset that most of the bag's topics fit, None if no preset finds a camera's images."""
    cameras = tuple(cameras)
    fits: dict[str, int] = {}
    for name in preset_names():
        preset = load_preset(name)
        if any(topics.get(preset.image_topic(camera)) == preset.image_msgtype for camera in cameras):
            expected = [_shared_topics(preset), *_camera_topics(preset, cameras).values()]
            fits[name] = sum(topics.get(topic) == kind for pairs in expected for topic, kind in pairs.items())
    return max(fits, key=lambda name: fits[name]) if fits else None


def camera_sets(messages: Iterable[RawMessage], preset: TopicPreset, settings: CameraSettings) -> list[ReplaySet]:
    """Group a bag's images into sets, by the same synchronizer that the perception node runs.

    The bag's log time stands in for the steady clock.
    """
    camera_of = {preset.image_topic(camera): camera for camera in settings.cameras}
    synchronizer: CycleSynchronizer[int] = CycleSynchronizer(
        settings.cameras,
        settings.reference_camera,
        timeout_s=settings.set_timeout_s,
        max_spread_s=settings.max_spread_s,
    )
    sets: list[CameraSet[int]] = []
    log_stamps_ns: list[int] = []
    for index, message in enumerate(messages):
        log_stamps_ns.append(message.log_stamp_ns)
        camera = camera_of.get(message.topic)
        if camera is not None and message.header_stamp_ns is not None:
            now_s = message.log_stamp_ns / NS_PER_S
            sets += synchronizer.add(camera, message.header_stamp_ns, index, now_s)
    sets += synchronizer.poll(math.inf)
    return _with_ends(sets, log_stamps_ns)


def _with_ends(sets: list[CameraSet[int]], log_stamps_ns: list[int]) -> list[ReplaySet]:
    ends = [len(log_stamps_ns)] * len(sets)
    first_later = len(log_stamps_ns)
    for number in range(len(sets) - 1, -1, -1):
        indices = sets[number].items.values()
        if first_later < len(log_stamps_ns):
            # what was recorded at the very time of the next image (its camera_info, its pose) belongs to it
            older = bisect_left(log_stamps_ns, log_stamps_ns[first_later])
            ends[number] = max(max(indices) + 1, older)
        first_later = min(first_later, *indices)
    return [
        ReplaySet(
            stamp_ns=camera_set.stamp_ns,
            camera_stamps_ns=dict(camera_set.stamps_ns),
            last_index=max(camera_set.items.values()),
            end_index=end,
        )
        for camera_set, end in zip(sets, ends, strict=True)
    ]


def _camera_topics(preset: TopicPreset, cameras: Iterable[str]) -> dict[str, dict[str, str]]:
    return {
        camera: {
            preset.image_topic(camera): preset.image_msgtype,
            preset.camera_info_topic(camera): CAMERA_INFO_TYPE,
        }
        for camera in cameras
    }


def _shared_topics(preset: TopicPreset) -> dict[str, str]:
    pose = {preset.odometry: ODOMETRY_TYPE} if preset.pose_source == 'odometry' else {preset.tf: TF_TYPE}
    return {**pose, preset.tf_static: TF_TYPE}


def _absent(pairs: Mapping[str, str], topics: Mapping[str, str]) -> dict[str, str]:
    return {topic: kind for topic, kind in pairs.items() if topics.get(topic) != kind}


def _complaint(
    absent: Mapping[str, str], topics: Mapping[str, str], preset: TopicPreset, cameras: Iterable[str]
) -> str:
    lines = [f'the bag lacks topics that preset {preset.name} names:']
    for topic, kind in absent.items():
        found = f' (there, but {topics[topic]})' if topic in topics else ''
        lines.append(f'  expected {topic}  {kind}{found}')
    lines += ['it holds:', *(f'  {topic}  {kind}' for topic, kind in sorted(topics.items()))]
    likely = likely_preset(topics, cameras)
    if likely is not None and likely != preset.name:
        lines.append(f'preset {likely} looks right: --topics {likely}')
    return '\n'.join(lines)

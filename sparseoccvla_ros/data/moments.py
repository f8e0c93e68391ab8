"""What belongs to each keyframe of a scene: images of the past, the motion that led there, the future that followed.

Everything is decided here, once, from time stamps alone: what goes into a model comes from the keyframe's own sensors
and from frames and poses before it; names with ``future`` hold what came later and are supervision only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.ego_odometry import level_origin
from sparseoccvla_ros.data.keyframes import label_frame
from sparseoccvla_ros.data.nuscenes import NuScenesTables, Sample, SensorFrame
from sparseoccvla_ros.geometry import inverse, transform_points, yaw_of
from sparseoccvla_ros.runtime.ego_motion import PoseBuffer
from sparseoccvla_ros.runtime.scene import EgoState

NS_PER_S = 1_000_000_000

#: A keyframe this near to the asked time counts as the one of that time, seconds; keyframes are 0.5 s apart.
FUTURE_TOLERANCE_S = 0.2
#: The velocity of a box is not taken over a longer time to its neighbour, seconds (as nuScenes' devkit).
MAX_VELOCITY_STEP_S = 1.5


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of a keyframe in its ego frame, B of them.

    ``centre_m`` [B, 3], ``size_lwh_m`` [B, 3] (length, width, height), ``heading_rad`` [B], ``velocity_mps`` [B, 2]
    from the same object's boxes in the keyframes before and after, zero where ``velocity_known`` [B] is False.
    """

    centre_m: np.ndarray
    size_lwh_m: np.ndarray
    heading_rad: np.ndarray
    velocity_mps: np.ndarray
    velocity_known: np.ndarray
    category: tuple[str, ...]
    instance_token: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Moment:
    """One keyframe.

    ``stamp_ns`` and ``global_from_ego`` [4, 4] are those of the labels. ``camera_frames`` has a row per temporal frame,
    the current one first, with a frame or None per camera. ``ego_state`` is the motion from poses at or before
    ``stamp_ns``, None if there are too few. ``future_ego_xy_m`` [S, 2] and ``future_ego_heading_rad`` [S] are in the
    keyframe's ego frame, zero where ``future_ego_valid`` [S] is False; ``future_keyframes`` index the scene's
    keyframes, None where it has ended. ``boxes`` is None if they were not asked for.
    """

    scene: str
    token: str
    stamp_ns: int
    global_from_ego: np.ndarray
    camera_frames: tuple[tuple[SensorFrame | None, ...], ...]
    ego_state: EgoState | None
    future_ego_xy_m: np.ndarray
    future_ego_heading_rad: np.ndarray
    future_ego_valid: np.ndarray
    future_keyframes: tuple[int | None, ...]
    boxes: Boxes | None


def scene_moments(
    tables: NuScenesTables,
    scene: str,
    *,
    cameras: Sequence[str],
    frames: int,
    frame_interval_s: float,
    future_path_s: Sequence[float],
    future_keyframes_s: Sequence[float],
    boxes: bool,
) -> list[Moment]:
    """The keyframes of a scene, in time order.

    Args:
        tables: of the data set.
        scene: name.
        cameras: names, in the order of the model's slots.
        frames: temporal frames, the current one included.
        frame_interval_s: time between them.
        future_path_s: when the ego's future position is wanted, after the keyframe.
        future_keyframes_s: when future keyframes are wanted, after the keyframe.
        boxes: whether to read them.

    Raises:
        NuScenesError: unknown scene, a broken row, or a keyframe without any sensor.
    """
    samples = tables.scene(scene).samples
    labels = [label_frame(sample) for sample in samples]
    all_frames = tables.frames(scene)
    history = {name: [frame for frame in all_frames if frame.channel == name] for name in cameras}
    poses = _pose_buffer(all_frames)
    boxes_of_samples = _boxes(tables, samples, labels) if boxes else [None] * len(samples)
    stamps_ns = [label.stamp_ns for label in labels]
    moments = []
    for index, (sample, label) in enumerate(zip(samples, labels, strict=True)):
        current = tuple(sample.sensors.get(name) for name in cameras)
        earlier = [
            tuple(
                earlier_frame(history[name], frame, sample.stamp_ns, place * frame_interval_s, frame_interval_s / 3.0)
                for name, frame in zip(cameras, current, strict=True)
            )
            for place in range(1, frames)
        ]
        path = [_future_pose(poses, label, ahead_s) for ahead_s in future_path_s]
        valid = np.array([pose is not None for pose in path], dtype=bool)
        path = [np.eye(4) if pose is None else pose for pose in path]
        moments.append(
            Moment(
                scene=scene,
                token=sample.token,
                stamp_ns=label.stamp_ns,
                global_from_ego=label.global_from_ego,
                camera_frames=(current, *earlier),
                ego_state=poses.state_at(label.pose_stamp_ns),
                future_ego_xy_m=np.array([pose[:2, 3] for pose in path]).reshape(-1, 2),
                future_ego_heading_rad=np.array([yaw_of(pose) for pose in path]),
                future_ego_valid=valid,
                future_keyframes=tuple(_future_keyframe(stamps_ns, index, ahead_s) for ahead_s in future_keyframes_s),
                boxes=boxes_of_samples[index],
            )
        )
    return moments


def earlier_frame(
    history: Sequence[SensorFrame], current: SensorFrame | None, stamp_ns: int, age_s: float, tolerance_s: float
) -> SensorFrame | None:
    """The frame of a camera that is nearest to ``age_s`` before its current one, within the tolerance.

    A third of the interval as tolerance is what the running model's memory allows too; no frame serves two places.

    Args:
        history: the camera's frames in this scene, keyframes and sweeps, in time order.
        current: its frame of the keyframe; None if it has none there: then the age counts from ``stamp_ns``.
        stamp_ns: of the keyframe.
        age_s: positive.
        tolerance_s: less than ``age_s``, so that neither the current frame nor a later one can be the answer.
    """
    wanted_ns = (stamp_ns if current is None else current.stamp_ns) - round(age_s * NS_PER_S)
    after = bisect_left(history, wanted_ns, key=lambda frame: frame.stamp_ns)
    nearest = min(history[max(after - 1, 0) : after + 1], key=lambda f: abs(f.stamp_ns - wanted_ns), default=None)
    if nearest is None or abs(nearest.stamp_ns - wanted_ns) > tolerance_s * NS_PER_S:
        return None
    return nearest


def _pose_buffer(frames: Sequence[SensorFrame]) -> PoseBuffer:
    """All poses of a scene as the car's odometry would have told them; asked for a motion it looks back only."""
    poses = {frame.pose_stamp_ns: frame.global_from_ego for frame in frames}
    stamps_ns = sorted(poses)
    odom_from_global = inverse(level_origin(poses[stamps_ns[0]]))
    whole_scene_s = 10.0 + (stamps_ns[-1] - stamps_ns[0]) / NS_PER_S
    buffer = PoseBuffer(history_s=whole_scene_s, max_extrapolation_s=0.0)
    for stamp_ns in stamps_ns:
        buffer.add(stamp_ns, odom_from_global @ poses[stamp_ns])
    return buffer


def _future_pose(poses: PoseBuffer, label: SensorFrame, ahead_s: float) -> np.ndarray | None:
    """``current_ego_from_future_ego`` [4, 4], None beyond the scene's last pose or in a gap of the poses."""
    current = poses.pose_at(label.pose_stamp_ns)
    future = poses.pose_at(label.pose_stamp_ns + round(ahead_s * NS_PER_S))
    return None if current is None or future is None else inverse(current) @ future


def _future_keyframe(stamps_ns: Sequence[int], index: int, ahead_s: float) -> int | None:
    wanted_ns = stamps_ns[index] + round(ahead_s * NS_PER_S)
    later = range(index + 1, len(stamps_ns))
    nearest = min(later, key=lambda i: abs(stamps_ns[i] - wanted_ns), default=None)
    if nearest is None or abs(stamps_ns[nearest] - wanted_ns) > FUTURE_TOLERANCE_S * NS_PER_S:
        return None
    return nearest


def _boxes(tables: NuScenesTables, samples: Sequence[Sample], labels: Sequence[SensorFrame]) -> list[Boxes]:
    annotations = [tables.annotations(sample) for sample in samples]
    positions_m: list[dict[str, np.ndarray]] = [
        {box.instance_token: box.global_from_box[:3, 3] for box in boxes} for boxes in annotations
    ]
    result = []
    for index, (boxes, label) in enumerate(zip(annotations, labels, strict=True)):
        ego_from_global = inverse(label.global_from_ego)
        velocities = [_velocity(positions_m, samples, index, box.instance_token) for box in boxes]
        known = np.array([velocity is not None for velocity in velocities], dtype=bool)
        velocity_global = np.array([np.zeros(3) if v is None else v for v in velocities]).reshape(-1, 3)
        centres_global = np.array([box.global_from_box[:3, 3] for box in boxes]).reshape(-1, 3)
        result.append(
            Boxes(
                centre_m=transform_points(ego_from_global, centres_global),
                size_lwh_m=np.array([box.size_wlh_m[[1, 0, 2]] for box in boxes]).reshape(-1, 3),
                heading_rad=np.array([yaw_of(ego_from_global @ box.global_from_box) for box in boxes]),
                velocity_mps=(velocity_global @ ego_from_global[:3, :3].T)[:, :2],
                velocity_known=known,
                category=tuple(box.category for box in boxes),
                instance_token=tuple(box.instance_token for box in boxes),
            )
        )
    return result


def _velocity(
    positions_m: Sequence[dict[str, np.ndarray]], samples: Sequence[Sample], index: int, instance: str
) -> np.ndarray | None:
    """Of an object over its boxes in the keyframes next to this one, [3] in the global frame, None if it has none."""
    around = [i for i in (index - 1, index, index + 1) if 0 <= i < len(samples) and instance in positions_m[i]]
    stamps_ns = [samples[i].stamp_ns for i in around]
    steps_s = np.diff(stamps_ns) / NS_PER_S
    if len(around) < 2 or steps_s.max() > MAX_VELOCITY_STEP_S:
        return None
    first, last = positions_m[around[0]][instance], positions_m[around[-1]][instance]
    return (last - first) / steps_s.sum()

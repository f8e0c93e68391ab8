"""The keyframes of a data set on which plans are judged: what was known, what then happened, which objects were there.

Judged are keyframes with the whole 3 s ahead (a recorded path and keyframes with boxes) and with a motion state from
past poses, on which every planner of the table depends; the others are counted by reason.

ST-P3, UniAD and VAD compare paths of the LiDAR; here they are those of the ego frame's origin, which is what a planner
gives. Straight on they are the same, in turns not (by up to 0.18 m in the real scene-0103).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.ego_future import WAYPOINT_TIMES_S, scene_ego_futures
from sparseoccvla_ros.data.moments import Moment, scene_moments
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.data.splits import split_scenes
from sparseoccvla_ros.evaluation.planning_baselines import StatusSample
from sparseoccvla_ros.evaluation.planning_raster import FutureObjects
from sparseoccvla_ros.geometry import inverse, transform_points, wrap_angle, yaw_of
from sparseoccvla_ros.runtime.scene import Command, EgoState

#: The command where nobody knows the route: that of the planner node until one arrives.
DEFAULT_COMMAND = Command.STRAIGHT
DEFAULT_SOURCE = 'default'


@dataclass(frozen=True, eq=False)
class PlanningSample:
    """A keyframe on which plans are judged, the ``number``-th of its scene.

    Inputs: ``state`` from past poses, ``command`` and where it comes from (``command_source``: 'route', 'default', or
    'recorded future (leak)'). Truth only: ``path_ego_m`` [6, 2] and ``objects`` at 0.5 s steps, in the ego frame of the
    keyframe, whose pose is ``global_from_ego`` [4, 4].
    """

    scene: str
    token: str
    number: int
    stamp_ns: int
    global_from_ego: np.ndarray
    state: EgoState
    command: Command
    command_source: str
    path_ego_m: np.ndarray
    objects: FutureObjects


def planning_samples(
    tables: NuScenesTables, scene: str, *, leaky_command: bool = False
) -> tuple[list[PlanningSample], Counter[str]]:
    """The judged keyframes of a scene in time order, and how many of the others there are by reason.

    Args:
        tables: of the data set.
        scene: name.
        leaky_command: take the command from the RECORDED future instead of the route.

    Raises:
        NuScenesError: unknown scene or broken rows.
    """
    futures = scene_ego_futures(tables, scene, leaky_command=leaky_command)
    moments = scene_moments(
        tables,
        scene,
        cameras=(),
        frames=1,
        frame_interval_s=WAYPOINT_TIMES_S[0],
        future_path_s=(),
        future_keyframes_s=WAYPOINT_TIMES_S,
        boxes=True,
    )
    samples, left_out = [], Counter()
    for number, (future, moment) in enumerate(zip(futures, moments, strict=True)):
        if not future.waypoints_valid.all() or None in moment.future_keyframes:
            left_out['without_future'] += 1
            continue
        if future.state is None:
            left_out['without_past'] += 1
            continue
        known = future.command is not None and future.command_source is not None
        samples.append(
            PlanningSample(
                scene=scene,
                token=future.token,
                number=number,
                stamp_ns=future.stamp_ns,
                global_from_ego=moment.global_from_ego,
                state=future.state,
                command=future.command if known else DEFAULT_COMMAND,
                command_source=future.command_source.value if known else DEFAULT_SOURCE,
                path_ego_m=future.waypoints_ego_m,
                objects=future_objects(moment, [moments[index] for index in moment.future_keyframes]),
            )
        )
    return samples, left_out


def future_objects(now: Moment, later: Sequence[Moment]) -> FutureObjects:
    """Boxes of later keyframes in the ego frame of ``now``; the moments have been read with boxes.

    An object has the size of its newest box.
    """
    places: dict[str, int] = {}
    for moment in (now, *later):
        for token in moment.boxes.instance_token:
            places.setdefault(token, len(places))
    times, count = len(later), len(places)
    centre_m, heading_rad = np.zeros((times, count, 2)), np.zeros((times, count))
    valid, size_m, category = np.zeros((times, count), dtype=bool), np.zeros((count, 2)), [''] * count
    for step, moment in enumerate((now, *later), start=-1):
        now_from_later = inverse(now.global_from_ego) @ moment.global_from_ego
        boxes = moment.boxes
        columns = [places[token] for token in boxes.instance_token]
        for column, name in zip(columns, boxes.category, strict=True):
            category[column] = name
        size_m[columns] = boxes.size_lwh_m[:, :2]
        if step >= 0:
            centre_m[step, columns] = transform_points(now_from_later, boxes.centre_m)[:, :2]
            heading_rad[step, columns] = wrap_angle(boxes.heading_rad + yaw_of(now_from_later))
            valid[step, columns] = True
    return FutureObjects(
        centre_m=centre_m,
        heading_rad=heading_rad,
        valid=valid,
        length_m=size_m[:, 0],
        width_m=size_m[:, 1],
        vehicle=np.array([name.startswith('vehicle.') for name in category], dtype=bool),
        human=np.array([name.startswith('human.') for name in category], dtype=bool),
        seen_now=np.arange(count) < len(set(now.boxes.instance_token)),
    )


def training_samples(tables: NuScenesTables) -> tuple[list[StatusSample], list[str]]:
    """What the ego-status planner learns from, and the keyframes' tokens: the training split of a world, nothing else.

    As for the model's planner, a keyframe counts that has any recorded waypoint.

    Raises:
        NuScenesError: there is no ``splits.json`` with a training split (the world writes one), or broken rows.
    """
    samples, tokens = [], []
    for name in split_scenes(tables, 'train'):
        for future in scene_ego_futures(tables, name):
            if future.state is not None and future.command is not None and future.waypoints_valid.any():
                samples.append(
                    StatusSample(future.state, future.command, future.waypoints_ego_m, future.waypoints_valid)
                )
                tokens.append(future.token)
    return samples, tokens


def require_unseen(tables: NuScenesTables, scenes: Sequence[str], learnt_tokens: Sequence[str]) -> None:
    """Refuse to judge a planner on what it has learnt from.

    Raises:
        NuScenesError: a keyframe of the scenes is among ``learnt_tokens``.
    """
    learnt = set(learnt_tokens)
    for name in scenes:
        if any(sample.token in learnt for sample in tables.scene(name).samples):
            raise NuScenesError(
                f'the ego-status MLP learns from {name}, which is to be judged; name other scenes, or another world'
            )

"""What a planner is trained on, by keyframe: how the car moved until now, what was asked of it, where it then drove.

The same for nuScenes and the synthetic world. Motion and path come from the recorded poses of both; commands come from
the world's ``ego/<scene>.json``, where the route tells them. nuScenes has no routes, so it has no commands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sparseoccvla_ros.data.moments import Moment, scene_moments
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.runtime.scene import Command, EgoState

#: Times of the waypoints after the keyframe: those of the planner's anchors.
WAYPOINT_TIMES_S = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
#: A path that is this far to a side after 3 s counts as a turn in a leaked command: the rule of UniAD and VAD.
LEAKED_TURN_M = 2.0


class CommandSource(Enum):
    """Where a command comes from."""

    ROUTE = 'route'
    RECORDED_FUTURE = 'recorded future (leak)'


@dataclass(frozen=True, eq=False)
class EgoFuture:
    """One keyframe.

    Inputs of a planner: ``state``, fitted to poses at or before ``stamp_ns`` by the code that runs on the car
    (``runtime/ego_motion.py``: speed in m/s, acceleration in m/s^2, yaw rate in rad/s, left positive), None if there
    are too few of them (the first keyframes of a scene); ``command`` with its ``command_source``, both None if nobody
    knows it.

    Targets only: ``waypoints_ego_m`` [6, 2] and ``heading_rad`` [6] at :data:`WAYPOINT_TIMES_S` in the keyframe's ego
    frame (x forward, y left, origin: middle of the rear axle), zero where ``waypoints_valid`` [6] is False.
    """

    scene: str
    token: str
    stamp_ns: int
    state: EgoState | None
    command: Command | None
    command_source: CommandSource | None
    waypoints_ego_m: np.ndarray
    heading_rad: np.ndarray
    waypoints_valid: np.ndarray


def scene_ego_futures(tables: NuScenesTables, scene: str, *, leaky_command: bool = False) -> list[EgoFuture]:
    """The keyframes of a scene, in time order.

    Args:
        tables: of the data set.
        scene: name.
        leaky_command: derive every command from the recorded future: whoever reads it has been told a part of the
            answer. It is None where the path does not reach 3 s. Otherwise commands are those of the route, None in a
            data set without routes.

    Raises:
        NuScenesError: unknown scene, a broken row, or an ``ego/<scene>.json`` that is not what the world writes.
    """
    moments = scene_moments(
        tables,
        scene,
        cameras=(),
        frames=1,
        frame_interval_s=WAYPOINT_TIMES_S[0],
        future_path_s=WAYPOINT_TIMES_S,
        future_keyframes_s=(),
        boxes=False,
    )
    if leaky_command:
        commands, source = [_leaked_command(moment) for moment in moments], CommandSource.RECORDED_FUTURE
    else:
        routed = route_commands(tables, scene)
        commands, source = [routed.get(moment.token) for moment in moments], CommandSource.ROUTE
    return [
        EgoFuture(
            scene=scene,
            token=moment.token,
            stamp_ns=moment.stamp_ns,
            state=moment.ego_state,
            command=command,
            command_source=None if command is None else source,
            waypoints_ego_m=moment.future_ego_xy_m,
            heading_rad=moment.future_ego_heading_rad,
            waypoints_valid=moment.future_ego_valid,
        )
        for moment, command in zip(moments, commands, strict=True)
    ]


def commands_by_token(futures: Iterable[EgoFuture]) -> dict[str, Command]:
    """Commands for ``KeyframeDataset(commands=...)``; keyframes without one are left out."""
    return {future.token: future.command for future in futures if future.command is not None}


def route_commands(tables: NuScenesTables, scene: str) -> dict[str, Command]:
    """The route's command at every keyframe of a scene, by token; empty where the data set has no ``ego/<scene>.json``.

    Raises:
        NuScenesError: unknown scene, or the file is not what the world writes.
    """
    tokens = [sample.token for sample in tables.scene(scene).samples]
    path = tables.dataroot / 'ego' / f'{scene}.json'
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NuScenesError(f'{path} cannot be read: {error}') from error
    try:
        if 'command' not in document['inputs']:
            raise NuScenesError(f'{path}: its inputs are {document["inputs"]}, expected command among them')
        return {token: Command[document['samples'][token]['command'].upper()] for token in tokens}
    except (KeyError, TypeError, AttributeError) as error:
        wanted = f'a command left, right or straight for each of {len(tokens)} keyframes'
        raise NuScenesError(f'{path}: {error!r}; expected {wanted}') from error


def _leaked_command(moment: Moment) -> Command | None:
    if not moment.future_ego_valid[-1]:
        return None
    left_m = moment.future_ego_xy_m[-1, 1]
    if abs(left_m) < LEAKED_TURN_M:
        return Command.STRAIGHT
    return Command.LEFT if left_m > 0.0 else Command.RIGHT

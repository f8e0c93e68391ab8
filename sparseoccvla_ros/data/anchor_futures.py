"""Driven futures by command, for clustering into anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.ego_future import CommandSource, scene_ego_futures
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.runtime.scene import Command


@dataclass(frozen=True)
class DrivenFutures:
    """``by_command`` [N, 6, 2] each, ego frame at the keyframe; ``source`` tells where the commands come from."""

    by_command: dict[Command, np.ndarray]
    source: CommandSource


def driven_futures(tables: NuScenesTables, scenes: Sequence[str]) -> DrivenFutures:
    """All futures of 3 s in the scenes, with commands of the route where the data set knows it.

    nuScenes knows no route: there the command is derived from the future itself (2 m to a side after 3 s), which is no
    leak here, as anchors are no input of an evaluation, but differs from what a route would say.

    Raises:
        NuScenesError: some scenes have a route and others have none, or a broken row.
    """
    found = [future for scene in scenes for future in scene_ego_futures(tables, scene)]
    known = [future.command is not None for future in found]
    source = CommandSource.ROUTE
    if not any(known):
        source = CommandSource.RECORDED_FUTURE
        found = [future for scene in scenes for future in scene_ego_futures(tables, scene, leaky_command=True)]
    elif not all(known):
        lacking = sorted({future.scene for future, has in zip(found, known, strict=True) if not has})
        raise NuScenesError(f'{len(lacking)} scenes have no route, for example {lacking[0]}, and others have one')
    whole = [future for future in found if future.waypoints_valid.all() and future.command is not None]
    return DrivenFutures(
        by_command={
            command: np.array([future.waypoints_ego_m for future in whole if future.command == command]).reshape(
                -1, 6, 2
            )
            for command in Command
        },
        source=source,
    )

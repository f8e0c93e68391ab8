"""Anchor trajectories: the coarse futures that the planner scores and refines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.runtime.scene import Command

FRAME = 'ego, x forward, y left'
INTERVAL_S = 0.5
STEPS = 6

#: Constant speed and heading change over 3 s of the default fan, m/s and degrees. Turns stay below 2.5 m/s2 of lateral
#: acceleration and above 6.8 m of radius.
STRAIGHT_SPEEDS_MPS = (0.0, 2.0, 5.0, 8.0, 11.0, 15.0)
TURNS_MPS_DEG = ((3.0, 75.0), (5.0, 80.0), (7.0, 60.0), (9.0, 45.0), (12.0, 22.5), (15.0, 12.0))


@dataclass(frozen=True)
class Anchors:
    """``waypoints_ego_m`` [3 commands (RIGHT, LEFT, STRAIGHT), M modes, 6 steps, 2]: x forward, y left, metres, at
    0.5, 1.0 ... 3.0 s; the present position (the origin) is not stored.

    Raises:
        ValueError: wrong shape, or a number that is not finite.
    """

    waypoints_ego_m: np.ndarray

    def __post_init__(self) -> None:
        shape = self.waypoints_ego_m.shape
        if len(shape) != 4 or shape[0] != len(Command) or shape[1] < 1 or shape[2:] != (STEPS, 2):
            raise ValueError(f'anchors must be [{len(Command)}, modes, {STEPS}, 2], got {list(shape)}')
        if not np.isfinite(self.waypoints_ego_m).all():
            raise ValueError('anchors hold numbers that are not finite')


def load_anchors(path: str | Path) -> Anchors:
    """Read an anchor file: any path, or one that comes with the package.

    Raises:
        FileNotFoundError: neither exists.
        ValueError: another frame, unit, interval or order of commands; wrong shape; not finite.
    """
    path = Path(path)
    stored = json.loads((path if path.is_file() else share_path(path)).read_text(encoding='utf-8'))
    expected = _header()
    for key, value in expected.items():
        if stored.get(key) != value:
            raise ValueError(f'{path}: {key} must be {value!r}, found {stored.get(key)!r}')
    try:
        waypoints = np.asarray(stored['waypoints'], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: waypoints must be nested lists of numbers') from error
    return Anchors(waypoints)


def save_anchors(anchors: Anchors, path: Path, source: Mapping[str, object] | None = None) -> None:
    """Write an anchor file, millimetres kept; ``source`` tells what they were made from (JSON values)."""
    told = {} if source is None else {'source': dict(source)}
    content = {**_header(), **told, 'waypoints': np.round(anchors.waypoints_ego_m, 3).tolist()}
    path.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def kinematic_fan() -> Anchors:
    """Arcs of constant speed and yaw rate; no data set behind them."""
    left = [_arc(speed, np.deg2rad(turn) / (STEPS * INTERVAL_S)) for speed, turn in TURNS_MPS_DEG]
    straight = [_arc(speed, 0.0) for speed in STRAIGHT_SPEEDS_MPS]
    right = [arc * (1.0, -1.0) for arc in left]
    return Anchors(np.array([right, left, straight]))


def read_kmeans_anchors(path: Path) -> Anchors:
    """Read SparseDrive's ``kmeans_plan_6.npy`` form: [3, M, 6, 2] in LiDAR axes, x right and y forward, metres, the
    same order of commands.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no NumPy array, wrong shape, or not finite.
    """
    right_forward_m = np.load(path, allow_pickle=False).astype(np.float64)
    if right_forward_m.ndim != 4 or right_forward_m.shape[-1] != 2:
        raise ValueError(
            f'{path}: anchors must be [{len(Command)}, modes, {STEPS}, 2], got {list(right_forward_m.shape)}'
        )
    return Anchors(np.stack([right_forward_m[..., 1], -right_forward_m[..., 0]], axis=-1))


def _arc(speed_mps: float, yaw_rate_radps: float) -> np.ndarray:
    """Waypoints [6, 2] from the origin along x, of constant speed and yaw rate."""
    times_s = INTERVAL_S * np.arange(1, STEPS + 1)
    yaw_rad = yaw_rate_radps * times_s
    if yaw_rate_radps == 0.0:
        return np.stack([speed_mps * times_s, np.zeros(STEPS)], axis=-1)
    return speed_mps / yaw_rate_radps * np.stack([np.sin(yaw_rad), 1.0 - np.cos(yaw_rad)], axis=-1)


def _header() -> dict[str, object]:
    names = [command.name for command in Command]
    return {'frame': FRAME, 'unit': 'm', 'interval_s': INTERVAL_S, 'commands': names}

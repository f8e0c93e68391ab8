"""The ego's recorded motion, from poses alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparseoccvla_ros.geometry import quat_xyzw_from_wxyz, transform_from, yaw_of

#: Poses are taken this far apart for derivatives: micrometres in the files must not become m/s^3.
STEP_S = 0.1
#: Curvature is not told of a car that hardly moves.
CURVATURE_LEAST_MPS = 0.5
STANDING_MPS, STOP_S = 0.1, 1.0
#: A turn at a junction, unlike a bend, turns by this angle within this distance.
TURN_RAD, TURN_WITHIN_M = 1.0, 30.0


@dataclass(frozen=True)
class Track:
    """Poses of the ego: ``time_s`` [N] since the epoch, ``position_m`` [N, 2], ``heading_rad`` [N] unwrapped."""

    time_s: np.ndarray
    position_m: np.ndarray
    heading_rad: np.ndarray

    def every(self, count: int) -> Track:
        """Each ``count``-th pose."""
        return Track(self.time_s[::count], self.position_m[::count], self.heading_rad[::count])

    def pose_at(self, time_s: float) -> np.ndarray:
        """``global_from_ego`` [4, 4] on the flat ground, between the recorded poses."""
        x, y = (np.interp(time_s, self.time_s, self.position_m[:, axis]) for axis in range(2))
        half_rad = 0.5 * np.interp(time_s, self.time_s, self.heading_rad)
        return transform_from(np.array([x, y, 0.0]), np.array([0.0, 0.0, np.sin(half_rad), np.cos(half_rad)]))


@dataclass(frozen=True)
class Motion:
    """Derivatives of a track: ``time_s`` [N - 1] in the middle of each step, ``speed_mps``, ``sideways_mps`` (of the
    rear axle's middle, at right angles to the heading), ``yaw_rate_radps`` [N - 1], ``acceleration_mps2`` [N - 2],
    ``jerk_mps3`` [N - 3].
    """

    time_s: np.ndarray
    speed_mps: np.ndarray
    sideways_mps: np.ndarray
    yaw_rate_radps: np.ndarray
    acceleration_mps2: np.ndarray
    jerk_mps3: np.ndarray

    @property
    def lateral_mps2(self) -> np.ndarray:
        """Acceleration to the side [N - 1]."""
        return self.speed_mps * self.yaw_rate_radps

    @property
    def curvature_1pm(self) -> np.ndarray:
        """Of the path, where the ego moves."""
        moves = self.speed_mps > CURVATURE_LEAST_MPS
        return self.yaw_rate_radps[moves] / self.speed_mps[moves]


@dataclass(frozen=True)
class Manoeuvres:
    """What the ego does in a scene, by its poses."""

    turns_left: bool
    turns_right: bool
    stops: bool
    starts: bool
    stands: bool


def track_from_poses(stamps_ns: list[int], global_from_ego: list[np.ndarray]) -> Track:
    """A track of poses [4, 4] in order of time."""
    poses = np.stack(global_from_ego)
    heading_rad = np.unwrap([yaw_of(pose) for pose in poses])
    return Track(np.array(stamps_ns) * 1e-9, poses[:, :2, 3], heading_rad)


def read_can_bus_pose(root: Path, scene: str) -> tuple[Track, np.ndarray, np.ndarray]:
    """``can_bus/<scene>_pose.json``: the track, and the speed and acceleration [N] along the heading that it states.

    Raises:
        OSError: no such file.
        KeyError: a message lacks a field.
    """
    messages = json.loads((root / 'can_bus' / f'{scene}_pose.json').read_text())
    poses = [transform_from(item['pos'], quat_xyzw_from_wxyz(np.array(item['orientation']))) for item in messages]
    track = track_from_poses([1000 * item['utime'] for item in messages], poses)
    return track, np.array([item['vel'][0] for item in messages]), np.array([item['accel'][0] for item in messages])


def motion_of(track: Track) -> Motion:
    """Differences of neighbouring poses, taken along and across the heading between them."""
    step_s = np.diff(track.time_s)
    middle_rad = 0.5 * (track.heading_rad[1:] + track.heading_rad[:-1])
    ahead = np.stack([np.cos(middle_rad), np.sin(middle_rad)], axis=1)
    moved_m = np.diff(track.position_m, axis=0)
    speed_mps = (moved_m * ahead).sum(axis=1) / step_s
    sideways_mps = (moved_m[:, 1] * ahead[:, 0] - moved_m[:, 0] * ahead[:, 1]) / step_s
    time_s = 0.5 * (track.time_s[1:] + track.time_s[:-1])
    acceleration_mps2 = np.diff(speed_mps) / np.diff(time_s)
    between_s = 0.5 * (time_s[1:] + time_s[:-1])
    return Motion(
        time_s,
        speed_mps,
        sideways_mps,
        np.diff(track.heading_rad) / step_s,
        acceleration_mps2,
        np.diff(acceleration_mps2) / np.diff(between_s),
    )


def manoeuvres_of(track: Track, motion: Motion) -> Manoeuvres:
    """Turns at junctions; ``stops``: moves, then stands for more than ``STOP_S``; ``starts``: stands so long, then
    moves; ``stands``: stands so long at any time.
    """
    way_m = np.concatenate([[0.0], np.cumsum(np.abs(motion.speed_mps) * np.diff(track.time_s))])
    left = right = False
    for number, at_m in enumerate(way_m):
        last = int(np.searchsorted(way_m, at_m + TURN_WITHIN_M, side='right'))
        turned_rad = track.heading_rad[number:last] - track.heading_rad[number]
        left |= bool(turned_rad.max() > TURN_RAD)
        right |= bool(turned_rad.min() < -TURN_RAD)
    stands = np.abs(motion.speed_mps) < STANDING_MPS
    edges = np.flatnonzero(np.diff(np.concatenate([[0], stands.astype(int), [0]])))
    steps_s = np.diff(track.time_s)
    pauses = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if steps_s[a:b].sum() > STOP_S]
    return Manoeuvres(left, right, any(a > 0 for a, _ in pauses), any(b < len(stands) for _, b in pauses), bool(pauses))

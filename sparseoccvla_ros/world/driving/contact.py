"""Whom the ego touches, and whom it is about to."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.footprints import footprints, still_footprints
from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs
from sparseoccvla_ros.world.ego_car import EGO_CENTRE_AHEAD_M
from sparseoccvla_ros.world.scene import Scene

#: Of the time to collision: how far it looks and in which steps; nothing farther is looked at.
HORIZON_S, HORIZON_STEP_S, REACH_M = 3.0, 0.2, 70.0


class Contacts:
    """Footprints of everything in a scene against the ego's."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        still = still_footprints(scene.things)
        moving = [
            (index, thing, part)
            for index, thing in enumerate(scene.things)
            if not thing.still
            for part in footprints(thing.shape)
        ]
        self._moving = [(thing, object_from_middle) for _, thing, (object_from_middle, _) in moving]
        self._owner = np.concatenate([still.owner, np.array([index for index, _, _ in moving], dtype=np.int64)])
        moving_size_m = np.array([size_m for _, _, (_, size_m) in moving]).reshape(-1, 2)
        self._size_m = np.concatenate([[scene.ego_size_m[:2]], still.size_m, moving_size_m])
        self._still = still.world_from_middle
        self._radius_m = 0.5 * np.hypot(*self._size_m.T)
        self._clock_s = float('nan')

    def touching(self, time_s: float) -> tuple[int, ...]:
        """Indices of the things whose footprints overlap the ego's."""
        poses, _ = self._others(time_s)
        ego = self._scene.ego_box(time_s)
        reach = self._radius_m[1:] + self._radius_m[0]
        near = np.nonzero(np.hypot(*(poses[:, :2, 3] - ego[:2, 3]).T) < reach)[0]
        pairs = overlapping_pairs(
            np.concatenate([ego[None], poses[near]]), self._size_m[[0, *(near + 1)]], rows=np.array([0])
        )
        return tuple(sorted({int(self._owner[near[second - 1]]) for _, second in pairs}))

    def time_to_collision_s(self, time_s: float) -> float:
        """Time until the footprints meet if the ego goes on along its present arc at its speed and everybody else
        straight on at his; inf beyond ``HORIZON_S``.
        """
        poses, velocity = self._others(time_s)
        motion = self._scene.ego_motion(time_s)
        steps_s = np.arange(1, round(HORIZON_S / HORIZON_STEP_S) + 1) * HORIZON_STEP_S
        bent = motion.yaw_rate_radps / motion.speed_mps if motion.speed_mps > 0.1 else 0.0
        ego_from_middle = transform_from_planar(EGO_CENTRE_AHEAD_M, 0.0, 0.0)
        world_from_ego = self._scene.world_from_ego(time_s)
        boxes = []
        for arc_m in motion.speed_mps * steps_s:
            half = 0.5 * bent * arc_m
            chord = arc_m * np.sinc(half / np.pi)
            ahead = transform_from_planar(chord * np.cos(half), chord * np.sin(half), 2.0 * half)
            boxes.append(world_from_ego @ ahead @ ego_from_middle)
        ego = np.stack(boxes)  # [K, 4, 4]
        near = np.nonzero(np.hypot(*(poses[:, :2, 3] - world_from_ego[:2, 3]).T) < REACH_M)[0]
        then = poses[near][:, :2, 3] + steps_s[:, None, None] * velocity[near]  # [K, M, 2]
        away = np.hypot(*np.moveaxis(then - ego[:, None, :2, 3], -1, 0))
        for step, row in zip(*np.nonzero(away < self._radius_m[near + 1] + self._radius_m[0]), strict=True):
            other = poses[near[row]].copy()
            other[:2, 3] = then[step, row]
            if overlapping_pairs(np.stack([ego[step], other]), self._size_m[[0, near[row] + 1]]):
                return float(steps_s[step])
        return float('inf')

    def _others(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Middles [N, 4, 4] and velocities [N, 2] of all footprints; kept for a second question about the same time."""
        if time_s != self._clock_s:
            states = [(thing.state_at(time_s), part) for thing, part in self._moving]
            moving = np.array([state.world_from_object @ part for state, part in states]).reshape(-1, 4, 4)
            speed = np.array([state.speed_mps for state, _ in states])
            velocity = np.concatenate([np.zeros((len(self._still), 2)), moving[:, :2, 0] * speed[:, None]])
            self._now = (np.concatenate([self._still, moving]), velocity)
            self._clock_s = time_s
        return self._now

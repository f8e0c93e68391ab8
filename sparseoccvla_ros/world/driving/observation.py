"""What the ego's sensors say in a closed loop, and what is true."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparseoccvla_ros.data.occ3d import OccupancyLabels
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.drawing.lens import LENS_STREAM, Lens
from sparseoccvla_ros.world.drawing.render import Capture, Renderer
from sparseoccvla_ros.world.files.names import FIRST_SCENE_US, SCENE_SPACING_US
from sparseoccvla_ros.world.labels.facts import Command
from sparseoccvla_ros.world.labels.occupancy import OccupancyLabeller
from sparseoccvla_ros.world.rig import Rig
from sparseoccvla_ros.world.scene import EgoMotion, Scene


@dataclass(frozen=True, eq=False)
class CameraShot:
    """One camera's image: its calibration, its own time, the ego's pose [4, 4] then, and what it shows."""

    camera: PinholeCamera
    time_s: float
    world_from_ego: np.ndarray
    capture: Capture


@dataclass(frozen=True, eq=False)
class Observation:
    """A camera cycle: shots in the order of triggering, the ego's pose [4, 4] and motion and the route's command at the
    cycle's time ``time_s``, which is that of its last shot.
    """

    time_s: float
    shots: tuple[CameraShot, ...]
    world_from_ego: np.ndarray
    motion: EgoMotion
    command: Command


class Observer:
    """Cameras on the ego of a scene; looks at any time that has passed.

    Args:
        scene: what there is to see.
        rig: the cameras.
        lens: what the images go through; None: exact colours.
        seed: of the lens's noise: the world's seed and the scene's index give the noise that the data set has at the
            same time.
    """

    def __init__(self, scene: Scene, rig: Rig, lens: Lens | None = None, seed: tuple[int, int] = (0, 0)) -> None:
        self._lens = lens
        self._seed = seed
        self._scene = scene
        self._rig = rig
        self._renderer = Renderer(scene)
        self._labeller: OccupancyLabeller | None = None

    def observe(self, time_s: float) -> Observation:
        """Take all images of the cycle that ends at a time."""
        shots = []
        for number, item in enumerate(self._rig.cameras):
            at_s = time_s + item.trigger_offset_s
            world_from_ego = self._scene.world_from_ego(at_s)
            capture = self._renderer.render(item.camera, world_from_ego, at_s)
            if self._lens is not None:
                stamp_us = FIRST_SCENE_US + self._seed[1] * SCENE_SPACING_US + round(at_s * 1e6)
                rng = np.random.default_rng([LENS_STREAM, *self._seed, number, stamp_us])
                capture = replace(capture, rgb=self._lens.expose(capture.rgb, self._scene.look, rng))
            shots.append(CameraShot(item.camera, at_s, world_from_ego, capture))
        return Observation(
            time_s,
            tuple(shots),
            self._scene.world_from_ego(time_s),
            self._scene.measured_motion(time_s),
            self._scene.command_at(time_s),
        )

    def labels(self, observation: Observation) -> OccupancyLabels:
        """The ground truth of a cycle, in the ego frame at its time."""
        if self._labeller is None:
            self._labeller = OccupancyLabeller(self._renderer, self._rig)
        views = [(shot.camera, shot.world_from_ego, shot.capture.depth_m) for shot in observation.shots]
        return self._labeller.label(observation.time_s, views)

"""Pictures of a scene: what a camera sees, in colours, depths and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.drawing.caster import GROUND, Caster, Hits
from sparseoccvla_ros.world.drawing.rays import PinholeRays
from sparseoccvla_ros.world.drawing.texture import Painter, SolidTable, View
from sparseoccvla_ros.world.scene import Scene
from sparseoccvla_ros.world.streets.street import GROUND_LABELS

#: Farther things are not drawn; the ground is.
FAR_M = 160.0


@dataclass(frozen=True)
class Capture:
    """What one camera sees at one time.

    ``rgb`` uint8 [H, W, 3]; ``depth_m`` float64 [H, W] along the optical axis, inf for sky; ``label`` uint8 [H, W]
    Occ3D classes, 17 for sky; ``thing`` int32 [H, W] index into the scene's things, -1 for ground and sky; ``full_px``
    [things] as in ``caster.Hits``.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    label: np.ndarray
    thing: np.ndarray
    full_px: np.ndarray


class Renderer:
    """Draws one scene, through any camera, at any time.

    ``caster`` answers for any rays; ``label_of_solid`` uint8 and ``thing_of_solid`` int32 [S] belong to its solids.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.caster = Caster(scene.things)
        self.thing_of_solid = self.caster.thing
        labels = np.array([thing.shape.label for thing in scene.things], dtype=np.uint8)
        self.label_of_solid = labels[self.thing_of_solid]
        self._moving = [index for index, thing in enumerate(scene.things) if not thing.still]
        self._poses = np.array([thing.state_at(0.0).world_from_object for thing in scene.things]).reshape(-1, 4, 4)
        solids = [(index, solid) for index, thing in enumerate(scene.things) for solid in thing.shape.solids]
        self._painter = Painter(scene, SolidTable.of(solids))

    def poses_at(self, time_s: float) -> np.ndarray:
        """``world_from_object`` [things, 4, 4]."""
        return self._states_at(time_s)[0]

    def cast(self, camera: PinholeCamera, world_from_camera: np.ndarray, poses: np.ndarray) -> Hits:
        """Find what each pixel's ray meets first; rays go through pixel centres, (column + 0.5, row + 0.5)."""
        return self.caster.cast(PinholeRays(camera, FAR_M), world_from_camera, poses)

    def render(self, camera: PinholeCamera, world_from_ego: np.ndarray, time_s: float) -> Capture:
        """Draw the scene at ``time_s`` with the ego at ``world_from_ego`` [4, 4]."""
        world_from_camera = world_from_ego @ camera.ego_from_camera
        poses, lamps = self._states_at(time_s)
        hits = self.cast(camera, world_from_camera, poses)
        view = View(camera, world_from_camera, poses, hits.inverse_depth, hits.solid, hits.face, lamps, world_from_ego)
        rgb, ground = self._painter.paint(view)
        label = np.full(hits.solid.shape, FREE, dtype=np.uint8)
        label[hits.solid == GROUND] = GROUND_LABELS[ground]
        thing = np.full(hits.solid.shape, -1, dtype=np.int32)
        on_solid = hits.solid >= 0
        label[on_solid] = self.label_of_solid[hits.solid[on_solid]]
        thing[on_solid] = self.thing_of_solid[hits.solid[on_solid]]
        with np.errstate(divide='ignore'):
            depth_m = 1.0 / hits.inverse_depth
        return Capture(rgb, depth_m, label, thing, hits.full_px)

    def _states_at(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """``world_from_object`` [things, 4, 4] and ``Lamps`` uint8 [things]."""
        poses, lamps = self._poses.copy(), np.zeros(len(self._poses), dtype=np.uint8)
        for index in self._moving:
            state = self.scene.things[index].state_at(time_s)
            poses[index], lamps[index] = state.world_from_object, state.lamps
        return poses, lamps


def encode_depth(depth_m: np.ndarray) -> np.ndarray:
    """Depths in metres as uint16 of 1/256 m, for a PNG as in KITTI: 0 is sky, 65535 is 255.996 m or farther."""
    units = np.where(np.isfinite(depth_m), np.clip(np.round(depth_m * 256.0), 1.0, 65535.0), 0.0)
    return units.astype(np.uint16)

"""The simulated LIDAR_TOP: one turn of 32 beams over the same geometry that the cameras see.

What is simpler than on the real car: all rays of a turn are cast at the time at which it ends, as if it were
motion-compensated exactly; the ego's own body returns nothing; a ray has no width and one return. Glass and mirrors
lose a share of the rays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES
from sparseoccvla_ros.geometry import transform_points
from sparseoccvla_ros.world.bodies.solids import Texture
from sparseoccvla_ros.world.drawing.caster import GROUND, SKY
from sparseoccvla_ros.world.drawing.rays import TurningRays
from sparseoccvla_ros.world.drawing.render import Renderer
from sparseoccvla_ros.world.rig import LidarMount
from sparseoccvla_ros.world.streets.street import GROUND_LABELS

#: Share of light that each Occ3D class sends back; retroreflecting sheets on barriers and cones more than all.
REFLECTIVITY = {
    'others': 0.25,
    'barrier': 0.6,
    'bicycle': 0.25,
    'bus': 0.35,
    'car': 0.35,
    'construction_vehicle': 0.45,
    'motorcycle': 0.25,
    'pedestrian': 0.30,
    'traffic_cone': 0.9,
    'trailer': 0.40,
    'truck': 0.40,
    'driveable_surface': 0.10,
    'other_flat': 0.18,
    'sidewalk': 0.20,
    'terrain': 0.28,
    'manmade': 0.30,
    'vegetation': 0.35,
}
#: Share of rays that pass through or glance off: much of these surfaces is glass.
LOST = {
    Texture.CAR_CABIN: 0.35,
    Texture.LORRY_CAB: 0.15,
    Texture.BUS: 0.15,
    Texture.FACADE: 0.05,
    Texture.GLASS_FACADE: 0.5,
    Texture.SHELTER: 0.5,
}
LOST_ANYWHERE = 0.01
#: In rain a drop before the sensor or on it costs this share, and wet ground sends this much less light back.
LOST_IN_RAIN, WET_GROUND = 0.05, 0.6
#: In clear air a surface of this reflectivity, hit squarely, still answers from the mount's range.
FAINTEST = 0.03
#: Distance at which clear air leaves 1/e of the light.
CLEAR_AIR_M = 450.0


@dataclass(frozen=True)
class LidarScan:
    """One turn, returns only, in the order of firing: column by column clockwise, in each the lowest beam first.

    ``points`` float32 [N, 5], the rows of a nuScenes ``.pcd.bin``: x, y, z in metres in the LiDAR's frame, intensity
    0..255, ring 0 (lowest) to 31. ``label`` uint8 [N] Occ3D classes; ``thing`` int32 [N] index into the scene's
    things, -1 on the ground; ``solid`` int32 [N] and ``face`` int8 [N] as in ``caster.Hits``.
    """

    points: np.ndarray
    label: np.ndarray
    thing: np.ndarray
    solid: np.ndarray
    face: np.ndarray


class LidarScanner:
    """Scans one scene. ``seed`` numbers the scene: the rays that are lost depend on it and on the time only."""

    def __init__(self, renderer: Renderer, mount: LidarMount, seed: tuple[int, ...] = ()) -> None:
        self._renderer = renderer
        self._mount = mount
        self._seed = seed
        self._rays = turn_of(mount, mount.elevations_rad, mount.steps)
        self._reflectivity = np.array([REFLECTIVITY[name] for name in CLASS_NAMES])
        lost = [LOST.get(solid.texture, 0.0) for thing in renderer.scene.things for solid in thing.shape.solids]
        # One more for the ground, whose index is -1.
        self._lost = np.array([*lost, 0.0])

    def scan(self, time_s: float) -> LidarScan:
        """The turn that ends at ``time_s``."""
        renderer, mount = self._renderer, self._mount
        world_from_lidar = renderer.scene.world_from_ego(time_s) @ mount.ego_from_lidar
        poses = renderer.poses_at(time_s)
        hits = renderer.caster.cast(self._rays, world_from_lidar, poses, count_hidden=False)
        # Columns ascend counter-clockwise, the sensor turns clockwise.
        column, ring = np.nonzero((hits.solid != SKY).T[::-1])
        column = len(self._rays.columns) - 1 - column
        rays = self._rays.columns[column] + self._rays.rows[ring]
        lengths = np.linalg.norm(rays, axis=1)
        range_m = lengths / hits.inverse_depth[ring, column]
        solid, face, directions = hits.solid[ring, column], hits.face[ring, column], rays / lengths[:, None]
        label, normals = self._surfaces(world_from_lidar, poses, solid, face, directions * range_m[:, None])
        cosine = np.abs(np.einsum('ni,ni->n', normals @ world_from_lidar[:3, :3], directions))
        # Rough surfaces answer better at a slant than a perfectly matt one would.
        signal = self._reflectivity[label] * (0.3 + 0.7 * cosine)
        signal[solid == GROUND] *= 1.0 - (1.0 - WET_GROUND) * renderer.scene.look.wetness
        rng = np.random.default_rng([*self._seed, 7883, round(time_s * 1e6) + 10_000_000])
        kept = self._answers(signal, range_m, solid, rng)
        range_m = range_m[kept] + rng.normal(0.0, mount.range_noise_m, len(kept))
        points = np.empty((len(kept), 5), dtype=np.float32)
        points[:, :3] = directions[kept] * range_m[:, None]
        points[:, 3] = np.clip(np.round(255.0 * signal[kept]), 0.0, 255.0)
        points[:, 4] = ring[kept]
        solid = solid[kept]
        # The ground, index -1, is no thing.
        thing = np.append(renderer.thing_of_solid, np.int32(-1))[solid]
        return LidarScan(points, label[kept], thing, solid, face[kept])

    def _surfaces(
        self,
        world_from_lidar: np.ndarray,
        poses: np.ndarray,
        solid: np.ndarray,
        face: np.ndarray,
        points_lidar: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Occ3D class [N] and outward normal in the world [N, 3] of what was hit."""
        renderer = self._renderer
        label = np.empty(len(solid), dtype=np.uint8)
        normals = np.zeros((len(solid), 3))
        on_ground, on_solid = np.nonzero(solid == GROUND)[0], np.nonzero(solid >= 0)[0]
        world_m = transform_points(world_from_lidar, points_lidar[on_ground])
        label[on_ground] = GROUND_LABELS[renderer.scene.plan.ground_at(world_m[:, 0], world_m[:, 1])]
        normals[on_ground, 2] = 1.0
        which = solid[on_solid]
        label[on_solid] = renderer.label_of_solid[which]
        turns = poses[renderer.thing_of_solid[which], :3, :3]
        normals[on_solid] = np.einsum('nij,nj->ni', turns, renderer.caster.normals[which, face[on_solid]])
        return label, normals

    def _answers(
        self, signal: np.ndarray, range_m: np.ndarray, solid: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Indices of the rays that come back from within range, strongly enough, and are not lost."""
        look, farthest_m = self._renderer.scene.look, self._mount.range_m
        air_m = CLEAR_AIR_M if look.weather == 'clear' else look.haze_m
        # Light falls off with the square of the distance, and is scattered on both ways.
        fall = (farthest_m / range_m) ** 2 * np.exp(2.0 * farthest_m / CLEAR_AIR_M - 2.0 * range_m / air_m)
        lost = LOST_ANYWHERE + self._lost[solid] + (LOST_IN_RAIN if look.weather == 'rain' else 0.0)
        come_back = (range_m <= farthest_m) & (signal * fall >= FAINTEST)
        return np.nonzero(come_back & (rng.random(len(solid)) >= lost))[0]


def turn_of(mount: LidarMount, elevation_rad: np.ndarray, steps: int) -> TurningRays:
    """A full turn of the LiDAR with these ascending elevations [H] (its own beams or others) in its frame."""
    # The first column, counter-clockwise, is the last that is fired; forward is the y axis.
    return TurningRays(0.5 * np.pi + mount.end_azimuth_rad, steps, elevation_rad, mount.range_m)

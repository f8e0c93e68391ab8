"""Colour of what the rays hit: procedural textures anchored in the world, sun, shadows, lamps, haze, wet roads, sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.solids import Solid, Texture
from sparseoccvla_ros.world.drawing.coats import LIGHTS, NIGHT_ONLY, PAINTS
from sparseoccvla_ros.world.drawing.lamplight import Lamplight
from sparseoccvla_ros.world.drawing.paint import Surface, noise_tile, smooth_sample
from sparseoccvla_ros.world.drawing.pavement import paint_ground
from sparseoccvla_ros.world.drawing.shadow import ShadowMap
from sparseoccvla_ros.world.drawing.shine import add_bloom, wet_reflection
from sparseoccvla_ros.world.scene import Scene
from sparseoccvla_ros.world.streets.street import Ground

#: Under a closed sky, bodies take a part of the light from the ground below them.
OVERCAST_SHADE = 0.45


@dataclass(frozen=True)
class SolidTable:
    """Every solid's properties as arrays, to be gathered by pixel.

    ``thing`` [S], ``colour`` [S, 3], ``texture`` [S], ``low_m`` and ``high_m`` [S, 3], ``normals`` [S, faces, 3].
    """

    solids: tuple[Solid, ...]
    thing: np.ndarray
    colour: np.ndarray
    texture: np.ndarray
    low_m: np.ndarray
    high_m: np.ndarray
    normals: np.ndarray

    @staticmethod
    def of(solids: Sequence[tuple[int, Solid]]) -> SolidTable:
        """From pairs (index of the thing, solid)."""
        faces = max((len(solid.normals) for _, solid in solids), default=1)
        normals = np.zeros((len(solids), faces, 3), dtype=np.float32)
        for number, (_, solid) in enumerate(solids):
            normals[number, : len(solid.normals)] = solid.normals
        return SolidTable(
            solids=tuple(solid for _, solid in solids),
            thing=np.array([thing for thing, _ in solids], dtype=np.int64),
            colour=np.array([solid.colour for _, solid in solids], dtype=np.float32).reshape(-1, 3),
            texture=np.array([solid.texture for _, solid in solids], dtype=np.uint8),
            low_m=np.array([solid.low_m for _, solid in solids], dtype=np.float32).reshape(-1, 3),
            high_m=np.array([solid.high_m for _, solid in solids], dtype=np.float32).reshape(-1, 3),
            normals=normals,
        )


@dataclass(frozen=True)
class View:
    """One cast image: camera, its pose, the things' poses [T, 4, 4] and what was hit (see ``render.Hits``).

    ``lamps`` [T] uint8 is what each thing shows (``thing.Lamps``); ``world_from_ego`` [4, 4] is where the ego's
    headlights are.
    """

    camera: PinholeCamera
    world_from_camera: np.ndarray
    poses: np.ndarray
    inverse_depth: np.ndarray
    solid: np.ndarray
    face: np.ndarray
    lamps: np.ndarray
    world_from_ego: np.ndarray


@dataclass(frozen=True)
class _Points:
    """Pixels ``index`` [N] of an image and what they show: ``world_m`` [N, 3], ``depth_m``, ``footprint_m`` [N]."""

    index: np.ndarray
    world_m: np.ndarray
    depth_m: np.ndarray
    footprint_m: np.ndarray


class Painter:
    """Colours images of one scene."""

    def __init__(self, scene: Scene, table: SolidTable) -> None:
        self._city, self._look, self._plan = scene.city, scene.look, scene.plan
        self._table = table
        self._noise = noise_tile(256)
        still = np.array([thing.still for thing in scene.things], dtype=bool)
        self._driven = ~still
        self._overcast = max(self._look.sun) == 0.0
        towards_light = np.array((0.0, 0.0, 1.0)) if self._overcast else self._look.towards_sun
        blur_m = 0.9 if self._overcast else 0.3
        self._shadows = ShadowMap(table.solids, table.thing, still[table.thing], towards_light, blur_m)
        self._lamplight: Lamplight | None = None
        if self._look.lamps > 0.0:
            poses = np.array([thing.state_at(0.0).world_from_object for thing in scene.things]).reshape(-1, 4, 4)
            self._lamplight = Lamplight(scene.things, poses)

    def paint(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Colour an image.

        Returns:
            uint8 [H, W, 3] RGB, and the kind of ground (``Ground``) [pixels that hit the ground], in image order.
        """
        height, width = view.solid.shape
        k = view.camera.intrinsics_px
        rays = np.empty((height, width, 3), dtype=np.float32)
        rays[..., 0] = ((np.arange(width) + 0.5 - k[0, 2]) / k[0, 0])[None]
        rays[..., 1] = ((np.arange(height) + 0.5 - k[1, 2]) / k[1, 1])[:, None]
        rays[..., 2] = 1.0
        directions = rays.reshape(-1, 3) @ view.world_from_camera[:3, :3].T.astype(np.float32)
        solid = view.solid.reshape(-1)
        colour = np.empty((len(solid), 3), dtype=np.float32)
        in_sky = np.nonzero(solid == -2)[0]
        colour[in_sky] = self._sky(directions[in_sky])
        inverse_depth = view.inverse_depth.reshape(-1)

        def points(index: np.ndarray) -> _Points:
            depth = (1.0 / inverse_depth[index]).astype(np.float32)
            world = view.world_from_camera[:3, 3].astype(np.float32) + depth[:, None] * directions[index]
            return _Points(index, world, depth, depth / np.float32(k[0, 0]))

        on_ground, on_solid = points(np.nonzero(solid == -1)[0]), points(self._by_texture(solid))
        ground_colour, ground = self._ground(view, on_ground)
        solid_colour, light = self._solids(view, on_solid)
        haze = np.float32(self._look.sky_low)
        for part, lit in ((on_ground, ground_colour), (on_solid, np.maximum(solid_colour, light))):
            colour[part.index] = haze + (lit - haze) * self._clearness(part)
        image = colour.reshape(height, width, 3)
        glow = np.zeros_like(image)
        glow.reshape(-1, 3)[on_solid.index] = light * self._clearness(on_solid)
        if self._look.wetness > 0.0:
            downward = directions[on_ground.index]
            mirrored = wet_reflection(image, glow, view.camera, view.world_from_camera, downward)
            self._wet(colour, on_ground, ground, downward, mirrored)
        add_bloom(image, glow, 1.0 if self._look.weather == 'clear' else 2.0)
        image *= np.float32(255.0 * self._look.brightness)
        return np.clip(image + np.float32(0.5), 0.0, 255.0).astype(np.uint8), ground

    def _by_texture(self, solid: np.ndarray) -> np.ndarray:
        """Indices of the pixels that show solids, those of equal texture together."""
        index = np.nonzero(solid >= 0)[0]
        return index[np.argsort(self._table.texture[solid[index]], kind='stable')]

    def _clearness(self, points: _Points) -> np.ndarray:
        """Share [N, 1] of a point's light that comes through the haze."""
        return np.exp(points.depth_m / np.float32(-self._look.haze_m))[:, None]

    def _sky(self, directions: np.ndarray) -> np.ndarray:
        low, high = np.float32(self._look.sky_low), np.float32(self._look.sky_high)
        up = directions[:, 2] / np.linalg.norm(directions, axis=1)
        share = np.clip(up * 2.2, 0.0, 1.0)[:, None] ** np.float32(0.7)
        sky = low + (high - low) * share
        if self._look.weather == 'fog':
            return sky
        above = np.maximum(up, 0.06)
        cloud = smooth_sample(self._noise, directions[:, 0] / above * 9.0, directions[:, 1] / above * 9.0)
        cover = (np.clip((cloud - 0.52) * 3.0, 0.0, 0.7) * np.clip((up - 0.06) * 7.0, 0.0, 1.0))[:, None]
        white = np.minimum(low * np.float32(1.15), np.float32(0.97))
        return sky + (white - sky) * cover

    def _ground(self, view: View, points: _Points) -> tuple[np.ndarray, np.ndarray]:
        x, y = points.world_m[:, 0], points.world_m[:, 1]
        albedo, ground = paint_ground(self._plan, self._city, self._noise, x, y, points.footprint_m)
        eye = view.world_from_camera[:2, 3]
        lit = self._shadows.lit(eye, view.poses, x, y)[:, None]
        ambient, sun = np.float32(self._look.ambient), np.float32(self._look.sun)
        if self._overcast:
            light = ambient * (np.float32(1.0 - OVERCAST_SHADE) + np.float32(OVERCAST_SHADE) * lit)
        else:
            light = ambient + sun * np.float32(self._look.towards_sun[2]) * lit
        if self._lamplight is not None:
            lamps = self._lamplight.light_on(eye, view.poses, view.world_from_ego, points.world_m)
            light = light + np.float32(self._look.lamps) * lamps
        return albedo * light, ground

    def _solids(self, view: View, points: _Points) -> tuple[np.ndarray, np.ndarray]:
        """Colours [N, 3] of points on solids, sorted by texture, and what light they send out themselves [N, 3]."""
        table, look = self._table, self._look
        solid = view.solid.reshape(-1)[points.index]
        thing = table.thing[solid]
        # Things only turn about z: the object's axes come from the first column of its pose.
        pose = np.ascontiguousarray(view.poses[:, :3, [0, 3]].astype(np.float32))[thing]
        cos, sin = pose[:, 0, 0], pose[:, 1, 0]
        away = points.world_m - pose[:, :, 1]
        local = np.empty((len(solid), 3), dtype=np.float32)
        local[:, 0] = cos * away[:, 0] + sin * away[:, 1]
        local[:, 1] = cos * away[:, 1] - sin * away[:, 0]
        local[:, 2] = away[:, 2]
        normal = table.normals[solid, view.face.reshape(-1)[points.index]]
        colour = np.empty((len(solid), 3), dtype=np.float32)
        shine = np.zeros((len(solid), 3), dtype=np.float32)
        texture = table.texture[solid]
        bounds = np.searchsorted(texture, np.arange(len(Texture) + 1))
        for kind in Texture:
            part = slice(bounds[kind], bounds[kind + 1])
            if part.start == part.stop:
                continue
            which = solid[part]
            surface = Surface(
                point_m=local[part],
                normal=normal[part],
                low_m=table.low_m[which],
                high_m=table.high_m[which],
                which=which,
                lamps=view.lamps[thing[part]],
                driven=self._driven[thing[part]],
                footprint_m=points.footprint_m[part],
                noise=self._noise,
            )
            colour[part] = PAINTS[kind](surface, table.colour[which])
            if kind in LIGHTS and (look.lamps > 0.0 or kind not in NIGHT_ONLY):
                shine[part] = LIGHTS[kind](surface, look.lamps)
        sun = look.towards_sun.astype(np.float32)
        facing = normal[:, 0] * (cos * sun[0] + sin * sun[1]) + normal[:, 1] * (cos * sun[1] - sin * sun[0])
        facing = facing + normal[:, 2] * sun[2]
        # A little light from below and behind keeps faces in shade apart from each other.
        around = 1.0 + 0.14 * normal[:, 2] + 0.10 * np.minimum(facing, 0.0)
        light = around[:, None] * np.float32(look.ambient) + np.maximum(facing, 0.0)[:, None] * np.float32(look.sun)
        if self._lamplight is not None:
            eye = view.world_from_camera[:2, 3]
            near = self._lamplight.light_on(eye, view.poses, view.world_from_ego, points.world_m)
            light += np.float32(look.lamps) * near
        return colour * light, shine

    def _wet(
        self, colour: np.ndarray, points: _Points, ground: np.ndarray, downward: np.ndarray, mirrored: np.ndarray
    ) -> None:
        """Darken the ground and lay what it mirrors over it, more so in puddles and at grazing angles."""
        graze = 1.0 + downward[:, 2] / np.linalg.norm(downward, axis=1)
        puddle = smooth_sample(self._noise, points.world_m[:, 0] * 3.0, points.world_m[:, 1] * 3.0)
        share = self._look.wetness * (0.06 + 0.55 * graze**3) * (0.35 + 1.5 * np.clip(puddle - 0.35, 0.0, 0.5))
        share = np.where(ground == Ground.GRASS, 0.1 * share, share).astype(np.float32)[:, None]
        dark = np.float32(1.0 - 0.38 * self._look.wetness)
        colour[points.index] = colour[points.index] * dark * (1.0 - share) + mirrored * share

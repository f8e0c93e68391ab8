"""Colour of what the rays hit: procedural textures anchored in the world, sun and shadows, haze and sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.solids import Solid
from sparseoccvla_ros.world.drawing.paint import PAINTS, Surface, noise_tile, sample
from sparseoccvla_ros.world.drawing.pavement import paint_ground
from sparseoccvla_ros.world.scene import Scene

AMBIENT, SUN = 0.52, 0.62
HAZE_M = 420.0
SHADOW_REACH_M, SHADOW_CELL_M, SHADOW_SNAP_M = 70.0, 0.1, 16.0


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
            texture=np.array([solid.texture for _, solid in solids], dtype=np.int64),
            low_m=np.array([solid.low_m for _, solid in solids], dtype=np.float32).reshape(-1, 3),
            high_m=np.array([solid.high_m for _, solid in solids], dtype=np.float32).reshape(-1, 3),
            normals=normals,
        )


@dataclass(frozen=True)
class View:
    """One cast image: camera, its pose, the things' poses [T, 4, 4] and what was hit (see ``render.Hits``)."""

    camera: PinholeCamera
    world_from_camera: np.ndarray
    poses: np.ndarray
    inverse_depth: np.ndarray
    solid: np.ndarray
    face: np.ndarray


class Painter:
    """Colours images of one scene."""

    def __init__(self, scene: Scene, table: SolidTable) -> None:
        self._scene = scene
        self._table = table
        self._noise = noise_tile(256)
        self._still = np.array([scene.things[thing].still for thing in table.thing], dtype=bool)
        self._still_shadow: tuple[np.ndarray, np.ndarray] | None = None

    def paint(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Colour an image.

        Returns:
            uint8 [H, W, 3] RGB, and the kind of ground (``road.Ground``) [pixels that hit the ground], in image order.
        """
        height, width = view.solid.shape
        k = view.camera.intrinsics_px
        rays = np.empty((height, width, 3))
        rays[..., 0] = ((np.arange(width) + 0.5 - k[0, 2]) / k[0, 0])[None]
        rays[..., 1] = ((np.arange(height) + 0.5 - k[1, 2]) / k[1, 1])[:, None]
        rays[..., 2] = 1.0
        directions = rays.reshape(-1, 3) @ view.world_from_camera[:3, :3].T
        solid = view.solid.reshape(-1)
        on_ground, on_solid = np.nonzero(solid == -1)[0], np.nonzero(solid >= 0)[0]
        colour = np.empty((len(solid), 3), dtype=np.float32)
        in_sky = np.nonzero(solid == -2)[0]
        colour[in_sky] = self._sky(directions[in_sky])
        depth = np.zeros(len(solid))
        hit = solid > -2
        depth[hit] = 1.0 / view.inverse_depth.reshape(-1)[hit]
        footprint = (depth / k[0, 0]).astype(np.float32)
        ground_colour, ground = self._ground(view, directions[on_ground], depth[on_ground], footprint[on_ground])
        solid_colour = self._solids(view, on_solid, directions[on_solid], depth[on_solid], footprint[on_solid])
        for where, lit in ((on_ground, ground_colour), (on_solid, solid_colour)):
            haze = (1.0 - np.exp(-depth[where] / HAZE_M))[:, None].astype(np.float32)
            colour[where] = lit * (1.0 - haze) + np.float32(self._scene.city.sky_low) * haze
        colour *= np.float32(255.0 * self._scene.light.brightness)
        return np.clip(colour + 0.5, 0.0, 255.0).astype(np.uint8).reshape(height, width, 3), ground

    def _sky(self, directions: np.ndarray) -> np.ndarray:
        low, high = np.float32(self._scene.city.sky_low), np.float32(self._scene.city.sky_high)
        directions = directions.astype(np.float32)
        up = directions[:, 2] / np.linalg.norm(directions, axis=1)
        share = np.clip(up * 2.2, 0.0, 1.0)[:, None] ** np.float32(0.7)
        sky = low + (high - low) * share
        above = np.maximum(up, 0.06)
        cloud = sample(self._noise, directions[:, 0] / above * 9.0, directions[:, 1] / above * 9.0)
        cover = (np.clip((cloud - 0.52) * 3.0, 0.0, 0.7) * np.clip(up * 6.0, 0.0, 1.0))[:, None]
        return sky + (np.float32(0.97) - sky) * cover

    def _ground(
        self, view: View, directions: np.ndarray, depth: np.ndarray, footprint: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        eye = view.world_from_camera[:3, 3]
        x, y = eye[0] + depth * directions[:, 0], eye[1] + depth * directions[:, 1]
        albedo, ground = paint_ground(self._scene.street, self._scene.city, self._noise, x, y, footprint)
        shade = self._shadow(view, x, y)
        sun = self._scene.light.towards_sun[2]
        light = (AMBIENT + SUN * sun * shade).astype(np.float32)
        return albedo * light[:, None], ground

    def _solids(
        self, view: View, pixels: np.ndarray, directions: np.ndarray, depth: np.ndarray, footprint: np.ndarray
    ) -> np.ndarray:
        table = self._table
        solid = view.solid.reshape(-1)[pixels]
        poses = view.poses[table.thing[solid]]
        world = view.world_from_camera[:3, 3] + depth[:, None] * directions - poses[:, :3, 3]
        # Things only turn about z: the object's axes come from the first column of its pose.
        cos, sin = poses[:, 0, 0], poses[:, 1, 0]
        local = np.column_stack(
            [cos * world[:, 0] + sin * world[:, 1], cos * world[:, 1] - sin * world[:, 0], world[:, 2]]
        ).astype(np.float32)
        normal = table.normals[solid, view.face.reshape(-1)[pixels]]
        colour = np.empty((len(pixels), 3), dtype=np.float32)
        texture = table.texture[solid]
        for kind in np.unique(texture):
            part = np.nonzero(texture == kind)[0]
            which = solid[part]
            surface = Surface(
                local[part], normal[part], table.low_m[which], table.high_m[which], which, footprint[part], self._noise
            )
            colour[part] = PAINTS[kind](surface, table.colour[which])
        sun = self._scene.light.towards_sun
        facing = normal[:, 0] * (cos * sun[0] + sin * sun[1]) + normal[:, 1] * (cos * sun[1] - sin * sun[0])
        facing = facing + normal[:, 2] * sun[2]
        # A little light from below and behind keeps faces in shade apart from each other.
        light = AMBIENT + 0.06 * normal[:, 2] + SUN * np.maximum(facing, 0.0) + 0.05 * np.minimum(facing, 0.0)
        return colour * light[:, None].astype(np.float32)

    def _shadow(self, view: View, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Share of sunlight [N] that reaches ground points: a bird's-eye raster of all shadows near the camera."""
        cells = int(2.0 * SHADOW_REACH_M / SHADOW_CELL_M)
        # The raster's grid is fixed in the world, so that shadows of still things neither crawl nor need be drawn anew.
        eye = view.world_from_camera[:2, 3]
        origin = np.floor((eye - SHADOW_REACH_M + 0.5 * SHADOW_SNAP_M) / SHADOW_SNAP_M) * SHADOW_SNAP_M
        near = np.abs(view.poses[:, :2, 3] - eye).max(axis=1) < SHADOW_REACH_M + SHADOW_SNAP_M + 30.0
        near = near[self._table.thing]
        if self._still_shadow is None or not np.array_equal(self._still_shadow[0], origin):
            still = np.full((cells, cells), 255, dtype=np.uint8)
            self._cast_shadows(still, origin, np.nonzero(near & self._still)[0], view.poses)
            self._still_shadow = (origin, still)
        lit = self._still_shadow[1].copy()
        self._cast_shadows(lit, origin, np.nonzero(near & ~self._still)[0], view.poses)
        lit = cv2.blur(lit, (3, 3))
        column = ((x - origin[0]) / SHADOW_CELL_M).astype(np.int64)
        row = ((y - origin[1]) / SHADOW_CELL_M).astype(np.int64)
        inside = (column >= 0) & (column < cells) & (row >= 0) & (row < cells)
        shade = np.full(len(x), 0.75, dtype=np.float32)
        shade[inside] = lit[row[inside], column[inside]] * np.float32(1.0 / 255.0)
        return shade

    def _cast_shadows(self, lit: np.ndarray, origin: np.ndarray, numbers: np.ndarray, poses: np.ndarray) -> None:
        """Draw the shadows of solids into a raster [cells, cells] whose corner lies at ``origin`` (world metres)."""
        sun = self._scene.light.towards_sun
        for number in numbers:
            pose = poses[self._table.thing[number]]
            corners = self._table.solids[number].vertices_m @ pose[:3, :3].T + pose[:3, 3]
            fallen = corners[:, :2] - corners[:, 2:] * (sun[:2] / sun[2])
            outline = cv2.convexHull(((fallen - origin) / SHADOW_CELL_M - 0.5).astype(np.float32))
            cv2.fillConvexPoly(lit, np.round(outline * 16.0).astype(np.int32), 40, shift=4)

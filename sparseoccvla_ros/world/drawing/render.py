"""Ray casting of a scene through a pinhole camera, in numpy.

For a convex solid every face plane gives an inverse depth that is an affine function of the pixel. The ray enters
where the least of the inverse depths of the planes that face the camera is still greater than those of all others, so
one solid costs one outer sum and one comparison per plane, inside its bounding rectangle only. Depths are exact to
rounding; there are no meshes and no clipping of polygons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.solids import Solid
from sparseoccvla_ros.world.drawing.texture import Painter, SolidTable, View
from sparseoccvla_ros.world.scene import Scene
from sparseoccvla_ros.world.streets.street import GROUND_LABELS

NEAR_M = 0.05
FAR_M = 160.0
SKY, GROUND = -2, -1


@dataclass(frozen=True)
class Hits:
    """First thing that each pixel's ray meets, all [H, W].

    ``inverse_depth`` in 1/m along the optical axis (0: sky), ``solid`` index into the renderer's solids (``GROUND``,
    ``SKY``), ``face`` index of the solid's plane. ``full_px`` [things]: pixels that each annotated thing would cover in
    this image if nothing stood before it.
    """

    inverse_depth: np.ndarray
    solid: np.ndarray
    face: np.ndarray
    full_px: np.ndarray


@dataclass(frozen=True)
class Capture:
    """What one camera sees at one time.

    ``rgb`` uint8 [H, W, 3]; ``depth_m`` float64 [H, W] along the optical axis, inf for sky; ``label`` uint8 [H, W]
    Occ3D classes, 17 for sky; ``thing`` int32 [H, W] index into the scene's things, -1 for ground and sky; ``full_px``
    [things] as in :class:`Hits`.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    label: np.ndarray
    thing: np.ndarray
    full_px: np.ndarray


class Renderer:
    """Draws one scene, through any camera, at any time."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._solids = [
            (index, number, solid)
            for number, (index, solid) in enumerate(
                (index, solid) for index, thing in enumerate(scene.things) for solid in thing.shape.solids
            )
        ]
        self._solids_of: list[list[tuple[int, Solid]]] = [[] for _ in scene.things]
        for index, number, solid in self._solids:
            self._solids_of[index].append((number, solid))
        middle = [0.5 * (_low(solids) + _high(solids)) for solids in self._solids_of]
        self._middle = np.array(middle).reshape(-1, 3)
        self._radius = np.array([0.5 * np.linalg.norm(_high(solids) - _low(solids)) for solids in self._solids_of])
        self._still = np.array([thing.still for thing in scene.things], dtype=bool)
        self._poses = np.array([thing.state_at(0.0).world_from_object for thing in scene.things]).reshape(-1, 4, 4)
        self.thing_of_solid = np.array([index for index, _, _ in self._solids], dtype=np.int32)
        labels = [scene.things[index].shape.label for index, _, _ in self._solids]
        self.label_of_solid = np.array(labels, dtype=np.uint8)
        self._painter = Painter(scene, SolidTable.of([(index, solid) for index, _, solid in self._solids]))

    def poses_at(self, time_s: float) -> np.ndarray:
        """``world_from_object`` [things, 4, 4]."""
        poses = self._poses.copy()
        for index in np.nonzero(~self._still)[0]:
            poses[index] = self.scene.things[index].state_at(time_s).world_from_object
        return poses

    def cast(self, camera: PinholeCamera, world_from_camera: np.ndarray, poses: np.ndarray) -> Hits:
        """Find what each pixel's ray meets first; rays go through pixel centres, (column + 0.5, row + 0.5)."""
        height, width = camera.height_px, camera.width_px
        across = (np.arange(width) + 0.5 - camera.intrinsics_px[0, 2]) / camera.intrinsics_px[0, 0]
        down = (np.arange(height) + 0.5 - camera.intrinsics_px[1, 2]) / camera.intrinsics_px[1, 1]
        slope = world_from_camera[2, :3] / -world_from_camera[2, 3]
        inverse_depth = (slope[1] * down + slope[2])[:, None] + (slope[0] * across)[None]
        solid_index = np.where(inverse_depth > 0.0, GROUND, SKY).astype(np.int32)
        np.maximum(inverse_depth, 0.0, out=inverse_depth)
        face_index = np.zeros((height, width), dtype=np.int8)
        full_px = np.zeros(len(self.scene.things), dtype=np.int64)
        touched = np.zeros((height, width), dtype=bool)
        camera_from_world = inverse(world_from_camera)
        for index in self._in_view(camera, camera_from_world, poses):
            camera_from_object = camera_from_world @ poses[index]
            count = self.scene.things[index].annotated
            windows = []
            for number, solid in self._solids_of[index]:
                found = _pierce(solid, camera_from_object, camera, across, down)
                if found is None:
                    continue
                window, entry, face, hit = found
                closer = hit & (entry > inverse_depth[window])
                np.copyto(inverse_depth[window], entry, where=closer)
                np.copyto(solid_index[window], np.int32(number), where=closer)
                np.copyto(face_index[window], face, where=closer)
                if count:
                    touched[window] |= hit
                    windows.append(window)
            for window in windows:
                # Parts of one thing overlap in the image: each pixel counts once.
                full_px[index] += np.count_nonzero(touched[window])
                touched[window] = False
        return Hits(inverse_depth, solid_index, face_index, full_px)

    def render(self, camera: PinholeCamera, world_from_ego: np.ndarray, time_s: float) -> Capture:
        """Draw the scene at ``time_s`` with the ego at ``world_from_ego`` [4, 4]."""
        world_from_camera = world_from_ego @ camera.ego_from_camera
        poses = self.poses_at(time_s)
        hits = self.cast(camera, world_from_camera, poses)
        view = View(camera, world_from_camera, poses, hits.inverse_depth, hits.solid, hits.face)
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

    def _in_view(self, camera: PinholeCamera, camera_from_world: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Indices of the things whose bounding sphere touches the camera's field of view."""
        world = np.einsum('nij,nj->ni', poses[:, :3, :3], self._middle) + poses[:, :3, 3]
        middle = world @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        seen = (middle[:, 2] + self._radius > NEAR_M) & (middle[:, 2] - self._radius < FAR_M)
        fx, fy = camera.intrinsics_px[0, 0], camera.intrinsics_px[1, 1]
        cx, cy = camera.intrinsics_px[0, 2], camera.intrinsics_px[1, 2]
        for axis, focal, first, last in (
            (0, fx, -cx, camera.width_px - cx),
            (1, fy, -cy, camera.height_px - cy),
        ):
            for edge, sign in ((first / focal, -1.0), (last / focal, 1.0)):
                beyond = sign * (middle[:, axis] - edge * middle[:, 2]) / np.hypot(1.0, edge)
                seen &= beyond < self._radius
        return np.nonzero(seen)[0]


def _low(solids: list[tuple[int, Solid]]) -> np.ndarray:
    return np.min([solid.low_m for _, solid in solids], axis=0)


def _high(solids: list[tuple[int, Solid]]) -> np.ndarray:
    return np.max([solid.high_m for _, solid in solids], axis=0)


def _pierce(
    solid: Solid, camera_from_object: np.ndarray, camera: PinholeCamera, across: np.ndarray, down: np.ndarray
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray] | None:
    """Rays against one solid.

    Returns:
        window of the image, inverse depth of entry, face of entry and whether the ray hits, each of the window's size;
        None if the solid is out of view or the camera is inside it.
    """
    rotation, shift = camera_from_object[:3, :3], camera_from_object[:3, 3]
    window = _window(solid.vertices_m @ rotation.T + shift, camera)
    if window is None:
        return None
    normals = solid.normals @ rotation.T
    offsets = solid.offsets_m + normals @ shift
    offsets = np.where(np.abs(offsets) < 1e-9, 1e-9, offsets)
    facing = offsets < 0.0
    if not facing.any():
        return None
    rows, columns = down[window[0]], across[window[1]]
    planes = normals / offsets[:, None]
    by_row = planes[:, 1:2] * rows + planes[:, 2:3]
    by_column = planes[:, 0:1] * columns
    front = np.nonzero(facing)[0]
    entry = by_row[front[0]][:, None] + by_column[front[0]][None]
    face = np.full(entry.shape, front[0], dtype=np.int8)
    for plane in front[1:]:
        other = by_row[plane][:, None] + by_column[plane][None]
        np.copyto(face, np.int8(plane), where=other < entry)
        np.minimum(entry, other, out=entry)
    hit = entry > 0.0
    for plane in np.nonzero(~facing)[0]:
        hit &= entry >= by_row[plane][:, None] + by_column[plane][None]
    return window, entry, face, hit


def _window(vertices_camera: np.ndarray, camera: PinholeCamera) -> tuple[slice, slice] | None:
    """Rows and columns of the image that can show the hull of points [V, 3]; None if there are none."""
    front = vertices_camera[:, 2] > NEAR_M
    if not front.any():
        return None
    points = vertices_camera[front]
    if not front.all():
        # Where lines between a corner before and one behind the near plane pierce it: a superset of the hull's edges.
        behind = vertices_camera[~front]
        share = (NEAR_M - points[:, None, 2]) / (behind[None, :, 2] - points[:, None, 2])
        cut = points[:, None] + share[..., None] * (behind[None] - points[:, None])
        points = np.concatenate([points, cut.reshape(-1, 3)])
    u = camera.intrinsics_px[0, 0] * points[:, 0] / points[:, 2] + camera.intrinsics_px[0, 2]
    v = camera.intrinsics_px[1, 1] * points[:, 1] / points[:, 2] + camera.intrinsics_px[1, 2]
    first_u, last_u = max(int(np.floor(u.min())), 0), min(int(np.ceil(u.max())), camera.width_px)
    first_v, last_v = max(int(np.floor(v.min())), 0), min(int(np.ceil(v.max())), camera.height_px)
    if first_u >= last_u or first_v >= last_v:
        return None
    return slice(first_v, last_v), slice(first_u, last_u)

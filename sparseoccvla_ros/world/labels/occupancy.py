"""Occ3D labels of a keyframe from the scene's exact geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, GROUND_CLASSES, RANGE_M, VOXEL_M, OccupancyLabels
from sparseoccvla_ros.geometry import inverse, transform_points
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.drawing.caster import Caster
from sparseoccvla_ros.world.drawing.lidar import turn_of
from sparseoccvla_ros.world.drawing.rays import TurningRays
from sparseoccvla_ros.world.drawing.render import Renderer
from sparseoccvla_ros.world.rig import Rig
from sparseoccvla_ros.world.streets.street import GROUND_LABELS

#: A solid must reach at least this far into a voxel to occupy it, or half as far as it is thick. With less, bodies grow
#: and rays that pass close by them end in their voxels (one in a hundred more with 0.1); with more, small agents lose
#: voxels. What is wider than ``WIDE_M`` must reach the voxel's middle.
MARGIN_M, WIDE_MARGIN_M, WIDE_M = 0.17, 0.2, 0.7
#: The layer of voxels that holds the ground, z = 0, and how far what stands there must reach into one of them.
GROUND_LAYER, GROUND_MARGIN_M = int((0.0 - RANGE_M[2]) / VOXEL_M), 0.01
#: Of the kinds of ground (:class:`Ground`) at its corners a voxel has the one of greatest number: kerbs stand above
#: the road that they border. An island must cover the voxel whole, or narrow islands would be twice as wide.
LABEL_RANKS = np.array([1, 2, 3, 4, 0], dtype=np.uint8)
#: A middle exactly on the face of two voxels is in both, whatever rounding does.
ROUNDING_M = 1e-9
#: A voxel is seen when its middle lies before the surface that the ray meets, or at most this far behind it.
SEEN_BEHIND_M = 0.5 * VOXEL_M * 3.0**0.5
#: The ego moves less than this while the six cameras fire.
CANDIDATE_MARGIN_M = 1.5
#: The LiDAR's mask is made with so many times its beams, as the labels of Occ3D join the turns of many keyframes.
LIDAR_BEAMS_TIMES = 4


@dataclass(frozen=True)
class _Candidates:
    """Voxels that a camera may see: flat indices [N] and middles [N, 3] in the ego frame of the keyframe, float32."""

    index: np.ndarray
    centres_m: np.ndarray


@dataclass(frozen=True)
class _LidarField:
    """Voxels in the LiDAR's field: flat index, flat index of the next ray, t of the middle, and metres per t [N]."""

    index: np.ndarray
    ray: np.ndarray
    t: np.ndarray
    length: np.ndarray


class OccupancyLabeller:
    """Labels of one scene's keyframes."""

    def __init__(self, renderer: Renderer, rig: Rig) -> None:
        self._renderer = renderer
        things = renderer.scene.things
        # Agents last, the smallest of all at the very end: a voxel that several share is the last one's.
        rank = [(thing.annotated, -float(np.prod(thing.shape.size_m))) for thing in things]
        place = np.empty(len(things), dtype=np.int64)
        place[sorted(range(len(things)), key=lambda index: rank[index])] = np.arange(len(things))
        self._in_turn = np.argsort(place[renderer.thing_of_solid], kind='stable')
        axes = [low + (np.arange(count) + 0.5) * VOXEL_M for low, count in zip(RANGE_M[:3], GRID_SHAPE, strict=True)]
        centres_m = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 3)
        edges = [RANGE_M[axis] + np.arange(GRID_SHAPE[axis] + 1) * VOXEL_M for axis in range(2)]
        self._corners_m = np.stack(np.meshgrid(*edges, indexing='ij')).reshape(2, -1)
        self._candidates = {item.camera.name: _candidates(item.camera, centres_m) for item in rig.cameras}
        lidar = rig.lidar
        beams = np.linspace(
            lidar.elevations_rad[0],
            lidar.elevations_rad[-1],
            LIDAR_BEAMS_TIMES * (len(lidar.elevations_rad) - 1) + 1,
        )
        self._ego_from_lidar = lidar.ego_from_lidar
        self._lidar_rays = turn_of(lidar, beams, lidar.steps)
        self._lidar_field = _lidar_field(lidar.ego_from_lidar, self._lidar_rays, centres_m)

    def label(self, time_s: float, views: list[tuple[PinholeCamera, np.ndarray, np.ndarray]]) -> OccupancyLabels:
        """Label a keyframe.

        Args:
            time_s: of the keyframe, since the scene's start.
            views: of each camera of the rig: the camera, the ego's pose [4, 4] when its image was taken (less than
                ``CANDIDATE_MARGIN_M`` from the keyframe's), and its depth image [H, W], metres.
        """
        world_from_ego = self._renderer.scene.world_from_ego(time_s)
        poses = self._renderer.poses_at(time_s)
        mask_camera = np.zeros(GRID_SHAPE, dtype=np.uint8)
        for camera, world_from_ego_then, depth_m in views:
            camera_from_ego = inverse(world_from_ego_then @ camera.ego_from_camera) @ world_from_ego
            candidates = self._candidates[camera.name]
            index, row, column, forward, ray = _look(camera, camera_from_ego, candidates)
            seen = (forward - depth_m[row, column]) * ray <= SEEN_BEHIND_M
            mask_camera.reshape(-1)[index[seen]] = 1
        mask_lidar = np.zeros(GRID_SHAPE, dtype=np.uint8)
        field = self._lidar_field
        hits = self._renderer.caster.cast(
            self._lidar_rays, world_from_ego @ self._ego_from_lidar, poses, count_hidden=False
        )
        with np.errstate(divide='ignore'):
            surface = (1.0 / hits.inverse_depth).astype(np.float32).reshape(-1)
        seen = (field.t - surface[field.ray]) * field.length <= SEEN_BEHIND_M
        mask_lidar.reshape(-1)[field.index[seen]] = 1
        semantics = self._semantics(world_from_ego, poses)
        # Occ3D's labels come from LiDAR returns: the inside of a building is not occupied there, it is not known
        solid = (semantics != FREE) & ~np.isin(semantics, GROUND_CLASSES)
        semantics[_enclosed(solid) & (mask_camera == 0) & (mask_lidar == 0)] = FREE
        return OccupancyLabels(semantics, mask_camera, mask_lidar)

    def _semantics(self, world_from_ego: np.ndarray, poses: np.ndarray) -> np.ndarray:
        scene, caster = self._renderer.scene, self._renderer.caster
        semantics = np.full(GRID_SHAPE, FREE, dtype=np.uint8)
        world_m = world_from_ego[:2, :2] @ self._corners_m + world_from_ego[:2, 3:4]
        semantics[:, :, GROUND_LAYER] = _ground_labels(scene.plan.ground_at(world_m[0], world_m[1]))
        ego_from_object = inverse(world_from_ego) @ poses
        for number, block, inside in voxels_of(caster, self._in_turn, ego_from_object):
            semantics[block][inside] = self._renderer.label_of_solid[number]
        # A voxel of the ground is occupied in any case: it belongs to what stands on it, however little of it.
        ground = semantics[:, :, GROUND_LAYER : GROUND_LAYER + 1]
        for number, block, inside in voxels_of(caster, self._in_turn, ego_from_object, on_ground=True):
            ground[block][inside] = self._renderer.label_of_solid[number]
        return semantics


def _ground_labels(corners: np.ndarray) -> np.ndarray:
    """Labels [X, Y] of the ground's voxels by the :class:`Ground` at their corners [(X + 1) * (Y + 1)]."""
    rank = LABEL_RANKS[corners].reshape(GRID_SHAPE[0] + 1, GRID_SHAPE[1] + 1)
    along_x = np.maximum(rank[1:], rank[:-1])
    return GROUND_LABELS[np.argsort(LABEL_RANKS)[np.maximum(along_x[:, 1:], along_x[:, :-1])]]


def _enclosed(solid: np.ndarray) -> np.ndarray:
    """Solid voxels [X, Y, Z] with solid neighbours at every side and above; what lies beyond the grid counts as solid,
    what lies below does not matter.
    """
    around = np.pad(solid, ((1, 1), (1, 1), (0, 1)), constant_values=True)
    along_x = around[:-2, 1:-1, :-1] & around[2:, 1:-1, :-1]
    along_y = around[1:-1, :-2, :-1] & around[1:-1, 2:, :-1]
    return solid & along_x & along_y & around[1:-1, 1:-1, 1:]


def _candidates(camera: PinholeCamera, centres_m: np.ndarray) -> _Candidates:
    """Voxels [N, 3] within ``CANDIDATE_MARGIN_M`` of a camera's field of view."""
    points = transform_points(inverse(camera.ego_from_camera), centres_m)
    k = camera.intrinsics_px
    near = points[:, 2] > -CANDIDATE_MARGIN_M
    for axis, size in ((0, camera.width_px), (1, camera.height_px)):
        for edge_px, sign in ((0.0, -1.0), (size, 1.0)):
            edge = (edge_px - k[axis, 2]) / k[axis, axis]
            near &= sign * (points[:, axis] - edge * points[:, 2]) / np.hypot(1.0, edge) < CANDIDATE_MARGIN_M
    index = np.nonzero(near)[0]
    # float32 is exact to micrometres over 40 m, and twice as fast.
    return _Candidates(index, centres_m[index].astype(np.float32))


def _look(
    camera: PinholeCamera, camera_from_ego: np.ndarray, candidates: _Candidates
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Those candidates that lie inside the image: flat index, row, column, distance along the axis (metres), and
    length of the pixel's ray per metre of that distance.
    """
    points = transform_points(camera_from_ego.astype(np.float32), candidates.centres_m)
    ahead = points[:, 2] > 0.2
    index, points = candidates.index[ahead], points[ahead]
    k = camera.intrinsics_px.astype(np.float32)
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    u, v = k[0, 0] * x + k[0, 2], k[1, 1] * y + k[1, 2]
    inside = (u >= 0.0) & (u < camera.width_px) & (v >= 0.0) & (v < camera.height_px)
    ray = np.sqrt(1.0 + x[inside] ** 2 + y[inside] ** 2)
    return index[inside], v[inside].astype(np.int64), u[inside].astype(np.int64), points[inside, 2], ray


def _lidar_field(ego_from_lidar: np.ndarray, rays: TurningRays, centres_m: np.ndarray) -> _LidarField:
    points = transform_points(inverse(ego_from_lidar), centres_m)
    row, column, t = rays.nearest_to(points)
    slope = points[:, 2] / np.maximum(t, VOXEL_M)
    field = np.nonzero((t > VOXEL_M) & (slope >= rays.rows[0, 2]) & (slope <= rays.rows[-1, 2]))[0]
    ray = row[field] * len(rays.columns) + column[field]
    length = np.sqrt(1.0 + slope[field] ** 2)
    return _LidarField(field, ray, t[field].astype(np.float32), length.astype(np.float32))


def _thickness_m(caster: Caster, numbers: np.ndarray) -> np.ndarray:
    """Least extent of solids [N] along the normal of one of their faces."""
    along = np.einsum('spi,svi->spv', caster.normals[numbers], caster.vertices_m[numbers])
    extent_m = along.max(axis=2) - along.min(axis=2)
    is_face = np.arange(extent_m.shape[1]) < caster.planes[numbers, None]
    return np.where(is_face, extent_m, np.inf).min(axis=1)


def voxels_of(
    caster: Caster, numbers: np.ndarray, ego_from_object: np.ndarray, on_ground: bool = False
) -> Iterator[tuple[int, tuple[slice, slice, slice], np.ndarray]]:
    """Voxels that solids reach into, by separating planes of the solid and of the voxel.

    Args:
        caster: whose solids.
        numbers: of the solids, in the order wanted.
        ego_from_object: poses of all things [T, 4, 4].
        on_ground: in the layer ``GROUND_LAYER`` alone, and with ``GROUND_MARGIN_M``.

    Yields:
        number of the solid, block of the grid (of that layer [X, Y, 1]), and the voxels in that block, bool [x, y, z].
    """
    low_m, shape = np.array(RANGE_M[:3]), np.array(GRID_SHAPE)
    if on_ground:
        low_m[2] += GROUND_LAYER * VOXEL_M
        shape[2] = 1
    thing = caster.thing[numbers]
    rotation = np.swapaxes(ego_from_object[thing, :3, :3], 1, 2)
    shift = ego_from_object[thing, None, :3, 3]
    vertices_m = caster.vertices_m[numbers] @ rotation + shift
    least, greatest = vertices_m.min(axis=1), vertices_m.max(axis=1)
    # The margin never takes the voxel that holds a solid's middle, however thin the solid is.
    middle = (caster.middle_m[numbers, None] @ rotation + shift)[:, 0]
    wide = _thickness_m(caster, numbers)[:, None] > WIDE_M
    margin_m = GROUND_MARGIN_M if on_ground else np.where(wide, WIDE_MARGIN_M, MARGIN_M)
    margin_m = np.minimum(margin_m, np.minimum(middle - least, greatest - middle)) - ROUNDING_M
    first = np.maximum(np.floor((least + margin_m - low_m) / VOXEL_M).astype(np.int64), 0)
    last = np.minimum(np.ceil((greatest - margin_m - low_m) / VOXEL_M).astype(np.int64), shape)
    near = np.nonzero((first < last).all(axis=1))[0]
    rotation, shift, margin_m, middle = rotation[near], shift[near], margin_m[near], middle[near]
    normals = caster.normals[numbers[near]] @ rotation
    offsets_m = caster.offsets_m[numbers[near]] + np.einsum('spi,si->sp', normals, shift[:, 0])
    spare_m = np.minimum(
        np.einsum('spi,si->sp', np.abs(normals), margin_m), offsets_m - np.einsum('spi,si->sp', normals, middle)
    )
    limits_m = offsets_m + ROUNDING_M - spare_m + 0.5 * VOXEL_M * np.abs(normals).sum(axis=2)
    axes = [low_m[axis] + (np.arange(shape[axis]) + 0.5) * VOXEL_M for axis in range(3)]
    for index, number in enumerate(numbers[near].tolist()):
        block = tuple(slice(low, high) for low, high in zip(first[near[index]], last[near[index]], strict=True))
        planes = normals[index, : caster.planes[number]]
        x, y, z = (planes[:, axis, None] * axes[axis][block[axis]] for axis in range(3))
        flat = (x - limits_m[index, : len(planes), None])[:, :, None] + y[:, None, :]
        yield number, block, (flat[..., None] + z[:, None, None, :] <= 0.0).all(axis=0)

"""Occ3D labels of a keyframe from the scene's exact geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, GROUND_CLASSES, RANGE_M, VOXEL_M, OccupancyLabels
from sparseoccvla_ros.geometry import inverse, transform_points
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.solids import Solid
from sparseoccvla_ros.world.drawing.render import Renderer
from sparseoccvla_ros.world.rig import BODY_FROM_OPTICAL, LidarPlace, Rig
from sparseoccvla_ros.world.streets.street import GROUND_LABELS

#: A solid must reach at least this far into a voxel to occupy it; touching its wall does not count.
MARGIN_M = 0.05
#: A voxel is seen when its middle lies before the surface that the ray meets, or at most this far behind it.
SEEN_BEHIND_M = 0.5 * VOXEL_M * 3.0**0.5
#: The ego moves less than this while the six cameras fire.
CANDIDATE_MARGIN_M = 1.5
#: Pixels of each of the four quarter views that stand for the LiDAR.
LIDAR_VIEW_PX = 256


@dataclass(frozen=True)
class _Candidates:
    """Voxels that a camera may see: flat indices [N] and middles [N, 3] in the ego frame of the keyframe, float32."""

    index: np.ndarray
    centres_m: np.ndarray


@dataclass(frozen=True)
class _LidarView:
    """A quarter view from the LiDAR's place with its voxels: flat index, row, column, distance and ray length [N]."""

    camera: PinholeCamera
    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    forward_m: np.ndarray
    ray: np.ndarray


class OccupancyLabeller:
    """Labels of one scene's keyframes."""

    def __init__(self, renderer: Renderer, rig: Rig) -> None:
        self._renderer = renderer
        axes = [low + (np.arange(count) + 0.5) * VOXEL_M for low, count in zip(RANGE_M[:3], GRID_SHAPE, strict=True)]
        centres_m = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 3)
        self._ground_m = np.stack(np.meshgrid(*axes[:2], indexing='ij')).reshape(2, -1)
        self._candidates = {item.camera.name: _candidates(item.camera, centres_m) for item in rig.cameras}
        self._lidar_views = [_lidar_view(rig.lidar, quarter, centres_m) for quarter in range(4)]

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
        for view in self._lidar_views:
            hits = self._renderer.cast(view.camera, world_from_ego @ view.camera.ego_from_camera, poses)
            with np.errstate(divide='ignore'):
                depth_m = 1.0 / hits.inverse_depth
            seen = (view.forward_m - depth_m[view.row, view.column]) * view.ray <= SEEN_BEHIND_M
            mask_lidar.reshape(-1)[view.index[seen]] = 1
        semantics = self._semantics(world_from_ego, poses)
        # Occ3D's labels come from LiDAR returns: the inside of a building is not occupied there, it is not known
        solid = (semantics != FREE) & ~np.isin(semantics, GROUND_CLASSES)
        semantics[_enclosed(solid) & (mask_camera == 0) & (mask_lidar == 0)] = FREE
        return OccupancyLabels(semantics, mask_camera, mask_lidar)

    def _semantics(self, world_from_ego: np.ndarray, poses: np.ndarray) -> np.ndarray:
        scene = self._renderer.scene
        semantics = np.full(GRID_SHAPE, FREE, dtype=np.uint8)
        world = world_from_ego[:2, :2] @ self._ground_m + world_from_ego[:2, 3:4]
        _, d_m = scene.street.centreline.project(world[0], world[1])
        ground_layer = int((0.0 - RANGE_M[2]) / VOXEL_M)
        semantics[:, :, ground_layer] = GROUND_LABELS[scene.street.ground_at(d_m)].reshape(GRID_SHAPE[:2])
        ego_from_world = inverse(world_from_ego)
        # Agents last, so that a voxel which they share with something still is theirs.
        for agents in (False, True):
            for thing, pose in zip(scene.things, poses, strict=True):
                if thing.annotated == agents and np.abs(pose[:2, 3] - world_from_ego[:2, 3]).max() < 90.0:
                    for solid in thing.shape.solids:
                        _fill(semantics, solid, ego_from_world @ pose, thing.shape.label)
        return semantics


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


def _lidar_view(lidar: LidarPlace, quarter: int, centres_m: np.ndarray) -> _LidarView:
    camera = _quarter_view(lidar, quarter)
    offset = centres_m - lidar.position_ego
    elevation = np.arctan2(offset[:, 2], np.hypot(offset[:, 0], offset[:, 1]))
    field = np.nonzero((elevation >= lidar.lowest_rad) & (elevation <= lidar.highest_rad))[0]
    candidates = _Candidates(field, centres_m[field].astype(np.float32))
    return _LidarView(camera, *_look(camera, inverse(camera.ego_from_camera), candidates))


def _quarter_view(lidar: LidarPlace, quarter: int) -> PinholeCamera:
    """A square camera that sees a quarter turn from the LiDAR's place."""
    cos, sin = np.cos(0.5 * np.pi * quarter), np.sin(0.5 * np.pi * quarter)
    ego_from_camera = np.eye(4)
    ego_from_camera[:3, :3] = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ BODY_FROM_OPTICAL
    ego_from_camera[:3, 3] = lidar.position_ego
    half = 0.5 * LIDAR_VIEW_PX
    intrinsics = np.array([[half, 0.0, half], [0.0, half, half], [0.0, 0.0, 1.0]])
    return PinholeCamera(f'LIDAR_QUARTER_{quarter}', LIDAR_VIEW_PX, LIDAR_VIEW_PX, intrinsics, ego_from_camera)


def _fill(semantics: np.ndarray, solid: Solid, ego_from_object: np.ndarray, label: int) -> None:
    """Give ``label`` to every voxel that a solid reaches into: separating planes of the solid and of the voxel."""
    vertices = solid.vertices_m @ ego_from_object[:3, :3].T + ego_from_object[:3, 3]
    low, high = np.array(RANGE_M[:3]), np.array(RANGE_M[3:])
    first = np.floor((vertices.min(axis=0) + MARGIN_M - low) / VOXEL_M).astype(int)
    last = np.ceil((vertices.max(axis=0) - MARGIN_M - low) / VOXEL_M).astype(int)
    first, last = np.maximum(first, 0), np.minimum(last, GRID_SHAPE)
    if (first >= last).any() or (vertices.max(axis=0) < low).any() or (vertices.min(axis=0) > high).any():
        return
    normals = solid.normals @ ego_from_object[:3, :3].T
    offsets = solid.offsets_m + normals @ ego_from_object[:3, 3]
    reach = (0.5 * VOXEL_M - MARGIN_M) * np.abs(normals).sum(axis=1)
    x, y, z = (low[axis] + (np.arange(first[axis], last[axis]) + 0.5) * VOXEL_M for axis in range(3))
    inside = np.ones((len(x), len(y), len(z)), dtype=bool)
    for normal, limit in zip(normals, offsets + reach, strict=True):
        inside &= (normal[0] * x)[:, None, None] + (normal[1] * y)[None, :, None] + (normal[2] * z) <= limit
    block = semantics[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
    block[inside] = label

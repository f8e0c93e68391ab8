"""How exactly images, LiDAR, boxes and occupancy labels of one moment agree.

Each figure compares two things that are computed apart: what camera rays see with the voxels they cross, LiDAR points
with rendered depths, LiDAR points with the boxes of what they lie on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, RANGE_M, VOXEL_M
from sparseoccvla_ros.geometry import image_from_ego, inverse, project_points, transform_points
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.drawing.lidar import LidarScan, LidarScanner
from sparseoccvla_ros.world.drawing.render import Capture, Renderer
from sparseoccvla_ros.world.labels.occupancy import OccupancyLabeller
from sparseoccvla_ros.world.rig import Rig

#: Rays that end farther are not compared.
REACH_M = 25.0
#: Between neighbouring pixels of one surface depth changes at most by this share.
EDGE_DEPTH_SHARE = 0.1


@dataclass(frozen=True)
class Agreement:
    """Figures of one moment or, added up, of several.

    ``rays``, ``rays_agreeing``: camera rays that end within ``REACH_M`` and not on a silhouette edge, and those of
    them that see the label of the first occupied voxel. ``depth_points``, ``depth_error_m``: LiDAR points on a face
    that all four pixels around them show, and their greatest distance along the optical axis from the depth rendered
    there. ``box_points``, ``box_overshoot_m``: LiDAR points on things with boxes, and how far one lies outside its box
    at most.
    """

    rays: int = 0
    rays_agreeing: int = 0
    depth_points: int = 0
    depth_error_m: float = 0.0
    box_points: int = 0
    box_overshoot_m: float = 0.0

    @property
    def rays_share(self) -> float:
        """Share of the rays that agree; 1 without any."""
        return self.rays_agreeing / self.rays if self.rays else 1.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.rays + other.rays,
            self.rays_agreeing + other.rays_agreeing,
            self.depth_points + other.depth_points,
            max(self.depth_error_m, other.depth_error_m),
            self.box_points + other.box_points,
            max(self.box_overshoot_m, other.box_overshoot_m),
        )


def agreement_at(renderer: Renderer, rig: Rig, labeller: OccupancyLabeller, time_s: float) -> Agreement:
    """Make images, LiDAR and labels of one moment, all at exactly this time, and compare them."""
    world_from_ego = renderer.scene.world_from_ego(time_s)
    captures = [renderer.render(item.camera, world_from_ego, time_s) for item in rig.cameras]
    views = [
        (item.camera, world_from_ego, capture.depth_m) for item, capture in zip(rig.cameras, captures, strict=True)
    ]
    semantics = labeller.label(time_s, views).semantics
    scan = LidarScanner(renderer, rig.lidar).scan(time_s)
    total = Agreement()
    for item, capture in zip(rig.cameras, captures, strict=True):
        rays, agreeing = rays_that_agree(semantics, item.camera, capture)
        points, error_m = depth_error(renderer, rig, scan, item.camera, time_s)
        total = total + Agreement(rays, agreeing, points, error_m)
    points, overshoot_m = box_overshoot(renderer, rig, scan, time_s)
    return total + Agreement(box_points=points, box_overshoot_m=overshoot_m)


def rays_that_agree(semantics: np.ndarray, camera: PinholeCamera, capture: Capture) -> tuple[int, int]:
    """Follow the rays of an image through the labels of the same moment.

    Args:
        semantics: uint8 [200, 200, 16].
        camera: of the image.
        capture: the image, taken with the ego where the labels have their origin.

    Returns:
        the number of rays that end within ``REACH_M`` inside the grid and not on an edge, and how many of them see the
        label of the first occupied voxel that they cross.
    """
    k = camera.intrinsics_px
    rows, columns = np.nonzero(inside_surfaces(capture))
    rays = np.column_stack([(columns + 0.5 - k[0, 2]) / k[0, 0], (rows + 0.5 - k[1, 2]) / k[1, 1], np.ones(len(rows))])
    ends_m = transform_points(camera.ego_from_camera, rays * capture.depth_m[rows, columns, None])
    from_eye_m = np.linalg.norm(ends_m - camera.ego_from_camera[:3, 3], axis=1)
    use = (from_eye_m <= REACH_M) & (ends_m > RANGE_M[:3]).all(axis=1) & (ends_m < RANGE_M[3:]).all(axis=1)
    directions = rays[use] @ camera.ego_from_camera[:3, :3].T
    found = first_labels(semantics, camera.ego_from_camera[:3, 3], directions)
    return len(found), int(np.count_nonzero(found == capture.label[rows[use], columns[use]]))


def inside_surfaces(capture: Capture) -> np.ndarray:
    """Pixels whose eight neighbours show the same thing and class at nearly the same depth, bool [H, W]."""
    height, width = capture.label.shape
    same = np.zeros((height, width), dtype=bool)
    middle = slice(1, height - 1), slice(1, width - 1)
    inner = np.isfinite(capture.depth_m[middle])
    inverse_depth = 1.0 / capture.depth_m
    for down in (0, 1, 2):
        for across in (0, 1, 2):
            part = slice(down, height - 2 + down), slice(across, width - 2 + across)
            for image in (capture.label, capture.thing):
                inner = inner & (image[part] == image[middle])
            change = np.abs(inverse_depth[part] - inverse_depth[middle])
            inner &= change <= EDGE_DEPTH_SHARE * inverse_depth[middle]
    same[middle] = inner
    return same


def first_labels(semantics: np.ndarray, origin_m: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Label of the first occupied voxel along each ray, ``FREE`` if it leaves the grid before: uint8 [N].

    Args:
        semantics: uint8 [200, 200, 16].
        origin_m: [3] where all rays begin, inside the grid, ego frame.
        directions: [N, 3], of any length.
    """
    position = (origin_m - np.array(RANGE_M[:3])) / VOXEL_M
    voxel = np.repeat(np.floor(position).astype(np.int64)[None], len(directions), axis=0)
    step = np.where(directions < 0.0, -1, 1)
    with np.errstate(divide='ignore'):
        per_voxel = np.abs(1.0 / directions)
    # Multiple of the direction at which the ray crosses into the next voxel of each axis.
    ahead = np.where(directions < 0.0, position - voxel, voxel + 1.0 - position)
    crossing = np.where(np.isinf(per_voxel), np.inf, ahead * per_voxel)
    found = np.full(len(directions), FREE, dtype=np.uint8)
    going = np.arange(len(directions))
    while len(going):
        met = semantics[tuple(voxel[going].T)]
        found[going] = met
        going = going[met == FREE]
        axis = crossing[going].argmin(axis=1)
        voxel[going, axis] += step[going, axis]
        crossing[going, axis] += per_voxel[going, axis]
        now = voxel[going, axis]
        going = going[(now >= 0) & (now < np.array(GRID_SHAPE)[axis])]
    return found


def depth_error(
    renderer: Renderer, rig: Rig, scan: LidarScan, camera: PinholeCamera, time_s: float
) -> tuple[int, float]:
    """Project LiDAR points into an image of the same moment.

    Between four pixel centres that show one flat face its inverse depth is known exactly, so a point on that face must
    have the interpolated depth.

    Returns:
        the number of such points and their greatest error, metres.
    """
    world_from_ego = renderer.scene.world_from_ego(time_s)
    hits = renderer.cast(camera, world_from_ego @ camera.ego_from_camera, renderer.poses_at(time_s))
    points_ego = transform_points(rig.lidar.ego_from_lidar, scan.points[:, :3].astype(np.float64))
    projection = image_from_ego(camera.intrinsics_px, inverse(camera.ego_from_camera))
    pixels, depth_m = project_points(projection, points_ego)
    corner = np.floor(np.nan_to_num(pixels, nan=-1.0, posinf=-1.0, neginf=-1.0) - 0.5)
    inside = (depth_m > 0.0) & (corner >= 0.0).all(axis=1)
    inside &= (corner[:, 0] < camera.width_px - 1) & (corner[:, 1] < camera.height_px - 1)
    index = np.nonzero(inside)[0]
    column, row = corner[index].astype(np.int64).T
    around = [(row + down, column + across) for down in (0, 1) for across in (0, 1)]
    one_face = np.ones(len(index), dtype=bool)
    for place in around:
        one_face &= (hits.solid[place] == scan.solid[index]) & (hits.face[place] == scan.face[index])
    index, row, column = index[one_face], row[one_face], column[one_face]
    across, down = (pixels[index] - 0.5 - np.column_stack([column, row])).T
    upper = (1.0 - across) * hits.inverse_depth[row, column] + across * hits.inverse_depth[row, column + 1]
    lower = (1.0 - across) * hits.inverse_depth[row + 1, column] + across * hits.inverse_depth[row + 1, column + 1]
    rendered_m = 1.0 / ((1.0 - down) * upper + down * lower)
    return len(index), float(np.abs(rendered_m - depth_m[index]).max(initial=0.0))


def box_overshoot(renderer: Renderer, rig: Rig, scan: LidarScan, time_s: float) -> tuple[int, float]:
    """The number of LiDAR points on things with boxes, and how far one lies outside its box at most, metres."""
    things = renderer.scene.things
    annotated = np.array([thing.annotated for thing in things], dtype=bool)
    index = np.nonzero(scan.thing >= 0)[0]
    index = index[annotated[scan.thing[index]]]
    thing = scan.thing[index]
    world_from_lidar = renderer.scene.world_from_ego(time_s) @ rig.lidar.ego_from_lidar
    world_m = transform_points(world_from_lidar, scan.points[index, :3].astype(np.float64))
    object_from_world = inverse(renderer.poses_at(time_s))[thing]
    local_m = np.einsum('nij,nj->ni', object_from_world[:, :3, :3], world_m) + object_from_world[:, :3, 3]
    size_m = np.array([item.shape.size_m for item in things]).reshape(-1, 3)[thing]
    local_m[:, 2] -= 0.5 * size_m[:, 2]
    return len(index), float((np.abs(local_m) - 0.5 * size_m).max(initial=0.0))

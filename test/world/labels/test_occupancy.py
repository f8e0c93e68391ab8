from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, RANGE_M, VOXEL_M
from sparseoccvla_ros.geometry import transform_from_planar, transform_points
from sparseoccvla_ros.world.bodies.solids import box
from sparseoccvla_ros.world.bodies.thing import CAR, MANMADE, Shape, State, Thing
from sparseoccvla_ros.world.drawing.render import Capture, Renderer
from sparseoccvla_ros.world.labels.occupancy import OccupancyLabeller, OccupancyLabels, _enclosed

GROUND_LAYER = 2
TIME_S = 8.0


def voxel_of(points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxel indices [..., 3], clipped, and whether the points lie in range."""
    index = np.floor((points_m - np.array(RANGE_M[:3])) / VOXEL_M).astype(int)
    inside = ((index >= 0) & (index < GRID_SHAPE)).all(axis=-1)
    return np.clip(index, 0, np.array(GRID_SHAPE) - 1), inside


@pytest.fixture(scope='module')
def labelled(scenes, rig) -> tuple[OccupancyLabels, list[Capture]]:
    scene = scenes[1]
    renderer = Renderer(scene)
    # All cameras at the keyframe's own time, so that images and labels show the same moment.
    pose = scene.world_from_ego(TIME_S)
    captures = [renderer.render(item.camera, pose, TIME_S) for item in rig.cameras]
    views = [(item.camera, pose, capture.depth_m) for item, capture in zip(rig.cameras, captures, strict=True)]
    return OccupancyLabeller(renderer, rig).label(TIME_S, views), captures


def test_a_box_is_the_shell_of_its_voxels(scenes, rig):
    scene = scenes[0]
    world_from_ego = scene.world_from_ego(0.0)
    # 4 x 2 x 1.2 m with walls on voxel faces: x 8..12, y -1.2..0.8, z 0..1.2; 0..0.2 shares the ground's layer.
    pose = world_from_ego @ transform_from_planar(10.0, -0.2, 0.0)
    shape = Shape(CAR, (4.0, 2.0, 1.2), (box((-2.0, -1.0, 0.0), (2.0, 1.0, 1.2), (0.5, 0.5, 0.5)),))
    thing = Thing(shape, lambda _: State(pose, 0.0), still=True, annotated=True)
    labels = OccupancyLabeller(Renderer(replace(scene, things=(thing,))), rig).label(0.0, [])
    filled, hollow = np.zeros(GRID_SHAPE, dtype=bool), np.zeros(GRID_SHAPE, dtype=bool)
    filled[120:130, 97:102, 2:6] = True
    hollow[121:129, 98:101, 2:5] = True  # as in Occ3D, what no sensor can reach is not labelled
    assert ((labels.semantics == CAR) <= filled).all()
    assert np.array_equal(labels.semantics == CAR, filled & ~(hollow & (labels.mask_lidar == 0)))
    assert (hollow & (labels.mask_lidar == 0)).sum() > 30
    above = labels.semantics[:, :, GROUND_LAYER + 1 :]
    assert set(np.unique(above)) == {CAR, FREE}
    assert (labels.semantics[:, :, :GROUND_LAYER] == FREE).all()
    assert ((labels.semantics[:, :, GROUND_LAYER] == FREE) <= hollow[:, :, GROUND_LAYER]).all()
    # The LiDAR sees the roof's front, not what lies in the shadow behind the car near the ground.
    assert labels.mask_lidar[120, 99, 4] == 1
    assert labels.mask_lidar[140, 99, 2] == 0
    assert labels.mask_camera.sum() == 0


def test_enclosed_voxels_by_hand():
    """A block that stands on the lower border and leans on another: beyond the grid counts as solid, below does not."""
    solid = np.zeros((5, 5, 4), dtype=bool)
    solid[0:3, 1:4, 0:3] = True
    expected = np.zeros_like(solid)
    expected[0:2, 2, 0:2] = True  # x = 0 leans on the border; the top layer lies open
    assert np.array_equal(_enclosed(solid), expected)
    assert _enclosed(np.ones((3, 3, 2), dtype=bool)).all()


def test_what_a_ray_sees_is_the_first_occupied_voxel_on_it(labelled, rig):
    labels, captures = labelled
    agree = total = 0
    for item, capture in zip(rig.cameras, captures, strict=True):
        cam = item.camera
        rows, columns = np.mgrid[0 : cam.height_px : 3, 0 : cam.width_px : 3]
        label, depth = capture.label[rows, columns], capture.depth_m[rows, columns]
        # Not on a silhouette edge: the neighbours show the same class at nearly the same depth.
        up, left = np.maximum(rows - 1, 0), np.maximum(columns - 1, 0)
        down, right = np.minimum(rows + 1, cam.height_px - 1), np.minimum(columns + 1, cam.width_px - 1)
        same = np.ones(rows.shape, dtype=bool)
        for r, c in ((up, columns), (down, columns), (rows, left), (rows, right)):
            same &= capture.label[r, c] == label
        k = cam.intrinsics_px
        ray = np.stack([(columns + 0.5 - k[0, 2]) / k[0, 0], (rows + 0.5 - k[1, 2]) / k[1, 1], np.ones(rows.shape)], -1)
        use = same & (depth * np.linalg.norm(ray, axis=-1) < 25.0)
        ray, label = ray[use], label[use]
        found = np.full(len(ray), FREE, dtype=np.uint8)
        for step_m in np.arange(0.3, 30.0, 0.05):
            points = transform_points(cam.ego_from_camera, ray / np.linalg.norm(ray, axis=1, keepdims=True) * step_m)
            index, inside = voxel_of(points)
            met = labels.semantics[tuple(index.T)]
            found = np.where((found == FREE) & inside, met, found)
        agree, total = agree + np.count_nonzero(found == label), total + len(label)
    assert total > 5000
    assert agree / total >= 0.90


def test_masks_hold_what_is_seen_and_nothing_behind_it(labelled, rig, scenes):
    labels, captures = labelled
    assert labels.semantics.shape == labels.mask_camera.shape == labels.mask_lidar.shape == GRID_SHAPE
    assert labels.semantics.dtype == labels.mask_camera.dtype == np.uint8
    for item, capture in zip(rig.cameras, captures, strict=True):
        cam = item.camera
        k = cam.intrinsics_px
        rows, columns = np.mgrid[0 : cam.height_px : 4, 0 : cam.width_px : 4]
        depth = capture.depth_m[rows, columns]
        ray = np.stack([(columns + 0.5 - k[0, 2]) / k[0, 0], (rows + 0.5 - k[1, 2]) / k[1, 1], np.ones(rows.shape)], -1)
        solid = np.isfinite(depth) & (depth < 20.0) & (depth > 2.0)
        # The middle of a voxel may fall beside the ray's own pixel, hence not quite all of them.
        for share in (0.6, 0.9):
            points = transform_points(cam.ego_from_camera, (ray * depth[..., None])[solid] * share)
            index, inside = voxel_of(points)
            assert labels.mask_camera[tuple(index[inside].T)].mean() > 0.85
    # A building hides what is inside of it.
    hidden = (labels.semantics == MANMADE) & (labels.mask_camera == 0)
    assert hidden.sum() > 1000
    assert 0.02 < labels.mask_camera.mean() < 0.6
    assert 0.02 < labels.mask_lidar.mean() < 0.8

from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, RANGE_M, VOXEL_M
from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.thing import CAR, MANMADE
from sparseoccvla_ros.world.drawing.lidar import LidarScanner
from sparseoccvla_ros.world.drawing.render import Capture, Renderer
from sparseoccvla_ros.world.labels.agreement import (
    Agreement,
    agreement_at,
    box_overshoot,
    depth_error,
    first_labels,
    inside_surfaces,
    rays_that_agree,
)
from sparseoccvla_ros.world.labels.occupancy import OccupancyLabeller

TIME_S = 8.0


@pytest.fixture(scope='module')
def renderers(scenes) -> list[Renderer]:
    return [Renderer(scene) for scene in scenes]


def test_images_lidar_boxes_and_labels_agree(renderers, rig):
    total = Agreement()
    for renderer in renderers:
        total = total + agreement_at(renderer, rig, OccupancyLabeller(renderer, rig), TIME_S)
    assert total.rays > 500_000
    assert total.rays_share >= 0.90
    # LiDAR points are float32: 4 micrometres at 70 m.
    assert total.depth_points > 50_000
    assert total.depth_error_m < 5e-5
    assert total.box_points > 2_000
    assert total.box_overshoot_m < 1e-5


def test_the_figures_see_a_lidar_that_is_5_cm_off_and_labels_that_are_mirrored(renderers, rig):
    renderer, time_s = renderers[0], TIME_S
    shifted = replace(rig.lidar, ego_from_lidar=rig.lidar.ego_from_lidar @ transform_from_planar(0.05, 0.0, 0.0))
    scan = LidarScanner(renderer, shifted).scan(time_s)
    assert depth_error(renderer, rig, scan, rig.cameras[0].camera, time_s)[1] > 0.01
    assert 0.01 < box_overshoot(renderer, rig, scan, time_s)[1] <= 0.0501
    camera, pose = rig.cameras[1].camera, renderer.scene.world_from_ego(time_s)
    capture = renderer.render(camera, pose, time_s)
    semantics = OccupancyLabeller(renderer, rig).label(time_s, [(camera, pose, capture.depth_m)]).semantics
    rays, agreeing = rays_that_agree(semantics, camera, capture)
    _, mirrored = rays_that_agree(semantics[:, ::-1], camera, capture)
    assert mirrored < agreeing - 0.1 * rays


def test_the_first_label_on_a_ray_is_found_as_by_tiny_steps():
    rng = np.random.default_rng(0)
    semantics = np.where(rng.random(GRID_SHAPE) < 0.02, rng.integers(0, FREE, GRID_SHAPE), FREE).astype(np.uint8)
    origin_m = np.array([0.53, -0.31, 1.6])
    directions = rng.normal(size=(300, 3)) * (1.0, 1.0, 0.15)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = np.full(len(directions), FREE, dtype=np.uint8)
    for step_m in np.arange(0.0, 60.0, 0.005):
        index = np.floor((origin_m + step_m * directions - RANGE_M[:3]) / VOXEL_M).astype(int)
        inside = ((index >= 0) & (index < GRID_SHAPE)).all(axis=1)
        met = semantics[tuple(np.clip(index, 0, np.array(GRID_SHAPE) - 1).T)]
        expected = np.where((expected == FREE) & inside, met, expected)
    found = first_labels(semantics, origin_m, 3.0 * directions)
    # Steps of 5 mm miss a corner now and then.
    assert (found == expected).mean() > 0.97
    assert (found != FREE).mean() > 0.5


def test_a_ray_along_an_axis_by_hand():
    semantics = np.full(GRID_SHAPE, FREE, dtype=np.uint8)
    semantics[150, 100, 5], semantics[160, 100, 5], semantics[100, 30, 5] = CAR, MANMADE, MANMADE
    origin_m = np.array([0.1, 0.1, 1.1])
    directions = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
    assert first_labels(semantics, origin_m, directions).tolist() == [CAR, FREE, MANMADE, FREE]


def test_edges_are_where_thing_class_or_depth_changes():
    label, thing = np.full((9, 30), 11, dtype=np.uint8), np.full((9, 30), -1, dtype=np.int32)
    depth_m = np.full((9, 30), 10.0)
    label[:, 10:] = CAR
    thing[:, 20:] = 4
    depth_m[4, 5] = 12.0
    depth_m[:, 25:] = np.inf
    capture = Capture(np.zeros((9, 30, 3), dtype=np.uint8), depth_m, label, thing, np.zeros(5, dtype=int))
    inside = np.zeros((9, 30), dtype=bool)
    inside[1:8, 1:9] = inside[1:8, 11:19] = inside[1:8, 21:24] = True
    inside[3:6, 4:7] = False
    assert np.array_equal(inside_surfaces(capture), inside)

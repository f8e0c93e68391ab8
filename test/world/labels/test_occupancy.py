from copy import copy

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, GROUND_CLASSES, RANGE_M, VOXEL_M
from sparseoccvla_ros.geometry import transform_from_planar, transform_points
from sparseoccvla_ros.world.bodies.solids import Solid, beam, box, pillar
from sparseoccvla_ros.world.bodies.thing import BICYCLE, CAR, MANMADE, TRAFFIC_CONE, Shape, State, Thing
from sparseoccvla_ros.world.drawing.render import Capture, Renderer
from sparseoccvla_ros.world.labels.occupancy import OccupancyLabeller, OccupancyLabels, _enclosed
from sparseoccvla_ros.world.rig import Rig
from sparseoccvla_ros.world.scene import Scene

GROUND_LAYER = 2
TIME_S = 8.0


def voxel_of(points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxel indices [..., 3], clipped, and whether the points lie in range."""
    index = np.floor((points_m - np.array(RANGE_M[:3])) / VOXEL_M).astype(int)
    inside = ((index >= 0) & (index < GRID_SHAPE)).all(axis=-1)
    return np.clip(index, 0, np.array(GRID_SHAPE) - 1), inside


def label_only(scene: Scene, rig: Rig, *things: Thing) -> OccupancyLabels:
    """Labels at time 0 of a scene with nothing but these things."""
    alone = copy(scene)
    alone.things = things
    return OccupancyLabeller(Renderer(alone), rig).label(0.0, [])


def standing(label: int, solid: Solid, pose: np.ndarray, annotated: bool = True) -> Thing:
    size_m = tuple(solid.high_m - solid.low_m)
    return Thing(Shape(label, size_m, (solid,)), lambda _: State(pose, 0.0), still=True, annotated=annotated)


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
    labels = label_only(scene, rig, thing)
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


@pytest.mark.parametrize('seed', range(5))
def test_the_thinnest_solid_has_the_voxel_of_its_middle_and_no_hole(scenes, rig, seed):
    """A bar of 3 cm, 2 m long, anywhere and any way round."""
    rng = np.random.default_rng(seed)
    middle_m = np.array([rng.uniform(5.0, 15.0), rng.uniform(-6.0, 6.0), rng.uniform(1.6, 3.0)])
    along = rng.normal(size=3)
    along /= np.linalg.norm(along)
    bar = beam(tuple(-along), tuple(along), (0.03, 0.03), (0.5, 0.5, 0.5))
    ego_from_bar = np.eye(4)
    ego_from_bar[:3, 3] = middle_m
    labels = label_only(scenes[0], rig, standing(BICYCLE, bar, scenes[0].world_from_ego(0.0) @ ego_from_bar))
    occupied = labels.semantics == BICYCLE
    index, _ = voxel_of(middle_m)
    assert occupied[tuple(index)]
    # But for its ends, which the margin cuts, the bar's line never leaves a voxel's surroundings of what is occupied.
    line = middle_m + np.linspace(-0.75, 0.75, 50)[:, None] * along
    centres = (np.argwhere(occupied) + 0.5) * VOXEL_M + RANGE_M[:3]
    assert np.linalg.norm(line[:, None] - centres[None], axis=-1).min(axis=1).max() < 0.5 * VOXEL_M * 3.0**0.5
    assert occupied.sum() <= 16


@pytest.mark.parametrize('place_m', [(8.0, 2.0), (8.01, 2.01), (8.11, 2.39), (8.2, 2.2), (8.39, 2.01)])
def test_a_cone_stands_in_the_voxel_of_its_middle_and_at_most_in_those_it_touches(scenes, rig, place_m):
    cone = pillar((0.15, 0.03), (0.0, 0.7), (0.9, 0.4, 0.1))
    pose = scenes[0].world_from_ego(0.0) @ transform_from_planar(*place_m, 0.1)
    occupied = label_only(scenes[0], rig, standing(TRAFFIC_CONE, cone, pose)).semantics == TRAFFIC_CONE
    # x = 8.0..8.4 m and y = 2.0..2.4 m is voxel (120, 105); layers from -0.2 and 0.2 m up.
    assert occupied[120, 105, 2:4].all()
    assert occupied.sum() <= 8
    outside = occupied.copy()
    outside[119:122, 104:107, 2:5] = False
    assert not outside.any()


def test_of_two_in_one_voxel_the_smaller_agent_has_it(scenes, rig):
    pose = scenes[0].world_from_ego(0.0) @ transform_from_planar(8.2, 2.2, 0.0)
    cone = standing(TRAFFIC_CONE, pillar((0.15, 0.03), (0.0, 0.7), (0.9, 0.4, 0.1)), pose)
    around = box((-2.0, -1.0, 0.0), (2.0, 1.0, 0.5), (0.5, 0.5, 0.5))
    agent, building = standing(CAR, around, pose), standing(MANMADE, around, pose, annotated=False)
    for things in ((cone, agent), (agent, cone)):
        assert label_only(scenes[0], rig, *things).semantics[120, 105, GROUND_LAYER + 1] == TRAFFIC_CONE
    tiny = standing(MANMADE, cone.shape.solids[0], pose, annotated=False)
    assert label_only(scenes[0], rig, agent, tiny).semantics[120, 105, GROUND_LAYER + 1] == CAR
    assert label_only(scenes[0], rig, cone, building).semantics[120, 105, GROUND_LAYER + 1] == TRAFFIC_CONE


def test_a_voxel_of_ground_has_the_kind_at_its_corners_that_lies_farther_from_the_road(labelled, scenes):
    semantics = labelled[0].semantics[:, :, GROUND_LAYER]
    world_from_ego = scenes[1].world_from_ego(TIME_S)
    i, j = np.nonzero(np.isin(semantics, GROUND_CLASSES))
    kinds = []
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corners_m = (np.column_stack([i, j]) + corner) * VOXEL_M + RANGE_M[:2]
        x, y = world_from_ego[:2, :2] @ corners_m.T + world_from_ego[:2, 3:4]
        kinds.append(scenes[1].plan.ground_at(x, y))
    kinds = np.array(kinds)
    # Asphalt, parking lane, island, pavement, grass.
    farthest = np.array([0, 1, 3, 4, 2])[kinds].max(axis=0)
    assert np.array_equal(semantics[i, j], np.array([11, 11, 12, 13, 14])[farthest])
    assert (kinds.min(axis=0) != kinds.max(axis=0)).sum() > 100
    assert len(np.unique(semantics[i, j])) >= 3


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
            assert labels.mask_camera[tuple(index[inside].T)].mean() > 0.75
    # A building hides what is inside of it.
    hidden = (labels.semantics == MANMADE) & (labels.mask_camera == 0)
    assert hidden.sum() > 1000
    assert 0.02 < labels.mask_camera.mean() < 0.6
    assert 0.02 < labels.mask_lidar.mean() < 0.8

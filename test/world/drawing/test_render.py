from copy import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.geometry import image_from_ego, inverse, project_points, transform_from_planar, transform_points
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.solids import box
from sparseoccvla_ros.world.bodies.thing import BUS, CAR, Shape, State, Thing
from sparseoccvla_ros.world.drawing.render import Renderer, encode_depth
from sparseoccvla_ros.world.look import look_at
from sparseoccvla_ros.world.rig import BODY_FROM_OPTICAL
from sparseoccvla_ros.world.scene import Scene

EYE_M = 1.5


def camera(width_px: int = 200, height_px: int = 100, focal_px: float = 120.0) -> PinholeCamera:
    """Looks along the ego's x axis from above its origin."""
    ego_from_camera = np.eye(4)
    ego_from_camera[:3, :3] = BODY_FROM_OPTICAL
    ego_from_camera[2, 3] = EYE_M
    intrinsics = np.array([[focal_px, 0.0, 0.5 * width_px], [0.0, focal_px, 0.5 * height_px], [0.0, 0.0, 1.0]])
    return PinholeCamera('TEST', width_px, height_px, intrinsics, ego_from_camera)


def block(label: int, size_m: tuple[float, float, float], pose: np.ndarray) -> Thing:
    length, width, height = size_m
    solid = box((-0.5 * length, -0.5 * width, 0.0), (0.5 * length, 0.5 * width, height), (0.5, 0.5, 0.5))
    return Thing(Shape(label, size_m, (solid,)), lambda _: State(pose, 0.0), still=True, annotated=True)


def with_blocks(scene: Scene, *blocks: Thing) -> tuple[Renderer, np.ndarray]:
    """The scene with nothing but these blocks, whose poses are given in the ego frame at time 0; and that pose."""
    world_from_ego = scene.world_from_ego(0.0)
    moved = []
    for thing in blocks:
        pose = world_from_ego @ thing.state_at(0.0).world_from_object
        moved.append(replace(thing, state_at=lambda _, pose=pose: State(pose, 0.0)))
    alone = copy(scene)
    alone.things = tuple(moved)
    # Dry roads mirror nothing.
    alone.look = look_at(np.random.default_rng(0), scene.city, 'day', 'clear')
    return Renderer(alone), world_from_ego


def points_of(depth_m: np.ndarray, cam: PinholeCamera) -> np.ndarray:
    """Camera-frame points [H, W, 3] that a depth image means."""
    rows, columns = np.mgrid[: cam.height_px, : cam.width_px] + 0.5
    k = cam.intrinsics_px
    return (
        np.stack([(columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1], np.ones_like(rows)], -1)
        * depth_m[..., None]
    )


def test_depth_of_ground_and_of_a_wall_worked_by_hand(scenes):
    renderer, pose = with_blocks(scenes[0], block(CAR, (2.0, 4.0, 3.0), transform_from_planar(11.0, 0.0, 0.0)))
    capture = renderer.render(camera(), pose, 0.0)
    # The front face stands 10 m ahead.
    assert capture.depth_m[50, 100] == pytest.approx(10.0, abs=1e-9)
    assert capture.label[50, 100] == CAR
    # Row 90.5 looks down by 40.5 / 120: the ground 1.5 m below lies 1.5 * 120 / 40.5 = 4.444 m ahead.
    assert capture.depth_m[90, 100] == pytest.approx(EYE_M * 120.0 / 40.5, abs=1e-9)
    assert capture.thing[90, 100] == -1
    # Above the horizon beside the block there is only sky.
    assert capture.depth_m[5, 5] == np.inf
    assert capture.label[5, 5] == FREE


@pytest.mark.parametrize('seed', range(4))
def test_the_mask_of_a_box_is_the_hull_of_its_projected_corners(scenes, seed):
    rng = np.random.default_rng(seed)
    size = (rng.uniform(1.0, 9.0), rng.uniform(0.5, 2.5), rng.uniform(0.8, 3.2))
    placed = transform_from_planar(rng.uniform(9.0, 25.0), rng.uniform(-5.0, 5.0), rng.uniform(-np.pi, np.pi))
    cam = camera(400, 200, 240.0)
    renderer, pose = with_blocks(scenes[0], block(BUS, size, placed))
    mask = renderer.render(cam, pose, 0.0).label == BUS
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)]) * size
    # Calibration's own projection, not the renderer's.
    projection = image_from_ego(cam.intrinsics_px, inverse(cam.ego_from_camera))
    pixels, depth_m = project_points(projection, transform_points(placed, corners))
    assert (depth_m > 0.0).all()
    hull = cv2.convexHull(pixels.astype(np.float32))
    rows, columns = np.mgrid[:200, :400] + 0.5
    inside = np.array([cv2.pointPolygonTest(hull, point, True) for point in zip(columns.flat, rows.flat, strict=True)])
    inside = inside.reshape(mask.shape)
    # Pixel centres farther than 1e-3 px from the outline (float32 of OpenCV) must all agree: the error is below that.
    assert mask.sum() > 200
    assert mask[inside > 1e-3].all()
    assert not mask[inside < -1e-3].any()


def test_seen_points_lie_on_the_surfaces_they_belong_to(scenes, rig):
    scene = scenes[1]
    renderer, time_s = Renderer(scene), 8.0
    poses, pose = renderer.poses_at(time_s), scene.world_from_ego(time_s)
    worst_m, seen = 0.0, 0
    for item in rig.cameras:
        capture = renderer.render(item.camera, pose, time_s)
        depth_m = np.where(np.isfinite(capture.depth_m), capture.depth_m, 0.0)
        world = transform_points(pose @ item.camera.ego_from_camera, points_of(depth_m, item.camera))
        on_ground = (capture.thing < 0) & np.isfinite(capture.depth_m) & (capture.depth_m < 60.0)
        worst_m = max(worst_m, np.abs(world[on_ground][:, 2]).max())
        for index in np.unique(capture.thing[capture.thing >= 0]):
            points = transform_points(inverse(poses[index]), world[capture.thing == index])
            # Distance to the nearest face of the solid that contains the point: <= 0 inside, 0 on the surface.
            out = np.stack([(points @ s.normals.T - s.offsets_m).max(axis=1) for s in scene.things[index].shape.solids])
            worst_m = max(worst_m, np.abs(out).min(axis=0).max())
            seen += len(points)
    assert seen > 20_000
    assert worst_m < 1e-7


def test_nearer_things_hide_farther_ones_in_any_order(scenes):
    near = block(CAR, (2.0, 2.0, 2.0), transform_from_planar(8.0, 0.0, 0.3))
    far = block(BUS, (2.0, 8.0, 3.0), transform_from_planar(20.0, 0.0, 0.0))
    cam = camera()
    first, pose = with_blocks(scenes[0], near, far)
    second, _ = with_blocks(scenes[0], far, near)
    one, two = first.render(cam, pose, 0.0), second.render(cam, pose, 0.0)
    assert np.array_equal(one.label, two.label)
    assert np.array_equal(one.depth_m, two.depth_m)
    alone, _ = with_blocks(scenes[0], near)
    assert np.array_equal(one.label == CAR, alone.render(cam, pose, 0.0).label == CAR)
    hidden = np.count_nonzero(one.label == BUS)
    assert 0 < hidden < one.full_px[1]
    assert one.full_px[1] == two.full_px[0]
    # Depth is the lesser of the two alone.
    behind, _ = with_blocks(scenes[0], far)
    both = np.minimum(alone.render(cam, pose, 0.0).depth_m, behind.render(cam, pose, 0.0).depth_m)
    assert np.array_equal(one.depth_m, both)


def test_a_thing_that_surrounds_or_lies_behind_the_camera_is_not_drawn(scenes):
    around = block(BUS, (4.0, 4.0, 4.0), transform_from_planar(0.0, 0.0, 0.0))
    behind = block(CAR, (2.0, 2.0, 2.0), transform_from_planar(-6.0, 0.0, 0.0))
    renderer, pose = with_blocks(scenes[0], around, behind)
    assert (renderer.render(camera(), pose, 0.0).thing == -1).all()


def test_a_thing_that_reaches_past_the_camera_is_cut_by_the_image_only(scenes):
    # A wall along the left side from 5 m behind to 20 m ahead, 2 m away.
    wall = block(BUS, (25.0, 1.0, 3.0), transform_from_planar(7.5, 2.5, 0.0))
    renderer, pose = with_blocks(scenes[0], wall)
    capture = renderer.render(camera(), pose, 0.0)
    # Column 0.5 looks left by 99.5 / 120: the wall's face at y = 2 m is 2 * 120 / 99.5 m ahead.
    assert capture.depth_m[50, 0] == pytest.approx(2.0 * 120.0 / 99.5, abs=1e-9)
    assert (capture.thing[50, :80] == 0).all()


def test_parts_of_a_thing_that_overlap_in_the_image_count_once(scenes):
    low = box((-1.0, -1.0, 0.0), (1.0, 1.0, 2.0), (0.5, 0.5, 0.5))
    tall = box((-0.5, -0.5, 0.0), (0.5, 0.5, 3.0), (0.5, 0.5, 0.5))
    pose = transform_from_planar(9.0, 0.0, 0.4)
    both = Thing(Shape(CAR, (2.0, 2.0, 3.0), (low, tall)), lambda _: State(pose, 0.0), still=True, annotated=True)
    renderer, world_from_ego = with_blocks(scenes[0], both)
    capture = renderer.render(camera(), world_from_ego, 0.0)
    assert capture.full_px[0] == np.count_nonzero(capture.thing == 0) > 300


def test_encoded_depths_are_256ths_of_a_metre():
    depth_m = np.array([[np.inf, 0.001, 1.0], [1.5, 200.0, 300.0]])
    assert encode_depth(depth_m).tolist() == [[0, 1, 256], [384, 51200, 65535]]
    assert encode_depth(depth_m).dtype == np.uint16


def test_textures_stay_where_they_are_in_the_world(scenes):
    """Carry one image's ground into another taken 1.5 m farther on: with the motion it fits, without it does not."""
    renderer, pose = with_blocks(scenes[0])
    cam = camera(320, 160, 200.0)
    ahead = pose @ transform_from_planar(1.5, 0.1, 0.02)
    before, after = renderer.render(cam, pose, 0.0), renderer.render(cam, ahead, 0.0)
    near = (after.depth_m < 9.0) & (after.depth_m > 3.0)
    world = transform_points(ahead @ cam.ego_from_camera, points_of(np.where(near, after.depth_m, 0.0), cam))[near]
    projection = image_from_ego(cam.intrinsics_px, inverse(pose @ cam.ego_from_camera))
    pixels, _ = project_points(projection, world)
    inside = (pixels >= 0.0).all(axis=1) & (pixels < (320, 160)).all(axis=1)
    columns, rows = pixels[inside].astype(int).T
    now = after.rgb[near][inside].astype(float)
    moved = np.abs(now - before.rgb[rows, columns]).mean()
    unmoved = np.abs(now - before.rgb[near][inside]).mean()
    assert inside.sum() > 3000
    assert moved < 0.6 * unmoved


def test_images_of_a_scene_change_over_time_and_repeat_exactly(scenes, rig):
    renderer = Renderer(scenes[0])
    front = next(item.camera for item in rig.cameras if item.camera.name == 'CAM_FRONT')
    images = [renderer.render(front, scenes[0].world_from_ego(t), t).rgb for t in (2.0, 4.0)]
    assert np.abs(images[0].astype(int) - images[1]).mean() > 5.0
    fresh = Renderer(scenes[0])
    assert np.array_equal(fresh.render(front, scenes[0].world_from_ego(4.0), 4.0).rgb, images[1])

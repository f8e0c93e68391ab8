from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.geometry import transform_from_planar, transform_points
from sparseoccvla_ros.world.bodies.solids import Texture, box
from sparseoccvla_ros.world.bodies.thing import CAR, DRIVEABLE_SURFACE, MANMADE, Shape, State, Thing
from sparseoccvla_ros.world.drawing.lidar import LidarScan, LidarScanner
from sparseoccvla_ros.world.drawing.render import Renderer
from sparseoccvla_ros.world.look import look_at
from sparseoccvla_ros.world.rig import LidarMount, Rig
from sparseoccvla_ros.world.scene import Scene

TIME_S = 6.0
HEIGHT_M = 1.84


@pytest.fixture(scope='module')
def level(rig) -> LidarMount:
    """The LiDAR exactly upright over the ego's origin."""
    ego_from_lidar = np.eye(4)
    ego_from_lidar[:3, :3] = [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    ego_from_lidar[2, 3] = HEIGHT_M
    return replace(rig.lidar, ego_from_lidar=ego_from_lidar)


def bare(scene: Scene, *things: Thing, weather: str = 'clear') -> Renderer:
    """The scene with nothing but these things, at noon."""
    alone = copy(scene)
    alone.things = things
    alone.look = look_at(np.random.default_rng(0), scene.city, 'day', weather)
    return Renderer(alone)


def wall(scene: Scene, ahead_m: float, label: int = MANMADE, texture: Texture = Texture.PLAIN) -> Thing:
    """40 m wide and 30 m high, square to the ego at time 0."""
    pose = scene.world_from_ego(0.0) @ transform_from_planar(ahead_m, 0.0, 0.0)
    solid = box((0.0, -20.0, 0.0), (1.0, 20.0, 30.0), (0.5, 0.5, 0.5), texture)
    return Thing(Shape(label, (2.0, 40.0, 30.0), (solid,)), lambda _: State(pose, 0.0), still=True, annotated=False)


@pytest.fixture(scope='module')
def scan(scenes, rig) -> LidarScan:
    return LidarScanner(Renderer(scenes[0]), rig.lidar, (2, 0)).scan(TIME_S)


def test_rings_on_flat_ground_worked_by_hand(scenes, level):
    scan = LidarScanner(bare(scenes[0]), level).scan(0.0)
    points, ring = scan.points[:, :3].astype(np.float64), scan.points[:, 4].astype(int)
    assert (scan.thing == -1).all()
    np.testing.assert_allclose(points[:, 2], -HEIGHT_M, atol=1e-5)
    # Ring 0 looks down by 30.67 degrees: its circle on the ground has a radius of 1.84 / tan(30.67 deg) = 3.103 m.
    assert np.hypot(*points[ring == 0, :2].T).mean() == pytest.approx(3.103, abs=0.003)
    # Each higher ring is 1.3335 degrees flatter; ring 22 looks down by 1.33 degrees and would meet the ground at 79 m.
    assert ring.max() == 21
    assert np.hypot(*points[ring == 10, :2].T).mean() == pytest.approx(
        HEIGHT_M / np.tan(np.radians(30.67 - 13.335)), abs=0.005
    )
    assert np.bincount(ring)[:20].min() > 1000


def test_a_wall_stands_where_it_is(scenes, level):
    scan = LidarScanner(bare(scenes[0], wall(scenes[0], 12.0)), level).scan(0.0)
    on_wall = scan.points[scan.thing == 0].astype(np.float64)
    # y is forward in the LiDAR's frame.
    np.testing.assert_allclose(on_wall[:, 1], 12.0, atol=1e-5)
    assert (scan.label[scan.thing == 0] == MANMADE).all()
    assert np.ptp(on_wall[:, 0]) == pytest.approx(40.0, abs=0.6)
    # It hides the ground behind it.
    assert scan.points[np.abs(scan.points[:, 0]) < 5.0, 1].max() < 12.001
    # 15 rings look above its foot, which is 8.7 degrees down, and it spans 354 columns; a few rays are lost.
    assert 0.9 * 15 * 354 < len(on_wall) <= 15 * 354


def test_the_turn_is_fired_clockwise_and_ends_where_the_mount_says(scan, rig):
    points = scan.points.astype(np.float64)
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    steps = np.diff(azimuth)
    steps -= 2.0 * np.pi * np.round(steps / (2.0 * np.pi))
    step_rad = 2.0 * np.pi / rig.lidar.steps
    # Within a column nothing changes, from one to the next it is one step to the right, or more where nothing returned.
    assert steps.max() < 1e-5
    columns = np.round(-steps / step_rad)
    np.testing.assert_allclose(steps, -columns * step_rad, atol=1e-5)
    assert 0 <= rig.lidar.steps - 1 - columns.sum() < 5
    last = azimuth[-1] - 0.5 * np.pi - rig.lidar.end_azimuth_rad
    assert abs(last - 2.0 * np.pi * np.round(last / (2.0 * np.pi))) < 3.0 * step_rad
    # In a column, the lowest beam first.
    assert (np.diff(points[:, 4])[columns == 0] > 0).all()
    elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
    np.testing.assert_allclose(elevation, rig.lidar.elevations_rad[points[:, 4].astype(int)], atol=1e-5)


def test_a_scan_has_the_form_of_the_files(scan, scenes, rig):
    assert scan.points.dtype == np.float32
    assert scan.points.shape[1] == 5
    assert scan.label.dtype == np.uint8
    assert scan.thing.dtype == np.int32
    assert len(scan.points) == len(scan.label) == len(scan.thing) == len(scan.solid) == len(scan.face)
    # nuScenes keyframes have about 34,700 points.
    assert 20_000 < len(scan.points) < 34_560
    assert np.linalg.norm(scan.points[:, :3], axis=1).max() <= rig.lidar.range_m
    assert set(np.unique(scan.points[:, 4])) <= set(range(32))
    assert scan.points[:, 3].min() >= 0.0
    assert scan.points[:, 3].max() <= 255.0
    again = np.frombuffer(scan.points.tobytes(), dtype=np.float32).reshape(-1, 5)
    assert np.array_equal(again, scan.points)
    classes = np.array([thing.shape.label for thing in scenes[0].things])
    assert np.array_equal(scan.label[scan.thing >= 0], classes[scan.thing[scan.thing >= 0]])
    assert (scan.label[scan.thing < 0] >= DRIVEABLE_SURFACE).all()
    assert np.array_equal(scan.thing < 0, scan.solid < 0)


def test_a_scan_repeats_exactly_and_the_seed_only_picks_what_is_lost(scan, scenes, rig):
    again = LidarScanner(Renderer(scenes[0]), rig.lidar, (2, 0)).scan(TIME_S)
    assert np.array_equal(again.points, scan.points)
    other = LidarScanner(Renderer(scenes[0]), rig.lidar, (2, 1)).scan(TIME_S)
    rows, other_rows = ({row.tobytes() for row in item.points} for item in (scan, other))
    assert rows != other_rows
    assert len(rows & other_rows) > 0.9 * len(rows)


def test_glass_and_weather_cost_returns(scenes, level):
    def returns(distance_m: float, **options) -> int:
        texture = options.pop('texture', Texture.PLAIN)
        renderer = bare(scenes[0], wall(scenes[0], distance_m, CAR, texture), **options)
        return np.count_nonzero(LidarScanner(renderer, level).scan(0.0).thing == 0)

    clear = returns(20.0)
    assert clear > 2000
    assert 0.4 < returns(20.0, texture=Texture.GLASS_FACADE) / clear < 0.6
    assert 0.9 < returns(20.0, weather='rain') / clear < 0.98
    assert returns(68.0) > 100
    assert returns(68.0, weather='fog') < 0.2 * returns(68.0)
    assert returns(75.0) == 0


def test_range_noise_moves_points_along_their_rays(scenes, level):
    renderer = bare(scenes[0], wall(scenes[0], 12.0))
    exact = LidarScanner(renderer, level).scan(0.0)
    noisy = LidarScanner(renderer, replace(level, range_noise_m=0.02)).scan(0.0)
    ranges = [np.linalg.norm(item.points[:, :3].astype(np.float64), axis=1) for item in (exact, noisy)]
    assert np.std(ranges[1] - ranges[0]) == pytest.approx(0.02, rel=0.05)
    directions = [item.points[:, :3] / length[:, None] for item, length in zip((exact, noisy), ranges, strict=True)]
    np.testing.assert_allclose(*directions, atol=1e-6)


def test_points_of_a_moving_thing_lie_where_it_is_at_the_time_of_the_scan(scan, scenes, rig: Rig):
    scene = scenes[0]
    moving = [index for index in np.unique(scan.thing) if index >= 0 and not scene.things[index].still]
    assert moving
    world_from_lidar = scene.world_from_ego(TIME_S) @ rig.lidar.ego_from_lidar
    for index in moving:
        pose, size_m = scene.things[index].state_at(TIME_S).world_from_object, scene.things[index].shape.size_m
        world = transform_points(world_from_lidar, scan.points[scan.thing == index, :3].astype(np.float64))
        local = (world - pose[:3, 3]) @ pose[:3, :3]
        assert (np.abs(local[:, :2]) < 0.5 * np.array(size_m[:2]) + 1e-4).all()

"""Flips and rotations of the scene: everything in the ego frame moves together."""

import itertools
import math

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, RANGE_M, VOXEL_M
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation, SceneTransform
from sparseoccvla_ros.geometry import image_from_ego, inverse, project_points, transform_from_planar, transform_points
from sparseoccvla_ros.runtime.scene import Command

EXACT = [
    SceneTransform(flip_x, flip_y, quarter * 0.5 * math.pi)
    for flip_x, flip_y, quarter in itertools.product((False, True), (False, True), range(-1, 3))
]
ANY = [*EXACT, SceneTransform(False, False, 0.3), SceneTransform(True, False, -1.1), SceneTransform(True, True, 2.5)]


def name_of(change: SceneTransform) -> str:
    return f'{"x" * change.flip_x}{"y" * change.flip_y}{math.degrees(change.rotation_rad):.0f}'


@pytest.fixture(scope='module')
def grid() -> np.ndarray:
    """About 6000 occupied voxels without any symmetry."""
    rng = np.random.default_rng(1)
    grid = np.full(GRID_SHAPE, FREE, np.uint8)
    grid[tuple(rng.integers(0, size, 6000) for size in GRID_SHAPE)] = rng.integers(0, 17, 6000)
    return grid


def occupied(grid: np.ndarray) -> dict[tuple[int, int, int], int]:
    return {tuple(index): int(grid[tuple(index)]) for index in np.argwhere(grid != FREE).tolist()}


def middles_m(index: np.ndarray) -> np.ndarray:
    return np.asarray(RANGE_M[:3]) + VOXEL_M * (np.asarray(index) + 0.5)


def index_of(points_m: np.ndarray) -> np.ndarray:
    return np.floor((points_m - np.asarray(RANGE_M[:3])) / VOXEL_M).astype(int)


@pytest.mark.parametrize('change', EXACT, ids=name_of)
def test_the_middles_of_the_occupied_voxels_move_as_the_matrix_says(change, grid):
    moved = {
        tuple(index_of(transform_points(change.augmented_from_ego, middles_m(index))).tolist()): label
        for index, label in occupied(grid).items()
    }
    assert occupied(change.grid(grid, FREE)) == moved


@pytest.mark.parametrize('change', ANY, ids=name_of)
def test_every_voxel_has_what_its_middle_lies_in(change, grid):
    augmented = change.grid(grid, outside=200)
    rng = np.random.default_rng(2)
    index = np.stack([rng.integers(0, size, 5000) for size in GRID_SHAPE], axis=1)
    source = index_of(transform_points(inverse(change.augmented_from_ego), middles_m(index)))
    within = ((source >= 0) & (source < GRID_SHAPE)).all(axis=1)
    assert within.all() or change not in EXACT
    expected = np.where(within, grid[tuple(np.clip(source, 0, np.array(GRID_SHAPE) - 1).T)], 200)
    np.testing.assert_array_equal(augmented[tuple(index.T)], expected)


def test_flips_and_quarter_turns_are_those_of_numpy(grid):
    np.testing.assert_array_equal(SceneTransform(flip_x=True).grid(grid, FREE), grid[::-1])
    np.testing.assert_array_equal(SceneTransform(flip_y=True).grid(grid, FREE), grid[:, ::-1])
    quarter = SceneTransform(rotation_rad=0.5 * math.pi).grid(grid, FREE)
    np.testing.assert_array_equal(quarter, np.rot90(grid, axes=(0, 1)))


@pytest.mark.parametrize('flips', [(True, False), (False, True), (True, True)])
def test_twice_the_same_flip_is_nothing(flips, grid):
    change = SceneTransform(*flips)
    np.testing.assert_array_equal(change.grid(change.grid(grid, FREE), FREE), grid)
    np.testing.assert_allclose(change.augmented_from_ego @ change.augmented_from_ego, np.eye(4), atol=1e-15)
    points_m = np.random.default_rng(3).normal(size=(10, 3))
    np.testing.assert_allclose(change.points(change.points(points_m)), points_m, atol=1e-12)
    headings_rad = np.linspace(-3.0, 3.0, 7)
    np.testing.assert_allclose(change.headings(change.headings(headings_rad)), headings_rad, atol=1e-12)


def test_a_rotation_and_its_inverse_are_nothing(grid):
    quarter, back = SceneTransform(rotation_rad=0.5 * math.pi), SceneTransform(rotation_rad=-0.5 * math.pi)
    np.testing.assert_array_equal(back.grid(quarter.grid(grid, FREE), FREE), grid)
    there, back = SceneTransform(rotation_rad=0.4), SceneTransform(rotation_rad=-0.4)
    points_m = np.random.default_rng(3).normal(size=(10, 3))
    np.testing.assert_allclose(back.points(there.points(points_m)), points_m, atol=1e-12)
    # a grid: away from the corners no more than a voxel off, so a solid block stays one
    block = np.full(GRID_SHAPE, FREE, np.uint8)
    block[80:130, 60:100, 2:9] = 15
    again = back.grid(there.grid(block, FREE), FREE)
    assert (again[82:128, 62:98, 2:9] == 15).all()
    assert (np.argwhere(again == 15) >= (79, 59, 2)).all()
    assert (np.argwhere(again == 15) <= (130, 100, 8)).all()


def test_what_comes_from_beyond_the_range_is_outside():
    """An eighth of a turn: the corners of the square are the 17 % that come from beyond it (2 (sqrt 2 - 1) is in)."""
    change = SceneTransform(rotation_rad=0.25 * math.pi)
    mask = change.grid(np.ones(GRID_SHAPE, np.uint8), outside=0)
    assert mask.mean() == pytest.approx(2.0 * (math.sqrt(2.0) - 1.0), abs=0.002)
    assert not mask[0, 0].any()
    assert not mask[199, 199].any()
    assert mask[100, 100].all()


@pytest.mark.parametrize('change', ANY, ids=name_of)
def test_a_point_stays_on_its_pixel(change):
    intrinsics_px = np.array([[300.0, 0.0, 176.0], [0.0, 300.0, 64.0], [0.0, 0.0, 1.0]])
    ego_from_camera = np.array([[0, 0, 1, 1.7], [-1, 0, 0, 0.3], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])
    projection = image_from_ego(intrinsics_px, inverse(ego_from_camera))
    points_m = np.array([[12.0, 3.0, 0.5], [30.0, -8.0, 2.0]])
    pixels, depth_m = project_points(projection, points_m)
    moved = transform_points(change.augmented_from_ego, points_m)
    moved_pixels, moved_depth_m = project_points(change.projections(projection), moved)
    np.testing.assert_allclose(moved_pixels, pixels, atol=1e-9)
    np.testing.assert_allclose(moved_depth_m, depth_m, atol=1e-9)


@pytest.mark.parametrize('change', ANY, ids=name_of)
def test_headings_velocities_and_turns_are_those_of_the_moved_path(change):
    """A car on a left turn, seen in the augmented frame: its heading is along its path, and the turn's sign follows."""
    times_s = np.array([0.0, 0.01, 0.02])
    yaw_rad, speed_mps, yaw_rate_radps = 0.7 + 0.4 * times_s, 6.0, 0.4
    radius_m = speed_mps / yaw_rate_radps
    path_m = np.stack([radius_m * np.sin(yaw_rad) + 3.0, -radius_m * np.cos(yaw_rad) - 2.0], axis=1)
    moved_m = change.points(path_m)
    steps_m = np.diff(moved_m, axis=0)
    directions_rad = np.unwrap(np.arctan2(steps_m[:, 1], steps_m[:, 0]))
    middle_rad = change.headings(yaw_rad[:2] + 0.002)
    np.testing.assert_allclose(np.unwrap([directions_rad[0], middle_rad[0]])[1], directions_rad[0], atol=1e-9)
    velocity_mps = speed_mps * np.stack([np.cos(yaw_rad[:2] + 0.002), np.sin(yaw_rad[:2] + 0.002)], axis=1)
    np.testing.assert_allclose(change.points(velocity_mps), steps_m / 0.01, atol=1e-4)
    assert (directions_rad[1] - directions_rad[0]) / 0.01 == pytest.approx(change.yaw_rate(yaw_rate_radps), abs=1e-6)
    assert change.mirrors == (np.linalg.det(change.augmented_from_ego) < 0.0)


def test_a_mirror_swaps_left_and_right():
    mirror, turn = SceneTransform(flip_y=True), SceneTransform(True, True, 0.2)
    assert [mirror.command(command) for command in Command] == [Command.LEFT, Command.RIGHT, Command.STRAIGHT]
    assert [turn.command(command) for command in Command] == list(Command)


@pytest.mark.parametrize('change', ANY, ids=name_of)
def test_motion_between_two_changed_frames(change):
    """A point of a later ego frame, first carried back and then changed, or first changed and then carried back."""
    current_from_later = transform_from_planar(8.0, 1.0, 0.3)
    point_m = np.array([[5.0, -2.0, 1.0]])
    first_back = change.points(transform_points(current_from_later, point_m))
    between = change.between_egos(current_from_later)
    np.testing.assert_allclose(transform_points(between, change.points(point_m)), first_back, atol=1e-12)
    assert np.linalg.det(between[:3, :3]) == pytest.approx(1.0)


def test_draws_keep_to_their_ranges_and_do_not_shift_each_other():
    rng = np.random.default_rng(6)
    changes = [SceneAugmentation(0.3, 0.5, 0.2).draw(rng) for _ in range(500)]
    assert 0.23 < np.mean([c.flip_x for c in changes]) < 0.37
    assert 0.43 < np.mean([c.flip_y for c in changes]) < 0.57
    angles_rad = [c.rotation_rad for c in changes]
    assert -0.2 <= min(angles_rad) < -0.19
    assert 0.19 < max(angles_rad) <= 0.2
    assert SceneAugmentation(0.0, 0.0, 0.0).draw(rng).is_identity
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    SceneAugmentation(0.3, 0.5, 0.2).draw(one)
    SceneAugmentation(0.0, 0.0, 0.0).draw(other)
    assert one.uniform() == other.uniform()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'flip_x_probability': 1.01}, 'flip_x_probability must be in 0..1, got 1.01'),
        ({'flip_y_probability': -0.5}, 'flip_y_probability must be in 0..1'),
        ({'rotation_rad': math.inf}, 'rotation_rad must be in'),
    ],
)
def test_impossible_numbers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SceneAugmentation(**changes)
    with pytest.raises(ValueError, match='grid must be'):
        SceneTransform(flip_x=True).grid(np.zeros((2, 2, 2), np.uint8), 0)

"""Grids seen from another place, by hand."""

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE
from sparseoccvla_ros.evaluation.grid_motion import GridMotion
from sparseoccvla_ros.geometry import inverse, transform_from, transform_from_planar


def one_voxel(*index: int) -> np.ndarray:
    grid = np.full(GRID_SHAPE, FREE, dtype=np.uint8)
    grid[index] = 4
    return grid


def places(grid: np.ndarray, value: int = 4) -> list[tuple[int, ...]]:
    return [tuple(place) for place in np.argwhere(grid == value).tolist()]


def test_without_motion_nothing_changes():
    grid = np.random.default_rng(0).integers(0, 18, GRID_SHAPE, dtype=np.uint8)
    np.testing.assert_array_equal(GridMotion(np.eye(4)).moved(grid, 255), grid)


@pytest.mark.parametrize(
    ('source_from_target', 'place'),
    [
        (transform_from_planar(2.0, 0.0, 0.0), (115, 90, 5)),  # seen from 2 m ahead it is 5 voxels further behind
        (transform_from_planar(0.0, -0.8, 0.0), (120, 92, 5)),
        (transform_from((0.0, 0.0, 0.4), (0.0, 0.0, 0.0, 1.0)), (120, 90, 4)),
        (transform_from_planar(0.0, 0.0, np.pi / 2), (90, 79, 5)),  # turned to the left, what was ahead is to the right
    ],
)
def test_a_voxel_by_hand(source_from_target, place):
    assert places(GridMotion(source_from_target).moved(one_voxel(120, 90, 5), FREE)) == [place]


def test_beyond_the_range_is_what_the_caller_says():
    moved = GridMotion(transform_from_planar(4.0, 0.0, 0.0)).moved(one_voxel(100, 100, 3), 255)
    assert (moved[190:] == 255).all()
    assert (moved[:190] != 255).all()


def test_there_and_back_by_whole_voxels():
    grid = np.random.default_rng(1).integers(0, 18, GRID_SHAPE, dtype=np.uint8)
    pose = transform_from_planar(3.2, -1.2, 0.0)
    back = GridMotion(inverse(pose)).moved(GridMotion(pose).moved(grid, 255), 255)
    known = back != 255
    np.testing.assert_array_equal(back[known], grid[known])
    assert known.sum() == (200 - 8) * (200 - 3) * 16


@pytest.mark.parametrize('pose', [np.eye(3), np.full((4, 4), np.nan)])
def test_a_motion_that_is_none_is_refused(pose):
    with pytest.raises(ValueError, match='must be a finite'):
        GridMotion(pose)


def test_another_grid_is_refused():
    with pytest.raises(ValueError, match='grid must be'):
        GridMotion(np.eye(4)).moved(np.zeros((2, 2, 2), dtype=np.uint8), 0)

import numpy as np
import pytest

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.solids import box
from sparseoccvla_ros.world.drawing.shadow import CELL_M, REACH_M, ShadowMap

SUN = np.array((-0.6, 0.0, 0.8))


@pytest.mark.parametrize('still', [True, False])
def test_a_box_throws_a_shadow_as_long_as_the_sun_is_low(still):
    solid = box((-1.0, -1.0, 0.0), (1.0, 1.0, 4.0), (0.5, 0.5, 0.5))
    shadows = ShadowMap([solid], np.array([0]), np.array([still]), SUN, 0.1)
    poses = transform_from_planar(103.0, 57.0, 0.0)[None]
    x = np.arange(103.0, 115.0, 0.02)
    lit = shadows.lit(np.array((100.0, 50.0)), poses, x, np.full(len(x), 57.0))
    # Height 4 m at a slope of 0.6 / 0.8: 3 m beyond the box's edge.
    end = x[np.nonzero(lit < 0.6)[0].max()]
    assert end == pytest.approx(103.0 + 1.0 + 3.0, abs=2.0 * CELL_M)
    assert lit[x > 107.5].min() == 1.0
    beside = shadows.lit(np.array((100.0, 50.0)), poses, x, np.full(len(x), 59.0))
    assert beside.min() == 1.0


def test_a_moving_shadow_leaves_its_old_place_and_a_turned_box_turns_its_own():
    solid = box((-3.0, -0.5, 0.0), (3.0, 0.5, 1.0), (0.5, 0.5, 0.5))
    shadows = ShadowMap([solid], np.array([0]), np.array([False]), np.array((0.0, 0.0, 1.0)), 0.1)
    at = np.array((0.0, 0.0)), np.array((2.5, 0.0)), np.array((0.0, 2.5))
    x, y = np.array(at).T
    eye = np.array((0.0, 0.0))
    along = shadows.lit(eye, transform_from_planar(0.0, 0.0, 0.0)[None], x, y)
    across = shadows.lit(eye, transform_from_planar(0.0, 0.0, 0.5 * np.pi)[None], x, y)
    gone = shadows.lit(eye, transform_from_planar(20.0, 0.0, 0.0)[None], x, y)
    assert list(along < 0.5) == [True, True, False]
    assert list(across < 0.5) == [True, False, True]
    assert (gone == 1.0).all()


def test_far_ground_is_neither_lit_nor_dark():
    shadows = ShadowMap([], np.zeros(0, dtype=int), np.zeros(0, dtype=bool), SUN, 0.1)
    far = np.array((2.0 * REACH_M,))
    share = shadows.lit(np.array((0.0, 0.0)), np.zeros((0, 4, 4)), far, far)
    assert 0.0 < share[0] < 1.0

"""The vehicle is no obstacle to itself."""

import numpy as np
import pytest

from sparseoccvla_ros.runtime.occupancy import SelfFilter
from sparseoccvla_ros.runtime.scene import OccupancyPoints

BODY = SelfFilter((-0.5, -0.75, 0.25), (3.0, 0.75, 1.5))


def cloud(*points_m):
    count = len(points_m)
    return OccupancyPoints(
        np.array(points_m, dtype=np.float32).reshape(count, 3),
        np.arange(count, dtype=np.uint8),
        np.linspace(0.5, 0.9, count, dtype=np.float32),
    )


def test_points_inside_the_body_are_left_out():
    bumper, roof, road, seat, side = (3.2, 0.0, 0.8), (1.0, 0.0, 1.8), (1.0, 0.0, 0.0), (1.0, 0.2, 0.9), (1.0, 0.9, 0.9)
    kept = BODY.apply(cloud(bumper, roof, road, seat, side))
    np.testing.assert_allclose(kept.points_ego, np.array([bumper, roof, road, side], np.float32))
    assert kept.labels.tolist() == [0, 1, 2, 4]
    np.testing.assert_allclose(kept.scores, [0.5, 0.6, 0.7, 0.9], rtol=1e-6)


def test_nothing_inside_leaves_the_same_points():
    around = cloud((5.0, 0.0, 0.8), (-2.0, 0.0, 0.8))
    assert BODY.apply(around) is around
    empty = cloud()
    assert len(BODY.apply(empty).labels) == 0


def test_a_box_without_size_holds_nothing():
    everywhere = cloud((0.0, 0.0, 0.0), (1.0, 0.0, 1.0))
    assert SelfFilter((0.0,) * 3, (0.0,) * 3).apply(everywhere) is everywhere


def test_ends_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match='above its other end'):
        SelfFilter((0.0, 1.0, 0.0), (1.0, -1.0, 1.0))

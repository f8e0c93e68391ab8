"""The vehicle is no obstacle to itself."""

import numpy as np
import pytest

from sparseoccvla_ros.planning.vehicle import load_vehicle_limits
from sparseoccvla_ros.runtime.occupancy import DEFAULT_SELF_FILTER, SelfFilter
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


@pytest.mark.parametrize('low_m', [(0.0, 1.0, 0.0), (0.0, float('nan'), 0.0)])
def test_what_is_no_box_is_refused(low_m):
    with pytest.raises(ValueError, match='no ends of a box'):
        SelfFilter(low_m, (1.0, -1.0, 1.0))


def test_the_default_is_inside_the_default_vehicle(project_root):
    """To a centimetre: what stands beyond its paint is an obstacle."""
    vehicle = load_vehicle_limits(str(project_root / 'config' / 'vehicle' / 'default.yaml'))
    rear, side, _ = DEFAULT_SELF_FILTER.low_m
    front, _, roof = DEFAULT_SELF_FILTER.high_m
    middle, half = vehicle.center_offset_m, 0.5 * vehicle.length_m
    for gap_m in (rear - (middle - half), middle + half - front, side + 0.5 * vehicle.width_m, vehicle.height_m - roof):
        assert 0.0 <= gap_m <= 0.01

import numpy as np
import pytest

from sparseoccvla_ros.world.traffic.path import STEP_M, Path, turn_points


def circle(radius_m: float, angle_rad: float) -> Path:
    angle = np.linspace(0.0, angle_rad, int(radius_m * abs(angle_rad)))
    return Path.through(radius_m * np.column_stack([np.sin(angle), 1.0 - np.cos(angle)]))


def test_a_circle_is_a_circle():
    path = circle(12.0, 2.0)
    for s_m in np.linspace(1.0, 22.0, 60):
        x, y, heading, bent = path.at(float(s_m))
        assert np.hypot(x, y - 12.0) == pytest.approx(12.0, abs=2e-3)
        assert heading == pytest.approx(s_m / 12.0, abs=3e-3)
        assert bent == pytest.approx(1.0 / 12.0, rel=0.05)


def test_position_direction_and_arc_length_fit_each_other():
    path = Path.through(np.concatenate([turn_points(0.5 * np.pi, 10.0), [[10.0, 12.0], [10.0, 14.0], [10.0, 16.0]]]))
    step_m = 0.01
    places = np.array([path.at(float(s_m)) for s_m in np.arange(0.0, path.length_m, step_m)])
    moved = np.diff(places[:, :2], axis=0)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), step_m, rtol=2e-4)
    middle = 0.5 * (places[1:, 2] + places[:-1, 2])
    # No slip: it moves where it points.
    assert np.abs(np.arctan2(moved[:, 1], moved[:, 0]) - middle).max() < 1e-4


@pytest.mark.parametrize('angle_rad', [0.5 * np.pi, -0.5 * np.pi, 1.2])
def test_a_turn_joins_its_two_lines(angle_rad):
    points = turn_points(angle_rad, 9.0)
    ends = points[-1] - (9.0, 0.0)
    # The second line starts 9 m ahead and leaves at the angle.
    assert ends[0] * np.sin(angle_rad) - ends[1] * np.cos(angle_rad) == pytest.approx(0.0, abs=1e-6)
    assert np.linalg.norm(ends) == pytest.approx(9.0, abs=0.02)
    path = Path.through(points)
    radius_m = 1.0 / np.abs(path.curvature_per_m).max()
    assert 0.6 * 9.0 / np.tan(abs(angle_rad) / 2) < radius_m < 9.0 / np.tan(abs(angle_rad) / 2)


def test_beyond_its_ends_a_path_goes_straight_on():
    path = circle(20.0, 1.0)
    x, y, heading, bent = path.at(-3.0)
    assert (x, y) == pytest.approx((-3.0, 0.0), abs=2e-2)
    assert bent == 0.0
    last = path.at(path.length_m)
    x, y, heading, _ = path.at(path.length_m + 2.0)
    assert (x, y) == pytest.approx((last[0] + 2.0 * np.cos(heading), last[1] + 2.0 * np.sin(heading)))


def test_speed_limits_are_reached_by_comfortable_braking():
    straight, turn = np.column_stack([np.arange(60.0), np.zeros(60)]), turn_points(1.5, 9.0)
    path = Path.through(np.concatenate([straight, np.add(turn, (60.0, 0.0))]))
    cap = np.full(len(path.points_m), 40.0)
    cap[20:24] = 5.0
    limit = path.speed_limits_mps(1.8, 1.2, cap)
    assert (limit <= np.sqrt(1.8 / np.maximum(np.abs(path.curvature_per_m), 1e-4)) + 1e-9).all()
    assert limit[20:24].max() == pytest.approx(5.0)
    # v dv/ds >= -1.2 everywhere.
    assert (np.diff(limit**2) / (2.0 * STEP_M)).min() > -1.2 - 1e-9

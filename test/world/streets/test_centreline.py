import numpy as np
import pytest

from sparseoccvla_ros.world.streets.centreline import Centreline


def bend(radius_m: float, length_m: float, heading_rad: float = 0.0) -> Centreline:
    return Centreline(np.full(int(length_m / Centreline.STEP_M) + 1, 1.0 / radius_m), (0.0, 0.0), heading_rad)


def test_a_constant_curvature_is_a_circle():
    line = bend(80.0, 60.0)
    s_m = np.linspace(0.0, 60.0, 50)
    x, y, heading = line.place(s_m, np.full(50, 3.0))
    np.testing.assert_allclose(x, 77.0 * np.sin(s_m / 80.0), atol=1e-3)
    np.testing.assert_allclose(y, 80.0 - 77.0 * np.cos(s_m / 80.0), atol=1e-3)
    np.testing.assert_allclose(heading, s_m / 80.0, atol=1e-9)


@pytest.mark.parametrize('heading_rad', [0.0, 2.5, -1.7])
def test_projection_undoes_placing_on_bends_and_beyond_the_ends(heading_rad):
    rng = np.random.default_rng(0)
    curvature = np.concatenate([np.zeros(300), np.full(400, 1.0 / 70.0), np.full(500, -1.0 / 90.0)])
    for line in (Centreline(curvature, (40.0, -7.0), heading_rad), Centreline(np.zeros(1001), (3.0, 4.0), heading_rad)):
        s_m, d_m = rng.uniform(-30.0, line.length_m + 30.0, 400), rng.uniform(-16.0, 16.0, 400)
        x, y, _ = line.place(s_m, d_m)
        found_s, found_d = line.project(x, y)
        np.testing.assert_allclose(found_s, s_m, atol=5e-3)
        np.testing.assert_allclose(found_d, d_m, atol=5e-3)


def test_turning_the_start_turns_everything():
    s_m, d_m = np.linspace(0.0, 50.0, 20), np.linspace(-5.0, 5.0, 20)
    x, y, heading = bend(60.0, 50.0).place(s_m, d_m)
    turned_x, turned_y, turned_heading = bend(60.0, 50.0, 0.5 * np.pi).place(s_m, d_m)
    np.testing.assert_allclose(turned_x, -y, atol=1e-9)
    np.testing.assert_allclose(turned_y, x, atol=1e-9)
    np.testing.assert_allclose(turned_heading, heading + 0.5 * np.pi)


def test_one_pose_agrees_with_placing_many():
    line = bend(80.0, 60.0)
    x, y, heading = line.place(np.array(23.4), np.array(-2.5))
    pose = line.pose(23.4, -2.5, 0.3)
    np.testing.assert_allclose(pose[:2, 3], [x, y], atol=1e-12)
    assert np.arctan2(pose[1, 0], pose[0, 0]) == pytest.approx(float(heading) + 0.3)


def test_a_street_that_turns_back_is_refused():
    with pytest.raises(ValueError, match=r'turns by 2\.00 rad'):
        bend(30.0, 60.0)

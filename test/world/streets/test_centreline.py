import numpy as np
import pytest

from sparseoccvla_ros.world.streets.centreline import Centreline


def bend(radius_m: float, length_m: float) -> Centreline:
    return Centreline(np.full(int(length_m / Centreline.STEP_M) + 1, 1.0 / radius_m), (0.0, 0.0))


def test_a_constant_curvature_is_a_circle():
    line = bend(80.0, 60.0)
    s_m = np.linspace(0.0, 60.0, 50)
    x, y, heading = line.place(s_m, np.full(50, 3.0))
    np.testing.assert_allclose(x, 77.0 * np.sin(s_m / 80.0), atol=1e-3)
    np.testing.assert_allclose(y, 80.0 - 77.0 * np.cos(s_m / 80.0), atol=1e-3)
    np.testing.assert_allclose(heading, s_m / 80.0, atol=1e-9)


def test_projection_undoes_placing(scenes):
    rng = np.random.default_rng(0)
    for scene in scenes:
        line = scene.street.centreline
        s_m, d_m = rng.uniform(20.0, line.length_m - 20.0, 400), rng.uniform(-16.0, 16.0, 400)
        x, y, _ = line.place(s_m, d_m)
        found_s, found_d = line.project(x, y)
        np.testing.assert_allclose(found_s, s_m, atol=5e-3)
        np.testing.assert_allclose(found_d, d_m, atol=5e-3)


def test_one_pose_agrees_with_placing_many(scenes):
    line = scenes[0].street.centreline
    x, y, heading = line.place(np.array(123.4), np.array(-2.5))
    pose = line.pose(123.4, -2.5)
    np.testing.assert_allclose(pose[:2, 3], [x, y], atol=1e-12)
    assert np.arctan2(pose[1, 0], pose[0, 0]) == pytest.approx(float(heading))


def test_a_street_that_turns_back_is_refused():
    with pytest.raises(ValueError, match=r'turns by 2\.00 rad'):
        bend(30.0, 60.0)

import math

import numpy as np
import pytest

from sparseoccvla_ros.world.driving.driven_scene import RouteProgress
from sparseoccvla_ros.world.traffic.path import Path


def circle(radius_m=20.0):
    turned = np.linspace(0.0, 2.0 * math.pi, 400)
    return Path.through(radius_m * np.column_stack([np.sin(turned), 1.0 - np.cos(turned)]))


@pytest.mark.parametrize('left_m', [-3.0, 0.0, 2.5])
def test_progress_beside_a_bend_is_that_of_the_nearest_point(left_m):
    progress = RouteProgress(circle(), 0.0)
    for turned in np.arange(0.0, 5.5, 0.05):
        radius = 20.0 - left_m
        progress.update(radius * math.sin(turned), 20.0 - radius * math.cos(turned))
        assert progress.along_m == pytest.approx(20.0 * turned, abs=0.03)
        assert progress.left_m == pytest.approx(left_m, abs=0.01)


def test_where_a_route_comes_back_to_its_beginning_progress_goes_on():
    progress = RouteProgress(circle(), 0.0)
    for turned in np.arange(0.0, 6.2, 0.05):
        progress.update(20.0 * math.sin(turned), 20.0 * (1.0 - math.cos(turned)))
    assert progress.along_m == pytest.approx(20.0 * 6.15, abs=0.05)

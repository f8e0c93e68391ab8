import itertools

import numpy as np
import pytest

from sparseoccvla_ros.world.city import cities
from sparseoccvla_ros.world.drawing.paint import noise_tile
from sparseoccvla_ros.world.drawing.pavement import ground_albedo
from sparseoccvla_ros.world.streets.street import Ground

NOISE = noise_tile(256)
X, Y = (part.ravel() for part in np.meshgrid(np.arange(200.0, 240.0, 0.1), np.arange(50.0, 90.0, 0.1)))


def albedo(city, kind, footprint_m):
    ground = np.full(len(X), kind, dtype=np.uint8)
    return ground_albedo(city, NOISE, ground, X, Y, np.full(len(X), footprint_m, dtype=np.float32))


@pytest.mark.parametrize('city', cities(), ids=lambda city: city.name)
def test_kinds_of_ground_look_different_and_from_afar_calm(city):
    means = {}
    for kind in Ground:
        near, far = albedo(city, kind, 0.02), albedo(city, kind, 2.0)
        assert near.min() >= 0.0
        assert near.max() <= 1.05
        assert far.std(axis=0).mean() <= near.std(axis=0).mean()
        np.testing.assert_allclose(far.mean(axis=0), near.mean(axis=0), atol=0.05)
        means[kind] = near.mean(axis=0)
    for one, other in itertools.combinations((Ground.ASPHALT, Ground.PAVEMENT, Ground.GRASS, Ground.ISLAND), 2):
        assert np.abs(means[one] - means[other]).max() > 0.08
    red, green, blue = means[Ground.GRASS]
    assert green > red > blue


def test_a_place_has_its_colour_whatever_else_is_drawn():
    city, footprint_m = cities()[0], np.full(len(X), 0.03, dtype=np.float32)
    ground = (np.floor(X / 3.0) % len(Ground)).astype(np.uint8)
    whole = ground_albedo(city, NOISE, ground, X, Y, footprint_m)
    part = np.nonzero((X > 224.0) & (Y > 61.0))[0][::11]
    alone = ground_albedo(city, NOISE, ground[part], X[part], Y[part], footprint_m[part])
    np.testing.assert_array_equal(alone, whole[part])

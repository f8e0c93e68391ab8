import colorsys
from functools import partial

import numpy as np
import pytest

from sparseoccvla_ros.world.bodies import (
    buildings,
    machines,
    obstacles,
    people,
    plants,
    street_furniture,
    two_wheelers,
    vehicles,
)
from sparseoccvla_ros.world.bodies.colours import COLOURS
from sparseoccvla_ros.world.bodies.solids import beam, moved, wheel
from sparseoccvla_ros.world.bodies.thing import (
    BARRIER,
    BICYCLE,
    BUS,
    CAR,
    CONSTRUCTION_VEHICLE,
    MANMADE,
    MOTORCYCLE,
    OTHERS,
    PEDESTRIAN,
    TRAFFIC_CONE,
    TRAILER,
    TRUCK,
    VEGETATION,
)

#: nuScenes category, Occ3D class, and about the least and greatest length, width and height in nuScenes.
AGENTS = {
    'car': (vehicles.car, 'vehicle.car', CAR, (3.5, 5.5), (1.6, 2.2), (1.3, 2.2)),
    'truck': (vehicles.truck, 'vehicle.truck', TRUCK, (5.0, 10.0), (1.9, 2.8), (2.2, 4.0)),
    'tractor': (vehicles.tractor, 'vehicle.truck', TRUCK, (5.0, 8.0), (2.2, 2.8), (2.8, 4.0)),
    'trailer': (vehicles.trailer, 'vehicle.trailer', TRAILER, (8.0, 14.0), (2.2, 3.0), (2.2, 4.2)),
    'bus': (vehicles.bus, 'vehicle.bus.rigid', BUS, (9.0, 13.0), (2.4, 3.0), (2.9, 3.9)),
    'bicycle': (
        partial(two_wheelers.bicycle, ridden=False),
        'vehicle.bicycle',
        BICYCLE,
        (1.5, 2.0),
        (0.4, 0.8),
        (0.9, 1.3),
    ),
    'cyclist': (
        partial(two_wheelers.bicycle, ridden=True),
        'vehicle.bicycle',
        BICYCLE,
        (1.5, 2.0),
        (0.4, 0.8),
        (1.5, 2.0),
    ),
    'motorcycle': (
        partial(two_wheelers.motorcycle, ridden=False),
        'vehicle.motorcycle',
        MOTORCYCLE,
        (1.8, 2.4),
        (0.6, 1.0),
        (0.9, 1.4),
    ),
    'motorcyclist': (
        partial(two_wheelers.motorcycle, ridden=True),
        'vehicle.motorcycle',
        MOTORCYCLE,
        (1.8, 2.4),
        (0.6, 1.0),
        (1.4, 2.0),
    ),
    'excavator': (machines.excavator, 'vehicle.construction', CONSTRUCTION_VEHICLE, (5.0, 9.0), (2.0, 3.2), (2.6, 4.3)),
    'wheel_loader': (
        machines.wheel_loader,
        'vehicle.construction',
        CONSTRUCTION_VEHICLE,
        (5.0, 8.0),
        (2.0, 3.2),
        (2.6, 3.8),
    ),
    'adult': (people.pedestrian, 'human.pedestrian.adult', PEDESTRIAN, (0.25, 1.1), (0.4, 0.9), (1.5, 2.0)),
    'child': (people.child, 'human.pedestrian.child', PEDESTRIAN, (0.25, 0.9), (0.25, 0.7), (1.0, 1.45)),
    'worker': (
        people.construction_worker,
        'human.pedestrian.construction_worker',
        PEDESTRIAN,
        (0.25, 1.0),
        (0.4, 0.8),
        (1.6, 2.0),
    ),
    'dog': (people.dog, 'animal', OTHERS, (0.6, 1.6), (0.15, 0.5), (0.5, 1.0)),
    'barrier': (obstacles.barrier, 'movable_object.barrier', BARRIER, (1.5, 2.0), (0.4, 0.7), (0.8, 1.2)),
    'cone': (obstacles.traffic_cone, 'movable_object.trafficcone', TRAFFIC_CONE, (0.35, 0.6), (0.35, 0.6), (0.75, 1.1)),
    'bin': (obstacles.wheelie_bin, 'movable_object.pushable_pullable', OTHERS, (0.5, 0.9), (0.5, 0.9), (0.9, 1.4)),
    'cart': (obstacles.hand_cart, 'movable_object.pushable_pullable', OTHERS, (0.8, 1.6), (0.5, 1.0), (0.9, 1.3)),
    'debris': (obstacles.debris, 'movable_object.debris', OTHERS, (0.25, 1.6), (0.2, 1.6), (0.1, 0.6)),
}
SCENERY = {
    'house': (partial(buildings.building, length=12.0, depth=9.0, height=6.0, colour=(0.6, 0.5, 0.4)), MANMADE),
    'block': (partial(buildings.building, length=20.0, depth=12.0, height=24.0, colour=(0.6, 0.5, 0.4)), MANMADE),
    'kiosk': (buildings.kiosk, MANMADE),
    'wall': (partial(buildings.wall, length=7.0), MANMADE),
    'fence': (partial(buildings.fence, length=7.0), MANMADE),
    'lamp': (lambda rng: street_furniture.lamp(1.0), MANMADE),
    'crossing_sign': (lambda rng: street_furniture.crossing_sign(), MANMADE),
    'speed_sign': (street_furniture.speed_sign, MANMADE),
    'traffic_light': (street_furniture.traffic_light, MANMADE),
    'pole': (street_furniture.pole, MANMADE),
    'bollard': (street_furniture.bollard, MANMADE),
    'bench': (street_furniture.bench, MANMADE),
    'bus_shelter': (street_furniture.bus_shelter, MANMADE),
    'tree': (partial(plants.tree, clear_m=2.5), VEGETATION),
    'bush': (plants.bush, VEGETATION),
    'hedge': (partial(plants.hedge, length=8.0), VEGETATION),
    'thicket': (partial(plants.thicket, length=20.0), VEGETATION),
}
DRAWS = 12


def bounds(shape):
    low = np.min([solid.low_m for solid in shape.solids], axis=0)
    high = np.max([solid.high_m for solid in shape.solids], axis=0)
    return low, high


@pytest.mark.parametrize('make', [entry[0] for entry in (AGENTS | SCENERY).values()], ids=list(AGENTS | SCENERY))
def test_solids_fill_the_declared_box_and_stand_on_the_ground(make):
    for seed in range(DRAWS):
        shape = make(np.random.default_rng(seed))
        low, high = bounds(shape)
        half = 0.5 * np.array(shape.size_m[:2])
        assert (low[:2] >= -half - 0.01).all()
        assert (high[:2] <= half + 0.01).all()
        assert low[2] == pytest.approx(0.0, abs=0.01)
        assert high[2] == pytest.approx(shape.size_m[2], abs=0.01)
        for solid in shape.solids:
            # A flattened or inverted solid would be invisible.
            assert (solid.vertices_m @ solid.normals.T - solid.offsets_m).max() < 1e-9
            assert (solid.high_m - solid.low_m).min() > 0.01


@pytest.mark.parametrize('name', AGENTS)
def test_agents_have_the_class_the_category_and_the_size_of_real_ones(name):
    make, category, label, *ranges = AGENTS[name]
    for seed in range(DRAWS):
        shape = make(np.random.default_rng(seed))
        assert (shape.category, shape.label) == (category, label)
        for size, (least, greatest) in zip(shape.size_m, ranges, strict=True):
            assert least <= size <= greatest
        # The box is tight on all sides.
        low, high = bounds(shape)
        np.testing.assert_allclose(high[:2] - low[:2], shape.size_m[:2], atol=0.01)


@pytest.mark.parametrize('name', SCENERY)
def test_scenery_has_its_class_and_no_box(name):
    make, label = SCENERY[name]
    shape = make(np.random.default_rng(0))
    assert (shape.label, shape.category) == (label, '')


def test_every_class_of_bodies_has_a_shape():
    labels = {entry[2] for entry in AGENTS.values()} | {entry[1] for entry in SCENERY.values()}
    assert labels == set(range(11)) | {MANMADE, VEGETATION}


def word_for(colour):
    """The word that somebody would use, by hue, saturation and value."""
    hue, saturation, value = colorsys.rgb_to_hsv(*np.clip(colour, 0.0, 1.0))
    if saturation < 0.25:
        return 'white' if value > 0.7 else 'black' if value < 0.12 else 'grey'
    if value < 0.45 and 0.03 < hue < 0.12:
        return 'brown'
    return next(
        word
        for limit, word in (
            (0.04, 'red'),
            (0.10, ''),
            (0.18, 'yellow'),
            (0.45, 'green'),
            (0.72, 'blue'),
            (0.92, ''),
            (1.1, 'red'),
        )
        if hue < limit
    )


def test_the_words_for_colours_fit_them():
    assert {word: word_for(colour) for word, colour in COLOURS.items()} == {word: word for word in COLOURS}


@pytest.mark.parametrize(
    'name', ['car', 'truck', 'tractor', 'trailer', 'bus', 'adult', 'child', 'motorcycle', 'bicycle']
)
def test_the_paint_is_the_colour_of_most_of_the_body(name):
    words = set()
    for seed in range(40):
        shape = AGENTS[name][0](np.random.default_rng(seed))
        areas = {}
        for solid in shape.solids:
            word = word_for(solid.colour)
            areas[word] = areas.get(word, 0.0) + float(np.prod(solid.high_m[1:] - solid.low_m[1:]))
        assert shape.paint in areas
        if name in ('car', 'truck', 'bus'):
            assert shape.paint == max(areas, key=areas.get)
        words.add(shape.paint)
    assert len(words) >= 4


def test_a_shape_is_a_function_of_the_generator():
    for make in [entry[0] for entry in AGENTS.values()]:
        first, again = make(np.random.default_rng(3)), make(np.random.default_rng(3))
        assert (first.size_m, first.paint) == (again.size_m, again.paint)
        for one, other in zip(first.solids, again.solids, strict=True):
            np.testing.assert_array_equal(one.vertices_m, other.vertices_m)
            np.testing.assert_array_equal(one.normals, other.normals)


def test_a_wheel_touches_the_ground_and_has_its_width():
    solid = wheel((1.0, 0.5, 0.35), 0.35, 0.1)
    np.testing.assert_allclose(solid.low_m[1:], (0.45, 0.0), atol=1e-12)
    np.testing.assert_allclose(solid.high_m[1:], (0.55, 0.70), atol=1e-12)


def test_a_beam_joins_two_points():
    solid = beam((0.0, 0.0, 0.0), (3.0, 0.0, 4.0), (0.2, 0.2), (0.5, 0.5, 0.5))
    points = np.linspace((0.0, 0.0, 0.0), (3.0, 0.0, 4.0), 9)
    assert (points @ solid.normals.T <= solid.offsets_m + 1e-6).all()
    assert len(solid.normals) == 6
    # 5 m long, 0.2 m square, and no more.
    rng = np.random.default_rng(0).uniform(solid.low_m, solid.high_m, (200_000, 3))
    volume = (rng @ solid.normals.T <= solid.offsets_m).all(axis=1).mean() * np.prod(solid.high_m - solid.low_m)
    assert volume == pytest.approx(5.0 * 0.2 * 0.2, rel=0.05)


def test_a_moved_solid_keeps_its_form():
    solid = wheel((0.0, 0.0, 0.35), 0.35, 0.1)
    there = moved(solid, (2.0, -1.0, 0.5))
    np.testing.assert_allclose(there.low_m - solid.low_m, (2.0, -1.0, 0.5))
    np.testing.assert_allclose(
        (there.vertices_m @ there.normals.T - there.offsets_m),
        (solid.vertices_m @ solid.normals.T - solid.offsets_m),
        atol=1e-12,
    )

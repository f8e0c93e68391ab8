"""Directions, and phrases that fit one object only."""

import numpy as np
import pytest

from sparseoccvla_ros.world.bodies.thing import PEDESTRIAN, TRUCK
from sparseoccvla_ros.world.questions.refer import references
from sparseoccvla_ros.world.questions.speech import (
    listing,
    metres,
    number_of,
    place,
    sector,
    sectors_near,
    with_article,
)
from sparseoccvla_ros.world.questions.view import View, state_of


def texts(view: View, index: int, tells: str) -> set[str]:
    """All phrases of the object that tell exactly this."""
    wanted = frozenset(tells.split())
    return {
        item.text
        for seed in range(20)
        for item in references(view, index, np.random.default_rng(seed))
        if item.tells == wanted
    }


@pytest.mark.parametrize(
    ('position_m', 'name'),
    [
        ((10.0, 0.0), 'ahead'),
        ((10.0, 10.0), 'front left'),
        ((0.0, 10.0), 'left'),
        ((-10.0, 10.0), 'rear left'),
        ((-10.0, 0.1), 'behind'),
        ((-10.0, -0.1), 'behind'),
        ((-10.0, -10.0), 'rear right'),
        ((0.0, -10.0), 'right'),
        ((10.0, -10.0), 'front right'),
        ((10.0, 3.0), 'ahead'),  # 16.7 degrees
        ((10.0, 3.5), None),  # 19.3: the border is at 22.5, the margin 5
        ((10.0, 4.7), None),  # 25.2
        ((10.0, 5.3), 'front left'),  # 27.9
        ((2.0, 0.0), None),  # beside the ego's own middle
    ],
)
def test_sectors(position_m, name):
    assert sector(np.array(position_m)) == name


def test_a_border_belongs_to_both_sectors():
    assert set(sectors_near(np.array([10.0, 4.14]))) == {'ahead', 'front left'}


def test_words_and_numbers():
    assert place(np.array([12.34, -0.04])) == '(12.3, 0.0)'
    assert metres(8.25001) == '8.3 m'
    assert [number_of(1, 'bus'), number_of(3, 'bus'), number_of(2, 'person on foot')] == [
        '1 bus',
        '3 buses',
        '2 people on foot',
    ]
    assert [with_article('animal'), with_article('bus')] == ['an animal', 'a bus']
    assert listing(['a', 'b', 'c']) == 'a, b and c'


def test_the_only_car_needs_no_more_words(make_facts, make_object):
    assert texts(View(make_facts(make_object((10.0, 0.0)))), 0, '') == {'the car'}


@pytest.mark.parametrize(
    ('paint', 'pixels', 'other_px', 'look', 'expected'),
    [
        ('red', 200, 200, {}, {'the red car'}),
        ('grey', 200, 200, {}, set()),  # as the other one
        ('', 200, 200, {}, set()),
        ('red', 12, 200, {}, set()),  # too small for a colour
        ('red', 200, 200, {'time_of_day': 'night'}, set()),
    ],
)
def test_paint(make_facts, make_object, paint, pixels, other_px, look, expected):
    pair = make_object((10.0, 0.0), paint=paint, pixels=pixels), make_object((-30.0, 0.0), pixels=other_px)
    assert texts(View(make_facts(*pair, **look)), 0, 'paint') == expected


def test_a_car_without_a_colour_word_could_be_the_red_one(make_facts, make_object):
    pair = make_object((10.0, 0.0), paint='red'), make_object((-10.0, 0.0), paint='')
    assert texts(View(make_facts(*pair)), 0, 'paint') == set()


def test_pedestrians_are_dressed_not_painted(make_facts, make_object):
    walkers = [
        make_object(place_m, paint=paint, label=PEDESTRIAN, category='human.pedestrian.adult')
        for place_m, paint in (((10.0, 0.0), 'red'), ((5.0, 5.0), 'blue'))
    ]
    assert texts(View(make_facts(*walkers)), 0, 'paint') == {'the pedestrian in red', 'the person on foot in red'}


def test_direction_needs_a_sector_of_its_own(make_facts, make_object):
    cars = make_object((10.0, 0.0)), make_object((10.0, 10.0)), make_object((20.0, 20.0)), make_object((-20.0, 0.0))
    view = View(make_facts(*cars))
    assert 'the car straight ahead' in texts(view, 0, 'sector')
    assert texts(view, 1, 'sector') == set()
    # What is barely visible near the sector's border counts too, and what is far away; what nobody can see does not.
    for pixels, known in ((5, False), (3, True)):
        view = View(make_facts(*cars[:2], make_object((30.0, 10.0), pixels=pixels)))
        assert bool(texts(view, 0, 'sector')) == known


def test_nearest_distance_position_and_parked(make_facts, make_object):
    cars = (
        make_object((10.0, 0.0), attribute='vehicle.parked'),
        make_object((0.0, 12.0)),
        make_object((0.0, -12.5)),
        make_object((-40.0, 0.0), velocity=(3.0, 0.0)),
    )
    view = View(make_facts(*cars))
    assert texts(view, 0, 'nearest') == {'the nearest car', 'the closest car'}
    assert texts(view, 1, 'nearest') == set()
    assert texts(view, 0, 'distance') == {'the car 10.0 m from your rear axle'}
    assert texts(view, 1, 'distance') == set()
    assert texts(view, 1, 'position') == {'the car at (0.0, 12.0)'}
    assert texts(view, 0, 'state') == {'the parked car'}
    assert 3 not in view.visible


@pytest.mark.parametrize(
    ('fields', 'state'),
    [
        ({}, 'standing'),
        ({'attribute': 'vehicle.parked'}, 'parked'),
        ({'velocity': (0.3, 0.0)}, None),
        ({'velocity': (0.0, -0.6)}, 'moving'),
        ({'attribute': ''}, None),
        ({'attribute': 'cycle.without_rider', 'label': TRUCK}, 'parked'),
    ],
)
def test_states(make_object, fields, state):
    assert state_of(make_object((10.0, 0.0), **fields)) == state

"""Answers worked out by hand, and what must not be asked."""

import re
from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.world.bodies.thing import BUS, PEDESTRIAN
from sparseoccvla_ros.world.labels.facts import Command, Option, Outcome, Reason, SeenSignal
from sparseoccvla_ros.world.questions.count import count_drafts
from sparseoccvla_ros.world.questions.counterfactual import counterfactual_drafts
from sparseoccvla_ros.world.questions.describe import describe, road_drafts, surroundings_drafts
from sparseoccvla_ros.world.questions.distance import distance_drafts, nearest_drafts, order_drafts, relative_drafts
from sparseoccvla_ros.world.questions.ground import (
    camera_drafts,
    colour_drafts,
    identify_drafts,
    locate_drafts,
    surface_drafts,
)
from sparseoccvla_ros.world.questions.motion import lamps_drafts, light_drafts, light_or_none_drafts, motion_drafts
from sparseoccvla_ros.world.questions.plan import attention_drafts, behaviour_drafts, plan_drafts, trajectory_drafts
from sparseoccvla_ros.world.questions.predict import along_path, future_drafts, path_drafts
from sparseoccvla_ros.world.questions.view import View

BUS_FIELDS = {'label': BUS, 'category': 'vehicle.bus.rigid', 'paint': 'red'}
WALKER = {'label': PEDESTRIAN, 'category': 'human.pedestrian.adult', 'paint': 'blue', 'attribute': 'pedestrian.moving'}


def answers(drafter, facts) -> dict[str, str]:
    """Answers by key."""
    return {draft.key: draft.answer for draft in drafter(View(facts), np.random.default_rng(0))}


def test_grounding(make_facts, make_object):
    facts = make_facts(make_object((12.3, -3.14), **BUS_FIELDS), make_object((-8.0, 0.0), attribute='vehicle.parked'))
    assert answers(identify_drafts, facts) == {'bus': 'A standing red bus.', 'car': 'A parked grey car.'}
    where = answers(locate_drafts, facts)
    assert where['ahead'].endswith('bus is at (12.3, -3.1).')
    assert where['behind'].endswith('car is at (-8.0, 0.0).')
    assert answers(camera_drafts, facts) == {'CAM_FRONT': 'The front camera.', 'CAM_BACK': 'The back camera.'}
    assert answers(colour_drafts, facts)['red'].endswith('is red.')
    assert answers(surface_drafts, facts)['parked driveable_surface'].endswith(' is parked on the road.')


def test_two_cameras_that_show_as_much_are_no_answer(make_facts, make_object):
    item = make_object((12.0, 0.0), visible_px={'CAM_FRONT': 100, 'CAM_FRONT_LEFT': 60})
    assert answers(camera_drafts, make_facts(item)) == {}


@pytest.mark.parametrize(('place_m', 'pixels'), [((12.0, 0.0), 9), ((25.1, 0.0), 200)])
def test_what_is_small_or_far_is_not_asked_about(make_facts, make_object, place_m, pixels):
    facts = make_facts(make_object(place_m, pixels=pixels))
    for drafter in (identify_drafts, locate_drafts, distance_drafts, nearest_drafts, motion_drafts, colour_drafts):
        assert answers(drafter, facts) == {}


def test_counts(make_facts, make_object):
    facts = make_facts(
        *(make_object((5.0 + 2.0 * n, 5.0 + 2.0 * n)) for n in range(3)), make_object((-8.0, 0.0), **WALKER)
    )
    drafts = count_drafts(View(facts), np.random.default_rng(0))
    found = {(draft.slots['things'], draft.slots['region']): draft.answer for draft in drafts}
    # Cars at 7.1, 9.9 and 12.7 m; one within 1 m of the border at 10 m.
    assert ('cars', 'within 10 m of your rear axle') not in found
    assert found['cars', 'within 15 m of your rear axle'] == '3 cars.'
    assert found['pedestrians', 'within 25 m of your rear axle'] == '1 pedestrian.'
    assert found['buses', 'within 20 m of your rear axle'] == '0 buses.'


def test_more_than_four_are_not_counted(make_facts, make_object):
    facts = make_facts(*(make_object((4.0 + 3.0 * n, 0.0)) for n in range(5)))
    assert all(
        draft.slots['things'] != 'cars' or draft.slots['region'] != 'within 25 m of your rear axle'
        for draft in count_drafts(View(facts), np.random.default_rng(0))
    )


@pytest.mark.parametrize(('pixels', 'asked'), [(3, True), (4, False), (9, False), (10, True)])
def test_nothing_is_counted_where_something_is_barely_visible(make_facts, make_object, pixels, asked):
    facts = make_facts(make_object((8.0, 0.0)), make_object((12.0, 0.0), pixels=pixels))
    drafts = count_drafts(View(facts), np.random.default_rng(0))
    assert asked == any(draft.slots['region'] == 'within 25 m of your rear axle' for draft in drafts)


def test_surroundings(make_facts, make_object):
    facts = make_facts(make_object((10.0, 0.0)), make_object((14.0, 0.0)), make_object((18.0, 0.0), **BUS_FIELDS))
    found = answers(surroundings_drafts, facts)
    assert found['1 bus 2 car'] == '2 cars and a red bus.'
    assert found['nothing'] == 'No road user and no movable object.'


def test_distances(make_facts, make_object):
    facts = make_facts(
        make_object((3.0, 4.0)), make_object((10.0, 0.0), **BUS_FIELDS), make_object((0.0, 15.0), **WALKER)
    )
    found = answers(distance_drafts, facts)
    assert re.fullmatch(r'The middle of the .*car.* is 5\.0 m from your rear axle\.', found['below 6'])
    assert answers(nearest_drafts, facts)['car'] == 'The car at (3.0, 4.0), 5.0 m from your rear axle.'
    (draft,) = order_drafts(View(facts), np.random.default_rng(0))
    assert [index for _, index in draft.mentions] == [0, 1, 2]
    asked = sorted(draft.mentions, key=lambda mention: draft.slots['list'].index(mention[0]))
    ordinals = ('first', 'second', 'third')
    assert draft.key == ' '.join(ordinals[asked.index(mention)] for mention in draft.mentions)


@pytest.mark.parametrize(('gap_m', 'asked'), [(1.4, False), (1.6, True)])
def test_distances_that_are_alike_are_not_compared(make_facts, make_object, gap_m, asked):
    facts = make_facts(make_object((10.0, 0.0)), make_object((0.0, 10.0 + gap_m), **BUS_FIELDS))
    assert (
        'car'
        in {draft.key for draft in nearest_drafts(View(facts), np.random.default_rng(0)) if draft.slots['region'] == ''}
    ) == asked


def test_relative(make_facts, make_object):
    found = answers(relative_drafts, make_facts(make_object((5.0, 5.0)), make_object((15.2, -5.3), **BUS_FIELDS)))
    assert found['farther forward, farther right'].endswith('is 10.2 m farther forward and 10.3 m farther right.')
    found = answers(relative_drafts, make_facts(make_object((5.0, 5.0)), make_object((15.2, 5.5), **BUS_FIELDS)))
    assert found['farther forward, in line'].endswith('is 10.2 m farther forward.')
    # 1 m across is neither in line nor clearly beside.
    assert answers(relative_drafts, make_facts(make_object((5.0, 5.0)), make_object((15.2, 6.0), **BUS_FIELDS))) == {}


@pytest.mark.parametrize(
    ('fields', 'key', 'words'),
    [
        ({}, 'standing', 'is standing.'),
        ({'attribute': 'vehicle.parked'}, 'parked', 'is parked.'),
        ({'velocity': (5.0, 0.5)}, 'same', 'is driving in your direction.'),
        ({'velocity': (-5.0, 0.0)}, 'opposite', 'is driving in the opposite direction.'),
        ({'velocity': (0.0, 1.0), **WALKER}, 'to the left', 'is walking from right to left.'),
        ({'velocity': (0.0, -1.0), **WALKER}, 'to the right', 'is walking from left to right.'),
        ({'velocity': (3.0, 3.0)}, None, ''),
        ({'velocity': (0.3, 0.0)}, None, ''),
    ],
)
def test_motion(make_facts, make_object, fields, key, words):
    found = answers(motion_drafts, make_facts(make_object((10.0, 0.0), **fields)))
    assert list(found) == ([] if key is None else [key])
    assert all(answer.endswith(words) for answer in found.values())


@pytest.mark.parametrize(
    ('yaw_rate_radps', 'velocity', 'key'),
    [
        (0.4, (4.0, 0.0), 'turning left'),
        (-0.2, (4.0, 0.0), 'turning right'),
        (0.1, (4.0, 0.0), None),
        (0.06, (4.0, 0.0), 'same'),
        (0.4, (0.9, 0.0), None),
    ],
)
def test_turning_is_about_now(make_facts, make_object, yaw_rate_radps, velocity, key):
    # What it does next, a left turn, plays no part.
    angles = 0.4 * np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    circle_m = np.array([10.0, 3.0]) + 10.0 * np.stack([np.sin(angles), 1.0 - np.cos(angles)], axis=1)
    item = make_object((10.0, 3.0), velocity=velocity, future_m=circle_m, yaw_rate_radps=yaw_rate_radps)
    assert list(answers(motion_drafts, make_facts(item))) == ([] if key is None else [key])


def test_lamps_are_read_from_behind_only(make_facts, make_object):
    ahead = make_object((10.0, 0.0), braking=True, indicator='left')
    assert answers(lamps_drafts, make_facts(ahead))['braking indicating left'].endswith(
        'is braking and indicating left.'
    )
    assert answers(lamps_drafts, make_facts(replace(ahead, heading_rad=np.pi))) == {}
    assert answers(lamps_drafts, make_facts(replace(ahead, braking=False, indicator='')))['none'].endswith(
        'is neither braking nor indicating.'
    )


def signal(state: str, ahead_m: float, pixels: int = 30) -> SeenSignal:
    return SeenSignal(
        state,
        np.array([ahead_m, 2.0]),
        {'CAM_FRONT': pixels},
        {'CAM_FRONT': (800.0, 300.0)},
        {'CAM_FRONT': (790.0, 280.0, 810.0, 320.0)},
    )


def test_traffic_light(make_facts):
    assert answers(light_drafts, make_facts()) == {}
    assert answers(light_or_none_drafts, make_facts()) == {'none': 'No traffic light for you is in sight.'}
    red = make_facts(signals=(signal('red', 20.0),))
    for drafter in (light_drafts, light_or_none_drafts):
        assert answers(drafter, red) == {'red, far': 'The traffic light is red, 20.1 m from your rear axle.'}
    for signals in ((signal('red', 20.0, 6),), (signal('red', 39.9),), (signal('red', 20.0), signal('green', 22.0))):
        assert answers(light_drafts, make_facts(signals=signals)) == {}
        assert answers(light_or_none_drafts, make_facts(signals=signals)) == {}


@pytest.mark.parametrize(('junction_m', 'asked'), [(None, True), (5.1, True), (4.9, False), (0.0, False)])
def test_at_a_junction_nobody_says_that_there_is_no_light(make_facts, junction_m, asked):
    assert bool(answers(light_or_none_drafts, make_facts(junction_m=junction_m))) == asked


def test_future(make_facts, make_object):
    view = View(make_facts(make_object((10.0, 0.0), velocity=(2.0, 0.0))))
    drafts = [draft for seed in range(20) for draft in future_drafts(view, np.random.default_rng(seed))]
    found = {draft.slots['time']: draft.answer.split(' will be at ')[1] for draft in drafts}
    assert found == {'1 s': '(12.0, 0.0).', '2 s': '(14.0, 0.0).', '3 s': '(16.0, 0.0).'}


@pytest.mark.parametrize(
    ('place_m', 'velocity', 'key', 'words'),
    [
        (
            (12.0, 4.0),
            (0.0, -2.5),
            'yes, crosses from left to right',
            'will cross your path from left to right in 1.6 s.',
        ),
        (
            (12.0, -4.0),
            (0.0, 2.5),
            'yes, crosses from right to left',
            'will cross your path from right to left in 1.6 s.',
        ),
        ((12.0, 5.0), (0.0, 0.0), 'no, left away', 'will stay to the left of your path, 5.0 m from it at the closest.'),
        (
            (12.0, -3.0),
            (0.0, -2.0),
            'no, right near',
            'will stay to the right of your path, 3.0 m from it at the closest.',
        ),
        ((12.0, 0.3), (3.0, 0.0), 'yes, moves on the path', 'will stay on your path, moving ahead of you.'),
        ((12.0, 0.3), (0.0, 0.0), 'yes, stays on the path', 'will stay where it is, on your path.'),
        ((15.0, 0.3), (8.0, 0.0), 'yes, moves on the path', 'will stay on your path, moving ahead of you.'),
        ((12.0, 0.3), (0.0, 1.4), 'yes, leaves to the left', 'is on your path and will leave it to the left.'),
        ((12.0, -4.0), (0.0, 1.2), 'yes, comes from the right', 'will come onto your path from the right.'),
        ((60.0, 5.0), (0.0, 0.0), None, ''),  # beyond what the path is known for
        ((12.0, 1.5), (0.0, 0.0), None, ''),  # neither on the path nor clearly beside it
        ((12.0, 4.0), (0.0, -1.7), None, ''),  # gets 1.1 m to the other side
        ((-12.0, 5.0), (0.0, 0.0), None, ''),
    ],
)
def test_path(make_facts, make_object, place_m, velocity, key, words):
    found = answers(path_drafts, make_facts(make_object(place_m, velocity=velocity)))
    assert list(found) == ([] if key is None else [key])
    assert all(answer.endswith(words) for answer in found.values())


STANDS = {'speed_mps': 0.0, 'future_m': np.zeros((6, 2)), 'future_speed_mps': np.zeros(6)}


def test_crossing_before_an_ego_that_waits(make_facts, make_object):
    walker = make_object((8.0, 3.0), velocity=(0.0, -1.5), **WALKER)
    assert list(answers(path_drafts, make_facts(walker, ego=STANDS))) == ['yes, crosses from left to right']
    for changes in ({'bend': 'left'}, {'ego': {**STANDS, 'command': Command.LEFT}}):
        assert answers(path_drafts, make_facts(walker, **{'ego': STANDS, **changes})) == {}


def test_a_leader_in_a_bend_stays_on_the_path(make_facts, make_object):
    # Both drive at 8 m/s on a circle of 50 m to the left, 15 m apart.
    times_s = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])

    def circle(arc_m: np.ndarray) -> np.ndarray:
        return 50.0 * np.stack([np.sin(arc_m / 50.0), 1.0 - np.cos(arc_m / 50.0)], axis=-1)

    leader = make_object(
        tuple(circle(np.array(15.0))),
        velocity=(8.0 * np.cos(0.3), 8.0 * np.sin(0.3)),
        future_m=circle(15.0 + 8.0 * times_s),
    )
    ego = {'future_m': circle(8.0 * times_s), 'future_heading_rad': 8.0 * times_s / 50.0}
    assert list(answers(path_drafts, make_facts(leader, bend='left', ego=ego))) == ['yes, moves on the path']


def test_places_along_a_bent_path():
    path_m = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    assert along_path(path_m, np.array([4.0, 3.0])) == pytest.approx((4.0, 3.0))
    assert along_path(path_m, np.array([12.0, 5.0])) == pytest.approx((15.0, -2.0))


@pytest.mark.parametrize(
    ('outcome', 'key', 'answer'),
    [
        (Outcome('driveable_surface', None, False, None), 'safe', 'You would stay on the road and touch nobody.'),
        (Outcome('sidewalk', None, False, 1.2), 'sidewalk', 'You would leave the road onto the sidewalk after 1.2 s.'),
        (Outcome('driveable_surface', 0, False, 0.9), 'hit car', 'You would hit the car at (8.0, 3.0) after 0.9 s.'),
        (
            Outcome('sidewalk', 0, False, 0.9),
            'sidewalk hit car',
            'You would leave the road onto the sidewalk after 0.9 s and then hit the car at (8.0, 3.0).',
        ),
        (
            Outcome('terrain', None, True, 0.9),
            'terrain hit',
            'You would leave the road onto the grass or soil after 0.9 s and then hit an obstacle.',
        ),
        (Outcome('driveable_surface', None, True, 0.9), None, ''),  # somebody hidden
        (Outcome('driveable_surface', 1, False, 0.9), None, ''),  # hardly visible
    ],
)
def test_counterfactual(make_facts, make_object, outcome, key, answer):
    facts = make_facts(make_object((8.0, 3.0)), make_object((20.0, 0.0), pixels=5), outcomes={Option.LEFT: outcome})
    assert answers(counterfactual_drafts, facts) == ({} if key is None else {key: answer})


RED_LIGHT = Outcome('driveable_surface', None, False, 0.8, runs_red=True)


@pytest.mark.parametrize(
    ('outcome', 'key', 'answer'),
    [
        (RED_LIGHT, 'red light', 'You would run a red light after 0.8 s.'),
        (
            replace(RED_LIGHT, ends_on='sidewalk', hits=0),
            'red light sidewalk hit car',
            'You would run a red light after 0.8 s, then leave the road onto the sidewalk, then hit the car at '
            '(8.0, 3.0).',
        ),
        (replace(RED_LIGHT, hits_other=True), None, ''),
        (replace(RED_LIGHT, runs_red=False, light_unsure=True), None, ''),
    ],
)
def test_running_a_red_light(make_facts, make_object, outcome, key, answer):
    facts = make_facts(make_object((8.0, 3.0)), signals=(signal('red', 12.0),), outcomes={Option.KEEP: outcome})
    assert answers(counterfactual_drafts, facts) == ({} if key is None else {key: answer})


@pytest.mark.parametrize('signals', [(), (('green', 12.0, 30),), (('red', 12.0, 9),)])
def test_a_red_light_that_nobody_can_see_yet_is_not_asked_about(make_facts, signals):
    facts = make_facts(signals=tuple(signal(*each) for each in signals), outcomes={Option.KEEP: RED_LIGHT})
    assert answers(counterfactual_drafts, facts) == {}


SLOWING = {'future_speed_mps': np.array([7.0, 6.0, 5.0, 4.0, 3.0, 2.0])}
STOPPING = {'future_speed_mps': np.array([6.0, 4.0, 2.0, 0.0, 0.0, 0.0])}
LEFT = {'command': Command.LEFT, 'future_heading_rad': np.array([0.1, 0.2, 0.4, 0.6, 0.8, 1.0])}


@pytest.mark.parametrize(
    ('ego', 'answer'),
    [
        ({}, 'Keep your speed, because the road ahead is free.'),
        (LEFT, 'Keep your speed and turn left, because the road ahead is free.'),
        ({**SLOWING, 'reason': Reason.BEND, **LEFT}, 'Slow down and turn left, because there is a bend or turn ahead.'),
        (
            {**STOPPING, 'reason': Reason.RED_LIGHT},
            'Brake to a stop, because the traffic light 20.1 m from your rear axle is red.',
        ),
        (
            {**SLOWING, 'reason': Reason.LEADER, 'reason_object': 0},
            'Slow down, because the car at (12.0, 0.0) is ahead of you.',
        ),
        ({**SLOWING, 'reason': Reason.LEADER, 'reason_object': 1}, None),  # hardly visible
        ({**SLOWING, 'reason': Reason.LEADER}, None),
        (SLOWING, None),  # a free road is no reason to brake
        ({'future_speed_mps': np.full(6, 7.2)}, None),  # neither the same speed nor clearly less
    ],
)
def test_plan(make_facts, make_object, ego, answer):
    objects = make_object((12.0, 0.0)), make_object((20.0, 0.0), pixels=5)
    found = answers(plan_drafts, make_facts(*objects, signals=(signal('red', 20.0),), ego=ego))
    assert list(found.values()) == ([] if answer is None else [answer])


@pytest.mark.parametrize('signals', [(), (('red', 26.0, 30),), (('red', 20.0, 9),), (('green', 20.0, 30),)])
def test_a_red_light_that_no_camera_shows_well_is_no_reason(make_facts, signals):
    facts = make_facts(signals=tuple(signal(*each) for each in signals), ego={**STOPPING, 'reason': Reason.RED_LIGHT})
    assert answers(plan_drafts, facts) == {}


@pytest.mark.parametrize(
    ('ego', 'key', 'answer'),
    [
        ({}, 'free road', 'Nothing in particular: the road ahead is free.'),
        (
            {'reason': Reason.RED_LIGHT},
            'red traffic light',
            'The traffic light 20.1 m from your rear axle, which is red.',
        ),
        ({'reason': Reason.LEADER, 'reason_object': 0}, 'car', 'The car at (12.0, 0.0), which is ahead of you.'),
        (
            {'reason': Reason.PEDESTRIAN, 'reason_object': 1},
            'pedestrian',
            'The pedestrian at (9.0, 4.0), who is on or at the crossing.',
        ),
    ],
)
def test_attention(make_facts, make_object, ego, key, answer):
    objects = make_object((12.0, 0.0)), make_object((9.0, 4.0), **WALKER)
    facts = make_facts(*objects, signals=(signal('red', 20.0),), ego=ego)
    assert answers(attention_drafts, facts) == {key: answer}


def test_behaviour_and_trajectory(make_facts):
    facts = make_facts(ego={'speed_mps': 6.0})
    assert answers(behaviour_drafts, facts) == {
        'straight at a moderate speed': 'The ego car is going straight on, at a moderate speed.'
    }
    assert list(answers(trajectory_drafts, facts).values()) == [
        '[PT, (3.0, 0.0), (6.0, 0.0), (9.0, 0.0), (12.0, 0.0), (15.0, 0.0), (18.0, 0.0)].'
    ]
    assert answers(behaviour_drafts, make_facts(ego={'speed_mps': 0.0})) == {'standing': 'The ego car is not moving.'}
    assert answers(behaviour_drafts, make_facts(ego={'speed_mps': 8.0})) == {}  # between moderate and fast


def test_descriptions(make_facts, make_object):
    facts = make_facts(
        make_object((10.0, 0.0), paint='red'),
        make_object((-15.0, 0.0)),
        weather='rain',
        time_of_day='dusk',
        bend='left',
        crossing_m=12.0,
        lanes=2,
    )
    assert answers(road_drafts, facts) == {
        'left crossing': 'The road bends to the left, with a pedestrian crossing 12.0 m ahead of your front bumper.'
    }
    assert describe(facts) == (
        'It is dusk and it is raining. The road has 2 lanes each way and bends to the left, with a pedestrian crossing '
        '12.0 m ahead of your front bumper. In sight within 25 m of your rear axle: 2 cars. The nearest road user or '
        'movable object is a red car, 10.0 m from your rear axle ahead.'
    )

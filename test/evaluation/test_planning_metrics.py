"""Protocols by hand: where the box is, which steps count, how steps become averages."""

import numpy as np
import pytest

from sparseoccvla_ros.evaluation.planning_metrics import PROTOCOLS, PlanningScore, PlanningTruth
from sparseoccvla_ros.evaluation.planning_raster import CoarseGrid, FineGrid, FutureObjects

STRAIGHT = np.stack([5.0 * np.arange(1, 7), np.zeros(6)], axis=-1)
#: Middle of the ego box ahead of the ego frame's origin.
BOX_AHEAD_M = 1.485793
ROAD = np.ones((1000, 1000), dtype=np.uint8)


def objects(centre_m=(60.0, 60.0), *, steps=range(6), vehicle=True, seen_now=True, heading_rad=0.0, size_m=(4.0, 2.0)):
    """One box that stands still, at some of the steps."""
    valid = np.isin(np.arange(6), list(steps))[:, None]
    return FutureObjects(
        np.tile(np.array(centre_m, dtype=float), (6, 1, 1)),
        np.full((6, 1), heading_rad),
        valid,
        np.array([size_m[0]]),
        np.array([size_m[1]]),
        np.array([vehicle]),
        np.array([not vehicle]),
        np.array([seen_now]),
    )


def scored(truth, *paths):
    score = PlanningScore()
    for path in paths:
        score.add(truth, path)
    return score.result()


def test_the_driven_path_has_no_error():
    result = scored(PlanningTruth(STRAIGHT, objects(), ROAD), STRAIGHT)
    assert all(value == 0.0 for value in result.values())


def test_distances_up_to_and_at():
    plan = STRAIGHT + np.stack([np.zeros(6), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], axis=-1)
    result = scored(PlanningTruth(STRAIGHT, objects(), None), plan)
    for protocol in ('stp3', 'vad', 'omnidrive'):
        assert [result[f'{protocol}/l2/{t}s'] for t in (1, 2, 3)] == [1.5, 2.5, 3.5]
        assert result[f'{protocol}/l2/mean_1_2_3s'] == 2.5
    assert [result[f'uniad/l2/{t}s'] for t in (1, 2, 3)] == [2.0, 4.0, 6.0]
    assert result['uniad/l2/mean_1_2_3s'] == 4.0
    assert np.isnan(result['omnidrive/boundary/1s'])


def test_averages_are_over_samples():
    truth = PlanningTruth(STRAIGHT, objects(), None)
    result = scored(truth, STRAIGHT, STRAIGHT + np.array([0.0, 3.0]))
    assert result['stp3/l2/2s'] == result['uniad/l2/2s'] == 1.5


def test_one_hit_at_the_third_step_by_every_protocol():
    """A parked car 8 m to the left of the way is met at 1.5 s alone."""
    plan = STRAIGHT.copy()
    plan[2] = (15.0, 8.0)
    plan_box = (15.0 + BOX_AHEAD_M, 8.0)
    result = scored(PlanningTruth(STRAIGHT, objects(plan_box), None), plan)
    for protocol in ('stp3', 'vad'):
        assert [result[f'{protocol}/collision/{t}s'] for t in (1, 2, 3)] == [0.0, 1 / 4, 1 / 6]
    assert [result[f'uniad/collision/{t}s'] for t in (1, 2, 3)] == [0.0, 0.0, 0.0]
    assert [result[f'omnidrive/collision/{t}s'] for t in (1, 2, 3)] == [0.0, 1.0, 1.0]


def test_a_step_at_which_the_driven_box_collides_does_not_count():
    """The denominators stay."""
    here = (10.0 + BOX_AHEAD_M, 0.0)
    truth = PlanningTruth(STRAIGHT, objects(here, size_m=(1.0, 1.0)), None)
    for protocol in PROTOCOLS:
        assert truth.driven_into_objects(protocol).tolist() == [False, True, False, False, False, False]
    late = STRAIGHT - (5.0, 0.0)  # there one step later
    result = scored(truth, STRAIGHT, late)
    assert [result[f'stp3/collision/{t}s'] for t in (1, 2, 3)] == pytest.approx([0.0, 1 / 8, 1 / 12])
    assert [result[f'omnidrive/collision/{t}s'] for t in (1, 2, 3)] == [0.0, 0.5, 0.5]


def test_which_objects_count():
    """Pedestrians in stp3 and vad alone; who comes later is not there for vad and omnidrive."""
    on_the_way = (30.0 + BOX_AHEAD_M, 4.0)
    plan = STRAIGHT + np.array([0.0, 4.0])
    hit = {
        (vehicle, seen): {
            protocol
            for protocol in PROTOCOLS
            if scored(PlanningTruth(STRAIGHT, objects(on_the_way, vehicle=vehicle, seen_now=seen), None), plan)[
                f'{protocol}/collision/3s'
            ]
        }
        for vehicle in (True, False)
        for seen in (True, False)
    }
    assert hit == {
        (True, True): set(PROTOCOLS),
        (True, False): {'stp3', 'uniad'},
        (False, True): {'stp3', 'vad'},
        (False, False): {'stp3'},
    }


def test_an_object_counts_while_it_is_there():
    on_the_way = (30.0 + BOX_AHEAD_M, 4.0)
    plan = STRAIGHT + np.array([0.0, 4.0])
    gone = PlanningTruth(STRAIGHT, objects(on_the_way, steps=range(5)), None)
    assert all(not flags.any() for flags in gone.measure(plan).collisions.values())


def test_the_fine_box_turns_and_the_coarse_one_does_not():
    """Driving to the left: only a turned box reaches 3.3 m further left, only an unturned one 3 m ahead."""
    left = np.stack([np.zeros(6), 5.0 * np.arange(1, 7)], axis=-1)
    parked = np.stack([np.full(6, -30.0), np.zeros(6)], axis=-1)
    further_left, ahead = (0.0, 33.2), (3.2, 30.0)
    for place, by_fine, by_coarse in ((further_left, True, False), (ahead, False, True)):
        flags = PlanningTruth(parked, objects(place, size_m=(0.4, 0.4)), None).measure(left).collisions
        assert flags['omnidrive/collision'].tolist() == [False] * 5 + [by_fine]
        for protocol in ('stp3', 'vad', 'uniad'):
            assert flags[f'{protocol}/collision'].tolist() == [False] * 5 + [by_coarse]


def test_a_short_step_leaves_omnidrives_box_unturned():
    creeping = np.stack([np.zeros(6), 0.9 * np.arange(1, 7)], axis=-1)
    parked = np.stack([np.full(6, -30.0), np.zeros(6)], axis=-1)
    flags = PlanningTruth(parked, objects((3.2, 5.4), size_m=(0.4, 0.4)), None).measure(creeping).collisions
    assert flags['omnidrive/collision'][-1]


@pytest.mark.parametrize(('layout', 'margin_m'), [('vad', 1.25), ('stp3', 0.75)])
def test_the_coarse_box_is_where_it_should_be(layout, margin_m):
    """Against exact rectangles: what is clear by some cells is free, what overlaps by some is hit.

    VAD counts rows from 200 where there are 0..199: its box is one more cell off.
    """
    rng, grid = np.random.default_rng(3), CoarseGrid(layout)
    hits = 0
    for _ in range(300):
        path = rng.uniform(-40.0, 40.0, (6, 2))
        offset = rng.uniform(-5.0, 5.0, 2)
        box = objects(path[0] + (0.5, 0.0) + offset)
        clear_m = np.abs(offset) - (np.array([4.084, 1.85]) + np.array([4.0, 2.0])) / 2
        hit = grid.box_collides(path, grid.draw(box, np.array([True])))[0]
        hits += hit
        if clear_m.max() > margin_m:
            assert not hit
        if clear_m.max() < -margin_m:
            assert hit
    assert 50 < hits < 250


def test_the_centre_point_is_the_lidar():
    grid = CoarseGrid('stp3')
    raster = grid.draw(objects((10.0, 4.0)), np.array([True]))
    path = np.array([(10.0, 4.0), (10.0, 6.0), (13.0, 4.0), (11.5, 4.5), (-60.0, 0.0), (60.0, 4.0)])
    assert grid.centre_collides(path, raster).tolist() == [True, False, False, True, False, False]


def test_off_the_raster_the_border_counts():
    raster = np.zeros((6, 1000, 1000), dtype=np.uint8)
    raster[:, 500, 999] = 1
    far = np.tile([70.0, 0.0], (6, 1))
    far[0] = (70.0, 0.0)
    assert FineGrid().box_collides(far, raster).all()
    raster[:] = 0
    assert not FineGrid().box_collides(far, raster).any()


def test_positions_of_two_decimals_fall_as_in_float32():
    """2.4 m are 24 cells of 0.1 m, but 23.9999996 of the references' float32(0.1): the box ends one cell earlier."""
    raster = np.zeros((1, 1000, 1000), dtype=np.uint8)
    raster[0, 500, 534 + 24] = 1
    assert not FineGrid().box_collides(np.array([[2.4, 0.0]]), raster).any()
    raster[0, 500, 534 + 23] = 1
    assert FineGrid().box_collides(np.array([[2.4, 0.0]]), raster).all()


def test_boundary():
    """3 m of road to each side: the plan leaves it at the fourth step; who starts off the road cannot leave it."""
    road = np.zeros((1000, 1000), dtype=np.uint8)
    road[470:531] = 1
    plan = STRAIGHT + np.stack([np.zeros(6), [0.0, 0.0, 0.0, 3.0, 0.0, 0.0]], axis=-1)
    result = scored(PlanningTruth(STRAIGHT, objects(), road), plan)
    assert [result[f'omnidrive/boundary/{t}s'] for t in (1, 2, 3)] == [0.0, 1.0, 1.0]
    road[:, 500:540] = 0
    result = scored(PlanningTruth(STRAIGHT, objects(), road), plan)
    assert [result[f'omnidrive/boundary/{t}s'] for t in (1, 2, 3)] == [0.0, 0.0, 0.0]


def test_a_missing_plan_fails_in_every_rate():
    here = (10.0 + BOX_AHEAD_M, 0.0)
    score = PlanningScore()
    score.add(PlanningTruth(STRAIGHT, objects(here, size_m=(1.0, 1.0)), ROAD), None)
    result = score.result()
    assert (score.samples, score.missing) == (1, 1)
    # the driven box collides at 1.0 s, which excuses that step
    assert [result[f'stp3/collision/{t}s'] for t in (1, 2, 3)] == [1 / 2, 3 / 4, 5 / 6]
    assert result['omnidrive/collision/1s'] == result['omnidrive/boundary/1s'] == 1.0
    assert result['uniad/l2/3s'] == 30.0


def test_no_samples_no_numbers():
    assert all(np.isnan(value) for value in PlanningScore().result().values())


@pytest.mark.parametrize('path', [np.zeros((5, 2)), np.zeros((6, 3)), np.full((6, 2), np.nan)])
def test_paths_that_are_none_are_refused(path):
    truth = PlanningTruth(STRAIGHT, objects(), None)
    score = PlanningScore()
    with pytest.raises(ValueError, match='6 finite positions'):
        score.add(truth, path)
    assert score.samples == 0
    with pytest.raises(ValueError, match='6 finite positions'):
        PlanningTruth(path, objects(), None)


def test_objects_that_contradict_themselves_are_refused():
    good = vars(objects())
    with pytest.raises(ValueError, match='length_m is'):
        FutureObjects(**{**good, 'length_m': np.ones(2)})
    with pytest.raises(ValueError, match='not finite'):
        FutureObjects(**{**good, 'heading_rad': np.full((6, 1), np.nan)})

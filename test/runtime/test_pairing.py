import itertools

import pytest
import torch

from sparseoccvla_ros.runtime.pairing import SEPARATE, ScenePairing
from sparseoccvla_ros.runtime.scene import (
    OccupancyPoints,
    SceneForecast,
    SceneOccupancy,
    SceneQueries,
    SceneReasoning,
)


def queries(stamp_ns):
    return SceneQueries(stamp_ns, torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(2), (), {}, False)


def reasoning(stamp_ns):
    return SceneReasoning(stamp_ns, torch.zeros(1, 8), 10, 3)


@pytest.mark.parametrize('order', list(itertools.permutations(range(4))))
def test_the_order_of_arrival_does_not_matter(order):
    halves = [queries(1), reasoning(1), queries(2), reasoning(2)]
    pairing = ScenePairing()
    pairs = [pair for i in order if (pair := pairing.add(halves[i], float(i))) is not None]
    assert sorted((pair.scene.stamp_ns, pair.reasoning.stamp_ns) for pair in pairs) == [(1, 1), (2, 2)]
    assert all(pair.scene is halves[2 * pair.scene.stamp_ns - 2] for pair in pairs), 'handed on by reference'


def test_the_wait_counts_from_the_first_half():
    pairing = ScenePairing()
    pairing.add(queries(1), 5.0)
    assert pairing.add(reasoning(1), 5.7).arrival_s == 5.0


def test_an_overdue_scene_is_given_up_once_and_for_good():
    pairing = ScenePairing()
    pairing.add(queries(1), 0.0)
    assert pairing.take_overdue(1.9, 2.0) == {}
    assert pairing.take_overdue(2.1, 2.0) == {1: ('SceneReasoning',)}
    assert pairing.take_overdue(9.9, 2.0) == {}
    assert pairing.add(reasoning(1), 10.0) is None
    assert pairing.take_overdue(99.0, 2.0) == {}


def test_a_failure_ends_a_scene_whichever_half_came():
    pairing = ScenePairing()
    pairing.fail(1)
    assert pairing.add(queries(1), 0.0) is None
    assert pairing.take_overdue(99.0, 2.0) == {}


def test_after_a_clock_jump_old_stamps_count_again():
    pairing = ScenePairing()
    pairing.fail(1)
    pairing.clear()
    pairing.add(queries(1), 0.0)
    assert pairing.add(reasoning(1), 0.0) is not None


def points(count):
    return OccupancyPoints(torch.zeros(count, 3).numpy(), torch.zeros(count).byte().numpy(), torch.ones(count).numpy())


@pytest.mark.parametrize('order', list(itertools.permutations(range(4))))
def test_occupancy_that_comes_by_itself_is_waited_for_and_joined(order):
    now, later = points(2), ((1.0, points(3)),)
    parts = [queries(1), reasoning(1), SceneOccupancy(1, now), SceneForecast(1, later)]
    pairing = ScenePairing(SEPARATE)
    made = [pairing.add(parts[i], float(k)) for k, i in enumerate(order)]
    assert made[:3] == [None, None, None]
    assert made[3].arrival_s == 0.0
    assert made[3].scene.occupancy is now
    assert made[3].reasoning.forecast is later
    assert made[3].scene.features is parts[0].features


def test_the_missing_part_is_named():
    pairing = ScenePairing(SEPARATE)
    pairing.add(queries(1), 0.0)
    pairing.add(SceneForecast(1, ()), 0.0)
    assert pairing.take_overdue(9.0, 2.0) == {1: ('SceneOccupancy', 'SceneReasoning')}

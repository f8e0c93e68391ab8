import itertools

import pytest
import torch

from sparseoccvla_ros.runtime.pairing import ScenePairing
from sparseoccvla_ros.runtime.scene import SceneQueries, SceneReasoning


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
    assert pairing.take_overdue(1.9, 2.0) == []
    assert pairing.take_overdue(2.1, 2.0) == [1]
    assert pairing.take_overdue(9.9, 2.0) == []
    assert pairing.add(reasoning(1), 10.0) is None
    assert pairing.take_overdue(99.0, 2.0) == []


def test_a_failure_ends_a_scene_whichever_half_came():
    pairing = ScenePairing()
    pairing.fail(1)
    assert pairing.add(queries(1), 0.0) is None
    assert pairing.take_overdue(99.0, 2.0) == []


def test_after_a_clock_jump_old_stamps_count_again():
    pairing = ScenePairing()
    pairing.fail(1)
    pairing.clear()
    pairing.add(queries(1), 0.0)
    assert pairing.add(reasoning(1), 0.0) is not None

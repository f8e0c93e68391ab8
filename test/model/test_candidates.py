"""How far refined candidates lie apart, and what is handed on where they have become one."""

import math

import pytest
import torch

from sparseoccvla_ros.model.candidates import diversity, endpoint_spread_m, keep_alternatives
from sparseoccvla_ros.model.planner import PlannerOutput
from sparseoccvla_ros.planning.anchors import kinematic_fan

ANCHORS_M = torch.from_numpy(kinematic_fan().waypoints_ego_m).float()


def squeezed(factor: float, batch: int = 1) -> torch.Tensor:
    """[batch, 18, 6, 2]: the anchors of each command drawn together about their mean."""
    mean_m = ANCHORS_M.mean(dim=1, keepdim=True)
    return (mean_m + factor * (ANCHORS_M - mean_m)).flatten(0, 1).expand(batch, -1, -1, -1).clone()


def output_of(waypoints_m: torch.Tensor, best: int = 2) -> PlannerOutput:
    scores = torch.full((len(waypoints_m), 3, 6), 0.1)
    scores[..., best] = 0.9
    return PlannerOutput(scores.flatten(1), waypoints_m)


def test_spread_worked_by_hand():
    """Ends at the corners of a 3-4-5 triangle: the mean of its sides, whatever the way there."""
    paths_m = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0))
    paths_m[:, -1] = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    assert endpoint_spread_m(paths_m).item() == pytest.approx(4.0)
    assert endpoint_spread_m(paths_m[:1]).item() == 0.0


@pytest.mark.parametrize('factor', [0.0, 0.3, 1.0, 2.0])
def test_diversity_is_the_scale_of_the_spread(factor):
    torch.testing.assert_close(
        diversity(squeezed(factor, 2), ANCHORS_M), torch.full((2, 3), factor), rtol=1e-4, atol=1e-5
    )


def test_moving_and_turning_all_together_keeps_the_diversity():
    turn = torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    torch.testing.assert_close(diversity(squeezed(1.0) @ turn + 4.0, ANCHORS_M), torch.ones(1, 3), rtol=1e-4, atol=0)


def test_one_mode_has_not_collapsed():
    single_m = ANCHORS_M[:, :1]
    assert diversity(single_m.flatten(0, 1)[None], single_m).tolist() == [[1.0, 1.0, 1.0]]


def test_candidates_that_are_apart_are_handed_on():
    output = output_of(squeezed(0.5))
    kept = keep_alternatives(output, ANCHORS_M, 0.4)
    assert torch.equal(kept.waypoints_ego_m, output.waypoints_ego_m)
    assert kept.refined.all()


def test_of_collapsed_ones_the_best_stays_beside_the_raw_anchors():
    output = output_of(squeezed(0.1), best=2)
    kept = keep_alternatives(output, ANCHORS_M, 0.4)
    assert kept.refined.nonzero()[:, 1].tolist() == [2, 8, 14]
    assert torch.equal(kept.waypoints_ego_m[kept.refined], output.waypoints_ego_m[:, [2, 8, 14]].flatten(0, 1))
    others = ~kept.refined[0]
    assert torch.equal(kept.waypoints_ego_m[0, others], ANCHORS_M.flatten(0, 1)[others])
    assert diversity(kept.waypoints_ego_m, ANCHORS_M).min() > 0.5
    assert keep_alternatives(output, ANCHORS_M, 0.0).refined.all()  # 0: never


def test_each_command_of_each_sample_is_judged_by_itself():
    waypoints_m = squeezed(1.0, 2)
    waypoints_m[1, 6:12] = squeezed(0.1)[0, 6:12]
    kept = keep_alternatives(output_of(waypoints_m, best=0), ANCHORS_M, 0.4)
    assert kept.refined[0].all()
    assert (~kept.refined[1]).nonzero()[:, 0].tolist() == [7, 8, 9, 10, 11]


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_not_covered_up(bad):
    """A network that gives nonsense must not be answered with its anchors: the gate has to see it."""
    waypoints_m = squeezed(0.1)
    waypoints_m[0, 13, -1] = bad
    kept = keep_alternatives(output_of(waypoints_m), ANCHORS_M, 0.4)
    assert kept.refined[0, 12:].all()
    assert not kept.waypoints_ego_m[0, 13, -1].isfinite().any()

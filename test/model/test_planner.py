"""Scores and refined candidates."""

import pytest
import torch

from sparseoccvla_ros.model.vla import build_planner
from sparseoccvla_ros.planning.anchors import kinematic_fan


@pytest.fixture(scope='module')
def untrained(small):
    return build_planner(small, weights=None, seed=0)


@pytest.fixture(scope='module')
def planner(small):
    """With a head that answers: at its initial zero all inputs would give the anchors."""
    planner = build_planner(small, weights=None, seed=0)
    planner.head.weight.data = 0.2 * torch.randn(planner.head.weight.shape, generator=torch.Generator().manual_seed(1))
    return planner


def inputs(batch: int = 2, seed: int = 7) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        'features': torch.randn(batch, 30, 32, generator=generator),
        'positions_m': 20 * torch.randn(batch, 30, 3, generator=generator),
        'reasoning_tokens': torch.randn(batch, 7, 64, generator=generator),
        'ego_state': torch.tensor([[8.0, 0.5, 0.1], [2.0, -1.0, 0.0]])[:batch],
        'command': torch.tensor([2, 0])[:batch],
    }


def plan(planner, seed=0, **changes):
    with torch.no_grad():
        return planner(**{**inputs(), **changes}, generator=torch.Generator().manual_seed(seed))


def test_untrained_planner_returns_its_anchors(untrained):
    output = plan(untrained)
    fan = torch.from_numpy(kinematic_fan().waypoints_ego_m).float().view(18, 6, 2)
    assert output.scores.shape == (2, 18)
    assert ((output.scores > 0) & (output.scores < 1)).all()
    torch.testing.assert_close(output.waypoints_ego_m, fan.expand(2, -1, -1, -1), rtol=0, atol=1e-3)


def test_same_seed_same_plan_other_seed_another(planner):
    first, again, other = plan(planner, 0), plan(planner, 0), plan(planner, 1)
    assert torch.equal(first.waypoints_ego_m, again.waypoints_ego_m)
    assert (first.waypoints_ego_m - other.waypoints_ego_m).abs().max() > 1e-3
    assert torch.equal(first.scores, other.scores)


def test_batch_equals_singles(planner):
    both = plan(planner)
    for b in range(2):
        alone = plan(planner, **{name: value[b : b + 1] for name, value in inputs().items()})
        torch.testing.assert_close(alone.waypoints_ego_m[0], both.waypoints_ego_m[b], rtol=0, atol=1e-4)
        torch.testing.assert_close(alone.scores[0], both.scores[b], rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', ['features', 'positions_m', 'reasoning_tokens', 'ego_state', 'command'])
def test_every_input_counts(planner, name):
    value = inputs()[name]
    change = (value + 1) % 3 if name == 'command' else value + 1.0
    if name in ('features', 'reasoning_tokens'):  # a shift alone is taken out by the layer norms
        change = value.flip(-1)
    difference = (plan(planner).waypoints_ego_m - plan(planner, **{name: change}).waypoints_ego_m).abs()
    assert difference.max() > 1e-3


def test_order_of_queries_does_not_matter(planner):
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    shuffled = plan(planner, features=inputs()['features'][:, order], positions_m=inputs()['positions_m'][:, order])
    torch.testing.assert_close(plan(planner).waypoints_ego_m, shuffled.waypoints_ego_m, rtol=0, atol=1e-4)


def test_scores_come_from_the_reasoning(planner):
    other = inputs()['reasoning_tokens'].flip(-1)
    assert (plan(planner).scores - plan(planner, reasoning_tokens=other).scores).abs().max() > 1e-3
    assert plan(planner).scores.std(dim=1).min() > 1e-4


def test_answer_is_not_clipped_to_the_range_of_the_diffusion(planner):
    """Beyond 55.7 m ahead only the sample is clipped, never what is returned."""
    anchors = planner.anchors.clone()
    planner.anchors[2, 5, -1, 0] = 80.0
    assert plan(planner).waypoints_ego_m[0, 17, -1, 0] > 60.0
    planner.anchors.copy_(anchors)


def test_gradients_reach_every_parameter(planner):
    output = planner(**inputs(), generator=torch.Generator().manual_seed(0))
    (output.scores.sum() + output.waypoints_ego_m.square().sum()).backward()
    without = [name for name, p in planner.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    planner.zero_grad()

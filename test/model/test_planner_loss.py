"""Supervision of the planner: which anchor is positive, what counts, and what does not."""

import math

import pytest
import torch

from sparseoccvla_ros.model.planner import DenoisingOutput
from sparseoccvla_ros.model.planner_loss import PlannerLoss, PlannerLossConfig, PlannerTargets, positive_anchors
from sparseoccvla_ros.model.vla import build_planner
from sparseoccvla_ros.planning.anchors import kinematic_fan

ANCHORS_M = torch.from_numpy(kinematic_fan().waypoints_ego_m).float()
NOT_FOCAL = PlannerLossConfig(score_loss='bce', score_weight=1.0, path_weight=1.0)


def straight_on(speed_mps: float) -> torch.Tensor:
    return torch.tensor([[speed_mps * 0.5 * step, 0.0] for step in range(1, 7)])


def targets(*waypoints_m: torch.Tensor, command: int = 2) -> PlannerTargets:
    B = len(waypoints_m)
    return PlannerTargets(torch.stack(waypoints_m), torch.ones(B, 6, dtype=torch.bool), torch.tensor([command] * B))


def output_of(waypoints_m: torch.Tensor, logits: torch.Tensor | None = None) -> DenoisingOutput:
    B = len(waypoints_m)
    return DenoisingOutput(torch.zeros(B, 18) if logits is None else logits, waypoints_m)


def with_valid(recorded: PlannerTargets, valid: torch.Tensor) -> PlannerTargets:
    return PlannerTargets(recorded.waypoints_ego_m, valid, recorded.command)


def test_the_nearest_anchor_of_the_command_is_positive():
    """Straight anchors go 0, 2, 5, 8, 11, 15 m/s; 5.9 m/s is nearest to 5, whatever turns lie nearer."""
    recorded = targets(straight_on(5.9), straight_on(0.1), straight_on(40.0))
    assert positive_anchors(ANCHORS_M, recorded).tolist() == [14, 12, 17]


@pytest.mark.parametrize('k', range(18))
def test_an_anchor_is_its_own_positive(k):
    recorded = targets(ANCHORS_M.flatten(0, 1)[k], command=k // 6)
    assert positive_anchors(ANCHORS_M, recorded).tolist() == [k]


def test_another_command_has_another_positive():
    """The way straight on is nearest to anchor 14 of all; a car told to turn left still learns a left anchor."""
    positive = positive_anchors(ANCHORS_M, targets(straight_on(5.0), command=1)).item()
    assert 6 <= positive < 12


def test_only_known_waypoints_choose_the_anchor():
    """The first second goes on at 8 m/s, what follows is not recorded: the zeros there must not count."""
    path_m = straight_on(8.0)
    path_m[2:] = 0.0
    recorded = targets(path_m)
    known = with_valid(recorded, torch.tensor([[True, True, False, False, False, False]]))
    assert positive_anchors(ANCHORS_M, known).item() == 15
    assert positive_anchors(ANCHORS_M, recorded).item() != 15


def test_values_worked_by_hand():
    """Logits 0: each of six anchors costs ln 2. The path is 0.3 m off along x at each waypoint: 0.15 per coordinate."""
    waypoints_m = ANCHORS_M.flatten(0, 1)[None].clone()
    waypoints_m[0, 14, :, 0] += 0.3
    terms = PlannerLoss(NOT_FOCAL)(output_of(waypoints_m), ANCHORS_M, targets(straight_on(5.0)))
    assert terms['score'].item() == pytest.approx(6 * math.log(2.0))
    assert terms['path'].item() == pytest.approx(0.15, rel=1e-5)
    focal = PlannerLoss(PlannerLossConfig())(output_of(waypoints_m), ANCHORS_M, targets(straight_on(5.0)))
    # alpha 0.25 for the positive, 0.75 for each of the others, (1/2)^2 for all; weights 10 and 8
    assert focal['score'].item() == pytest.approx(10 * (0.25 + 5 * 0.75) * 0.25 * math.log(2.0))
    assert focal['path'].item() == pytest.approx(8 * 0.15, rel=1e-5)


def test_gradients_reach_the_positive_path_and_the_commands_scores_alone():
    waypoints_m = (ANCHORS_M.flatten(0, 1)[None] + 1.0).requires_grad_()
    logits = torch.zeros(1, 18, requires_grad=True)
    terms = PlannerLoss(PlannerLossConfig())(output_of(waypoints_m, logits), ANCHORS_M, targets(straight_on(5.0)))
    sum(terms.values()).backward()
    assert waypoints_m.grad.abs().sum(dim=(0, 2, 3)).nonzero()[:, 0].tolist() == [14]
    assert logits.grad[0].nonzero()[:, 0].tolist() == list(range(12, 18))
    assert logits.grad[0, 14] < 0.0 < logits.grad[0, 12]


def test_unknown_waypoints_pull_nothing():
    valid = torch.tensor([[True] * 4 + [False] * 2])
    path_m = straight_on(5.0)
    path_m[4:] = math.nan  # whatever stands there
    waypoints_m = (ANCHORS_M.flatten(0, 1)[None] + 1.0).requires_grad_()
    recorded = PlannerTargets(path_m[None], valid, torch.tensor([2]))
    terms = PlannerLoss(NOT_FOCAL)(output_of(waypoints_m), ANCHORS_M, recorded)
    assert terms['path'].item() == pytest.approx(1.0)  # mean over the four known
    sum(terms.values()).backward()
    assert waypoints_m.grad.isfinite().all()
    assert waypoints_m.grad[0, 14].abs().sum(dim=-1).bool().tolist() == [True] * 4 + [False] * 2


def test_a_sample_without_future_is_left_out():
    loss = PlannerLoss(PlannerLossConfig())
    both = targets(straight_on(5.0), straight_on(8.0))
    half = with_valid(both, torch.tensor([[True] * 6, [False] * 6]))
    waypoints_m = ANCHORS_M.flatten(0, 1).expand(2, -1, -1, -1) + 0.5
    alone = loss(output_of(waypoints_m[:1]), ANCHORS_M, targets(straight_on(5.0)))
    assert loss(output_of(waypoints_m), ANCHORS_M, half) == alone
    waypoints_m = waypoints_m.clone().requires_grad_()
    nothing = loss(output_of(waypoints_m), ANCHORS_M, with_valid(both, torch.zeros(2, 6, dtype=torch.bool)))
    assert all(value.item() == 0.0 for value in nothing.values())
    nothing['path'].backward()
    assert not waypoints_m.grad.any()


def test_a_batch_is_the_mean_of_its_samples():
    loss = PlannerLoss(PlannerLossConfig())
    generator = torch.Generator().manual_seed(0)
    waypoints_m = ANCHORS_M.flatten(0, 1) + torch.randn(3, 18, 6, 2, generator=generator)
    logits = torch.randn(3, 18, generator=generator)
    recorded = targets(straight_on(1.0), straight_on(6.0), straight_on(12.0))
    singles = [
        loss(output_of(waypoints_m[b : b + 1], logits[b : b + 1]), ANCHORS_M, targets(recorded.waypoints_ego_m[b]))
        for b in range(3)
    ]
    for name, value in loss(output_of(waypoints_m, logits), ANCHORS_M, recorded).items():
        assert value.item() == pytest.approx(sum(single[name].item() for single in singles) / 3, rel=1e-5)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'score_loss': 'hinge'}, "'hinge'"),
        ({'path_weight': -1.0}, r'path_weight \(-1.0\)'),
        ({'path_weight': math.nan}, r'path_weight \(nan\)'),
        ({'focal_gamma': math.inf}, 'inf'),
        ({'score_weight': 0.0, 'path_weight': 0.0}, 'one positive'),
        ({'focal_alpha': 1.5}, '1.5'),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PlannerLossConfig(**changes)


def test_shapes_and_numbers_are_checked():
    with pytest.raises(ValueError, match=r'\[2, 6, 2\]'):
        PlannerTargets(torch.zeros(1, 6, 2), torch.ones(2, 6, dtype=torch.bool), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match='not finite'):
        targets(straight_on(math.nan))
    with pytest.raises(ValueError, match='2 samples and 18 candidates for 1 targets'):
        PlannerLoss(NOT_FOCAL)(output_of(torch.zeros(2, 18, 6, 2)), ANCHORS_M, targets(straight_on(5.0)))


def test_some_steps_of_training_bring_the_chosen_candidate_near(small):
    """Two keyframes told apart by the ego's speed and the reasoning; the anchors are a metre and more off."""
    planner = build_planner(small, weights=None, seed=0).train()
    generator = torch.Generator().manual_seed(0)
    inputs = {
        'features': torch.randn(2, 30, 32, generator=generator),
        'positions_m': 20 * torch.randn(2, 30, 3, generator=generator),
        'reasoning_tokens': torch.randn(2, 7, 64, generator=generator),
        'ego_state': torch.tensor([[3.5, 0.5, 0.1], [9.5, -1.0, 0.0]]),
        'command': torch.tensor([2, 2]),
    }
    recorded = targets(straight_on(3.4), straight_on(9.4))
    loss, optimizer = PlannerLoss(PlannerLossConfig()), torch.optim.AdamW(planner.parameters(), lr=1e-2)
    first = None
    for _ in range(80):
        terms = loss(planner.denoise_once(**inputs, generator=generator), planner.anchors, recorded)
        first = first or {name: value.item() for name, value in terms.items()}
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    with torch.no_grad():
        output = planner(**inputs, generator=torch.Generator().manual_seed(0))
    chosen = 12 + output.scores[:, 12:].argmax(dim=1)
    assert chosen.tolist() == positive_anchors(planner.anchors, recorded).tolist()
    errors_m = (output.waypoints_ego_m[torch.arange(2), chosen] - recorded.waypoints_ego_m).norm(dim=-1).mean(dim=1)
    anchors_m = (planner.anchors.flatten(0, 1)[chosen] - recorded.waypoints_ego_m).norm(dim=-1).mean(dim=1)
    assert (errors_m < 0.3 * anchors_m).all(), (errors_m, anchors_m)
    assert terms['score'].item() < 0.3 * first['score']

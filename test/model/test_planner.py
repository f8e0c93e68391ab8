"""Scores and refined candidates."""

import dataclasses

import numpy as np
import pytest
import torch

from sparseoccvla_ros.model.planner import constant_turn_m
from sparseoccvla_ros.model.vla import build_planner
from sparseoccvla_ros.planning.anchors import Anchors, kinematic_fan, load_anchors, save_anchors


@pytest.fixture(scope='module')
def untrained(small):
    return build_planner(small, weights=None, seed=0)


@pytest.fixture(scope='module')
def planner(small):
    """With a head that answers: at its initial zero all inputs would give the anchors."""
    return answering(small)


def answering(config, **changes):
    config = dataclasses.replace(config, planner=dataclasses.replace(config.planner, **changes))
    planner = build_planner(config, weights=None, seed=0)
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
    anchors = torch.from_numpy(load_anchors('config/anchors/world_18.json').waypoints_ego_m).float().view(18, 6, 2)
    assert output.scores.shape == (2, 18)
    assert ((output.scores > 0) & (output.scores < 1)).all()
    torch.testing.assert_close(output.waypoints_ego_m, anchors.expand(2, -1, -1, -1), rtol=0, atol=1e-3)


@pytest.mark.parametrize('modes', [3, 12])
def test_anchors_of_a_file_of_other_numbers(small, tmp_path, modes):
    """9 and 36 anchors, as for the ablation."""
    fan_m = kinematic_fan().waypoints_ego_m
    given_m = np.concatenate([fan_m, 0.9 * fan_m], axis=1)[:, :modes]
    save_anchors(Anchors(given_m), tmp_path / 'anchors.json')
    changed = dataclasses.replace(small.planner, anchors=str(tmp_path / 'anchors.json'))
    output = plan(build_planner(dataclasses.replace(small, planner=changed), weights=None, seed=0))
    assert output.scores.shape == (2, 3 * modes)
    np.testing.assert_allclose(output.waypoints_ego_m[1], given_m.reshape(-1, 6, 2), rtol=0, atol=1e-3)


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


def changed(name: str) -> torch.Tensor:
    """Another value of an input."""
    value = inputs()[name]
    if name in ('features', 'reasoning_tokens'):  # a shift alone is taken out by the layer norms
        return value.flip(-1)
    return (value + 1) % 3 if name == 'command' else value + 1.0


def differences(planner, name: str) -> tuple[float, float]:
    """Largest change of scores and waypoints [m] when one input is another."""
    before, after = plan(planner), plan(planner, **{name: changed(name)})
    scores = (before.scores - after.scores).abs().max().item()
    return scores, (before.waypoints_ego_m - after.waypoints_ego_m).abs().max().item()


@pytest.mark.parametrize('name', ['features', 'positions_m', 'reasoning_tokens', 'ego_state', 'command'])
def test_every_input_counts(planner, name):
    assert differences(planner, name)[1] > 1e-3


@pytest.mark.parametrize(
    ('switch', 'unread', 'scores_read'),
    [
        ('llm_scoring', ['reasoning_tokens'], ['features', 'positions_m', 'ego_state']),
        ('scene_fusion', ['features', 'positions_m'], ['reasoning_tokens', 'ego_state']),
        ('ego_fusion', ['ego_state', 'command'], ['reasoning_tokens', 'ego_state']),
        ('ego_scoring', [], ['reasoning_tokens']),
    ],
)
def test_what_is_switched_off_is_not_read(small, switch, unread, scores_read):
    planner = answering(small, **{switch: False})
    for name in inputs():
        scores, waypoints_m = differences(planner, name)
        assert (waypoints_m == 0.0) if name in unread else (waypoints_m > 1e-3), name
        assert (scores > 1e-4) if name in scores_read else (scores == 0.0), name


def test_all_switched_off_scores_by_the_scene_and_refines_blindly(small):
    planner = answering(small, llm_scoring=False, scene_fusion=False, ego_fusion=False, ego_scoring=False)
    assert not any(name.startswith(('ego.', 'command.', 'reasoning.')) for name in planner.state_dict())
    for name in inputs():
        scores, waypoints_m = differences(planner, name)
        assert waypoints_m == 0.0
        assert (scores > 1e-4) == (name in ('features', 'positions_m')), name


@pytest.mark.parametrize('switch', ['llm_scoring', 'scene_fusion', 'ego_fusion', 'ego_scoring', 'ego_rollout'])
def test_nothing_is_built_that_is_not_read(small, planner, switch):
    without = answering(small, **{switch: False})
    assert set(without.state_dict()) <= set(planner.state_dict())
    assert sum(p.numel() for p in without.parameters()) < sum(p.numel() for p in planner.parameters())
    gradients_reach_every_parameter(without)


@pytest.mark.parametrize('ego_fusion', [True, False])
@pytest.mark.parametrize('ego_scoring', [True, False])
def test_scores_follow_the_speed_if_asked_to_and_never_the_command(small, ego_scoring, ego_fusion):
    planner = answering(small, ego_scoring=ego_scoring, ego_fusion=ego_fusion)
    first = plan(planner).scores
    faster = plan(planner, ego_state=inputs()['ego_state'] + torch.tensor([3.0, 0.0, 0.0])).scores
    assert ((faster - first).abs().amax(dim=1) > 1e-3).all() if ego_scoring else torch.equal(faster, first)
    for command in range(3):
        assert torch.equal(plan(planner, command=torch.tensor([command, command])).scores, first)


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


def gradients_reach_every_parameter(planner):
    output = planner(**inputs(), generator=torch.Generator().manual_seed(0))
    (output.scores.sum() + output.waypoints_ego_m.square().sum()).backward()
    without = [name for name, p in planner.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    planner.zero_grad()


def test_gradients_reach_every_parameter(planner):
    gradients_reach_every_parameter(planner)


@pytest.mark.parametrize('steps', [1, 2, 4, 8])
def test_each_number_of_steps_is_repeatable_and_another_plan(small, planner, steps):
    """The same weights: checkpoints of one number of steps have the parameters of any other."""
    other = answering(small, steps=steps)
    assert len(other.schedule.timesteps) == steps
    assert torch.equal(plan(other).waypoints_ego_m, plan(other).waypoints_ego_m)
    assert torch.equal(plan(other).scores, plan(planner).scores)
    assert torch.equal(plan(other).waypoints_ego_m, plan(planner).waypoints_ego_m) == (steps == 2)


def denoised(planner, seed=0):
    with torch.no_grad():
        return planner.denoise_once(**inputs(), generator=torch.Generator().manual_seed(seed))


def test_training_sees_the_scores_of_inference_and_noise_of_its_own(planner):
    output, again, other = denoised(planner), denoised(planner), denoised(planner, 1)
    assert torch.equal(output.waypoints_ego_m, again.waypoints_ego_m)
    assert (output.waypoints_ego_m - other.waypoints_ego_m).abs().max() > 1e-3
    torch.testing.assert_close(output.score_logits.sigmoid(), plan(planner).scores)


def test_holding_speed_and_yaw_rate_is_an_arc():
    """Against steps of a millisecond."""
    motions = [(0.0, 0.3), (12.0, 0.0), (5.0, -0.4), (3.0, 1e-7)]
    found = constant_turn_m(*torch.tensor(motions, dtype=torch.float64).T)
    for path, (speed_mps, rate_radps) in zip(found, motions, strict=True):
        heading_rad = rate_radps * 1e-3 * (np.arange(3000) + 0.5)
        steps_m = speed_mps * 1e-3 * np.stack([np.cos(heading_rad), np.sin(heading_rad)], axis=-1)
        np.testing.assert_allclose(path, steps_m.cumsum(axis=0)[499::500], rtol=0, atol=1e-4)


def test_training_draws_a_timestep_for_each_sample(planner, monkeypatch):
    """From 0 to the configured end; noise belongs to it, and the network is told the same."""
    drawn, told = [], []
    noisy, denoise = planner.schedule.training_sample, planner._denoise

    def training_sample(normalized, noise, timesteps):
        drawn.append(timesteps)
        return noisy(normalized, noise, timesteps)

    def told_denoise(sample, timesteps, *others):
        told.append(timesteps)
        return denoise(sample, timesteps, *others)

    monkeypatch.setattr(planner.schedule, 'training_sample', training_sample)
    monkeypatch.setattr(planner, '_denoise', told_denoise)
    for seed in range(300):
        denoised(planner, seed)
    assert torch.cat(drawn).unique().tolist() == list(range(50))
    assert torch.equal(torch.stack(told), torch.stack(drawn))


def test_the_network_is_told_each_samples_timestep(planner):
    """Two samples that differ in nothing but their timestep get different answers, and alone the same as together."""
    twice = {name: value[:1].repeat_interleave(2, 0) for name, value in inputs().items()}
    stages, _ = planner._read(**twice)
    embedded = planner._embed_anchors(twice['ego_state'])
    sample = torch.zeros(2, 18, 6, 2)
    with torch.no_grad():
        both = planner._denoise(sample, torch.tensor([0, 40]), stages, *embedded)
        first = [tuple(tokens[:1] for tokens in group) for group in (stages, embedded)]
        alone = planner._denoise(sample[:1], torch.tensor([40]), first[0], *first[1])
    assert (both[0] - both[1]).abs().max() > 1e-3
    torch.testing.assert_close(both[1], alone[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ('key', 'value'), [('train_timesteps', 0), ('train_timesteps', 1001), ('min_diversity', -0.1), ('steps', 21)]
)
def test_impossible_settings_are_refused(small, key, value):
    with pytest.raises(ValueError, match=str(value)):
        dataclasses.replace(small.planner, **{key: value})

"""Planners that see nothing."""

import numpy as np
import pytest
import torch

from sparseoccvla_ros.evaluation import planning_baselines
from sparseoccvla_ros.evaluation.planning_baselines import (
    EgoStatusPlanner,
    StatusSample,
    constant_turn_rate,
    constant_velocity,
    train_ego_status_planner,
)
from sparseoccvla_ros.runtime.scene import Command, EgoState


def state(speed_mps=8.0, accel_mps2=0.0, yaw_rate_radps=0.0):
    return EgoState(0, np.eye(4), speed_mps, accel_mps2, yaw_rate_radps)


def test_constant_velocity_goes_straight_whatever_the_yaw_rate():
    path = constant_velocity(state(8.0, 2.0, 0.3))
    np.testing.assert_allclose(path, np.stack([4.0 * np.arange(1, 7), np.zeros(6)], axis=-1), atol=1e-12)


@pytest.mark.parametrize('rate', [0.5, -0.5, 1e-9, 0.0])
def test_constant_turn_rate_is_the_arc_that_small_steps_drive(rate):
    heading, place, path = 0.0, np.zeros(2), []
    for step in range(1, 30001):
        middle = heading + 0.5 * rate * 1e-4
        place = place + 1e-4 * 8.0 * np.array([np.cos(middle), np.sin(middle)])
        heading += rate * 1e-4
        if step % 5000 == 0:
            path.append(place)
    np.testing.assert_allclose(constant_turn_rate(state(8.0, 0.0, rate)), path, atol=1e-6)
    assert np.sign(constant_turn_rate(state(8.0, 0.0, rate))[-1, 1]) == np.sign(rate)


def braking_and_turning(count=200, seed=0):
    """Cars that follow their command and their acceleration."""
    rng = np.random.default_rng(seed)
    samples = []
    times_s = 0.5 * np.arange(1, 7)
    for _ in range(count):
        speed, accel, command = rng.uniform(2.0, 10.0), rng.uniform(-1.0, 1.0), Command(rng.integers(3))
        way_m = speed * times_s + 0.5 * accel * times_s**2
        side_m = {Command.LEFT: 0.5, Command.RIGHT: -0.5, Command.STRAIGHT: 0.0}[command] * times_s**2
        samples.append(StatusSample(state(speed, accel, 0.0), command, np.stack([way_m, side_m], axis=-1)))
    return samples


def mean_error_m(plan, samples):
    errors = [np.linalg.norm(plan(s.state, s.command) - s.path_ego_m, axis=-1).mean() for s in samples]
    return float(np.mean(errors))


def test_an_untrained_one_is_the_constant_turn():
    turning = state(6.0, 1.0, -0.2)
    np.testing.assert_allclose(
        EgoStatusPlanner().plan(turning, Command.LEFT), constant_turn_rate(turning), rtol=0, atol=1e-5
    )


def test_it_learns_what_command_and_acceleration_say_and_carries_it_to_others():
    planner = train_ego_status_planner(braking_and_turning())
    held_out = braking_and_turning(50, seed=1)
    assert mean_error_m(planner.plan, held_out) < 0.1
    assert mean_error_m(lambda s, _: constant_turn_rate(s), held_out) > 1.0


def test_it_learns_from_recorded_waypoints_alone_and_from_mirror_images():
    samples = []
    for number, sample in enumerate(s for s in braking_and_turning(400) if s.command is not Command.RIGHT):
        path_m, valid = sample.path_ego_m.copy(), np.arange(6) < (3 if number % 2 else 6)
        path_m[~valid] = -50.0
        samples.append(StatusSample(sample.state, sample.command, path_m, valid))
    planner = train_ego_status_planner(samples)
    held_out = [s for s in braking_and_turning(100, seed=1) if s.command is Command.RIGHT]
    assert mean_error_m(planner.plan, held_out) < 0.1


def test_same_seed_same_planner_and_the_callers_random_state_is_left_alone(monkeypatch):
    monkeypatch.setattr(planning_baselines, 'TRAINING_STEPS', 50)
    samples = braking_and_turning(planning_baselines.BATCH + 50)  # not all in each step
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = train_ego_status_planner(samples, seed=3)
    assert torch.equal(torch.rand(3), expected)
    second, other = train_ego_status_planner(samples, seed=3), train_ego_status_planner(samples, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    plans = [planner.plan(state(5.0), Command.LEFT) for planner in (first, other)]
    assert not np.array_equal(*plans)


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ValueError, match='found none'):
        train_ego_status_planner([])

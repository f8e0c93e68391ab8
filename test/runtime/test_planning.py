"""The planning engine: ranking and refusals with a model told what to say, determinism with the real one."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sparseoccvla_ros.model.config import PlannerConfig
from sparseoccvla_ros.model.planner import PlannerOutput
from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.runtime.planning import PlannerInput, PlanningEngine, due
from sparseoccvla_ros.runtime.scene import Command, EgoState, OccupancyPoints

LIMITS = VehicleLimits()
STAMP_NS = 1_532_402_927_647_951_000
TIMES_S = torch.arange(1, 7) * 0.5


def line(speed_mps):
    return torch.stack([speed_mps * TIMES_S, torch.zeros(6)], dim=-1)


class Told:
    """The planner's API with fixed answers: three commands of two modes, all driving straight on at 5 m/s."""

    config = PlannerConfig()

    def __init__(self):
        self.anchors = torch.zeros(3, 2, 6, 2)
        self.scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.3, 0.5])
        self.waypoints = line(5.0).repeat(6, 1, 1)
        self.given = []

    def __call__(self, features, positions_m, reasoning_tokens, ego_state, command, generator):
        self.given.append((ego_state, command, torch.randn(1, generator=generator).item()))
        return PlannerOutput(self.scores[None], self.waypoints[None])


@pytest.fixture
def told():
    return Told()


def ego(speed_mps=5.0, accel_mps2=0.5, yaw_rate_radps=-0.1):
    return EgoState(STAMP_NS, np.eye(4), speed_mps, accel_mps2, yaw_rate_radps)


def planner_input(config=None, **changes):
    generator = torch.Generator().manual_seed(0)
    Q, C, D = (300, config.encoder.width, config.language.width) if config else (4, 8, 8)
    given = PlannerInput(
        stamp_ns=STAMP_NS,
        features=torch.randn(Q, C, generator=generator),
        positions_ego=torch.randn(Q, 3, generator=generator),
        reasoning=torch.randn(7, D, generator=generator),
        ego=ego(),
        command=Command.STRAIGHT,
    )
    return dataclasses.replace(given, **changes)


def test_best_of_the_command_is_chosen(told, cpu):
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert plan.valid
    assert plan.reasons == ()
    assert plan.chosen == 5  # of the two of STRAIGHT; candidates of other commands score higher
    order = [(candidate.command, candidate.mode) for candidate in plan.candidates]
    assert order == [(command, mode) for command in (Command.RIGHT, Command.LEFT, Command.STRAIGHT) for mode in (0, 1)]
    assert plan.trajectory is plan.candidates[5].trajectory
    np.testing.assert_allclose(plan.trajectory.positions_m[1:], line(5.0).numpy())
    assert plan.candidates[5].score == pytest.approx(0.5)
    assert not plan.is_stop
    assert set(plan.stage_ms) == {'planner', 'gate'}
    assert PlanningEngine(told, LIMITS, cpu).plan(planner_input(command=Command.RIGHT)).chosen == 0
    ego_state, command, _ = told.given[0]
    torch.testing.assert_close(ego_state, torch.tensor([[5.0, 0.5, -0.1]]))
    assert command.tolist() == [2]


def test_next_best_if_the_best_fails(told, cpu):
    told.waypoints[5] = line(15.0)  # from 5 m/s at once
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert (plan.valid, plan.chosen) == (True, 4)
    assert not plan.candidates[5].feasible
    assert plan.candidates[5].reasons[0].startswith('acceleration at the start')
    assert plan.candidates[4].feasible


def test_collapsed_candidates_leave_the_anchors_as_alternatives(told, cpu):
    """Both refined candidates of STRAIGHT are the same one, so the second best is the other anchor, and says so."""
    told.anchors = torch.stack([line(5.5), line(4.5)]).repeat(3, 1, 1, 1)
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert plan.diversity == pytest.approx(0.0)
    assert [plan.candidates[k].refined for k in plan.ranked] == [True, False]
    np.testing.assert_allclose(plan.candidates[5].trajectory.positions_m[1:], line(5.0).numpy())
    np.testing.assert_allclose(plan.candidates[4].trajectory.positions_m[1:], line(5.5).numpy())
    told.waypoints[4] = line(5.6)
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert plan.diversity == pytest.approx(0.6)  # 1.8 m apart at 3 s, of 3 m
    assert all(plan.candidates[k].refined for k in plan.ranked)


def test_a_plan_goes_out_without_what_has_passed(told, cpu):
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    late = due(plan, 0.7, 0.0)
    np.testing.assert_allclose(late.trajectory.times_s, [0.7, 1.0, 1.5, 2.0, 2.5, 3.0])
    np.testing.assert_allclose(late.trajectory.positions_m[:, 0], 5.0 * late.trajectory.times_s, atol=1e-6)
    assert len(due(plan, 0.0, 10.0).trajectory) == 31
    assert due(plan, 0.0, 0.0).trajectory.times_s.tolist() == plan.trajectory.times_s.tolist()
    assert late.candidates is plan.candidates


def test_a_plan_that_is_over_is_invalid(told, cpu):
    engine = PlanningEngine(told, LIMITS, cpu, stop_if_none=True)
    over = due(engine.plan(planner_input()), 3.0, 0.0)
    assert not over.valid
    assert over.trajectory is None
    assert over.chosen is None
    assert over.reasons == ('input_too_old: 3.00 s, the plan covers 3 s',)
    stop = engine.refuse(STAMP_NS, ('deadline_missed',), ego())
    assert stop.is_stop
    gone = due(stop, 3.5, 0.0)
    assert (gone.is_stop, gone.trajectory) == (False, None)
    assert gone.reasons[0] == 'deadline_missed'
    assert due(gone, 0.1, 0.0) is gone


def test_equal_scores_choose_the_first_mode(told, cpu):
    told.scores[:] = 0.5
    assert PlanningEngine(told, LIMITS, cpu).plan(planner_input()).chosen == 4


def test_none_passes_is_invalid_with_every_reason(told, cpu):
    told.waypoints[4], told.waypoints[5] = line(15.0), line(-5.0)
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert (plan.valid, plan.chosen, plan.trajectory, plan.is_stop) == (False, None, None, False)
    assert plan.reasons[0] == 'no candidate passes the safety gate'
    assert plan.reasons[1].startswith('mode 1: reverse speed 5 m/s exceeds')
    assert plan.reasons[2].startswith('mode 0: acceleration at the start')
    assert len(plan.candidates) == 6


def test_stop_trajectory_stands_in_marked(told, cpu):
    told.waypoints[:] = line(15.0)
    plan = PlanningEngine(told, LIMITS, cpu, stop_if_none=True).plan(planner_input())
    assert (plan.valid, plan.is_stop, plan.chosen) == (False, True, None)
    assert plan.trajectory.positions_m[-1] == pytest.approx([25.0 / 6.0, 0.0])  # 5 m/s at 3 m/s2
    assert plan.reasons[0] == 'no candidate passes the safety gate'
    blind = PlanningEngine(told, LIMITS, cpu, stop_if_none=True).plan(planner_input(ego=None))
    assert (blind.valid, blind.is_stop, blind.trajectory) == (False, False, None)  # braking from an unknown speed


def test_occupancy_refuses(told, cpu):
    points = np.array([[12.0, 0.0, 1.0]], np.float32)
    occupancy = OccupancyPoints(points, np.array([4], np.uint8), np.ones(1, np.float32))
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input(occupancy=occupancy))
    assert not plan.valid
    assert 'collision' in plan.reasons[1]


def test_forecast_refuses_and_lets_pass(told, cpu):
    """A car ahead that drives away does not block; one that will be in the way does."""

    def car(x_m):
        return OccupancyPoints(np.array([[x_m, 0.0, 1.0]], np.float32), np.array([4], np.uint8), np.ones(1, np.float32))

    engine = PlanningEngine(told, LIMITS, cpu)
    away = tuple((t, car(10.0 + 7.0 * t)) for t in (1.0, 2.0, 3.0))
    assert engine.plan(planner_input(occupancy=car(10.0), forecast=away)).valid
    assert not engine.plan(planner_input(occupancy=car(10.0))).valid
    stays = tuple((t, car(12.0)) for t in (1.0, 2.0, 3.0))
    plan = engine.plan(planner_input(occupancy=car(30.0), forecast=stays))
    assert not plan.valid
    assert 'collision with the forecast occupancy' in plan.reasons[1]


def test_what_is_hardly_likely_does_not_stop_a_plan(told, cpu):
    def car(score):
        return OccupancyPoints(np.array([[12.0, 0.0, 1.0]], np.float32), np.array([4], np.uint8), np.float32([score]))

    def valid(now, later, **settings):
        forecast = tuple((t, car(later)) for t in (1.0, 2.0, 3.0))
        engine = PlanningEngine(told, LIMITS, cpu, **settings)
        return engine.plan(planner_input(occupancy=car(now), forecast=forecast)).valid

    assert [valid(0.6, 0.6), valid(0.8, 0.6), valid(0.6, 0.8)] == [True, True, False]  # gone when the vehicle comes
    assert not valid(0.6, 0.6, obstacle_score_threshold=0.55)
    with pytest.raises(ValueError, match=r'obstacle_score_threshold \(1\.5\)'):
        PlanningEngine(told, LIMITS, cpu, obstacle_score_threshold=1.5)


def test_every_check_is_told_with_value_and_limit(told, cpu):
    told.waypoints[5] = line(15.0)
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert plan.ranked == (5, 4)
    speed = {check.name: check for check in plan.candidates[5].checks}['speed']
    assert (speed.value, speed.limit, speed.unit, speed.passed) == (
        pytest.approx(15.0),
        pytest.approx(30.9),
        'm/s',
        True,
    )
    failed = [check.reason for check in plan.candidates[5].checks if not check.passed]
    assert tuple(failed) == plan.candidates[5].reasons
    assert plan.judged_checks == plan.candidates[4].checks  # of the chosen
    told.waypoints[4] = line(16.0)
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert plan.judged_checks == plan.candidates[5].checks  # none passes: of the best
    assert PlanningEngine(told, LIMITS, cpu).plan(planner_input(ego=None)).judged_checks == ()


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'ego': None}, 'odometry missing or too old'),
        ({'ego': None, 'ego_missing': 'odometry too old: 2 s'}, 'odometry too old: 2 s'),
        ({'ego': ego(speed_mps=math.nan)}, r'speed of the vehicle is not finite \(nan\)'),
        ({'ego': ego(accel_mps2=math.inf)}, 'acceleration of the vehicle'),
        ({'ego': ego(yaw_rate_radps=math.nan)}, 'yaw rate of the vehicle'),
        ({'command': 3}, 'unknown command 3'),
        ({'features': torch.zeros(0, 8), 'positions_ego': torch.zeros(0, 3)}, 'no occupancy queries'),
        ({'features': torch.full((4, 8), math.nan)}, 'features are not finite'),
        ({'reasoning': torch.full((7, 8), math.inf)}, 'reasoning tokens are not finite'),
        ({'positions_ego': torch.full((4, 3), math.nan)}, 'positions are not finite'),
    ],
)
def test_bad_input_is_an_invalid_plan_with_the_reason(told, cpu, changes, reason):
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input(**changes))
    assert (plan.valid, plan.chosen, plan.candidates, plan.trajectory) == (False, None, (), None)
    assert len(plan.reasons) == 1
    assert reason.replace('\\', '') in plan.reasons[0]
    assert told.given == []


def test_non_finite_network_output_is_invalid(told, cpu):
    told.scores[1] = torch.nan
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert plan.reasons == ('planner network: scores are not finite',)
    told.scores[1] = 0.5
    told.waypoints[5, 3, 0] = torch.nan
    plan = PlanningEngine(told, LIMITS, cpu).plan(planner_input())
    assert (plan.valid, plan.chosen) == (True, 4)  # one broken candidate, and another that is whole
    assert plan.candidates[5].trajectory is None
    assert plan.candidates[5].reasons == ('non-finite values 1 exceeds 0',)
    told.waypoints[:] = torch.nan
    assert not PlanningEngine(told, LIMITS, cpu).plan(planner_input()).valid


def test_noise_depends_on_seed_and_stamp_only(told, cpu):
    stamps = (STAMP_NS, STAMP_NS + 1, STAMP_NS)
    for seed in (0, 1):
        engine = PlanningEngine(told, LIMITS, cpu, seed)
        for stamp_ns in stamps:
            torch.randn(5)
            engine.plan(planner_input(stamp_ns=stamp_ns))
    noise = [drawn for _, _, drawn in told.given]
    assert noise[0] == noise[2]
    assert noise[3] == noise[5]
    assert len(set(noise)) == 4


def test_real_planner_is_deterministic_and_follows_its_anchors(planner, config, cpu):
    given = planner_input(config, ego=ego(speed_mps=8.0))
    first = PlanningEngine(planner, LIMITS, cpu, seed=3).plan(given)
    busy = PlanningEngine(planner, LIMITS, cpu, seed=3)
    for stamp_ns in range(3):
        busy.plan(dataclasses.replace(given, stamp_ns=stamp_ns))
    again = busy.plan(given)
    assert len(first.candidates) == planner.anchors.shape[0] * planner.anchors.shape[1]
    for one, other in zip(first.candidates, again.candidates, strict=True):
        np.testing.assert_array_equal(one.trajectory.positions_m, other.trajectory.positions_m)
        assert one.score == other.score
    # Untrained it returns its anchors: each candidate must then be the anchor of its own command and mode.
    for candidate in first.candidates:
        anchor = planner.anchors[candidate.command, candidate.mode].numpy()
        np.testing.assert_allclose(candidate.trajectory.positions_m[1:], anchor, atol=1e-4)
    if first.valid:
        assert first.candidates[first.chosen].command == Command.STRAIGHT


@pytest.mark.parametrize('command', list(Command))
def test_real_planner_finds_a_plan_at_some_speed(planner, config, cpu, command):
    """The shipped anchors are drivable: every command has a valid plan at town speeds, each from its own group."""
    engine = PlanningEngine(planner, LIMITS, cpu)
    plans = [
        engine.plan(planner_input(config, command=command, ego=ego(speed_mps=v))) for v in np.arange(0.0, 14.0, 1.0)
    ]
    valid = [plan for plan in plans if plan.valid]
    assert len(valid) >= 3
    assert {plan.candidates[plan.chosen].command for plan in valid} == {command}

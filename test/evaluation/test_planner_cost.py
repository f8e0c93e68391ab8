"""The benchmark of the planner's steps: it measures what it says, and refuses a plan that is not repeatable."""

import pytest
import torch

from sparseoccvla_ros.evaluation import planner_cost
from sparseoccvla_ros.evaluation.planner_cost import measure, table


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_each_number_of_steps_is_measured_with_its_own_schedule(monkeypatch):
    ran = []
    right = planner_cost._plan

    def plan(planner, inputs):
        ran.append(planner.schedule.timesteps)
        return right(planner, inputs)

    monkeypatch.setattr(planner_cost, '_plan', plan)
    costs = measure([1, 4], model='tiny', repeats=2, threads=1)
    assert [cost.steps for cost in costs] == [1, 4]
    assert ran == [(0,), (15, 10, 5, 0)] * 3  # to warm up, then in turn
    assert all(0.0 < cost.median_ms <= cost.p90_ms * 1.001 for cost in costs)
    header, _, first, second = table(costs).splitlines()
    assert first.endswith('| 1.00 |')
    assert second.startswith('| 4 | ')
    assert header.count('|') == second.count('|')


def test_steps_change_the_plan(monkeypatch):
    """Otherwise what is timed would not be what is meant."""
    inputs = planner_cost._inputs('tiny')
    plans = [planner_cost._plan(planner_cost._planner('tiny', steps), inputs) for steps in (1, 2)]
    assert (plans[0] - plans[1]).abs().max() > 1e-3


def test_a_plan_that_differs_is_not_timed(monkeypatch):
    right = planner_cost._plan
    monkeypatch.setattr(planner_cost, '_plan', lambda *given: right(*given) + torch.rand(1))
    with pytest.raises(ArithmeticError, match='1 steps: the same seed gave two plans'):
        measure([1], model='tiny', repeats=1, threads=1)

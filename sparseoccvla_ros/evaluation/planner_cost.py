"""What the planner costs with 1, 2, 4, 8 steps of denoising, one sample at a time as on the car.

All numbers of steps are measured in turn, run by run, so that a busy machine slows them alike. The weights are random,
which changes no time. Nothing is reported unless the same seed gives the same plan each time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.planner import TrajectoryPlanner
from sparseoccvla_ros.model.vla import build_planner

#: As many as the tiny tokenizer makes of the planning prompt.
REASONING_TOKENS = 7


@dataclass(frozen=True)
class StepsCost:
    """Milliseconds of one plan: scores and all refined candidates, without the gate."""

    steps: int
    median_ms: float
    p90_ms: float


def measure(steps: Sequence[int], *, model: str, repeats: int, threads: int) -> list[StepsCost]:
    """Cost of each number of steps, in their order, on the CPU.

    Args:
        steps: of denoising.
        model: configuration, see :func:`load_model_config`.
        repeats: plans of each.
        threads: of torch.

    Raises:
        ValueError: a number of steps that the model's schedule does not hold.
        ArithmeticError: the same seed gave two plans.
    """
    torch.set_num_threads(threads)
    planners = [_planner(model, number) for number in steps]
    inputs = _inputs(model)
    expected = [_plan(planner, inputs) for planner in planners]  # warms up
    taken_ms: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats):
        for number, planner, first, times_ms in zip(steps, planners, expected, taken_ms, strict=True):
            begin_s = time.perf_counter()
            waypoints_m = _plan(planner, inputs)
            times_ms.append(1e3 * (time.perf_counter() - begin_s))
            if not torch.equal(waypoints_m, first):
                raise ArithmeticError(f'{number} steps: the same seed gave two plans')
    return [
        StepsCost(number, statistics.median(times_ms), torch.tensor(times_ms).quantile(0.9).item())
        for number, times_ms in zip(steps, taken_ms, strict=True)
    ]


def _planner(model: str, steps: int) -> TrajectoryPlanner:
    planner = build_planner(load_model_config(model, {'planner.steps': steps}), weights=None, seed=0)
    # an untrained head answers zero, and the plan would be the anchors whatever was computed
    torch.nn.init.normal_(planner.head.weight, std=0.2, generator=torch.Generator().manual_seed(0))
    return planner


def _inputs(model: str) -> dict[str, Tensor]:
    config, generator = load_model_config(model), torch.Generator().manual_seed(0)
    Q = config.encoder.queries
    return {
        'features': torch.randn(1, Q, config.encoder.width, generator=generator),
        'positions_m': torch.randn(1, Q, 3, generator=generator) * torch.tensor([15.0, 15.0, 1.0]),
        'reasoning_tokens': torch.randn(1, REASONING_TOKENS, config.language.width, generator=generator),
        'ego_state': torch.tensor([[8.0, 0.5, 0.1]]),
        'command': torch.tensor([2]),
    }


@torch.inference_mode()
def _plan(planner: TrajectoryPlanner, inputs: dict[str, Tensor]) -> Tensor:
    return planner(**inputs, generator=torch.Generator().manual_seed(0)).waypoints_ego_m


def table(costs: Sequence[StepsCost]) -> str:
    """The figures as Markdown; ratios to the first row."""
    lines = ['| steps | median, ms | p90, ms | ratio of medians |', '|---|---|---|---|']
    return '\n'.join(
        lines
        + [
            f'| {cost.steps} | {cost.median_ms:.1f} | {cost.p90_ms:.1f} | {cost.median_ms / costs[0].median_ms:.2f} |'
            for cost in costs
        ]
    )

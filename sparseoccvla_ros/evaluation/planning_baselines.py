"""Planners that see nothing: what the vehicle's own motion alone gives on open-loop metrics.

They take the same motion state as the model (fitted to PAST poses) and stand in the same table, so that nobody takes
for scene understanding what a few numbers of the ego status explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from sparseoccvla_ros.evaluation.planning_metrics import STEPS
from sparseoccvla_ros.model.planner import EGO_STATE_SCALE, constant_turn_m
from sparseoccvla_ros.runtime.scene import Command, EgoState

Array = np.ndarray

TRAINING_STEPS = 1000
#: Samples of a step at most: the time does not grow with the data set.
BATCH = 256
LEARNING_RATE = 3e-3


def constant_velocity(state: EgoState) -> Array:
    """Waypoints [6, 2], metres, straight on at the present speed."""
    return _constant_turn(state.speed_mps, 0.0)


def constant_turn_rate(state: EgoState) -> Array:
    """Waypoints [6, 2], metres, on the arc of the present speed and yaw rate."""
    return _constant_turn(state.speed_mps, state.yaw_rate_radps)


def _constant_turn(speed_mps: float, yaw_rate_radps: float) -> Array:
    motion = torch.tensor([[speed_mps], [yaw_rate_radps]], dtype=torch.float64)
    return constant_turn_m(*motion)[0].numpy()


@dataclass(frozen=True, eq=False)
class StatusSample:
    """What the ego-status planner learns from: the motion, the route's command, and where the car then drove [6, 2];
    ``valid`` bool [6] says which of these waypoints were recorded.
    """

    state: EgoState
    command: Command
    path_ego_m: Array
    valid: Array = field(default_factory=lambda: np.ones(STEPS, dtype=bool))


class EgoStatusPlanner(nn.Module):
    """Speed, acceleration, yaw rate and command to a path: an MLP that corrects the constant turn, step by step.

    After AD-MLP (Zhai et al., "Rethinking the Open-Loop Evaluation of End-to-End Autonomous Driving in nuScenes"). An
    untrained one is exactly the constant turn.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 + len(Command), width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 2 * STEPS),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, states: Tensor, commands: Tensor, constant_turn_m: Tensor) -> Tensor:
        """Paths [B, 6, 2], metres.

        Args:
            states: [B, 3], m/s, m/s2, rad/s.
            commands: long [B], :class:`Command`.
            constant_turn_m: [B, 6, 2], see :func:`constant_turn_rate`.
        """
        one_hot = nn.functional.one_hot(commands, len(Command)).to(states)
        steps_m = self.layers(torch.cat([states / states.new_tensor(EGO_STATE_SCALE), one_hot], dim=-1))
        return constant_turn_m + steps_m.unflatten(-1, (STEPS, 2)).cumsum(dim=-2)

    @torch.inference_mode()
    def plan(self, state: EgoState, command: Command) -> Array:
        """Waypoints [6, 2], metres, ego frame."""
        return self(*_batch([(state, command)]))[0].numpy().astype(np.float64)


def train_ego_status_planner(samples: Sequence[StatusSample], seed: int = 0) -> EgoStatusPlanner:
    """Train on the CPU: seconds with one torch thread; steps this small only get slower with more on a busy machine.

    It learns from all that the model's planner learns from: every recorded waypoint, and mirror images of half of the
    samples. The same samples and seed give the same planner.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError('the ego-status planner needs samples to learn from, found none')
    states, commands, turns_m = _batch([(sample.state, sample.command) for sample in samples])
    driven_m = torch.from_numpy(np.stack([sample.path_ego_m for sample in samples])).float()
    valid = torch.from_numpy(np.stack([sample.valid for sample in samples])).float()
    mirrored = torch.tensor([int(Command.LEFT), int(Command.RIGHT), int(Command.STRAIGHT)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        planner = EgoStatusPlanner()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(planner.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TRAINING_STEPS)
    for _ in range(TRAINING_STEPS):
        chosen = torch.randperm(len(samples), generator=generator)[:BATCH]
        flip = torch.rand(len(chosen), generator=generator) < 0.5
        side = torch.where(flip, -1.0, 1.0)[:, None]
        across = torch.stack([torch.ones_like(side), side], dim=-1)  # of x and y, [B, 1, 2]
        path_m = planner(
            states[chosen] * torch.cat([torch.ones(len(chosen), 2), side], dim=1),
            torch.where(flip, mirrored[commands[chosen]], commands[chosen]),
            turns_m[chosen] * across,
        )
        missed_m = (path_m - driven_m[chosen] * across).abs().mean(dim=-1)
        loss = (missed_m * valid[chosen]).sum() / valid[chosen].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return planner.eval()


def _batch(status: Sequence[tuple[EgoState, Command]]) -> tuple[Tensor, Tensor, Tensor]:
    states = torch.tensor([[state.speed_mps, state.accel_mps2, state.yaw_rate_radps] for state, _ in status])
    commands = torch.tensor([int(command) for _, command in status])
    turns = np.stack([constant_turn_rate(state) for state, _ in status])
    return states.float(), commands, torch.from_numpy(turns).float()

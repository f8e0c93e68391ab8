"""Queries, the planning prompt's reading and the vehicle's motion to one checked plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from sparseoccvla_ros.model.candidates import keep_alternatives
from sparseoccvla_ros.model.planner import PlannerOutput, TrajectoryPlanner
from sparseoccvla_ros.planning.gate import Check, SafetyGate
from sparseoccvla_ros.planning.obstacles import Obstacles
from sparseoccvla_ros.planning.trajectory import (
    Trajectory,
    remaining,
    resample,
    stop_trajectory,
    trajectory_from_waypoints,
)
from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.runtime.scene import Command, EgoState, Forecast, OccupancyPoints
from sparseoccvla_ros.runtime.timing import StageTimer

# Spreads the bits of the seed, so that seed 1 at stamp s and seed 2 at stamp s - 1 do not share their noise.
_SEED_FACTOR = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class PlannerInput:
    """Everything that one plan is made from, of one stamp.

    ``features`` [Q, C], ``positions_ego`` [Q, 3] and ``reasoning`` [R, D] (T_r) are float32 tensors; ``ego`` is None
    where odometry is missing, ``ego_missing`` then says why. ``occupancy`` None leaves the collision checks out;
    ``forecast`` holds (seconds after the stamp, occupancy then), all in the ego frame at the stamp.
    """

    stamp_ns: int
    features: torch.Tensor
    positions_ego: torch.Tensor
    reasoning: torch.Tensor
    ego: EgoState | None
    command: Command
    occupancy: OccupancyPoints | None = None
    forecast: Forecast = ()
    ego_missing: str = 'odometry missing or too old'


@dataclass(frozen=True)
class Candidate:
    """One refined anchor, or the anchor itself where the refined ones of its command have collapsed onto one another
    (not ``refined``). ``trajectory`` is in the ego frame, None where it is not finite; ``checks`` are the gate's,
    ``reasons`` what the failed ones say.
    """

    command: Command
    mode: int
    score: float
    feasible: bool
    reasons: tuple[str, ...]
    trajectory: Trajectory | None
    checks: tuple[Check, ...] = ()
    refined: bool = True


@dataclass(frozen=True)
class Plan:
    """A plan, or why there is none.

    ``trajectory`` (ego frame at ``stamp_ns``) is the chosen candidate's where ``valid``; else None, or the stop
    trajectory where ``is_stop``. ``candidates`` are those of all commands, command by command and mode by mode;
    ``chosen`` is an index into them, always of the given command. ``ranked`` are those of the command, the best first;
    ``diversity`` is how far apart its refined candidates are, in shares of its anchors (``model/candidates.py``), None
    where the network was not asked.
    """

    stamp_ns: int
    valid: bool
    reasons: tuple[str, ...]
    chosen: int | None = None
    candidates: tuple[Candidate, ...] = ()
    ranked: tuple[int, ...] = ()
    diversity: float | None = None
    is_stop: bool = False
    trajectory: Trajectory | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)

    @property
    def judged_checks(self) -> tuple[Check, ...]:
        """The gate's checks of the chosen candidate; without one, of the best of the command; () if none was made."""
        best = self.ranked[:1] if self.chosen is None else (self.chosen,)
        return self.candidates[best[0]].checks if best else ()


def due(plan: Plan, age_s: float, rate_hz: float) -> Plan:
    """A plan as it is handed out ``age_s`` after its stamp: what has passed is left out.

    The points keep their places, which are of the pose at the stamp; that the vehicle has moved since is what the
    missing ones say. Candidates stay as planned.

    Args:
        plan: any; one without a trajectory stays as it is.
        age_s: newest stamp seen minus the plan's, >= 0.
        rate_hz: points a second; 0: the plan's own times.

    Returns:
        the plan with the trajectory's rest; invalid and without one if it has come to its end.
    """
    if plan.trajectory is None:
        return plan
    end_s = float(plan.trajectory.times_s[-1])
    if age_s >= end_s:
        reason = f'input_too_old: {age_s:.2f} s, the plan covers {end_s:g} s'
        return replace(plan, valid=False, reasons=(*plan.reasons, reason), chosen=None, is_stop=False, trajectory=None)
    rest = remaining(plan.trajectory, age_s)
    return replace(plan, trajectory=resample(rest, rate_hz) if rate_hz > 0.0 else rest)


OBSTACLE_SCORE_THRESHOLD = 0.75
"""What of the occupancy stops a plan. Scores are calibrated so that 0.5 is best for IoU, where a false voxel costs no
more than a missed one; before the vehicle a single false one costs the whole plan (docs/planning.md)."""


class PlanningEngine:
    """Runs the planner network and gates what it gives. Not thread safe: one worker calls it.

    Args:
        model: the planner part, in eval mode, on ``device``.
        limits: of the vehicle.
        device: where it computes.
        seed: of the diffusion's noise; the same seed, stamp and input give the same plan, whatever ran before.
        obstacle_score_threshold: points of the occupancy and of its forecast below it do not stop a plan.
        stop_if_none: give the stop trajectory, marked as such, where no candidate passes. It needs the vehicle's state.

    Raises:
        ValueError: the threshold is outside 0..1.
    """

    def __init__(
        self,
        model: TrajectoryPlanner,
        limits: VehicleLimits,
        device: torch.device,
        seed: int = 0,
        *,
        obstacle_score_threshold: float = OBSTACLE_SCORE_THRESHOLD,
        stop_if_none: bool = False,
    ) -> None:
        if not 0.0 <= obstacle_score_threshold <= 1.0:
            raise ValueError(f'obstacle_score_threshold ({obstacle_score_threshold}) must be in 0..1')
        self._obstacle_score_threshold = obstacle_score_threshold
        self._model = model
        self._device = device
        self._seed = seed
        self._stop_if_none = stop_if_none
        self._gate = SafetyGate(limits)

    def refuse(self, stamp_ns: int, reasons: tuple[str, ...], ego: EgoState | None) -> Plan:
        """The invalid plan of a scene that was not, or not in time, planned for; may be called from any thread."""
        stop = None
        if self._stop_if_none and ego is not None and math.isfinite(ego.speed_mps):
            stop = stop_trajectory(ego.speed_mps, self._gate.limits.comfort_decel_mps2)
        return Plan(stamp_ns=stamp_ns, valid=False, reasons=reasons, is_stop=stop is not None, trajectory=stop)

    def plan(self, planner_input: PlannerInput) -> Plan:
        """Plan for one scene. Bad input and bad network outputs give an invalid plan with reasons, never an error."""
        timer = StageTimer(self._device)
        refusal = _refusal(planner_input)
        if refusal or planner_input.ego is None:
            return self._invalid(planner_input, (refusal,), (), timer)
        with timer.stage('planner'):
            output = self._infer(planner_input, planner_input.ego)
            kept = keep_alternatives(output, self._model.anchors, self._model.config.min_diversity)
            scores = output.scores[0].float().cpu().numpy()
            waypoints = kept.waypoints_ego_m[0].float().cpu().numpy()
            refined = kept.refined[0].tolist()
            diversity = float(kept.diversity[0, int(planner_input.command)])
        if not np.isfinite(scores).all():
            return self._invalid(planner_input, ('planner network: scores are not finite',), (), timer)
        with timer.stage('gate'):
            obstacles = self._obstacles(planner_input)
            candidates = tuple(
                self._candidate(obstacles, planner_input.ego, k, float(scores[k]), waypoints[k], refined[k])
                for k in range(len(scores))
            )
        # Best score first; among equal scores the first mode, so that the order never depends on the sort.
        own = [k for k in range(len(candidates)) if candidates[k].command == planner_input.command]
        ranked = tuple(sorted(own, key=lambda k: (-candidates[k].score, k)))
        chosen = next((k for k in ranked if candidates[k].feasible), None)
        if chosen is None:
            reasons = [f'mode {candidates[k].mode}: {"; ".join(candidates[k].reasons)}' for k in ranked]
            plan = self._invalid(planner_input, ('no candidate passes the safety gate', *reasons), candidates, timer)
            return replace(plan, ranked=ranked, diversity=diversity)
        return Plan(
            stamp_ns=planner_input.stamp_ns,
            valid=True,
            reasons=(),
            chosen=chosen,
            candidates=candidates,
            ranked=ranked,
            diversity=diversity,
            trajectory=candidates[chosen].trajectory,
            stage_ms=timer.stage_ms,
        )

    def _obstacles(self, planner_input: PlannerInput) -> Obstacles | None:
        if planner_input.occupancy is None:
            return None
        score = self._obstacle_score_threshold
        forecast = tuple((horizon_s, later.at_least(score)) for horizon_s, later in planner_input.forecast)
        return self._gate.obstacles(planner_input.occupancy.at_least(score), forecast)

    def _infer(self, planner_input: PlannerInput, ego: EgoState) -> PlannerOutput:
        # On the CPU, so that the noise is the same on every device.
        generator = torch.Generator().manual_seed((self._seed * _SEED_FACTOR + planner_input.stamp_ns) % 2**63)
        state = [ego.speed_mps, ego.accel_mps2, ego.yaw_rate_radps]
        with torch.inference_mode():
            return self._model(
                planner_input.features.to(self._device)[None],
                planner_input.positions_ego.to(self._device)[None],
                planner_input.reasoning.to(self._device)[None],
                torch.tensor([state], dtype=torch.float32, device=self._device),
                torch.tensor([int(planner_input.command)], device=self._device),
                generator,
            )

    def _candidate(
        self,
        obstacles: Obstacles | None,
        ego: EgoState,
        index: int,
        score: float,
        waypoints_ego_m: np.ndarray,
        refined: bool,
    ) -> Candidate:
        command, mode = divmod(index, self._model.anchors.shape[1])
        report = self._gate.check_against(obstacles, waypoints_ego_m, ego.speed_mps)
        finite = bool(np.isfinite(waypoints_ego_m).all())
        return Candidate(
            command=Command(command),
            mode=mode,
            score=score,
            feasible=report.passed,
            reasons=report.reasons,
            trajectory=trajectory_from_waypoints(waypoints_ego_m, ego.speed_mps) if finite else None,
            checks=report.checks,
            refined=refined,
        )

    def _invalid(
        self,
        planner_input: PlannerInput,
        reasons: tuple[str, ...],
        candidates: tuple[Candidate, ...],
        timer: StageTimer,
    ) -> Plan:
        plan = self.refuse(planner_input.stamp_ns, reasons, planner_input.ego)
        return replace(plan, candidates=candidates, stage_ms=timer.stage_ms)


def _refusal(planner_input: PlannerInput) -> str:
    """Why no plan can be made from this input, '' if one can."""
    ego = planner_input.ego
    if ego is None:
        return planner_input.ego_missing
    state = {'speed': ego.speed_mps, 'acceleration': ego.accel_mps2, 'yaw rate': ego.yaw_rate_radps}
    for name, value in state.items():
        if not math.isfinite(value):
            return f'{name} of the vehicle is not finite ({value})'
    if planner_input.command not in list(Command):
        return f'unknown command {planner_input.command!r}'
    if not len(planner_input.features):
        return 'the scene has no occupancy queries'
    tensors = {'features': planner_input.features, 'positions': planner_input.positions_ego}
    for name, tensor in (tensors | {'reasoning tokens': planner_input.reasoning}).items():
        if not bool(torch.isfinite(tensor).all()):
            return f'{name} are not finite'
    return ''

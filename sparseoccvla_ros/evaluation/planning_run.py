"""Plans for a whole data set beside planners that see nothing, scored by every protocol.

Keyframes of a scene go in time order through the engines that run on the car, so that each uses earlier frames and
never later ones. The recorded future is on the side of the truth alone; only ``leaky_command`` takes the command from
it, and then everything that is printed says so.

Rows: ``model``: the best-scored candidate of the command, before the safety gate; ``model_gated``: what the car would
drive, the gate's choice; ``constant_velocity``, ``constant_turn_rate`` and ``ego_status_mlp``: see
:mod:`planning_baselines`. A plan that is not given counts as failed in every rate and as standing still in L2, see
:meth:`PlanningTruth.measure_missing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np

from sparseoccvla_ros.data.keyframes import keyframe_view
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables, Sample
from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap
from sparseoccvla_ros.evaluation.occupancy_run import Failure
from sparseoccvla_ros.evaluation.paired import Paired, paired
from sparseoccvla_ros.evaluation.planning_baselines import EgoStatusPlanner, constant_turn_rate, constant_velocity
from sparseoccvla_ros.evaluation.planning_drivable import DrivableMaps
from sparseoccvla_ros.evaluation.planning_metrics import PlanningScore, PlanningTruth
from sparseoccvla_ros.evaluation.planning_samples import PlanningSample, planning_samples
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.runtime.finite import NonFiniteOutput
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.planning import Plan, PlannerInput, PlanningEngine
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine, SceneResult
from sparseoccvla_ros.runtime.scene import Command, EgoState, SceneQueries, SceneReasoning

Array = np.ndarray
#: Path [6, 2] in the ego frame, metres, from motion and command.
Baseline = Callable[[EgoState, Command], Array]

MODEL_ROWS = ('model', 'model_gated')


@dataclass(frozen=True)
class PlanningModel:
    """The engines of one model and its configuration."""

    perception: PerceptionEngine
    reasoning: ReasoningEngine
    planning: PlanningEngine
    config: VLAConfig


@dataclass
class PlanningRun:
    """Scores per row over all judged keyframes so far.

    ``keyframes`` counts those of the scenes, ``left_out`` those that are not judged by reason, ``commands`` the judged
    ones by where their command comes from; ``degraded`` and ``temporal`` those that the model planned without some
    camera, and with earlier frames; ``refused`` those for which no candidate passed the gate.
    """

    leaky_command: bool
    rows: dict[str, PlanningScore]
    keyframes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    with_drivable: int = 0
    degraded: int = 0
    temporal: int = 0
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """Keyframes in the scores, the same in every row."""
        return sum(self.commands.values())

    @property
    def scenes(self) -> list[str]:
        """Names of the scenes with a judged keyframe."""
        return list(dict.fromkeys(scene for score in self.rows.values() for scene in score.scenes))

    def intervals(self, bootstrap: SceneBootstrap) -> dict[str, object]:
        """Intervals of the scores by row; empty where there are none."""
        if bootstrap.off:
            return {}
        return {name: bootstrap.intervals(score.resampled(bootstrap)) for name, score in self.rows.items()}

    def against_baselines(self, bootstrap: SceneBootstrap) -> dict[str, dict[str, dict[str, Paired]]]:
        """The model's rows beside those of the planners that see nothing: by its row, theirs, and the score's name."""
        draws = {} if bootstrap.off else {name: score.resampled(bootstrap) for name, score in self.rows.items()}
        scores = {name: score.result() for name, score in self.rows.items()}
        own = [name for name in self.rows if name in MODEL_ROWS]
        return {
            name: {
                other: paired(scores[name], scores[other], draws.get(name, {}), draws.get(other, {}), bootstrap)
                for other in self.rows
                if other not in MODEL_ROWS
            }
            for name in own
        }

    def summary(self) -> dict[str, object]:
        """Counts, failures and scores for a JSON file: metres and fractions 0..1, nan as None.

        ``scores`` [row] has the names of :meth:`PlanningScore.result` and ``missing``.
        """
        return {
            'leaky_command': self.leaky_command,
            'keyframes': self.keyframes,
            'judged': self.judged,
            'left_out': {name: self.left_out[name] for name in ('without_future', 'without_past')},
            'commands': dict(self.commands),
            'with_drivable_area': self.with_drivable,
            'degraded': self.degraded,
            'temporal': self.temporal,
            'refused_by_gate': self.refused,
            'failures': [vars(failure) for failure in self.failures],
            'scores': {name: _figures(score) for name, score in self.rows.items()},
        }


def baselines(ego_status: EgoStatusPlanner | None) -> dict[str, Baseline]:
    """Rows of the table that see nothing; the MLP where there is one."""
    rows: dict[str, Baseline] = {
        'constant_velocity': lambda state, _: constant_velocity(state),
        'constant_turn_rate': lambda state, _: constant_turn_rate(state),
    }
    return rows if ego_status is None else rows | {'ego_status_mlp': ego_status.plan}


def evaluate_planning(
    tables: NuScenesTables,
    scenes: Sequence[str],
    model: PlanningModel | None,
    others: Mapping[str, Baseline],
    *,
    leaky_command: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> PlanningRun:
    """Plan for every keyframe of the scenes that can be judged.

    Args:
        tables: of the data set.
        scenes: names.
        model: None: the baselines alone. Its perception's memory is cleared between scenes.
        others: see :func:`baselines`.
        leaky_command: derive commands from the RECORDED future.
        progress: called after each keyframe.

    Raises:
        NuScenesError: a scene is unknown, or its tables or its map are broken.
    """
    names = (MODEL_ROWS if model is not None else ()) + tuple(others)
    run = PlanningRun(leaky_command, {name: PlanningScore() for name in names})
    maps = DrivableMaps(tables)
    for name in scenes:
        judged, left_out = planning_samples(tables, name, leaky_command=leaky_command)
        run.left_out += left_out
        by_number = {sample.number: sample for sample in judged}
        last = max(by_number, default=-1)
        if model is not None:
            model.perception.memory.clear()
        for number, keyframe in enumerate(tables.scene(name).samples):
            run.keyframes += 1
            sample = by_number.get(number)
            queries, reason = _see(keyframe, model) if model is not None and number <= last else (None, '')
            if sample is not None:
                drivable = maps.around(name, sample.global_from_ego)
                truth = PlanningTruth(sample.path_ego_m, sample.objects, drivable)
                run.commands[sample.command_source] += 1
                run.with_drivable += drivable is not None
                for row, plan in others.items():
                    run.rows[row].add(truth, plan(sample.state, sample.command), name)
                if model is not None:
                    _judge(run, sample, truth, model, queries, reason)
            progress()
    return run


def _see(keyframe: Sample, model: PlanningModel) -> tuple[SceneQueries | None, str]:
    """Queries of a keyframe, or why there are none; remembered for later keyframes."""
    image = model.config.image
    try:
        view = keyframe_view(keyframe, model.perception.cameras, image.width_px, image.height_px)
        return model.perception.process(view), ''
    except (NuScenesError, NonFiniteOutput, ValueError) as error:
        return None, str(error)


def _judge(
    run: PlanningRun,
    sample: PlanningSample,
    truth: PlanningTruth,
    model: PlanningModel,
    queries: SceneQueries | None,
    reason: str,
) -> None:
    best = gated = None
    if queries is not None:
        run.degraded += bool(queries.cameras_missing)
        run.temporal += queries.temporal
        plan, reason = _plan(sample, model, queries)
        if plan is not None:
            best, gated = best_path(plan, sample.command), chosen_path(plan)
            run.refused += best is not None and gated is None
            reason = reason if best is not None else '; '.join(plan.reasons)
    if best is None:
        run.failures.append(Failure(sample.scene, sample.token, f'no plan: {reason}'))
    for row, path in zip(MODEL_ROWS, (best, gated), strict=True):
        run.rows[row].add(truth, path, sample.scene)


def _plan(sample: PlanningSample, model: PlanningModel, queries: SceneQueries) -> tuple[Plan | None, str]:
    result = read_scene(model, queries)
    if result.reasoning is None:
        return None, result.failure
    return model.planning.plan(planner_input(sample, queries, result.reasoning)), ''


def read_scene(model: PlanningModel, queries: SceneQueries) -> SceneResult:
    """The language model's reading of a scene, its forecast with it, or why there is none."""
    results: SimpleQueue[SceneResult] = SimpleQueue()
    model.reasoning.submit_scene(queries, results.put)
    return results.get()


def planner_input(sample: PlanningSample, queries: SceneQueries, reasoning: SceneReasoning) -> PlannerInput:
    """What the planner of the car gets: nothing recorded later is in it."""
    return PlannerInput(
        stamp_ns=queries.stamp_ns,
        features=queries.features,
        positions_ego=queries.positions_ego,
        reasoning=reasoning.tokens,
        ego=sample.state,
        command=sample.command,
        occupancy=queries.occupancy,
        forecast=reasoning.forecast,
    )


def best_path(plan: Plan, command: Command) -> Array | None:
    """Waypoints [6, 2] of the best-scored candidate of the command, gate or not; None if it is not finite."""
    own = [candidate for candidate in plan.candidates if candidate.command == command]
    best = max(own, key=lambda candidate: candidate.score, default=None)  # the first of equals, as the engine
    return None if best is None or best.trajectory is None else best.trajectory.positions_m[1:]


def chosen_path(plan: Plan) -> Array | None:
    """Waypoints [6, 2] of the candidate that passed the gate; None if none did."""
    return plan.candidates[plan.chosen].trajectory.positions_m[1:] if plan.chosen is not None else None


def _figures(score: PlanningScore) -> dict[str, float | int | None]:
    figures = {name: None if np.isnan(value) else float(value) for name, value in score.result().items()}
    return {'missing': score.missing, **figures}

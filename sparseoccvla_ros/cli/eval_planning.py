"""``sparseoccvla eval planning``: L2 and collisions by named protocols, beside planners that see nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sparseoccvla_ros.cli.eval_common import (
    ALL_CAMERAS,
    FAILED_SAMPLES,
    AllowFailures,
    Bootstrap,
    CameraNames,
    Data,
    Device,
    JsonFile,
    Scenes,
    ScenesFile,
    Threads,
    Version,
    Weights,
    cell,
    comparison,
    interval_note,
    refusal,
    require_writable,
    rig_cameras,
    scene_names,
    survey,
    table_console,
    weights_asked,
)
from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.evaluation.bootstrap import RESAMPLES, SceneBootstrap
from sparseoccvla_ros.evaluation.planning_drivable import WORLD_VERSION
from sparseoccvla_ros.evaluation.planning_metrics import PROTOCOLS
from sparseoccvla_ros.evaluation.replay_summary import revision

if TYPE_CHECKING:
    from sparseoccvla_ros.evaluation.paired import Paired
    from sparseoccvla_ros.evaluation.planning_run import PlanningModel, PlanningRun

LEAK = 'command from the RECORDED future: a leak'
TIMES = ('1s', '2s', '3s', 'mean_1_2_3s')
#: Name in the scores, heading, factor, decimals.
MEASURES = (('l2', 'L2 m', 1.0, 3), ('collision', 'collision %', 100.0, 2), ('boundary', 'boundary %', 100.0, 2))
SHOWN_FAILURES = 10


def planning(
    data: Data,
    version: Version,
    json_file: JsonFile = None,
    scene: Scenes = None,
    scenes_file: ScenesFile = None,
    model: Annotated[
        str, typer.Option(help='Model configuration: a name or a .yaml path; empty: the baselines alone.')
    ] = '',
    weights: Weights = None,
    cameras: CameraNames = ALL_CAMERAS,
    device: Device = 'cpu',
    threads: Threads = 2,
    vehicle: Annotated[str, typer.Option(help='Limits of the safety gate: a name or a .yaml path.')] = 'default',
    seed: Annotated[int, typer.Option(min=0, help='Of the diffusion and of the ego-status MLP.')] = 0,
    baselines_from: Annotated[
        Path | None,
        typer.Option(metavar='TRAIN_DIR', help='World whose training split the ego-status MLP learns from.'),
    ] = None,
    leaky_command: Annotated[
        bool, typer.Option('--leaky-command', help='Take commands from the RECORDED future; results are labelled.')
    ] = False,
    bootstrap: Bootstrap = RESAMPLES,
    allow_failures: AllowFailures = False,
) -> None:
    """Planned paths against the driven ones: stp3, vad, uniad and omnidrive, of the model and of planners without eyes.

    Commands come from the route (the world has one) or are straight on. Exit code 1: the model gave no plan for a
    keyframe (which counts as a collision). 2: the request or the data set is wrong, or FILE cannot be written.
    """
    # imported here: the other commands need not wait seconds for torch
    import torch

    from sparseoccvla_ros.evaluation.planning_baselines import train_ego_status_planner
    from sparseoccvla_ros.evaluation.planning_run import baselines, evaluate_planning
    from sparseoccvla_ros.evaluation.planning_samples import require_unseen, training_samples

    console = Console(stderr=True)
    weights = weights_asked(model, weights)
    torch.set_num_threads(1)  # until the ego-status MLP is trained, see there
    ego_status, learnt_from = None, None
    try:
        tables = NuScenesTables(data, version)
        names = scene_names(tables, scene, scenes_file)
        keyframes, known = survey(tables, names)
        if weights and not model:
            raise ValueError(f'--weights {weights} needs --model')
        if json_file is not None:
            require_writable(json_file)
        if baselines_from is not None:
            samples, tokens = training_samples(NuScenesTables(baselines_from, WORLD_VERSION))
            require_unseen(tables, names, tokens)
            ego_status = train_ego_status_planner(samples, seed)
            learnt_from = f'{len(samples)} keyframes of the training split of world {baselines_from}'
        torch.set_num_threads(threads)
        rig = rig_cameras(cameras, known) if model else []
        columns = (TextColumn('keyframes'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with (
            planning_model(model, weights, rig, device, vehicle, seed) as evaluated,
            Progress(*columns, console=console) as progress,
        ):
            task = progress.add_task('keyframes', total=keyframes)
            run = evaluate_planning(
                tables, names, evaluated, baselines(ego_status), leaky_command=leaky_command,
                progress=lambda: progress.advance(task),
            )  # fmt: skip
    except (ValueError, OSError) as error:
        raise refusal(error, console) from error
    settings = {
        'data': str(data), 'version': version, 'scenes': names, 'model': model, 'weights': weights or 'untrained',
        'cameras': rig, 'device': device, 'vehicle': vehicle, 'seed': seed, 'ego_status_mlp': learnt_from,
        'note': LEAK if leaky_command else '', 'revision': revision(),
    }  # fmt: skip
    resampled = SceneBootstrap(run.scenes, bootstrap)
    intervals = run.intervals(resampled)
    against = run.against_baselines(resampled)
    document = {
        **settings, **run.summary(), 'intervals': intervals, 'bootstrap': resampled.summary(),
        'against': {
            row: {other: {name: found.summary() for name, found in scores.items()} for other, scores in others.items()}
            for row, others in against.items()
        },
    }  # fmt: skip
    _show(run, intervals, f'{model}, {settings["weights"]}' if model else 'baselines')
    _show_against(against)
    _show_notes(run, resampled, learnt_from)
    if run.failures:
        _show_failures(run, console)
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(document, indent=1) + '\n', encoding='utf-8')
        except OSError as error:  # a full disk, for example
            raise refusal(error, console) from error
    if run.failures and not allow_failures:
        raise typer.Exit(FAILED_SAMPLES)


@contextmanager
def planning_model(
    model: str, weights: str, rig: list[str], device: str, vehicle: str, seed: int
) -> Iterator[PlanningModel | None]:
    """The model's engines while they are used; None without a model.

    Raises:
        ValueError, OSError: configuration, weights, device or vehicle are wrong.
    """
    from sparseoccvla_ros.evaluation.planning_run import PlanningModel
    from sparseoccvla_ros.model.config import load_model_config
    from sparseoccvla_ros.model.placement import checkpoint_folder, torch_device
    from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner
    from sparseoccvla_ros.planning.vehicle import load_vehicle_limits
    from sparseoccvla_ros.runtime.occupancy import DEFAULT_SELF_FILTER
    from sparseoccvla_ros.runtime.perception import PerceptionEngine
    from sparseoccvla_ros.runtime.planning import PlanningEngine
    from sparseoccvla_ros.runtime.reasoning import ReasoningEngine

    limits = load_vehicle_limits(vehicle)
    if not model:
        yield None
        return
    config = load_model_config(model)
    place, folder = torch_device(device), checkpoint_folder(weights)
    network = build_perception(config, weights=folder).to(place)
    perception = PerceptionEngine(network, config, place, rig, self_filter=DEFAULT_SELF_FILTER)
    planner = PlanningEngine(build_planner(config, weights=folder).to(place), limits, place, seed)
    reasoning = ReasoningEngine(build_language(config, weights=folder).to(place), config, place)
    try:
        yield PlanningModel(perception, reasoning, planner, config)
    finally:
        reasoning.close()


def _show(run: PlanningRun, intervals: Mapping, title: str) -> None:
    console = table_console()
    scores = run.summary()['scores']
    leak = f', {LEAK}' if run.leaky_command else ''
    for protocol in PROTOCOLS:
        headings = ('1s', '2s', '3s', 'mean', 'no plan')
        table = Table('', '', *headings, title=f'{protocol}: {title}{leak}')
        for name, heading, factor, decimals in MEASURES:
            for row, figures in scores.items():
                if f'{protocol}/{name}/1s' in figures:
                    keys, ends = [f'{protocol}/{name}/{time}' for time in TIMES], intervals.get(row, {})
                    cells = [cell(figures[key], ends.get(key), factor, decimals) for key in keys]
                    table.add_row(heading, row, *cells, str(figures['missing']))
            table.add_section()
        for column in table.columns[2:]:
            column.justify = 'right'
        console.print(table)


def _show_against(against: Mapping[str, Mapping[str, Mapping[str, Paired]]]) -> None:
    console = Console()
    for row, others in against.items():
        for other, scores in others.items():
            l2, collision = scores['stp3/l2/mean_1_2_3s'], scores['stp3/collision/mean_1_2_3s']
            console.print(
                f'{row} against {other}, stp3 mean: L2 {comparison(l2, 1.0, 3)}; collision % {comparison(collision)}',
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip


def _show_notes(run: PlanningRun, bootstrap: SceneBootstrap, learnt_from: str | None) -> None:
    commands = ', '.join(f'{number} {source}' for source, number in run.commands.items()) or 'none'
    notes = [
        interval_note(bootstrap),
        f'{run.judged} of {run.keyframes} keyframes judged ({run.temporal} with earlier frames, {run.degraded} without '
        f'some camera), {run.with_drivable} with a drivable area; not judged: {run.left_out["without_future"]} without '
        f'3 s ahead, {run.left_out["without_past"]} without motion from past poses',
        f'commands: {commands}',
    ]
    if 'model' in run.rows:
        notes.append(
            f'the gate refused every candidate of {run.refused} keyframes; a missing plan counts as a collision, and '
            'as standing still in L2'
        )
    if learnt_from is not None:
        notes.append(f'ego_status_mlp learnt from {learnt_from}')
    console = Console()
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _show_failures(run: PlanningRun, console: Console) -> None:
    console.print(f'{len(run.failures)} keyframes failed:', style='red', highlight=False)
    for failure in run.failures[:SHOWN_FAILURES]:
        console.print(f'  {failure.scene} {failure.sample}: {failure.reason}', markup=False, highlight=False)

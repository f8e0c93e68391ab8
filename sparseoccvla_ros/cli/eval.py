"""``sparseoccvla eval``: metrics as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    Closing,
    Data,
    Device,
    Gts,
    JsonFile,
    Model,
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
from sparseoccvla_ros.cli.eval_forecast import forecast
from sparseoccvla_ros.cli.eval_language import language
from sparseoccvla_ros.cli.eval_planning import planning
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.data.occ3d import CLASS_NAMES
from sparseoccvla_ros.evaluation.bootstrap import RESAMPLES, SceneBootstrap
from sparseoccvla_ros.evaluation.replay_summary import revision

#: Scores that a line is written for beside each constant.
COMPARED = ('camera_mask/miou', 'camera_mask/geometric_iou', 'no_mask/miou', 'no_mask/geometric_iou', 'rayiou/mean')

if TYPE_CHECKING:
    from sparseoccvla_ros.evaluation.occupancy_run import OccupancyRun, OccupancyScores
    from sparseoccvla_ros.model.config import VLAConfig

eval_app = typer.Typer(name='eval', help='Metrics as a table and as JSON.', no_args_is_help=True)
eval_app.command()(forecast)
eval_app.command()(language)
eval_app.command()(planning)


@eval_app.command()
def occupancy(
    data: Data,
    version: Version,
    json_file: JsonFile = None,
    scene: Scenes = None,
    scenes_file: ScenesFile = None,
    gts: Gts = None,
    model: Model = 'tiny',
    weights: Weights = None,
    cameras: CameraNames = ALL_CAMERAS,
    device: Device = 'cpu',
    threads: Threads = 2,
    score_threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help='Least class probability.')] = 0.5,
    closing: Closing = True,
    constant_from: Annotated[
        Path | None,
        typer.Option(metavar='TRAIN_DIR', help='Data set with a training split: constant maps learnt there, beside.'),
    ] = None,
    bootstrap: Bootstrap = RESAMPLES,
    allow_failures: AllowFailures = False,
) -> None:
    """Occupancy against Occ3D labels: mIoU with the camera mask and without, geometric IoU, RayIoU at 1, 2 and 4 m.

    Keyframes run in time order through the engine that runs on the car. Exit code 1: a keyframe could not be predicted
    (it counts as one where nothing was found) or not scored. 2: the request or the data set is wrong, or FILE cannot be
    written.
    """
    # imported here: the other commands need not wait seconds for torch
    import torch

    from sparseoccvla_ros.evaluation.constant_occupancy import learn_constants
    from sparseoccvla_ros.evaluation.occupancy_run import evaluate_occupancy
    from sparseoccvla_ros.model.config import load_model_config
    from sparseoccvla_ros.model.occupancy_decoding import VoxelRule
    from sparseoccvla_ros.model.placement import checkpoint_folder, torch_device
    from sparseoccvla_ros.model.vla import build_perception
    from sparseoccvla_ros.runtime.perception import PerceptionEngine

    console = Console(stderr=True)
    weights = weights_asked(model, weights)
    torch.set_num_threads(threads)
    gts = gts or data / 'gts'
    try:
        tables = NuScenesTables(data, version)
        names = scene_names(tables, scene, scenes_file)
        keyframes, known = survey(tables, names)
        rig = rig_cameras(cameras, known)
        config = load_model_config(model)
        place = torch_device(device)
        perception = build_perception(config, weights=checkpoint_folder(weights)).to(place)
        engine = PerceptionEngine(perception, config, place, rig)
        rule = VoxelRule(score_threshold, close=closing)
        if json_file is not None:
            require_writable(json_file)
        _warn_of_order(config, rig, console)
        constants = []
        if constant_from is not None:
            judged = {sample.token for name in names for sample in tables.scene(name).samples}
            constants = learn_constants(NuScenesTables(constant_from, version), constant_from / 'gts', judged)
        columns = (TextColumn('keyframes'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task('keyframes', total=keyframes)
            run = evaluate_occupancy(
                tables, names, gts, engine, config, rule, lambda: progress.advance(task), constants
            )
    except (ValueError, OSError) as error:
        raise refusal(error, console) from error
    settings = {
        'data': str(data), 'version': version, 'gts': str(gts), 'scenes': names, 'model': model, 'config': config.name,
        'weights': weights or 'untrained', 'cameras': rig, 'device': device, 'score_threshold': score_threshold,
        'closing': closing, 'constant_from': str(constant_from or ''), 'revision': revision(),
    }  # fmt: skip
    resampled = SceneBootstrap(run.scored_scenes, bootstrap)
    titles = {constant.name: f'constant ({constant.title})' for constant in constants}
    own_intervals = run.scores.intervals(resampled)
    intervals = {name: scores.intervals(resampled) for name, scores in run.constants.items()}
    against = run.against_constants(resampled)
    document = {
        **settings,
        **run.summary(),
        'intervals': own_intervals,
        'bootstrap': resampled.summary(),
        'constants': {
            name: {
                'title': titles[name],
                'scores': scores.result(),
                'intervals': intervals[name],
                'against': {score: found.summary() for score, found in against[name].items()},
            }
            for name, scores in run.constants.items()
        },
    }
    _show(run.scores, own_intervals, f'{config.name}, {settings["weights"]}')
    for name, scores in run.constants.items():
        _show(scores, intervals[name], titles[name])
        for score in COMPARED:
            if score in against[name]:
                told = f'{config.name} against {titles[name]}, {score}: {comparison(against[name][score])}'
                Console().print(told, markup=False, highlight=False, soft_wrap=True)
    _show_counts(run, resampled)
    if run.failures:
        _show_failures(run, console)
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(document, indent=1) + '\n', encoding='utf-8')
        except OSError as error:  # a full disk, for example
            raise refusal(error, console) from error
    if run.failures and not allow_failures:
        raise typer.Exit(FAILED_SAMPLES)


def _warn_of_order(config: VLAConfig, rig: Sequence[str], console: Console) -> None:
    """Say that the default order is not that of imported OPUS weights, where results depend on it."""
    from sparseoccvla_ros.model.opus_import import OPUS_CAMERAS

    encoder = config.encoder
    if (encoder.shared_points == 'first' or encoder.unseen_points == 'view0') and list(rig) == list(CAMERAS):
        console.print(
            f'warning: results of {config.name} depend on the order of the cameras; '
            f'imported OPUS weights need --cameras {",".join(OPUS_CAMERAS)}',
            style='yellow', markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def _show(scores: OccupancyScores, intervals: Mapping[str, list[float] | None], title: str) -> None:
    figures = scores.result()

    def shown(name: str) -> str:
        return cell(figures[name], intervals.get(name))

    table = Table('%', 'camera mask', 'whole grid', title=title)
    for row in ('miou', 'geometric_iou', *(f'iou/{name}' for name in CLASS_NAMES)):
        table.add_row(row.removeprefix('iou/'), *(shown(f'{area}/{row}') for area in ('camera_mask', 'no_mask')))
    rays = Table('%', '1 m', '2 m', '4 m', 'mean')
    rays.add_row('RayIoU', *(shown(f'rayiou/{column}') for column in ('1m', '2m', '4m', 'mean')))
    for column in (*table.columns[1:], *rays.columns[1:]):
        column.justify = 'right'
    console = table_console()
    console.print(table)
    console.print(rays)


def _show_counts(run: OccupancyRun, bootstrap: SceneBootstrap) -> None:
    console = Console()
    console.print(interval_note(bootstrap), markup=False, highlight=False, soft_wrap=True)
    console.print(
        f'{run.keyframes} keyframes ({run.temporal} with earlier frames, {run.degraded} without some camera), '
        f'{run.scores.camera.samples} with a camera mask; rays from: {run.ray_origins}',
        highlight=False,
        soft_wrap=True,
    )


def _show_failures(run: OccupancyRun, console: Console) -> None:
    console.print(f'{len(run.failures)} keyframes failed:', style='red', highlight=False)
    for failure in run.failures[:10]:
        console.print(f'  {failure.scene} {failure.sample}: {failure.reason}', markup=False, highlight=False)

"""``sparseoccvla eval forecast``: occupancy at 1, 2 and 3 s against later labels, and against standing still."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from sparseoccvla_ros.evaluation.replay_summary import revision

if TYPE_CHECKING:
    from sparseoccvla_ros.evaluation.forecast_run import ForecastRun

#: Columns of the table: heading, name in the scores.
SHOWN = (('IoU', 'geometric_iou'), ('mIoU', 'sparseworld/miou'), ('movable', 'movable_miou'))
FRAME_TITLES = {
    'current_ego': 'current ego frame',
    'future_ego_leak': 'future ego frame (warped by the RECORDED motion: a leak)',
}
SHOWN_FAILURES = 10


def forecast(
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
    score_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help='Least class probability, of the present.')
    ] = 0.5,
    forecast_threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help='Of the forecast; --score-threshold if not given.')
    ] = None,
    closing: Closing = True,
    history: Annotated[int, typer.Option(min=0, help='Score keyframes with so many earlier ones only.')] = 0,
    bootstrap: Bootstrap = RESAMPLES,
    allow_failures: AllowFailures = False,
) -> None:
    """Forecast occupancy at each horizon: IoU, and mIoU in two conventions, with and without camera mask.

    In the current ego frame and, labelled as a leak, warped by the recorded motion; each beside two baselines in which
    nothing moves. Exit code 1: a keyframe could not be predicted (it counts as one where nothing was found) or not
    scored. 2: the request or the data set is wrong, or FILE cannot be written.
    """
    # imported here: the other commands need not wait seconds for torch
    import torch

    from sparseoccvla_ros.evaluation.forecast_run import ForecastModel, evaluate_forecast
    from sparseoccvla_ros.model.config import load_model_config
    from sparseoccvla_ros.model.occupancy_decoding import VoxelRule
    from sparseoccvla_ros.model.placement import checkpoint_folder, torch_device
    from sparseoccvla_ros.model.vla import build_language, build_perception
    from sparseoccvla_ros.runtime.perception import PerceptionEngine

    console = Console(stderr=True)
    weights = weights_asked(model, weights)
    torch.set_num_threads(threads)
    gts = gts or data / 'gts'
    if forecast_threshold is None:
        forecast_threshold = score_threshold
    try:
        tables = NuScenesTables(data, version)
        names = scene_names(tables, scene, scenes_file)
        keyframes, known = survey(tables, names)
        rig = rig_cameras(cameras, known)
        config = load_model_config(model)
        place, folder = torch_device(device), checkpoint_folder(weights)
        evaluated = ForecastModel(
            perception=PerceptionEngine(build_perception(config, weights=folder).to(place), config, place, rig),
            language=build_language(config, weights=folder).to(place),
            config=config,
            rule=VoxelRule(score_threshold, close=closing),
            forecast_rule=VoxelRule(forecast_threshold, close=closing),
        )
        if json_file is not None:
            require_writable(json_file)
        columns = (TextColumn('keyframes'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task('keyframes', total=keyframes)
            run = evaluate_forecast(
                tables, names, gts, evaluated, history=history, progress=lambda: progress.advance(task)
            )
    except (ValueError, OSError) as error:
        raise refusal(error, console) from error
    settings = {
        'data': str(data), 'version': version, 'gts': str(gts), 'scenes': names, 'model': model, 'config': config.name,
        'weights': weights or 'untrained', 'cameras': rig, 'device': device, 'score_threshold': score_threshold,
        'forecast_threshold': forecast_threshold, 'closing': closing, 'history': history, 'revision': revision(),
    }  # fmt: skip
    resampled = SceneBootstrap(run.scenes, bootstrap)
    intervals = run.intervals(resampled)
    document = {**settings, **run.summary(), 'intervals': intervals, 'bootstrap': resampled.summary()}
    _show(run, intervals, f'{config.name}, {settings["weights"]}')
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


def _show(run: ForecastRun, intervals: Mapping, title: str) -> None:
    console = table_console()
    times = [f'{time_s:g}s' for time_s in run.horizons_s]
    means = ['mean_1_2_3s'] if {'1s', '2s', '3s'} <= set(times) else []
    scores = run.summary()['scores']

    def shown(frame: str, mask: str, row: str, name: str) -> str:
        ends = intervals[frame][mask][row] if intervals else {}
        return cell(scores[frame][mask][row][name], ends.get(name))

    for frame, masks in scores.items():
        for mask, rows in masks.items():
            table = Table('%', '', *times, *('mean' for _ in means), title=f'{title}: {FRAME_TITLES[frame]}, {mask}')
            for heading, name in SHOWN:
                for row in rows:
                    cells = (shown(frame, mask, row, f'{name}/{column}') for column in times + means)
                    table.add_row(heading, row, *cells)
                table.add_section()
            for column in table.columns[2:]:
                column.justify = 'right'
            console.print(table)


def _show_counts(run: ForecastRun, bootstrap: SceneBootstrap) -> None:
    console = Console()
    console.print(interval_note(bootstrap), markup=False, highlight=False, soft_wrap=True)
    times = ', '.join(f'{time_s:g}s' for time_s in run.horizons_s)
    console.print(
        f'{run.scored} of {run.keyframes} keyframes scored ({run.temporal} with earlier frames, {run.degraded} without '
        f'some camera), {run.with_camera_mask} with a camera mask; not scored: {run.without_future} without a keyframe '
        f'at {times}, {run.without_history} without enough earlier ones',
        highlight=False,
        soft_wrap=True,
    )


def _show_failures(run: ForecastRun, console: Console) -> None:
    console.print(f'{len(run.failures)} keyframes failed:', style='red', highlight=False)
    for failure in run.failures[:SHOWN_FAILURES]:
        console.print(f'  {failure.scene} {failure.sample}: {failure.reason}', markup=False, highlight=False)

"""Forecast occupancy of a whole data set, beside two forecasts that take no model of time: that nothing moves.

Keyframes of a scene are fed in time order through the streaming engine that runs on the car and through the language
part, so that each uses earlier frames and never later ones. Scored are the keyframes whose scene has a keyframe at
every horizon; all horizons on the same ones. The labels of a later keyframe, and the recorded motion that brings them
here, are on the side of the truth alone.

Rows: ``forecast``; ``prediction_held``, the model's own occupancy of the present, held still; ``labels_held``, the
present labels held still, which is what a perfect encoder would reach that forecasts nothing.

Frames: ``current_ego``: where the vehicle is now, without any knowledge of its future motion (that is what a planner
can use); the part of the range that the later labels do not reach is not counted. ``future_ego_leak``: every row is
warped into the later ego frame by the RECORDED motion, which no car has; the whole later grid counts, and what was
beyond the present range is predicted free there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sparseoccvla_ros.data.keyframes import keyframe_view
from sparseoccvla_ros.data.moments import Moment, scene_moments
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables, Sample
from sparseoccvla_ros.data.occ3d import (
    CLASS_NAMES,
    FREE,
    GRID_SHAPE,
    RANGE_M,
    UNLABELLED,
    VOXEL_M,
    OccupancyLabels,
    load_labels,
)
from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap
from sparseoccvla_ros.evaluation.forecast_metrics import MEAN_TIMES_S, ForecastScore
from sparseoccvla_ros.evaluation.grid_motion import GridMotion
from sparseoccvla_ros.evaluation.occupancy_metrics import class_iou, mean_of_numbers
from sparseoccvla_ros.evaluation.occupancy_run import Failure
from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule, decode_voxels, dense_labels
from sparseoccvla_ros.model.perception import EncoderOutput
from sparseoccvla_ros.runtime.finite import NonFiniteOutput, require_finite
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.timing import StageTimer

Array = np.ndarray

FRAMES = ('current_ego', 'future_ego_leak')
MASKS = ('no_mask', 'camera_mask')
ROWS = ('forecast', 'prediction_held', 'labels_held')
#: Labels of what can move by itself, though most of it is parked: where held occupancy falls behind a forecast.
MOVABLE = tuple(
    CLASS_NAMES.index(name)
    for name in ('bicycle', 'bus', 'car', 'construction_vehicle', 'motorcycle', 'pedestrian', 'trailer', 'truck')
)


@dataclass(frozen=True)
class ForecastModel:
    """What is evaluated: perception and language of one model, in eval mode on one device, its configuration, and how
    points become voxels, those of the present and those of the forecast.
    """

    perception: PerceptionEngine
    language: SceneLanguage
    config: VLAConfig
    rule: VoxelRule
    forecast_rule: VoxelRule


@dataclass(frozen=True)
class LaterLabels:
    """Truth of one keyframe at one horizon: labels in their own ego frame, and the recorded motion [4, 4] to there."""

    labels: OccupancyLabels
    current_ego_from_future_ego: Array


class ForecastRun:
    """Scores over all keyframes so far.

    ``keyframes`` counts those of the scenes, ``scored`` those that count; of the others ``without_future`` lack a
    keyframe at some horizon and ``without_history`` lack the earlier ones that were asked for. ``degraded`` and
    ``temporal`` count the scored ones without some camera, and with earlier frames.
    """

    def __init__(self, horizons_s: Sequence[float] = MEAN_TIMES_S) -> None:
        self.horizons_s = tuple(horizons_s)
        self.scores = {
            frame: {mask: {row: ForecastScore(horizons_s) for row in ROWS} for mask in MASKS} for frame in FRAMES
        }
        self.keyframes = 0
        self.scored = 0
        self.without_future = 0
        self.without_history = 0
        self.degraded = 0
        self.temporal = 0
        self.failures: list[Failure] = []

    @property
    def with_camera_mask(self) -> int:
        """Scored keyframes whose labels have a camera mask at every horizon."""
        return self.scores[FRAMES[0]]['camera_mask'][ROWS[0]].samples

    @property
    def scenes(self) -> list[str]:
        """Names of the scenes with a scored keyframe."""
        return self.scores[FRAMES[0]][MASKS[0]][ROWS[0]].by_scene.scenes

    def add(
        self, forecast: Array, prediction: Array, labels: Array, later: Sequence[LaterLabels], scene: str = ''
    ) -> None:
        """Score one keyframe.

        Args:
            forecast: labels uint8 [H, 200, 200, 16] in the current ego frame.
            prediction: the model's labels of the present, uint8 [200, 200, 16].
            labels: the true ones; unlabelled voxels count as free where they are held as a prediction.
            later: truth at the H horizons.
            scene: where the keyframe is from, for intervals.

        Raises:
            ValueError: arrays or poses that cannot be scored; the keyframe is then in none of the scores.
        """
        held = np.where(labels == UNLABELLED, FREE, labels).astype(np.uint8)
        horizons = len(later)
        rows = dict(zip(ROWS, (forecast, np.stack([prediction] * horizons), np.stack([held] * horizons)), strict=True))
        to_current = [GridMotion(inverse(at.current_ego_from_future_ego)) for at in later]
        to_future = [GridMotion(at.current_ego_from_future_ego) for at in later]
        truth = [at.labels.semantics for at in later]
        masks = [at.labels.mask_camera for at in later]
        moved = np.stack([m.moved(grid, UNLABELLED) for m, grid in zip(to_current, truth, strict=True)])
        self._count('current_ego', 'no_mask', rows, moved, scene)
        warped = {
            row: np.stack([m.moved(grid, FREE) for m, grid in zip(to_future, grids, strict=True)])
            for row, grids in rows.items()
        }
        self._count('future_ego_leak', 'no_mask', warped, np.stack(truth), scene)
        if all(mask is not None for mask in masks):
            seen = np.stack([m.moved(mask, 0) for m, mask in zip(to_current, masks, strict=True)])
            self._count('current_ego', 'camera_mask', rows, np.where(seen > 0, moved, UNLABELLED), scene)
            seen = np.stack(masks)
            seen_truth = np.where(seen > 0, np.stack(truth), UNLABELLED)
            self._count('future_ego_leak', 'camera_mask', warped, seen_truth, scene)
        self.scored += 1

    def _count(self, frame: str, mask: str, rows: dict[str, Array], truth: Array, scene: str) -> None:
        for row, grids in rows.items():
            self.scores[frame][mask][row].add(grids, truth, scene)

    def summary(self) -> dict[str, object]:
        """Counts, failures and all scores, for a JSON file; fractions 0..1, nan as None.

        ``scores`` [frame][mask][row] has the names of :meth:`ForecastScore.result`, and of each time
        ``iou/<class>/<t>s`` (None: not in the truth) and ``movable_miou/<t>s``, their mean over :data:`MOVABLE`.
        """
        return {
            'horizons_s': list(self.horizons_s),
            'keyframes': self.keyframes,
            'scored': self.scored,
            'without_future': self.without_future,
            'without_history': self.without_history,
            'keyframes_with_camera_mask': self.with_camera_mask,
            'degraded': self.degraded,
            'temporal': self.temporal,
            'failures': [vars(failure) for failure in self.failures],
            'scores': self._each(lambda score: _without_nan(_figures(score, score.counts))),
        }

    def intervals(self, bootstrap: SceneBootstrap) -> dict[str, object]:
        """Intervals of all scores, nested as ``scores`` in the summary; empty where there are none."""
        if bootstrap.off:
            return {}
        return self._each(lambda score: bootstrap.intervals(_figures(score, bootstrap.sums(score.by_scene))))

    def _each(self, made: Callable[[ForecastScore], object]) -> dict[str, object]:
        return {
            frame: {mask: {row: made(score) for row, score in rows.items()} for mask, rows in masks.items()}
            for frame, masks in self.scores.items()
        }


def evaluate_forecast(
    tables: NuScenesTables,
    scenes: Sequence[str],
    gts_root: Path,
    model: ForecastModel,
    *,
    history: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> ForecastRun:
    """Forecast and score every keyframe of the scenes that has all horizons ahead of it.

    Args:
        tables: of the data set.
        scenes: names.
        gts_root: Occ3D's ``gts`` folder.
        model: its perception's memory is cleared between scenes.
        history: earlier keyframes that a keyframe must have in its scene to be scored, as published protocols ask.
        progress: called after each keyframe.

    Raises:
        NuScenesError: a scene is unknown, its tables are broken, or a keyframe has no sensor at all.
        ValueError: the model's space is not Occ3D's.
    """
    space, horizons_s = model.config.space, model.config.forecaster.horizons_s
    if (space.range_m, space.voxel_m, space.classes) != (RANGE_M, VOXEL_M, CLASS_NAMES):
        raise ValueError(f'the model predicts in {space}, not in the space of Occ3D')
    run = ForecastRun(horizons_s)
    for name in scenes:
        samples = tables.scene(name).samples
        moments = scene_moments(
            tables,
            name,
            cameras=(),
            frames=1,
            frame_interval_s=1.0,
            future_path_s=(),
            future_keyframes_s=horizons_s,
            boxes=False,
        )
        ahead = [None not in moment.future_keyframes for moment in moments]
        wanted = [has_future and number >= history for number, has_future in enumerate(ahead)]
        run.keyframes += len(samples)
        run.without_future += ahead.count(False)
        run.without_history += ahead.count(True) - wanted.count(True)
        last = max((number for number, counts in enumerate(wanted) if counts), default=-1)
        model.perception.memory.clear()
        for number, sample in enumerate(samples):
            if number <= last:
                reasons = _keyframe(sample, moments, number, gts_root, model, run if wanted[number] else None)
                if reasons:
                    run.failures.append(Failure(name, sample.token, '; '.join(reasons)))
            progress()
    return run


def _keyframe(
    sample: Sample,
    moments: Sequence[Moment],
    number: int,
    gts_root: Path,
    model: ForecastModel,
    run: ForecastRun | None,
) -> list[str]:
    """See a keyframe, and score it where ``run`` is given; the reasons why that failed."""
    moment = moments[number]
    if not np.isfinite(moment.global_from_ego).all():
        return ['not scored: its pose is not finite']
    prediction, forecast, reasons = _predict(sample, model, run)
    if run is None:
        return reasons
    try:
        labels = load_labels(gts_root, moment.scene, moment.token)
        later = [
            LaterLabels(load_labels(gts_root, at.scene, at.token), inverse(moment.global_from_ego) @ at.global_from_ego)
            for at in (moments[index] for index in moment.future_keyframes)
        ]
        run.add(forecast, prediction, labels.semantics, later, moment.scene)
    except ValueError as error:
        reasons.append(f'not scored: {error}')
    return reasons


def _predict(sample: Sample, model: ForecastModel, run: ForecastRun | None) -> tuple[Array, Array, list[str]]:
    """Labels of the present, uint8 [200, 200, 16], and at each horizon [H, ...], in the current ego frame; all free
    where there is no prediction, and the reason why. A keyframe that is not scored (``run`` None) is only remembered.
    """
    image, engine = model.config.image, model.perception
    prediction = np.full(GRID_SHAPE, FREE, dtype=np.uint8)
    forecast = np.stack([prediction] * len(model.config.forecaster.horizons_s))
    try:
        view = keyframe_view(sample, engine.cameras, image.width_px, image.height_px)
        output, temporal = engine.encode(view, StageTimer(engine.device))
    except (NuScenesError, NonFiniteOutput, ValueError) as error:
        return prediction, forecast, [f'no prediction: {error}']
    if run is None:
        return prediction, forecast, []
    run.degraded += bool(view.missing)
    run.temporal += temporal
    prediction = _labels(output.points_m[-1], output.logits[-1], model.config, model.rule)
    try:
        horizons = forecast_points(model.language, output)
    except (NonFiniteOutput, ValueError) as error:
        return prediction, forecast, [f'no forecast: {error}']
    return prediction, np.stack([_labels(*at, model.config, model.forecast_rule) for at in horizons]), []


@torch.inference_mode()
def forecast_points(language: SceneLanguage, output: EncoderOutput) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Per horizon points [B, Q, P, 3] and class logits [B, Q, P, K], as the reasoning engine computes them.

    Raises:
        NonFiniteOutput: the network gave NaN or infinity.
        ValueError: the scene exceeds the language model's context.
    """
    features, positions_m = output.features.float(), output.positions_m.float()
    prompt = language.scene_prompt(features, positions_m)
    hidden, _ = language.read_scene(prompt)
    require_finite('language model', hidden)
    horizons = language.forecast(prompt.at_queries(hidden), features, positions_m)
    for points_m, logits in horizons:
        require_finite('forecaster', points_m, logits)
    return horizons


@torch.inference_mode()
def _labels(points_m: torch.Tensor, logits: torch.Tensor, config: VLAConfig, rule: VoxelRule) -> Array:
    (voxels,) = decode_voxels(points_m.float(), logits.float(), config.space, rule)
    return dense_labels(voxels, config.space).cpu().numpy()


def _figures(score: ForecastScore, counts: Array) -> dict[str, Array]:
    """Of counts [..., T, 18, 18] at the score's times, each [...]."""
    ious = class_iou(counts)  # [..., T, 18]
    figures = score.figures(counts)
    for number, time_s in enumerate(score.times_s):
        figures |= {f'iou/{name}/{time_s:g}s': ious[..., number, label] for label, name in enumerate(CLASS_NAMES)}
    return figures | score.at_times('movable_miou', mean_of_numbers(ious[..., MOVABLE]))


def _without_nan(figures: Mapping[str, Array]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(value) for name, value in figures.items()}

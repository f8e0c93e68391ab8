"""Occupancy of a whole data set: every keyframe through the streaming engine that also runs on the car, then scored.

Keyframes of a scene are fed in time order, so that each uses the features of earlier frames and never of later ones.
Nothing is left out in silence and no keyframe ends the run: one that cannot be predicted counts as one where nothing
was found, and one that cannot be scored (no labels, no pose, no place for rays) is in none of the scores. Either is
reported and makes the run a failed one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from sparseoccvla_ros.data.keyframes import keyframe_view, label_pose
from sparseoccvla_ros.data.nuscenes import LIDAR, NuScenesError, NuScenesTables, Sample
from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE, GRID_SHAPE, RANGE_M, VOXEL_M, OccupancyLabels, load_labels
from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap
from sparseoccvla_ros.evaluation.constant_occupancy import ConstantMaps
from sparseoccvla_ros.evaluation.occupancy_metrics import OccupancyScore
from sparseoccvla_ros.evaluation.paired import Paired, paired
from sparseoccvla_ros.evaluation.ray_iou import RayIoU, scene_ray_origins
from sparseoccvla_ros.geometry import transform_from
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule, decode_voxels, dense_labels
from sparseoccvla_ros.runtime.finite import NonFiniteOutput
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.timing import StageTimer

#: Where nuScenes' cars carry their LiDAR (typical values): origin of RayIoU's rays in a data set without LIDAR_TOP.
NOMINAL_EGO_FROM_LIDAR = transform_from((0.94, 0.0, 1.84), (0.0, 0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Failure:
    """A keyframe that could not be predicted or scored, and why."""

    scene: str
    sample: str
    reason: str


@dataclass
class OccupancyScores:
    """Of one predictor: ``camera`` over keyframes whose labels have a camera mask, ``grid`` and ``rays`` over all."""

    camera: OccupancyScore = field(default_factory=lambda: OccupancyScore('camera'))
    grid: OccupancyScore = field(default_factory=lambda: OccupancyScore(None))
    rays: RayIoU = field(default_factory=RayIoU)

    def add(
        self,
        predicted: np.ndarray,
        labels: OccupancyLabels,
        origins_ego: np.ndarray,
        scene: str,
        within_camera: np.ndarray | None = None,
    ) -> None:
        """Score predicted labels, uint8 [200, 200, 16], of a keyframe of a scene; ``within_camera``: those to be judged
        within the camera mask, where they are others.

        Raises:
            ValueError: the rays have no usable origin; the keyframe is then in none of the scores.
        """
        self.rays.add(predicted, labels.semantics, origins_ego, scene)  # first: the only one that may refuse
        self.grid.add(predicted, labels.semantics, scene=scene)
        if labels.mask_camera is not None:
            seen = predicted if within_camera is None else within_camera
            self.camera.add(seen, labels.semantics, labels.mask_camera, scene)

    def result(self) -> dict[str, float | None]:
        """All scores by name; nan as None."""
        scores = {**self.camera.result(), **self.grid.result(), **self.rays.result()}
        return {name: None if np.isnan(value) else value for name, value in scores.items()}

    def intervals(self, bootstrap: SceneBootstrap) -> dict[str, list[float] | None]:
        """Intervals by name; empty where there are none."""
        return bootstrap.intervals(self.resampled(bootstrap))

    def resampled(self, bootstrap: SceneBootstrap) -> dict[str, np.ndarray]:
        """All scores [R] in the resamples; empty without any."""
        if bootstrap.off:
            return {}
        parts = (part.resampled(bootstrap) for part in (self.camera, self.grid, self.rays))
        return {name: values for figures in parts for name, values in figures.items()}


@dataclass
class OccupancyRun:
    """Scores of the model and of ``constants`` by name, over all keyframes so far.

    ``degraded`` counts keyframes predicted without some camera, ``temporal`` those that used earlier frames;
    ``nominal_scenes`` of the ``scenes`` lack LIDAR_TOP in some keyframe, so that their rays start at the nominal mount.
    """

    scores: OccupancyScores = field(default_factory=OccupancyScores)
    constants: dict[str, OccupancyScores] = field(default_factory=dict)
    keyframes: int = 0
    degraded: int = 0
    temporal: int = 0
    scenes: int = 0
    nominal_scenes: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def scored_scenes(self) -> list[str]:
        """Names of the scenes with a scored keyframe."""
        return self.scores.grid.by_scene.scenes

    @property
    def ray_origins(self) -> str:
        """Where RayIoU's rays start, in words."""
        if not self.nominal_scenes:
            return LIDAR
        if self.nominal_scenes == self.scenes:
            return 'nominal mount'
        return f'nominal mount in {self.nominal_scenes} of {self.scenes} scenes, {LIDAR} in the others'

    def against_constants(self, bootstrap: SceneBootstrap) -> dict[str, dict[str, Paired]]:
        """The model's scores beside those of each constant, by its name and the score's."""
        own, draws = self.scores.result(), self.scores.resampled(bootstrap)
        return {
            name: paired(own, scores.result(), draws, scores.resampled(bootstrap), bootstrap)
            for name, scores in self.constants.items()
        }

    def summary(self) -> dict[str, object]:
        """Counts, failures and all scores, for a JSON file; fractions 0..1, nan as None."""
        return {
            'keyframes': self.keyframes,
            'keyframes_with_camera_mask': self.scores.camera.samples,
            'degraded': self.degraded,
            'temporal': self.temporal,
            'ray_origins': self.ray_origins,
            'failures': [vars(failure) for failure in self.failures],
            'scores': self.scores.result(),
        }


def evaluate_occupancy(
    tables: NuScenesTables,
    scenes: Sequence[str],
    gts_root: Path,
    engine: PerceptionEngine,
    config: VLAConfig,
    rule: VoxelRule,
    progress: Callable[[], None] = lambda: None,
    constants: Sequence[ConstantMaps] = (),
) -> OccupancyRun:
    """Predict and score every keyframe of the scenes.

    Args:
        tables: of the data set.
        scenes: names.
        gts_root: Occ3D's ``gts`` folder.
        engine: of the model; its memory is cleared between scenes.
        config: of the model.
        rule: how points become voxels.
        progress: called after each keyframe.
        constants: to be scored on the same keyframes.

    Raises:
        NuScenesError: a scene is unknown or its tables are broken.
        ValueError: the model's space is not Occ3D's.
    """
    if (config.space.range_m, config.space.voxel_m, config.space.classes) != (RANGE_M, VOXEL_M, CLASS_NAMES):
        raise ValueError(f'the model predicts in {config.space}, not in the space of Occ3D')
    run = OccupancyRun(constants={constant.name: OccupancyScores() for constant in constants})
    for name in scenes:
        samples = tables.scene(name).samples
        origins_ego = _ray_origins(samples, run)
        engine.memory.clear()
        for sample in samples:
            run.keyframes += 1
            reasons = _pose_faults(sample)
            if not reasons:
                predicted, reasons = _predict(sample, engine, config, rule, run)
                try:
                    labels, origins = load_labels(gts_root, name, sample.token), origins_ego[sample.token]
                    run.scores.add(predicted, labels, origins, name)
                    for constant in constants:
                        run.constants[constant.name].add(constant.grid, labels, origins, name, constant.camera)
                except ValueError as error:
                    reasons.append(f'not scored: {error}')
            if reasons:
                run.failures.append(Failure(name, sample.token, '; '.join(reasons)))
            progress()
    return run


def _predict(
    sample: Sample, engine: PerceptionEngine, config: VLAConfig, rule: VoxelRule, run: OccupancyRun
) -> tuple[np.ndarray, list[str]]:
    """Labels of every voxel, uint8, and no reason; all free where there is no prediction, and the reason why."""
    try:
        view = keyframe_view(sample, engine.cameras, config.image.width_px, config.image.height_px)
        output, temporal = engine.encode(view, StageTimer(engine.device))
    except (NuScenesError, NonFiniteOutput, ValueError) as error:
        return np.full(GRID_SHAPE, FREE, dtype=np.uint8), [f'no prediction: {error}']
    run.degraded += bool(view.missing)
    run.temporal += temporal
    with torch.inference_mode():
        (voxels,) = decode_voxels(output.points_m[-1].float(), output.logits[-1].float(), config.space, rule)
        return dense_labels(voxels, config.space).cpu().numpy(), []


def _pose_faults(sample: Sample) -> list[str]:
    """Why nobody knows where the vehicle was at a keyframe; empty if it is known."""
    if not sample.sensors:
        return ['not scored: no key frame of any sensor']
    lidar = sample.sensors.get(LIDAR)
    poses = [label_pose(sample), *([lidar.ego_from_sensor] if lidar else [])]
    return [] if np.isfinite(poses).all() else ['not scored: its pose is not finite']


def _ray_origins(samples: Sequence[Sample], run: OccupancyRun) -> dict[str, np.ndarray]:
    """RayIoU's origins, [O, 3], in the ego frame of each keyframe with a pose, by its token."""
    posed = [sample for sample in samples if not _pose_faults(sample)]
    if not posed:
        return {}
    run.scenes += 1
    map_from_ego = np.stack([label_pose(sample) for sample in posed])
    if all(LIDAR in sample.sensors for sample in posed):
        ego_from_lidar = np.stack([sample.sensors[LIDAR].ego_from_sensor for sample in posed])
    else:
        run.nominal_scenes += 1
        ego_from_lidar = NOMINAL_EGO_FROM_LIDAR
    origins_ego = scene_ray_origins(map_from_ego, ego_from_lidar)
    return {sample.token: origins for sample, origins in zip(posed, origins_ego, strict=True)}

"""Surround images to occupancy queries, with the features of earlier frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.perception import EncoderOutput, OccupancyPerception
from sparseoccvla_ros.runtime.finite import NonFiniteOutput, require_finite
from sparseoccvla_ros.runtime.memory import FeatureRing, FrameFeatures
from sparseoccvla_ros.runtime.occupancy import SelfFilter, scene_points
from sparseoccvla_ros.runtime.scene import SceneQueries
from sparseoccvla_ros.runtime.timing import StageTimer
from sparseoccvla_ros.sensors.camera import SurroundView
from sparseoccvla_ros.sensors.projection import view_projections

Array = np.ndarray


class PerceptionEngine:
    """Runs the perception part scene by scene. Not thread safe: one worker calls it.

    Notation: T frames, N cameras of the rig, V = T * N view slots, frame-major, the current frame first.

    Args:
        model: the perception part, in eval mode, on ``device``.
        config: its configuration.
        device: where it computes.
        cameras: names of the rig's cameras, in the order of the model's slots.
        score_threshold: least class probability of an occupied point.
        max_gap_s: a longer silence between scenes clears the temporal memory.
        self_filter: occupied points inside the vehicle itself are left out; None: they are not.

    Raises:
        ValueError: no cameras, a name twice, or a threshold outside 0..1.
    """

    def __init__(
        self,
        model: OccupancyPerception,
        config: VLAConfig,
        device: torch.device,
        cameras: Sequence[str],
        score_threshold: float = 0.5,
        *,
        max_gap_s: float = 1.5,
        self_filter: SelfFilter | None = None,
    ) -> None:
        if not cameras or len(set(cameras)) != len(cameras):
            raise ValueError(f'cameras must be distinct names, found {list(cameras)}')
        if not 0.0 <= score_threshold <= 1.0:
            raise ValueError(f'score_threshold ({score_threshold}) must be in 0..1')
        self.cameras = tuple(cameras)
        self._model = model
        self._config = config
        self.device = device
        self._score_threshold = score_threshold
        self._self_filter = self_filter
        self._ring = FeatureRing(config.image.frames - 1, config.image.frame_interval_s, max_gap_s=max_gap_s)

    @property
    def memory(self) -> FeatureRing:
        """The temporal memory: its size, and how often it was cleared and why."""
        return self._ring

    def process(self, view: SurroundView) -> SceneQueries:
        """Compute the queries of one scene; see :meth:`encode`."""
        timer = StageTimer(self.device)
        output, temporal = self.encode(view, timer)
        with torch.inference_mode(), timer.stage('decode_points'):
            occupancy = scene_points(output.points_m[-1], output.logits[-1], self._config.space, self._score_threshold)
            if self._self_filter is not None:
                occupancy = self._self_filter.apply(occupancy)
        return SceneQueries(
            stamp_ns=view.stamp_ns,
            features=output.features[0].float(),
            positions_ego=output.positions_m[0].float(),
            scores=output.logits[-1][0].float().sigmoid().amax(dim=(1, 2)),
            cameras_used=tuple(camera.name for camera in view.views),
            cameras_missing=dict(view.missing),
            temporal=temporal,
            occupancy=occupancy,
            stage_ms=timer.stage_ms,
        )

    def encode(self, view: SurroundView, timer: StageTimer) -> tuple[EncoderOutput, bool]:
        """The encoder's whole output for one scene (B = 1), and whether features of earlier frames took part.

        Without the pose of a camera's own time its image is taken to have been made at the reference time. Without the
        reference pose, earlier frames are left out and this frame is not kept for later ones.

        Raises:
            ValueError: no camera, one that is not the rig's, or an image of the wrong size.
            NonFiniteOutput: the network gave NaN or infinity; the memory is cleared, as it may be the cause.
        """
        self._check(view)
        self._ring.advance(view.stamp_ns)
        with torch.inference_mode():
            with timer.stage('backbone'):
                levels = self._extract(view)
            image_from_current, view_mask = view_projections(view, self.cameras)
            with timer.stage('encoder'):
                output, temporal = self._encode(view, levels, image_from_current, view_mask)
        try:
            require_finite('perception', output.features, output.positions_m, output.logits[-1])
        except NonFiniteOutput:
            self._ring.clear()
            raise
        if view.odom_from_ego is not None:
            image_from_odom = image_from_current @ inverse(view.odom_from_ego)
            self._ring.store(FrameFeatures(view.stamp_ns, levels, image_from_odom, view_mask))
        return output, temporal

    def _check(self, view: SurroundView) -> None:
        if not view.views:
            raise ValueError(f'scene {view.stamp_ns} has no camera')
        size = (self._config.image.height_px, self._config.image.width_px, 3)
        for camera in view.views:
            if camera.name not in self.cameras:
                raise ValueError(f'camera {camera.name!r} is not one of the rig: {", ".join(self.cameras)}')
            if camera.image.shape != size or camera.image.dtype != np.uint8:
                found = f'{camera.image.dtype} {camera.image.shape}'
                raise ValueError(f'image of {camera.name} is {found}, the model takes uint8 {size}')

    def _extract(self, view: SurroundView) -> tuple[torch.Tensor, ...]:
        """Features of the cameras that are there, zero for the others: levels of [N, C, h, w]."""
        images = torch.from_numpy(np.stack([camera.image for camera in view.views])).to(self.device)
        levels = self._model.extract(images)
        if len(view.views) == len(self.cameras) and self._slots(view) == list(range(len(self.cameras))):
            return tuple(levels)
        slots = torch.tensor(self._slots(view), device=self.device)
        complete = []
        for level in levels:
            empty = level.new_zeros((len(self.cameras), *level.shape[1:])).to(memory_format=torch.channels_last)
            complete.append(empty.index_copy_(0, slots, level))
        return tuple(complete)

    def _slots(self, view: SurroundView) -> list[int]:
        return [self.cameras.index(camera.name) for camera in view.views]

    def _encode(
        self, view: SurroundView, levels: tuple[torch.Tensor, ...], image_from_current: Array, view_mask: Array
    ) -> tuple[EncoderOutput, bool]:
        frame_levels, projections, masks = [levels], [image_from_current], [view_mask]
        temporal = False
        for earlier in self._ring.earlier(view.stamp_ns).frames:
            if earlier is None or view.odom_from_ego is None:
                # An empty slot is masked; what stands in it only has to be finite.
                frame_levels.append(levels)
                projections.append(image_from_current)
                masks.append(np.zeros_like(view_mask))
                continue
            frame_levels.append(earlier.levels)
            projections.append(earlier.image_from_odom @ view.odom_from_ego)
            masks.append(earlier.view_mask)
            temporal = True
        output = self._model.encode(
            tuple(torch.cat(same_level)[None] for same_level in zip(*frame_levels, strict=True)),
            torch.from_numpy(np.concatenate(projections)[None]).to(self.device, torch.float32),
            torch.from_numpy(np.concatenate(masks)[None]).to(self.device),
        )
        return output, temporal

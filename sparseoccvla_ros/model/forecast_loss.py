"""Supervision of the forecaster: the encoder's losses, against the labels of later keyframes in the CURRENT ego frame.

The recorded motion of the vehicle brings the labels here. Supervision and scoring may know it, inputs never: what the
model is given ends at its keyframe. Letters: B samples, H horizons, Q queries, P points of a query, K classes.

The labels of a later keyframe end at a range around the vehicle of THAT time. What leaves the current range is dropped.
Of the part of the current range that lies beyond theirs they know nothing: a predicted point there is neither pulled
nor gets a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.nearest import NotFiniteError
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.occupancy_loss import OccupancyLoss, OccupancyLossConfig, OccupiedVoxels, occupied_voxels


@dataclass(frozen=True)
class ForecastLossConfig:
    """Weights of the terms."""

    #: Of a horizon's terms, as for the encoder.
    occupancy: OccupancyLossConfig = field(default_factory=OccupancyLossConfig)
    #: Weight of each horizon, in the forecaster's order.
    horizon_weights: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not self.horizon_weights or min(self.horizon_weights) < 0 or max(self.horizon_weights) <= 0:
            raise ValueError(f'horizon_weights must be non-negative, one positive, got {self.horizon_weights}')


@dataclass(frozen=True)
class FutureVoxels:
    """Ground truth of one sample at one horizon.

    ``voxels``: the occupied voxels of the later keyframe whose centres are in the current range; centres in the current
    ego frame (they keep their places in the grid of their own time, so they lie off the current one), ``seen`` by the
    cameras of that later time. ``future_ego_from_current_ego`` [4, 4] tells which points their labels know about.
    """

    voxels: OccupiedVoxels
    future_ego_from_current_ego: Tensor

    def knows(self, points_m: Tensor, space: SpaceConfig) -> Tensor:
        """Whether the labels reach to points [..., 3] of the current ego frame: bool [...].

        A point beyond the current range counts as the place on its border that is nearest.
        """
        low_m, high_m = _limits(space, points_m)
        pose = self.future_ego_from_current_ego.to(points_m)
        with torch.autocast(points_m.device.type, enabled=False):  # bf16 would move the border by 0.1 m
            there_m = points_m.clamp(low_m, high_m) @ pose[:3, :3].T + pose[:3, 3]
        rounding_m = 1e-3  # of float32 poses: without any motion everything is known
        return ((there_m >= low_m - rounding_m) & (there_m <= high_m + rounding_m)).all(dim=-1)


def future_voxels(
    semantics: Tensor,
    mask_camera: Tensor | None,
    labels_valid: Tensor,
    current_ego_from_future_ego: Tensor,
    space: SpaceConfig,
) -> list[list[FutureVoxels | None]]:
    """Labels of later keyframes as the data set gives them (``target_future_...``), in the current ego frame.

    Args:
        semantics: integers [B, H, X, Y, Z], each grid in the ego frame of its own time.
        mask_camera: [B, H, X, Y, Z], non-zero where a camera of that time sees the voxel; None: every voxel counts as
            seen.
        labels_valid: bool [B, H]; False where the scene has ended or nothing is labelled.
        current_ego_from_future_ego: [B, H, 4, 4], the recorded motion.
        space: of the grids.

    Returns:
        per horizon, per sample: None where there are no labels.

    Raises:
        ValueError: shapes do not fit, or a pose of valid labels is not finite.
    """
    B, H = semantics.shape[:2]
    if labels_valid.shape != (B, H) or current_ego_from_future_ego.shape != (B, H, 4, 4):
        raise ValueError(
            f'labels_valid {tuple(labels_valid.shape)} and current_ego_from_future_ego '
            f'{tuple(current_ego_from_future_ego.shape)} must be [{B}, {H}] and [{B}, {H}, 4, 4]'
        )
    if not current_ego_from_future_ego[labels_valid].isfinite().all():
        raise ValueError('current_ego_from_future_ego is not finite where there are labels')
    horizons: list[list[FutureVoxels | None]] = []
    for h in range(H):
        grids = occupied_voxels(semantics[:, h], None if mask_camera is None else mask_camera[:, h], space)
        poses = current_ego_from_future_ego[:, h].double()
        horizons.append(
            [
                _in_current_ego(voxels, pose, space) if valid else None
                for voxels, pose, valid in zip(grids, poses, labels_valid[:, h].tolist(), strict=True)
            ]
        )
    return horizons


def _in_current_ego(voxels: OccupiedVoxels, current_from_future: Tensor, space: SpaceConfig) -> FutureVoxels:
    rotation, origin_m = current_from_future[:3, :3], current_from_future[:3, 3]
    centres_m = voxels.centres_m.double() @ rotation.T + origin_m
    low_m, high_m = _limits(space, centres_m)
    inside = ((centres_m >= low_m) & (centres_m < high_m)).all(dim=-1)
    future_from_current = torch.eye(4, dtype=torch.float64, device=rotation.device)
    future_from_current[:3, :3], future_from_current[:3, 3] = rotation.T, -rotation.T @ origin_m
    moved = OccupiedVoxels(
        centres_m[inside].float(), voxels.labels[inside], voxels.seen[inside], voxels.free, future_from_current
    )
    return FutureVoxels(moved, future_from_current)


class ForecastLoss:
    """Loss terms of a forecast.

    Args:
        config: the weights.
        space: of the labels.
        horizons_s: of the forecaster, for the names of the terms.

    Raises:
        ValueError: there are not as many weights as horizons or classes.
    """

    def __init__(self, config: ForecastLossConfig, space: SpaceConfig, horizons_s: Sequence[float]) -> None:
        if len(config.horizon_weights) != len(horizons_s):
            raise ValueError(f'{len(config.horizon_weights)} horizon_weights for {len(horizons_s)} horizons')
        self.config = config
        self._space = space
        self._names = [f'{horizon_s:g}s' for horizon_s in horizons_s]
        self._loss = OccupancyLoss(config.occupancy, space)

    def __call__(
        self, forecast: Sequence[tuple[Tensor, Tensor]], truth: Sequence[Sequence[FutureVoxels | None]]
    ) -> dict[str, Tensor]:
        """All terms, weighted: their sum is what is trained on.

        A sample's terms are those of :class:`OccupancyLoss` for its points that the labels know about; a horizon's are
        the mean over the samples that have labels then (zero, with zero gradients, if none has).

        Args:
            forecast: per horizon points [B, Q, P, 3], metres, current ego frame, and class logits [B, Q, P, K].
            truth: per horizon and sample, see :func:`future_voxels`, on the forecast's device.

        Returns:
            ``<t>s.points`` and ``<t>s.classes`` of each horizon, scalars, float32 (float64 where the forecast is).

        Raises:
            ValueError: the numbers of horizons or samples differ, or predicted points are not finite.
        """
        if not len(forecast) == len(truth) == len(self._names):
            raise ValueError(f'{len(self._names)} horizons: {len(forecast)} forecast, {len(truth)} with ground truth')
        terms = {}
        for name, weight, (points_m, logits), samples in zip(
            self._names, self.config.horizon_weights, forecast, truth, strict=True
        ):
            if len(samples) != len(points_m):
                raise ValueError(f'{len(samples)} samples of ground truth for a batch of {len(points_m)}')
            labelled = [b for b, sample in enumerate(samples) if sample is not None]
            of_samples = [self._one(points_m[b], logits[b], samples[b]) for b in labelled]
            for part in ('points', 'classes'):
                if of_samples:
                    mean = torch.stack([sample[part] for sample in of_samples]).mean()
                else:  # the graph is kept, so that backward() works
                    mean = 0.0 * (points_m.sum() + logits.sum())
                terms[f'{name}.{part}'] = weight * mean
        return terms

    def _one(self, points_m: Tensor, logits: Tensor, truth: FutureVoxels) -> dict[str, Tensor]:
        """Terms of one sample: points [Q, P, 3], logits [Q, P, K]."""
        points_m, logits = points_m.flatten(0, 1), logits.flatten(0, 1)
        if not points_m.isfinite().all():  # before the comparison with the range, which nan would pass unseen
            raise NotFiniteError('predicted points are not finite')
        known = truth.knows(points_m.detach(), self._space)
        if not known.any():
            nothing = 0.0 * (points_m.sum() + logits.sum())
            return {'points': nothing, 'classes': nothing}
        points_m, logits = points_m[known][None, :, None], logits[known][None, :, None]  # [1, N, 1, 3], [1, N, 1, K]
        output = EncoderOutput(features=logits.detach(), points_m=(points_m,), logits=(logits,))
        # a forecast has no points to start from; one stands in, and its term is left out
        terms = self._loss(points_m[0, :1].detach(), output, [truth.voxels])
        return {'points': terms['layer0.points'], 'classes': terms['layer0.classes']}


def _limits(space: SpaceConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of the range, [3] each."""
    return like.new_tensor(space.range_m[:3]), like.new_tensor(space.range_m[3:])

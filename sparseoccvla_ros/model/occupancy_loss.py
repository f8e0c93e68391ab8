"""Supervision of the occupancy encoder: Chamfer distance for the points, nearest-neighbour classes (OPUS, 2409.09350).

Every layer's points, and the queries' initial points, are pulled to the centres of the occupied voxels, and every voxel
pulls the point nearest to it; each point gets the class of the voxel nearest to it, or none where it is far from all.
Letters: B samples, N = Q x P predicted points of a sample, M occupied voxels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.nearest import PointIndex
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput


@dataclass(frozen=True)
class OccupancyLossConfig:
    """Weights of the terms; the defaults are OPUS-T's."""

    #: Weight of each class' column of the class loss.
    class_weights: tuple[float, ...] = (10, 5, 10, 5, 5, 10, 10, 5, 10, 5, 5, 1, 5, 1, 1, 2, 1)
    class_loss_weight: float = 2.0
    focal_gamma: float = 2.0
    #: Weight of a class' own points against all others' in its column: its score reaches 0.5 where every (1 - alpha)-th
    #: of such points is of the class.
    focal_alpha: float = 0.25
    #: The same for rare classes; None: as the others.
    rare_focal_alpha: float | None = None
    #: A point in a voxel that is labelled free is of no class if every occupied one is farther than this, metres; None:
    #: of the nearest one's class however far.
    classless_beyond_m: float | None = None
    point_loss_weight: float = 0.5
    #: Below this distance the point loss is quadratic, metres.
    point_beta_m: float = 0.2
    #: A voxel in the camera mask whose nearest point is farther than this is missed, metres; its weight.
    missed_beyond_m: float = 0.2
    missed_weight: float = 5.0
    #: Classes whose voxels in the camera mask weigh at least `rare_weight`; also of `rare_focal_alpha`, `voxels_drawn`.
    rare_classes: tuple[int, ...] = (0, 2, 5, 8)
    rare_weight: float = 10.0
    #: So many voxels of a sample, drawn anew each time, pull the points nearest to them, each for all that were not
    #: drawn; voxels of rare classes always do. The expected loss is the same. None: all do.
    voxels_drawn: int | None = None
    #: Which voxels pull the point nearest to them: all, or those that a camera sees. Either way a point goes to the
    #: voxel nearest to it, hidden or not.
    pulling: Literal['all', 'seen'] = 'all'

    def __post_init__(self) -> None:
        classes = len(self.class_weights)
        if classes < 1 or min(self.class_weights) < 0:
            raise ValueError(f'class_weights must be non-negative, one a class, got {self.class_weights}')
        if any(not 0 <= label < classes for label in self.rare_classes):
            raise ValueError(f'rare_classes {self.rare_classes} must be labels below {classes}')
        for name in ('focal_alpha', 'rare_focal_alpha'):
            alpha = getattr(self, name)
            if alpha is not None and not 0.0 <= alpha <= 1.0:
                raise ValueError(f'{name} must be in 0..1, got {alpha}')
        if self.classless_beyond_m is not None and self.classless_beyond_m <= 0:
            raise ValueError(f'classless_beyond_m must be positive or null, got {self.classless_beyond_m}')
        if self.voxels_drawn is not None and self.voxels_drawn < 1:
            raise ValueError(f'voxels_drawn must be positive or null, got {self.voxels_drawn}')
        if self.pulling not in ('all', 'seen'):
            raise ValueError(f"pulling must be 'all' or 'seen', got {self.pulling!r}")
        if self.point_beta_m <= 0:
            raise ValueError(f'point_beta_m must be positive, got {self.point_beta_m}')


@dataclass(frozen=True)
class OccupiedVoxels:
    """Ground truth of one sample: ``centres_m`` [M, 3] (ego frame) and ``labels`` int64 [M] of the voxels, and ``seen``
    bool [M], whether a camera sees them; ``free`` bool [X, Y, Z], which are labelled so, None if that is not known, and
    ``grid_ego_from_ego`` [4, 4], which brings points to the ego frame of that grid, None if it is the same.
    """

    centres_m: Tensor
    labels: Tensor
    seen: Tensor
    free: Tensor | None = None
    grid_ego_from_ego: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def in_camera_mask(self) -> OccupiedVoxels:
        """Those that a camera sees."""
        return OccupiedVoxels(self.centres_m[self.seen], self.labels[self.seen], self.seen[self.seen])


def occupied_voxels(semantics: Tensor, mask_camera: Tensor | None, space: SpaceConfig) -> list[OccupiedVoxels]:
    """The occupied voxels of each sample, x-major.

    Args:
        semantics: integers [B, X, Y, Z], 0..K-1 and :data:`~sparseoccvla_ros.data.occ3d.FREE`; of other labels (255,
            unlabelled) nothing is known.
        mask_camera: [B, X, Y, Z], non-zero where a camera sees the voxel; None, where a data set has no such mask:
            every voxel counts as seen.
        space: of the grid.

    Raises:
        ValueError: shapes do not belong to ``space``, or labels are no integers.
    """
    low_m = torch.tensor(space.range_m[:3], dtype=torch.float64)
    if semantics.is_floating_point():
        raise ValueError(f'semantics must be integers, got {semantics.dtype}')
    if tuple(semantics.shape[1:]) != space.grid_shape:
        raise ValueError(f'semantics {tuple(semantics.shape)} is not [B, X, Y, Z] with {space.grid_shape} voxels')
    if mask_camera is not None and mask_camera.shape != semantics.shape:
        raise ValueError(f'mask_camera {tuple(mask_camera.shape)} differs from semantics {tuple(semantics.shape)}')
    samples = []
    for b, grid in enumerate(semantics):
        index = ((grid >= 0) & (grid < len(space.classes))).nonzero()
        at = tuple(index.unbind(1))
        centres_m = ((index.double() + 0.5) * space.voxel_m + low_m.to(index.device)).float()
        seen = torch.ones_like(at[0], dtype=torch.bool) if mask_camera is None else mask_camera[b][at] > 0
        samples.append(OccupiedVoxels(centres_m, grid[at].long(), seen, grid == FREE))
    return samples


class OccupancyLoss:
    """Loss terms of an encoder's output.

    Args:
        config: the weights.
        space: of the labels; its middle is where the distance weight starts from.

    Raises:
        ValueError: there are not as many class weights as classes.
    """

    def __init__(self, config: OccupancyLossConfig, space: SpaceConfig) -> None:
        if len(config.class_weights) != len(space.classes):
            raise ValueError(f'{len(config.class_weights)} class_weights for {len(space.classes)} classes')
        self.config, self._space = config, space
        low, high = torch.tensor(space.range_m[:2]), torch.tensor(space.range_m[3:5])
        self._middle_m, self._diagonal_m = (low + high) / 2, float((high - low).norm())
        alpha = torch.full((len(space.classes),), config.focal_alpha)
        if config.rare_focal_alpha is not None:
            alpha[list(config.rare_classes)] = config.rare_focal_alpha
        self._focal_alpha = alpha

    def __call__(
        self, initial_points_m: Tensor, output: EncoderOutput, truth: Sequence[OccupiedVoxels]
    ) -> dict[str, Tensor]:
        """All terms, weighted: their sum is what is trained on.

        Args:
            initial_points_m: [Q, 1, 3], ego frame (``OccupancyEncoder.initial_points_m``).
            output: of the encoder, B samples.
            truth: B samples, on the output's device. A sample without any voxel pulls no point; the classes of its
                points are pushed to zero.

        Returns:
            ``initial.points``, and per layer i ``layer{i}.points`` and ``layer{i}.classes``, scalars, float32 (float64
            where the output is).

        Raises:
            ValueError: B differs, predicted points are not finite, or ``classless_beyond_m`` is set and it is not known
                what is free.
        """
        B = output.features.shape[0]
        if len(truth) != B:
            raise ValueError(f'{len(truth)} samples of ground truth for a batch of {B}')
        indices = [PointIndex(sample.centres_m) if len(sample) else None for sample in truth]
        pulling = [self._draw(sample) for sample in truth]
        with torch.autocast(output.features.device.type, enabled=False):
            initial = _at_least_float32(initial_points_m).expand(B, -1, -1, -1).flatten(1, 2)
            terms = {'initial.points': self._points(initial, truth, pulling, self._assign(initial, indices))}
            for layer, (points, logits) in enumerate(zip(output.points_m, output.logits, strict=True)):
                points_m, scores = _at_least_float32(points).flatten(1, 2), _at_least_float32(logits).flatten(1, 2)
                assigned = self._assign(points_m, indices)
                terms[f'layer{layer}.classes'] = self._classes(points_m.detach(), scores, truth, assigned)
                terms[f'layer{layer}.points'] = self._points(points_m, truth, pulling, assigned)
        return terms

    @staticmethod
    def _assign(points_m: Tensor, indices: Sequence[PointIndex | None]) -> list[Tensor | None]:
        """Per sample the nearest voxel of each predicted point, int64 [N]."""
        return [index and index.nearest(points) for points, index in zip(points_m, indices, strict=True)]

    def class_targets(
        self, points_m: Tensor, voxel_of_point: Tensor | None, voxels: OccupiedVoxels
    ) -> tuple[Tensor, Tensor]:
        """Of one sample: class of each of N points [N, 3], int64 [N] (K: none), and weights [N, K]."""
        weights = torch.tensor(self.config.class_weights, device=voxels.centres_m.device)
        nothing = torch.full((len(points_m),), len(weights), device=weights.device)
        if voxel_of_point is None:
            return nothing, weights.expand(len(points_m), -1)
        centres_m, labels = voxels.centres_m[voxel_of_point], voxels.labels[voxel_of_point]
        if self.config.classless_beyond_m is not None:
            far = (points_m - centres_m).norm(dim=-1) > self.config.classless_beyond_m
            labels = torch.where(far & self._in_free(points_m, voxels), nothing, labels)
        offset_m = centres_m[:, :2] - self._middle_m.to(weights.device)
        return labels, weights * (1.0 + offset_m.norm(dim=-1, keepdim=True) / self._diagonal_m)

    def _in_free(self, points_m: Tensor, voxels: OccupiedVoxels) -> Tensor:
        """Which of points [N, 3] lie in a voxel that is labelled free: bool [N]."""
        if voxels.free is None:
            raise ValueError('classless_beyond_m needs to know which voxels are free')
        if voxels.grid_ego_from_ego is not None:
            pose = voxels.grid_ego_from_ego.to(points_m)
            points_m = points_m @ pose[:3, :3].T + pose[:3, 3]
        low_m = points_m.new_tensor(self._space.range_m[:3])
        cell = ((points_m - low_m) / self._space.voxel_m).floor().long()
        last = cell.new_tensor(voxels.free.shape) - 1
        inside = ((cell >= 0) & (cell <= last)).all(dim=-1)
        return inside & voxels.free[tuple(cell.clamp(min=0).minimum(last).unbind(-1))]

    def voxel_weights(self, distance_m: Tensor, voxels: OccupiedVoxels) -> Tensor:
        """Of one sample: weight of each voxel in the point loss, [M], by the distance to its nearest point."""
        config = self.config
        weights = torch.ones_like(distance_m)
        weights[(distance_m > config.missed_beyond_m) & voxels.seen] = config.missed_weight
        rare = torch.isin(voxels.labels, voxels.labels.new_tensor(config.rare_classes)) & voxels.seen
        return torch.where(rare, weights.clamp(min=config.rare_weight), weights)

    def _classes(
        self,
        points_m: Tensor,
        logits: Tensor,
        truth: Sequence[OccupiedVoxels],
        assigned: Sequence[Tensor | None],
    ) -> Tensor:
        B, N, K = logits.shape
        targets = [self.class_targets(*sample) for sample in zip(points_m, assigned, truth, strict=True)]
        labels, weights = (torch.stack(part) for part in zip(*targets, strict=True))
        target = F.one_hot(labels, K + 1)[..., :K].to(logits.dtype)
        alpha = self._focal_alpha.to(logits)
        loss = focal_loss(logits, target, self.config.focal_gamma, alpha) * weights
        return self.config.class_loss_weight * loss.sum() / (B * N)

    def _draw(self, voxels: OccupiedVoxels) -> tuple[OccupiedVoxels, Tensor]:
        """The voxels of one sample that pull points, and for how many each of them stands."""
        if self.config.pulling == 'seen':
            voxels = voxels.in_camera_mask()
        wanted, everyone = self.config.voxels_drawn, torch.ones_like(voxels.centres_m[:, 0])
        if wanted is None:
            return voxels, everyone
        always = torch.isin(voxels.labels, voxels.labels.new_tensor(self.config.rare_classes))
        common = (~always).nonzero()[:, 0]
        if len(common) <= wanted:
            return voxels, everyone
        drawn = common[torch.randperm(len(common), device=common.device)[:wanted]]
        chosen = torch.cat([always.nonzero()[:, 0], drawn])
        stands_for = torch.where(always[chosen], 1.0, len(common) / wanted)
        return OccupiedVoxels(voxels.centres_m[chosen], voxels.labels[chosen], voxels.seen[chosen]), stands_for

    def _points(
        self,
        points_m: Tensor,
        truth: Sequence[OccupiedVoxels],
        pulling: Sequence[tuple[OccupiedVoxels, Tensor]],
        assigned: Sequence[Tensor | None],
    ) -> Tensor:
        to_points, to_voxels = points_m.new_zeros(()), points_m.new_zeros(())
        for points, voxels, (drawn, stands_for), voxel_of_point in zip(points_m, truth, pulling, assigned, strict=True):
            if voxel_of_point is None:
                continue
            to_voxels = to_voxels + self._pull(points, voxels.centres_m.to(points.dtype)[voxel_of_point]).sum()
            if not len(drawn):
                continue
            nearest = points[PointIndex(points).nearest(drawn.centres_m)]  # [M, 3]
            weights = self.voxel_weights((drawn.centres_m - nearest.detach()).norm(dim=-1), drawn) * stands_for
            to_points = to_points + (self._pull(nearest, drawn.centres_m.to(points.dtype)) * weights).sum()
        pulling_in_all = sum(float(stands_for.sum()) for _, stands_for in pulling)
        mean = to_points / max(pulling_in_all, 1.0) + to_voxels / (points_m.shape[0] * points_m.shape[1])
        # without any voxel the graph is kept, so that backward() works
        return self.config.point_loss_weight * mean + 0.0 * points_m.sum()

    def _pull(self, points_m: Tensor, targets_m: Tensor) -> Tensor:
        """Smooth L1 distance, summed over the axes: [N, 3] -> [N]."""
        return F.smooth_l1_loss(points_m, targets_m, beta=self.config.point_beta_m, reduction='none').sum(dim=-1)


def focal_loss(logits: Tensor, target: Tensor, gamma: float, alpha: float | Tensor) -> Tensor:
    """Sigmoid focal loss of each element (arXiv 1708.02002).

    Args:
        logits, target: of one shape; targets are 0 or 1.
        gamma: focus, 0: none.
        alpha: weight of ones, zeros have 1 - alpha: one for all, or one for each of the last axis.
    """
    probability = logits.sigmoid()
    wrong = probability + target - 2.0 * probability * target
    balance = (1.0 - alpha) + (2.0 * alpha - 1.0) * target
    return balance * wrong**gamma * F.binary_cross_entropy_with_logits(logits, target, reduction='none')


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()

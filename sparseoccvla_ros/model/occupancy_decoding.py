"""Predicted points and class logits to occupied points, and to the voxels of Occ3D.

Letters: B samples, Q queries, P points of a query, N kept points of all samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.model.config import SpaceConfig


@dataclass(frozen=True)
class VoxelRule:
    """How points become voxels; the defaults are those of OPUS."""

    #: Least probability of a class, of a point and of a voxel.
    score_threshold: float = 0.5
    #: A point this far from the mean of its query's points is left out, metres.
    centre_distance_m: float = 3.0
    #: Points averaged in one voxel: the first ones, in the order of the queries.
    points_per_voxel: int = 10
    #: Fill holes: 3 x 3 x 3 dilation, then erosion, of each class.
    close: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.score_threshold <= 1.0:
            raise ValueError(f'score_threshold must be in 0..1, got {self.score_threshold}')
        if self.centre_distance_m <= 0 or self.points_per_voxel < 1:
            raise ValueError(
                f'centre_distance_m ({self.centre_distance_m}) and points_per_voxel ({self.points_per_voxel}) must be '
                'positive'
            )


@dataclass(frozen=True)
class VoxelScores:
    """Voxels that hold points, x-major: ``index`` int64 [M, 3], mean class ``scores`` [M, K] of the points averaged
    there, and how many these are, ``points`` int64 [M].
    """

    index: Tensor
    scores: Tensor
    points: Tensor


@dataclass(frozen=True)
class LabelledVoxels:
    """Occupied voxels, x-major: ``index`` int64 [M, 3] and ``labels`` int64 [M]."""

    index: Tensor
    labels: Tensor


def occupied_points(
    points_m: Tensor, logits: Tensor, space: SpaceConfig, score_threshold: float
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Points whose best class is likely enough and that lie inside the labelled space.

    Args:
        points_m: [B, Q, P, 3], ego frame.
        logits: [B, Q, P, K].
        space: the upper ends of its range do not belong to it.
        score_threshold: least probability of a point's best class, 0..1.

    Returns:
        per sample: points [M, 3] metres, ego frame; labels int64 [M]; scores [M].
    """
    scores, labels = logits.sigmoid().flatten(1, 2).max(dim=-1)  # [B, Q * P]
    points_m = points_m.flatten(1, 2)
    low, high = points_m.new_tensor(space.range_m[:3]), points_m.new_tensor(space.range_m[3:])
    keep = (scores > score_threshold) & ((points_m >= low) & (points_m < high)).all(dim=-1)
    return [(points_m[b][k], labels[b][k], scores[b][k]) for b, k in enumerate(keep.unbind())]


def voxel_scores(points_m: Tensor, logits: Tensor, space: SpaceConfig, rule: VoxelRule) -> list[VoxelScores]:
    """Average the scores of the points in each voxel, one entry per sample; arguments as :func:`occupied_points`."""
    B, Q, P, K = logits.shape
    shape = space.grid_shape
    scores = logits.sigmoid().flatten(0, 2)
    off_centre_m = (points_m - points_m.mean(dim=2, keepdim=True)).norm(dim=-1).flatten()
    cell = ((points_m - points_m.new_tensor(space.range_m[:3])) / space.voxel_m).floor().flatten(0, 2)
    inside = ((cell >= 0) & (cell < cell.new_tensor(shape))).all(dim=-1)
    keep = (inside & (off_centre_m < rule.centre_distance_m) & (scores > rule.score_threshold).any(dim=-1)).nonzero()[
        :, 0
    ]
    sample, cell = keep // (Q * P), cell[keep].long()
    key = ((sample * shape[0] + cell[:, 0]) * shape[1] + cell[:, 1]) * shape[2] + cell[:, 2]
    # points of a voxel side by side, in the order of the queries; only the first ones count
    key, order = key.sort(stable=True)
    voxels, voxel_of_point, counts = key.unique_consecutive(return_inverse=True, return_counts=True)
    place = torch.arange(len(key), device=key.device) - (counts.cumsum(0) - counts)[voxel_of_point]
    first = place < rule.points_per_voxel
    points = counts.clamp(max=rule.points_per_voxel)
    summed = scores.new_zeros(len(voxels), K).index_add_(0, voxel_of_point[first], scores[keep[order[first]]])
    index = torch.stack(torch.unravel_index(voxels, (B, *shape)), dim=1)
    result = []
    for b in range(B):
        own = index[:, 0] == b
        result.append(VoxelScores(index[own, 1:], summed[own] / points[own, None], points[own]))
    return result


def decode_voxels(points_m: Tensor, logits: Tensor, space: SpaceConfig, rule: VoxelRule) -> list[LabelledVoxels]:
    """Points to occupied voxels, one entry per sample; arguments as :func:`occupied_points`.

    A point with no class over the threshold, too far from its query's middle, or outside the space is left out. A voxel
    takes the mean scores of its points. With ``rule.close`` holes are filled; a voxel with a class over the threshold
    keeps its own scores. Source: OPUS (2409.09350), whose own code is right for one sample only.
    """
    result = []
    for voxels in voxel_scores(points_m, logits, space, rule):
        index, scores = voxels.index, voxels.scores
        if rule.close and len(index):
            index, scores = _closed(index, scores, space.grid_shape, rule.score_threshold)
        result.append(LabelledVoxels(index, scores.argmax(dim=-1)))
    return result


def dense_labels(voxels: LabelledVoxels, space: SpaceConfig) -> Tensor:
    """Labels of every voxel, uint8 [X, Y, Z], :data:`~sparseoccvla_ros.data.occ3d.FREE` where nothing is."""
    grid = torch.full(space.grid_shape, FREE, dtype=torch.uint8, device=voxels.labels.device)
    grid[tuple(voxels.index.unbind(1))] = voxels.labels.to(torch.uint8)
    return grid


def _closed(index: Tensor, scores: Tensor, shape: tuple[int, int, int], threshold: float) -> tuple[Tensor, Tensor]:
    """Closing of each class over the grid: voxels [M', 3] with a class over the threshold, and their scores."""
    # closing never exceeds a class' maximum, so a class that is nowhere over the threshold decides nothing
    classes = (scores > threshold).any(dim=0).nonzero()[:, 0]
    grid = scores.new_zeros(len(classes), *shape)
    at = tuple(index.unbind(1))
    grid[(slice(None), *at)] = scores[:, classes].t()
    own = (grid > threshold).any(dim=0)
    closed = torch.where(own, grid, -_dilated(-_dilated(grid)))
    index = (closed > threshold).any(dim=0).nonzero()
    found = scores.new_zeros(len(index), scores.shape[1])
    found[:, classes] = closed[(slice(None), *index.unbind(1))].t()
    return index, found


def _dilated(grid: Tensor) -> Tensor:
    """Maximum over the 3 x 3 x 3 neighbours of [K, X, Y, Z], axis by axis; beyond the border there is nothing."""
    for kernel in ((3, 1, 1), (1, 3, 1), (1, 1, 3)):
        grid = F.max_pool3d(grid, kernel, stride=1, padding=tuple(size // 2 for size in kernel))
    return grid

"""Supervision of the planner by the way the vehicle really went: which anchor is nearest to it, and how to refine that.

Only the anchors of the given command are scored: those of the others answer a question that was not asked. The scorer
does not know the command, so if the others counted as wrong it would learn to guess the recorded route from the scene.
Only the positive anchor, the nearest of the command's, is pulled to the recorded way (SparseOccVLA; SparseDrive and
DiffusionDrive do both alike). The recorded future is supervision and never an input. Letters: B samples, K candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseoccvla_ros.model.occupancy_loss import focal_loss
from sparseoccvla_ros.model.planner import DenoisingOutput


@dataclass(frozen=True)
class PlannerLossConfig:
    """Weights and kinds of the terms."""

    #: 'focal' (gamma and alpha below), or 'bce': plain binary cross-entropy.
    score_loss: Literal['focal', 'bce'] = 'focal'
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25
    #: DiffusionDrive's weights.
    score_weight: float = 10.0
    path_weight: float = 8.0

    def __post_init__(self) -> None:
        weights = (self.score_weight, self.path_weight)
        if not all(math.isfinite(weight) and weight >= 0.0 for weight in weights) or not any(weights):
            raise ValueError(
                f'score_weight ({self.score_weight}) and path_weight ({self.path_weight}) must be finite and '
                'non-negative, one positive'
            )
        if self.score_loss not in ('focal', 'bce'):
            raise ValueError(f"score_loss must be 'focal' or 'bce', got {self.score_loss!r}")
        if not 0.0 <= self.focal_gamma < math.inf or not 0.0 <= self.focal_alpha <= 1.0:
            raise ValueError(
                f'focal_gamma ({self.focal_gamma}) must be finite and not negative, focal_alpha ({self.focal_alpha}) '
                'in 0..1'
            )


@dataclass(frozen=True)
class PlannerTargets:
    """The recorded way of B samples: ``waypoints_ego_m`` [B, 6, 2], metres, ego frame at the keyframe; ``valid`` bool
    [B, 6], False where the recording has ended; ``command`` long [B], the one given to the vehicle then.
    """

    waypoints_ego_m: Tensor
    valid: Tensor
    command: Tensor

    def __post_init__(self) -> None:
        B, steps = self.valid.shape
        if self.waypoints_ego_m.shape != (B, steps, 2) or self.command.shape != (B,):
            raise ValueError(
                f'waypoints_ego_m {list(self.waypoints_ego_m.shape)} and command {list(self.command.shape)} must be '
                f'[{B}, {steps}, 2] and [{B}]'
            )
        if not self.waypoints_ego_m[self.valid].isfinite().all():
            raise ValueError('the recorded way is not finite where it is valid')


def positive_anchors(anchors_m: Tensor, targets: PlannerTargets) -> Tensor:
    """Index [B] into all K = commands x modes anchors: the nearest of the command's, by mean distance of the known
    waypoints; of equal ones, and of a sample without any known waypoint, the first.

    Args:
        anchors_m: [commands, M, 6, 2], metres.
        targets: of B samples.
    """
    own_m = anchors_m[targets.command]  # [B, M, 6, 2]
    distances_m = torch.linalg.vector_norm(own_m - targets.waypoints_ego_m[:, None], dim=-1)
    summed_m = distances_m.where(targets.valid[:, None], distances_m.new_zeros(())).sum(dim=-1)  # [B, M]
    return targets.command * anchors_m.shape[1] + summed_m.argmin(dim=-1)


class PlannerLoss:
    """Loss terms of a planner's training output."""

    def __init__(self, config: PlannerLossConfig) -> None:
        self.config = config

    def __call__(self, output: DenoisingOutput, anchors_m: Tensor, targets: PlannerTargets) -> dict[str, Tensor]:
        """All terms, weighted: their sum is what is trained on.

        Waypoints beyond the end of the recording count nowhere. A sample that has none is left out; both terms are
        means over the others (zero, with zero gradients, if there is none).

        Args:
            output: of all K candidates.
            anchors_m: [commands, M, 6, 2], the planner's.
            targets: what really happened.

        Returns:
            ``score``: summed over the command's anchors. ``path``: L1 of the positive candidate, mean over known
            waypoints and coordinates, metres times the weight.

        Raises:
            ValueError: the numbers of samples or candidates differ.
        """
        B, K = output.score_logits.shape
        modes = anchors_m.shape[1]
        if len(targets.command) != B or anchors_m.shape[0] * modes != K:
            raise ValueError(
                f'{B} samples and {K} candidates for {len(targets.command)} targets and '
                f'{anchors_m.shape[0]} x {modes} anchors'
            )
        positive = positive_anchors(anchors_m, targets)
        counts = targets.valid.any(dim=1)
        samples = torch.arange(B, device=positive.device)
        # [B, commands, M] -> the command's [B, M]
        own_logits = output.score_logits.unflatten(1, (-1, modes))[samples, targets.command]
        target = F.one_hot(positive % modes, modes).to(own_logits)
        score = self._score(own_logits, target).sum(dim=1)
        errors_m = output.waypoints_ego_m[samples, positive] - targets.waypoints_ego_m
        known = targets.valid[..., None]
        path_m = errors_m.where(known, errors_m.new_zeros(())).abs().mean(dim=-1).sum(dim=1)
        path_m = path_m / targets.valid.sum(dim=1).clamp(min=1)
        return {
            'score': self.config.score_weight * _mean(score, counts),
            'path': self.config.path_weight * _mean(path_m, counts),
        }

    def _score(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.config.score_loss == 'bce':
            return F.binary_cross_entropy_with_logits(logits, target, reduction='none')
        return focal_loss(logits, target, self.config.focal_gamma, self.config.focal_alpha)


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """Over the samples that count."""
    return values.where(counts, values.new_zeros(())).sum() / counts.sum().clamp(min=1)

"""The losses of the stage on single images: classes and log-depth, linearly read off every level of the backbone.

Letters: N images, C feature width, K classes (Occ3D's and the sky).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparseoccvla_ros.data.occ3d import UNLABELLED
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.training.images import SKY
from sparseoccvla_ros.training.term import Term, term

Batch = Mapping[str, Any]

CLASSES = SKY + 1
#: Depths beyond it are not learnt: the labelled space ends at 57 m.
MAX_DEPTH_M = 80.0
#: What a head that says nothing stands for, so that its start is no far way from the truth.
TYPICAL_DEPTH_M = 10.0


class ImageObjective(nn.Module):
    """The losses of a batch; of the perception only the backbone runs.

    Args:
        perception: its backbone is trained.
        weights: by name of a term, 'classes_in_image' and 'depth_in_image'; one that is left out is not made.

    Raises:
        ValueError: no such term.
    """

    def __init__(self, perception: OccupancyPerception, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.perception = perception
        self._weights = dict(weights)
        outputs = {'classes_in_image': CLASSES, 'depth_in_image': 1}
        unknown = sorted(set(weights) - set(outputs))
        if unknown or not weights:
            raise ValueError(f'weights must name some of {", ".join(outputs)}, got {", ".join(weights) or "none"}')
        widths = [conv.out_channels for conv in perception.backbone.pyramid.fpn_convs]
        self.heads = nn.ModuleDict(
            {name: nn.ModuleList(nn.Conv2d(width, outputs[name], 1) for width in widths) for name in weights}
        )

    def forward(self, batch: Batch) -> dict[str, Term]:
        """All terms by name and level, the finest first, weighted: the sum of their values is what is trained on.

        Args:
            batch: ``image`` uint8 [N, H, W, 3], ``target_class`` uint8 [N, H, W] (255: unknown), ``target_depth_m``
                float32 [N, H, W] (zero: unknown), of :class:`~sparseoccvla_ros.training.images.ImageStream`.

        Returns:
            cross-entropy over the pixels whose class is known, and the absolute error of log-depth over those whose
            depth is known and at most 80 m; counts are those pixels, at the level's own resolution.
        """
        found: dict[str, Term] = {}
        for place, level in enumerate(self.perception.extract(batch['image'])):
            for name, heads in self.heads.items():
                output = heads[place](level).float()
                if name == 'classes_in_image':
                    loss, known = _classes(output, batch['target_class'])
                else:
                    loss, known = _depths(output, batch['target_depth_m'])
                count = known.sum()
                found[f'{name}.level{place}'] = term(loss.sum() / count.clamp(min=1), count, self._weights[name])
        return found


def _classes(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each cell, zero where ``known`` is False: both [N, h, w]."""
    truth = at_cells(truth, logits).long()
    loss = F.cross_entropy(logits, truth, ignore_index=UNLABELLED, reduction='none')
    return loss, truth != UNLABELLED


def _depths(log_depth: Tensor, truth_m: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute error of each cell's log-depth [N, 1, h, w], zero where ``known`` is False: both [N, h, w]."""
    truth_m = at_cells(truth_m, log_depth)
    known = (truth_m > 0.0) & (truth_m <= MAX_DEPTH_M)
    # a depth of 1 m where it is unknown: log(0) would leave NaN in the gradient
    truth = torch.where(known, truth_m, 1.0).log() - math.log(TYPICAL_DEPTH_M)
    return (log_depth[:, 0] - truth).abs() * known, known


def at_cells(labels: Tensor, level: Tensor) -> Tensor:
    """Labels [N, H, W] at the middles of a level's cells [N, C, h, w]: [N, h, w]."""
    (height, width), (rows, columns) = labels.shape[-2:], level.shape[-2:]
    # whole numbers: (i + 1/2) H / h, rounded down
    row = torch.arange(1, 2 * rows, 2, device=labels.device) * height // (2 * rows)
    column = torch.arange(1, 2 * columns, 2, device=labels.device) * width // (2 * columns)
    return labels[:, row[:, None], column]

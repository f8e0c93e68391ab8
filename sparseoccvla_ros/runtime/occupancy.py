"""Predicted points and class logits to occupied points on the CPU."""

from __future__ import annotations

import torch

from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.occupancy_decoding import occupied_points
from sparseoccvla_ros.runtime.scene import OccupancyPoints


def scene_points(
    points_m: torch.Tensor, logits: torch.Tensor, space: SpaceConfig, score_threshold: float
) -> OccupancyPoints:
    """The one scene of a batch of one, for what is published; the rule is that of :func:`occupied_points`."""
    ((points, labels, scores),) = occupied_points(points_m.float(), logits.float(), space, score_threshold)
    return OccupancyPoints(
        points_ego=points.cpu().numpy(), labels=labels.to(torch.uint8).cpu().numpy(), scores=scores.cpu().numpy()
    )

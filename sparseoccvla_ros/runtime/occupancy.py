"""Predicted points and class logits to occupied points on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparseoccvla_ros.runtime.scene import OccupancyPoints


def occupied_points(
    points_m: torch.Tensor, logits: torch.Tensor, range_m: Sequence[float], score_threshold: float
) -> OccupancyPoints:
    """Points whose best class is likely enough and that lie inside the labelled space.

    The rule is the one of ``OccupancyPerception.decode_points``; the forecast comes from another part of the model.

    Args:
        points_m: [..., 3] in the ego frame.
        logits: [..., K], one per class, same leading shape.
        range_m: x0, y0, z0, x1, y1, z1; the upper ends do not belong to it.
        score_threshold: least probability of the best class, 0..1.
    """
    points_m = points_m.float().reshape(-1, 3)
    scores, labels = logits.float().sigmoid().reshape(-1, logits.shape[-1]).max(dim=-1)
    low, high = points_m.new_tensor(range_m[:3]), points_m.new_tensor(range_m[3:])
    keep = (scores > score_threshold) & ((points_m >= low) & (points_m < high)).all(dim=-1)
    return OccupancyPoints(
        points_ego=points_m[keep].cpu().numpy(),
        labels=labels[keep].to(torch.uint8).cpu().numpy(),
        scores=scores[keep].cpu().numpy(),
    )

"""Whether refined candidates are still alternatives, and what is handed to the gate where they are not.

Only the positive anchor is pulled to the recorded way, so nothing keeps the others apart: the network may learn to
answer with the same trajectory for all of them. A gate that refuses the best candidate would then have the same one to
fall back on, six times over. Letters: B samples, K = commands x M candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparseoccvla_ros.model.planner import PlannerOutput


@dataclass(frozen=True)
class Candidates:
    """What the gate chooses from.

    ``waypoints_ego_m`` [B, K, 6, 2]; ``refined`` bool [B, K], False where it is the raw anchor; ``diversity``
    [B, commands], of what the network gave, see :func:`diversity`.
    """

    waypoints_ego_m: Tensor
    refined: Tensor
    diversity: Tensor


def endpoint_spread_m(waypoints_m: Tensor) -> Tensor:
    """Mean distance between the last waypoints of two different candidates: [..., M, 6, 2] -> [...]; 0 for M = 1."""
    ends_m = waypoints_m[..., -1, :]
    M = ends_m.shape[-2]
    distances_m = torch.linalg.vector_norm(ends_m[..., :, None, :] - ends_m[..., None, :, :], dim=-1)
    return distances_m.sum(dim=(-2, -1)) / max(1, M * (M - 1))


def diversity(refined_m: Tensor, anchors_m: Tensor) -> Tensor:
    """Spread of each command's refined candidates over that of its anchors: 1 as apart as before, 0 all in one place.

    Args:
        refined_m: [B, K, 6, 2], metres, command by command.
        anchors_m: [commands, M, 6, 2], metres.

    Returns:
        [B, commands]; 1 where the anchors themselves are in one place (a single mode), not a number where a refined
        candidate is none.
    """
    before_m = endpoint_spread_m(anchors_m)
    after_m = endpoint_spread_m(refined_m.unflatten(1, anchors_m.shape[:2]))
    apart = before_m > 0.0
    ratio = after_m / before_m.where(apart, before_m.new_ones(()))
    return ratio.where(apart | ratio.isnan(), ratio.new_ones(()))


def keep_alternatives(output: PlannerOutput, anchors_m: Tensor, min_diversity: float) -> Candidates:
    """The refined candidates; where those of a command have collapsed, only its best-scored one and, in place of the
    others, their raw anchors.

    Args:
        output: the network's.
        anchors_m: [commands, M, 6, 2], the planner's.
        min_diversity: a diversity below it is a collapse (``PlannerConfig.min_diversity``).
    """
    ratio = diversity(output.waypoints_ego_m, anchors_m)
    scores = output.scores.unflatten(1, anchors_m.shape[:2])  # [B, commands, M]
    best = scores.argmax(dim=-1, keepdim=True)
    # no number is below the limit: the gate gets to see what is not finite
    collapsed = (ratio < min_diversity)[..., None].expand_as(scores)
    refined = (~collapsed).scatter(2, best, True).flatten(1)
    waypoints_m = torch.where(refined[..., None, None], output.waypoints_ego_m, anchors_m.flatten(0, 1))
    return Candidates(waypoints_m, refined, ratio)

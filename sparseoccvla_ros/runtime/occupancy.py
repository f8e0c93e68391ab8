"""Predicted points and class logits to occupied points on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.occupancy_decoding import occupied_points
from sparseoccvla_ros.runtime.scene import OccupancyPoints


@dataclass(frozen=True)
class SelfFilter:
    """The box that the vehicle itself fills, metres, ego frame: [x, y, z] of its two ends.

    What is seen in there at the time of the images cannot be; of a forecast it can. A box of no size holds nothing.

    Raises:
        ValueError: one of ``low_m`` is above its other end.
    """

    low_m: tuple[float, float, float]
    high_m: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(low <= high for low, high in zip(self.low_m, self.high_m, strict=True)):
            raise ValueError(f'{self.low_m} and {self.high_m} are no ends of a box: the first must not be above')

    def apply(self, occupancy: OccupancyPoints) -> OccupancyPoints:
        """The points outside the box."""
        inside = ((occupancy.points_ego > self.low_m) & (occupancy.points_ego < self.high_m)).all(axis=1)
        if not np.any(inside):
            return occupancy
        return OccupancyPoints(occupancy.points_ego[~inside], occupancy.labels[~inside], occupancy.scores[~inside])


#: The body of the default vehicle (``config/vehicle/default.yaml``), above the road.
DEFAULT_SELF_FILTER = SelfFilter((-0.65, -0.92, 0.3), (3.42, 0.92, 1.56))


def scene_points(
    points_m: torch.Tensor, logits: torch.Tensor, space: SpaceConfig, score_threshold: float
) -> OccupancyPoints:
    """The one scene of a batch of one, for what is published; the rule is that of :func:`occupied_points`."""
    ((points, labels, scores),) = occupied_points(points_m.float(), logits.float(), space, score_threshold)
    return OccupancyPoints(
        points_ego=points.cpu().numpy(), labels=labels.to(torch.uint8).cpu().numpy(), scores=scores.cpu().numpy()
    )

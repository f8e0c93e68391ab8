"""What the stages hand to each other, by reference inside one process."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch


class Command(IntEnum):
    """High-level driving command, in the order of the anchor groups."""

    RIGHT = 0
    LEFT = 1
    STRAIGHT = 2


@dataclass(frozen=True)
class OccupancyPoints:
    """Occupied points in the ego frame of the scene: ``points_ego`` float32 [M, 3] metres, ``labels`` uint8 [M]
    (Occ3D classes 0..16), ``scores`` float32 [M], 0..1.
    """

    points_ego: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def at_least(self, score: float) -> OccupancyPoints:
        """Those of at least that score."""
        keep = self.scores >= score
        return OccupancyPoints(self.points_ego[keep], self.labels[keep], self.scores[keep])


#: (seconds after the stamp, occupancy then) in rising order, all in the ego frame at the stamp.
Forecast = tuple[tuple[float, OccupancyPoints], ...]


@dataclass(frozen=True)
class SceneQueries:
    """Perception's result for one scene: the only bridge from the cameras to language and planning.

    ``features`` [Q, C] and ``positions_ego`` [Q, 3] (mean point of each query, metres, ego frame at ``stamp_ns``)
    and ``scores`` [Q] are float32 tensors on the stage's device. ``occupancy`` is None where the queries came
    through a ROS message, which does not carry it. ``stage_ms`` holds the durations of perception's stages.
    """

    stamp_ns: int
    features: torch.Tensor
    positions_ego: torch.Tensor
    scores: torch.Tensor
    cameras_used: tuple[str, ...]
    cameras_missing: dict[str, str]
    temporal: bool
    occupancy: OccupancyPoints | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneReasoning:
    """Reasoning's result for one scene: T_r, float32 [R, D], the planner's reading of the planning prompt, and the
    forecast, empty where the tokens came through a ROS message, which does not carry it.
    """

    stamp_ns: int
    tokens: torch.Tensor
    prefix_tokens: int
    prompt_tokens: int
    stage_ms: dict[str, float] = field(default_factory=dict)
    forecast: Forecast = ()


@dataclass(frozen=True)
class SceneOccupancy:
    """The occupancy of one scene, where it comes apart from the queries."""

    stamp_ns: int
    occupancy: OccupancyPoints


@dataclass(frozen=True)
class SceneForecast:
    """The forecast of one scene, where it comes apart from the reasoning tokens."""

    stamp_ns: int
    forecast: Forecast


@dataclass(frozen=True)
class EgoState:
    """The vehicle's motion at one time, from past measurements only."""

    stamp_ns: int
    odom_from_ego: np.ndarray
    speed_mps: float
    accel_mps2: float
    yaw_rate_radps: float

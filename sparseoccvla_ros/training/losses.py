"""The weights of all losses as one section of a training's configuration, read as strictly as a model's."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from sparseoccvla_ros.model.distillation import DistillationConfig
from sparseoccvla_ros.model.forecast_loss import ForecastLossConfig
from sparseoccvla_ros.model.occupancy_loss import OccupancyLossConfig
from sparseoccvla_ros.model.planner_loss import PlannerLossConfig
from sparseoccvla_ros.training.reading_loss import ReadingConfig


@dataclass(frozen=True)
class LossWeights:
    """What each loss's sum of terms counts where several are trained at once. Terms have weights of their own."""

    classes_in_image: float = 1.0
    depth_in_image: float = 1.0
    occupancy: float = 1.0
    distillation: float = 1.0
    forecast: float = 1.0
    planner: float = 1.0
    #: Cross-entropy a token of the answers.
    answers: float = 1.0
    #: Cross-entropy a token of what is practised on few queries and on whole scenes.
    reading: float = 1.0

    def __post_init__(self) -> None:
        weights = dataclasses.asdict(self)
        if not all(math.isfinite(weight) and weight >= 0.0 for weight in weights.values()) or not any(weights.values()):
            raise ValueError(f'losses.weights must be finite and non-negative, one positive, got {weights}')


@dataclass(frozen=True)
class LossSettings:
    """What each loss is built from. A section that is left out has its defaults."""

    occupancy: OccupancyLossConfig = field(default_factory=OccupancyLossConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    #: With an ``occupancy`` section of its own: terms of a horizon need not weigh as the encoder's do.
    forecast: ForecastLossConfig = field(default_factory=ForecastLossConfig)
    planner: PlannerLossConfig = field(default_factory=PlannerLossConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    weights: LossWeights = field(default_factory=LossWeights)

"""The weights of all losses as one section of a training's configuration, read as strictly as a model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparseoccvla_ros.model.config import dataclass_from
from sparseoccvla_ros.model.distillation import DistillationConfig
from sparseoccvla_ros.model.forecast_loss import ForecastLossConfig
from sparseoccvla_ros.model.occupancy_loss import OccupancyLossConfig


@dataclass(frozen=True)
class LossSettings:
    """What each loss is built from. A section that is left out has its defaults."""

    occupancy: OccupancyLossConfig = field(default_factory=OccupancyLossConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    #: With an ``occupancy`` section of its own: terms of a horizon need not weigh as the encoder's do.
    forecast: ForecastLossConfig = field(default_factory=ForecastLossConfig)


def loss_settings(values: Mapping[str, Any]) -> LossSettings:
    """The section ``losses`` of a training's YAML file.

    Raises:
        ValueError: unknown key, wrong type or impossible value; names the key, what was expected and found.
    """
    return dataclass_from(LossSettings, values, 'losses.')

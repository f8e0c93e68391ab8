"""Losses from a training's YAML."""

import math

import pytest
import yaml

from sparseoccvla_ros.model.config import dataclass_from, load_model_config
from sparseoccvla_ros.model.forecast_loss import ForecastLoss
from sparseoccvla_ros.model.planner_loss import PlannerLoss
from sparseoccvla_ros.training.losses import LossSettings, LossWeights

TEXT = """
occupancy: {point_loss_weight: 1, rare_classes: [0, 5]}
forecast:
  horizon_weights: [1.0, 0.5, 0]
  occupancy: {focal_gamma: 1.5}
planner: {score_loss: bce, path_weight: 4}
weights: {planner: 0.5, answers: 2}
"""


def loss_settings(values) -> LossSettings:
    """As the section of a recipe is read."""
    return dataclass_from(LossSettings, values, 'losses.')


def test_sections_are_read_and_the_rest_are_defaults():
    settings = loss_settings(yaml.safe_load(TEXT))
    assert settings.occupancy.point_loss_weight == 1.0
    assert settings.occupancy.rare_classes == (0, 5)
    assert settings.forecast.horizon_weights == (1.0, 0.5, 0.0)
    assert (settings.forecast.occupancy.focal_gamma, settings.occupancy.focal_gamma) == (1.5, 2.0)
    assert (settings.planner.score_loss, settings.planner.path_weight, settings.planner.score_weight) == ('bce', 4, 10)
    assert settings.weights == LossWeights(planner=0.5, answers=2.0)
    assert settings.distillation == LossSettings().distillation
    assert loss_settings({}) == LossSettings()


def test_the_forecast_loss_is_built_from_it():
    config = load_model_config('tiny')
    horizons_s = config.forecaster.horizons_s
    settings = loss_settings(yaml.safe_load(TEXT))
    assert ForecastLoss(settings.forecast, config.space, horizons_s).config is settings.forecast
    two = loss_settings({'forecast': {'horizon_weights': [1.0, 1.0]}})
    with pytest.raises(ValueError, match='2 horizon_weights for 3 horizons'):
        ForecastLoss(two.forecast, config.space, horizons_s)


def test_the_planner_loss_is_built_from_it():
    settings = loss_settings(yaml.safe_load(TEXT))
    assert PlannerLoss(settings.planner).config is settings.planner


@pytest.mark.parametrize(
    ('values', 'reason'),
    [
        (
            {'forecst': {}},
            r'unknown key losses\.forecst; known keys: distillation, forecast, occupancy, planner, reading, weights',
        ),
        ({'forecast': {'occupancy': {'gamma': 1}}}, r'unknown key losses\.forecast\.occupancy\.gamma'),
        ({'forecast': {'horizon_weights': 1.0}}, r'losses\.forecast\.horizon_weights: expected a list, found 1\.0'),
        ({'forecast': {'horizon_weights': [0.0, 0.0]}}, 'must be non-negative, one positive'),
        ({'occupancy': {'point_beta_m': 0.0}}, 'point_beta_m must be positive'),
        ({'planner': {'score_loss': 'hinge'}}, r"losses\.planner\.score_loss: expected one of 'focal', 'bce'"),
        ({'weights': {'answer': 1.0}}, r'unknown key losses\.weights\.answer; known keys: answers, classes_in_image'),
        ({'weights': {'forecast': -1.0}}, r"losses\.weights must be finite .* 'forecast': -1\.0"),
        ({'weights': {'forecast': math.inf}}, r"losses\.weights must be finite .* 'forecast': inf"),
        (
            {'weights': dict.fromkeys(LossWeights.__dataclass_fields__, 0)},
            'one positive',
        ),
    ],
)
def test_what_is_wrong_is_named(values, reason):
    with pytest.raises(ValueError, match=reason):
        loss_settings(values)

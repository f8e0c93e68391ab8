"""The forecaster begins where the encoder ends."""

import dataclasses

import pytest
import torch

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.forecaster import OccupancyForecaster
from sparseoccvla_ros.model.vla import build_perception


@pytest.fixture(scope='module')
def encoder(small):
    return build_perception(small, weights=None).encoder


def forecaster_of(small, **changes) -> OccupancyForecaster:
    torch.manual_seed(1)
    config = dataclasses.replace(small.forecaster, points=small.encoder.points_per_layer[-1], **changes)
    return OccupancyForecaster(config, small.encoder.width, small.language.width, len(small.space.classes))


def encoded(encoder, ring, levels_of):
    """An encoder's output, as it is for one scene."""
    with torch.no_grad():
        views = ring(6, encoder.frames)
        return encoder(levels_of(views.shape[1], 16), views, torch.ones(1, views.shape[1], dtype=torch.bool))


def test_it_begins_with_the_encoders_present_at_all_horizons(small, encoder, ring, levels_of):
    output = encoded(encoder, ring, levels_of)
    forecaster = forecaster_of(small)
    forecaster.begin_with_present(encoder.layers[-1])
    hidden = torch.randn(1, small.encoder.queries, small.language.width)
    with torch.no_grad():
        horizons = forecaster(hidden, output.features, output.positions_m)
    assert len(horizons) == len(small.forecaster.horizons_s)
    for points_m, logits in horizons:
        torch.testing.assert_close(points_m, output.points_m[-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(logits, output.logits[-1], rtol=0, atol=1e-5)


def test_from_there_what_the_language_model_says_can_change_it(small, encoder, ring, levels_of):
    output = encoded(encoder, ring, levels_of)
    forecaster = forecaster_of(small)
    forecaster.begin_with_present(encoder.layers[-1])
    hidden = torch.randn(1, small.encoder.queries, small.language.width)
    optimizer = torch.optim.SGD(forecaster.parameters(), lr=1e-3)
    for _ in range(2):  # the first step moves what was zero, the second what is before it
        optimizer.zero_grad()
        points_m, logits = forecaster(hidden, output.features, output.positions_m)[-1]
        (points_m.square().mean() + logits.square().mean()).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in forecaster.parameters())
    with torch.no_grad():
        said = forecaster(hidden, output.features, output.positions_m)
        unsaid = forecaster(torch.zeros_like(hidden), output.features, output.positions_m)
    assert not torch.equal(said[0][0], unsaid[0][0])
    assert not torch.equal(said[0][1], said[2][1])


@pytest.mark.parametrize('changes', [{'points': 4}, {'offset_scale_m': 1.0}])
def test_an_encoder_that_does_not_fit_is_refused(small, encoder, changes):
    config = dataclasses.replace(small.forecaster, **{'points': 8, **changes})
    forecaster = OccupancyForecaster(config, small.encoder.width, small.language.width, len(small.space.classes))
    assert not forecaster.fits(encoder.layers[-1])
    with pytest.raises(ValueError, match=r'cannot begin with an encoder of 8 in units of 0\.5 m'):
        forecaster.begin_with_present(encoder.layers[-1])


@pytest.mark.parametrize('name', ['tiny', 'full'])
def test_both_models_have_forecasters_that_fit(name):
    config = load_model_config(name)
    assert config.forecaster.points == config.encoder.points_per_layer[-1]
    assert config.forecaster.offset_scale_m == config.encoder.offset_scale_m

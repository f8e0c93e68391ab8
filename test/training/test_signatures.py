"""Known failures are told by their cause, and only where they are."""

import math
from dataclasses import replace

import pytest
import torch

from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.training.signatures import StepWatch, position_effect, static_warnings


@pytest.fixture
def connector(recipe_of):
    return build_language(recipe_of().model_config(), weights=None).connector


def test_nothing_is_said_of_a_sound_start(recipe_of, connector):
    recipe = recipe_of()
    assert static_warnings(recipe, recipe.model_config(), connector) == []
    watch = StepWatch(recipe, recipe.model_config())
    assert watch.observe(1, {'answers': math.log(1536)}, {'answers': 9}, 2) == []


def test_a_missing_position_encoding_is_told(recipe_of, connector):
    recipe = recipe_of()
    assert position_effect(connector, recipe.model_config()) > 0.6
    with torch.no_grad():
        connector.position_encoding.mlp[-1].weight.zero_()
    [warning] = static_warnings(recipe, recipe.model_config(), connector)
    assert 'position encoding' in warning


def test_an_encoding_that_the_features_drown_is_told(recipe_of, connector):
    """At a seventh of the features' size, as of the connector that never learnt to say where things are."""
    recipe = recipe_of()
    with torch.no_grad():
        connector.position_norm.weight.mul_(1 / 7)
    [warning] = static_warnings(recipe, recipe.model_config(), connector)
    assert 'position encoding' in warning


def test_switches_that_are_known_to_hurt_are_told(recipe_of):
    overrides = {**recipe_of().overrides, 'planner.ego_fusion': False}
    recipe = recipe_of(
        overrides=overrides,
        terms=['distillation', 'planner'],
        train=['distillation', 'planner'],
        losses={'distillation': {'normalize': False}},
    )
    normalize, ego = static_warnings(recipe, recipe.model_config(), None)
    assert 'normalize is off' in normalize
    assert 'long horizons' in ego


def test_a_high_first_loss_of_the_language_model_is_told_once(recipe_of):
    recipe = recipe_of(losses={'weights': {'answers': 0.5}})
    watch = StepWatch(recipe, recipe.model_config())
    [warning] = watch.observe(1, {'answers': 0.5 * 1.2 * math.log(1536)}, {'answers': 9}, 2)
    assert 'distillation normalization' in warning
    assert watch.observe(2, {'answers': 40.0}, {'answers': 9}, 2) == []


def test_the_first_step_with_a_question_is_the_one_that_tells(recipe_of):
    recipe = recipe_of()
    watch = StepWatch(recipe, recipe.model_config())
    assert watch.observe(1, {'answers': 0.0}, {'answers': 0}, 2) == []
    assert len(watch.observe(2, {'answers': 20.0}, {'answers': 9}, 2)) == 1


def test_a_pretrained_language_model_has_to_start_far_below_guessing(recipe_of):
    recipe = recipe_of()
    language = replace(recipe.model_config().language, pretrained='somewhere')
    watch = StepWatch(recipe, replace(recipe.model_config(), language=language))
    assert len(watch.observe(1, {'answers': 0.6 * math.log(1536)}, {'answers': 9}, 2)) == 1


def test_a_distillation_that_sees_little_or_learns_nothing_is_told(recipe_of):
    recipe = recipe_of(terms=['occupancy', 'distillation'], train=['perception', 'distillation'])
    watch, queries = StepWatch(recipe, recipe.model_config()), 24
    assert watch.observe(1, {'distillation': 1.0}, {'distillation': 2 * queries * 0.6}, 2) == []
    [few] = watch.observe(2, {'distillation': 1.0}, {'distillation': 2 * queries * 0.1}, 2)
    assert '10%' in few
    [stuck] = watch.observe(500, {'distillation': 0.98}, {'distillation': 2 * queries * 0.6}, 2)
    assert 'BGR' in stuck

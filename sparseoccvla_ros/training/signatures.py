"""Signs of a training that goes wrong for a known reason, SparseOccVLA's own failures among them, with the cause."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.connector import Connector
from sparseoccvla_ros.training.recipe import Recipe

#: An answer loss this many times that of guessing all tokens alike is too high a start: of a language model with
#: random weights, of a pretrained one.
HIGH_ANSWER_LOSS, HIGH_PRETRAINED_ANSWER_LOSS = 1.15, 0.5
#: The first answers come so early, or the run is one that goes on.
FIRST_STEPS = 20
#: Relative change of the occupancy tokens when all queries are put elsewhere; less means that they do not know where
#: they are. A plain sum, in which the features drowned the encoding, had 0.17 and never learnt to locate anything; two
#: of the same size have 0.9 (docs/training.md, "Reading practice").
POSITION_EFFECT = 0.3
#: A distillation that has learnt nothing by then has a wrong target.
DISTILLATION_STEPS, DISTILLATION_STUCK = 500, 0.95
#: Share of the queries that a camera sees, in the mean of a batch.
SEEN_QUERIES = 0.3


def static_warnings(recipe: Recipe, config: VLAConfig, connector: Connector | None) -> list[str]:
    """What can be told before the first step.

    Args:
        recipe: of the stage. config: of its model.
        connector: of the language part as the stage starts with it, None without one.
    """
    warnings = []
    if 'distillation' in recipe.terms and not recipe.losses.distillation.normalize:
        warnings.append(
            'losses.distillation.normalize is off: reported to give a high initial loss of the language model, and '
            'training may collapse'
        )
    if 'planner' in recipe.terms and not config.planner.ego_fusion:
        warnings.append('planner.ego_fusion is off: L2 grows at long horizons')
    if connector is not None:
        warnings += position_warnings(connector, config)
    return warnings


def position_warnings(connector: Connector, config: VLAConfig) -> list[str]:
    """Whether the occupancy tokens know where they are: at the start, and of what has been learnt."""
    effect = position_effect(connector, config)
    if effect >= POSITION_EFFECT:
        return []
    return [
        f'position encoding: occupancy tokens change by {effect:.2f} of their size when the queries are put elsewhere '
        f'(expected at least {POSITION_EFFECT}). It is missing or drowned: answers stay poor though mIoU is fine'
    ]


@torch.no_grad()
def position_effect(connector: Connector, config: VLAConfig) -> float:
    """Relative change of the occupancy tokens of random queries when these change places."""
    generator = torch.Generator().manual_seed(0)
    device = connector.project.weight.device
    features = torch.randn(1, 256, config.encoder.width, generator=generator).to(device)
    low, size = connector.position_encoding.low_m, connector.position_encoding.size_m
    positions_m = torch.rand(2, 1, 256, 3, generator=generator).to(device) * size + low
    here, there = (connector(features, places_m)[0] for places_m in positions_m)
    return float((here - there).norm() / here.norm())


class StepWatch:
    """Warnings from what is logged; each is given once."""

    def __init__(self, recipe: Recipe, config: VLAConfig) -> None:
        self._recipe, self._config = recipe, config
        self._given: set[str] = set()
        self._answered = False

    def observe(self, step: int, terms: Mapping[str, float], counts: Mapping[str, float], samples: int) -> list[str]:
        """What a step's terms (weighted), their counts and the number of samples of all processes tell."""
        weights = self._recipe.losses.weights
        found = {}
        if counts.get('answers') and weights.answers and not self._answered:
            self._answered = True
            language = self._config.language
            loss, guess = terms['answers'] / weights.answers, math.log(language.vocabulary)
            learnt = language.pretrained is not None or 'language' in self._recipe.start
            high = HIGH_PRETRAINED_ANSWER_LOSS if learnt else HIGH_ANSWER_LOSS
            if step <= FIRST_STEPS and loss > high * guess:
                found['answers'] = (
                    f'the language model starts with a loss of {loss:.2f} a token, where guessing has {guess:.2f}: '
                    'check the distillation normalization and the size of the occupancy tokens'
                )
        if 'distillation' in terms:
            seen = counts['distillation'] / (samples * self._config.encoder.queries)
            if seen < SEEN_QUERIES:
                found['seen'] = (
                    f'cameras see only {seen:.0%} of the queries: check the camera mask, and whether matrices are of '
                    "the network's image size"
                )
            if step >= DISTILLATION_STEPS and weights.distillation:
                loss = terms['distillation'] / weights.distillation
                if loss > DISTILLATION_STUCK:
                    found['distillation'] = (
                        f'distillation is still at {loss:.2f} of 1 after {step} steps: no relation to the teacher. '
                        'Wrong matrices, images in BGR, or features of another frame'
                    )
        new = [text for name, text in found.items() if name not in self._given]
        self._given.update(found)
        return new

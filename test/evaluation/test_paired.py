"""Comparing two predictors on the same scenes."""

import numpy as np
import pytest

from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap
from sparseoccvla_ros.evaluation.paired import paired

SCENES = [f'scene-{number}' for number in range(12)]


def scores(values, bootstrap):
    return {'score': float(np.mean(values))}, {'score': bootstrap.means(SCENES, values)}


def test_a_constant_difference_is_certain_however_much_scenes_differ():
    bootstrap = SceneBootstrap(SCENES)
    other = np.linspace(0.1, 0.9, len(SCENES))
    (own_score, own_draws), (other_score, other_draws) = scores(other + 0.05, bootstrap), scores(other, bootstrap)
    low, high = bootstrap.intervals(own_draws)['score']
    assert high - low > 0.2
    result = paired(own_score, other_score, own_draws, other_draws, bootstrap)['score']
    assert result.difference == pytest.approx(0.05)
    assert result.difference_interval == pytest.approx([0.05, 0.05])
    assert result.ratio == pytest.approx(0.55 / 0.5)
    assert result.ratio_interval[0] < result.ratio < result.ratio_interval[1]


def test_a_ratio_to_nothing_is_none_and_scores_of_one_side_are_left_out():
    bootstrap = SceneBootstrap(SCENES)
    rare = np.zeros(len(SCENES))
    rare[0] = 1.0  # many resamples do not draw it
    (own, own_draws), (other, other_draws) = scores(np.ones(len(SCENES)), bootstrap), scores(rare, bootstrap)
    result = paired({**own, 'alone': 1.0, 'unknown': float('nan')}, {**other, 'unknown': 1.0}, own_draws, other_draws,
                    bootstrap)  # fmt: skip
    assert list(result) == ['score']
    assert result['score'].ratio == pytest.approx(12.0)
    assert result['score'].ratio_interval is None
    zero = paired(own, {'score': 0.0}, {}, {}, bootstrap)['score']
    assert (zero.ratio, zero.difference_interval) == (None, None)

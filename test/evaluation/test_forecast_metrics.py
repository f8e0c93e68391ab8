"""Forecast mIoU in its two conventions: worked by hand, and as properties."""

import math

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE
from sparseoccvla_ros.evaluation.forecast_metrics import (
    CONVENTIONS,
    ForecastScore,
    occworld_miou,
    sparseworld_miou,
)
from sparseoccvla_ros.evaluation.occupancy_metrics import confusion_counts, occ3d_miou

BUS, CAR, TRUCK = CLASS_NAMES.index('bus'), CLASS_NAMES.index('car'), CLASS_NAMES.index('truck')
CLASSES = len(CLASS_NAMES)
SHAPE = (3, 6, 5, 4)


def grids(seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice([CAR, TRUCK, FREE], SHAPE).astype(np.uint8)
    return np.where(rng.random(SHAPE) < 0.6, truth, CAR).astype(np.uint8), truth


def test_conventions_differ_in_absent_classes():
    truth = np.array([CAR, CAR, CAR, TRUCK, FREE, FREE, 255])
    predicted = np.array([CAR, CAR, FREE, TRUCK, BUS, FREE, BUS])
    counts = confusion_counts(predicted, truth)
    car, truck = 2 / 3, 1.0
    assert occ3d_miou(counts) == pytest.approx((car + truck) / 2)
    assert sparseworld_miou(counts) == pytest.approx((car + truck + 0.0) / 3)  # the bus counts as 0
    assert occworld_miou(counts) == pytest.approx((car + truck + (CLASSES - 2)) / CLASSES)  # the bus counts as 1


def test_conventions_agree_where_every_class_occurs():
    truth = np.repeat(np.arange(FREE + 1), 5)
    predicted = np.random.default_rng(0).permutation(truth)
    counts = confusion_counts(predicted, truth)
    assert sparseworld_miou(counts) == pytest.approx(occ3d_miou(counts))
    assert occworld_miou(counts) == pytest.approx(occ3d_miou(counts))


def test_each_time_is_scored_by_itself():
    predicted, truth = grids(1)
    predicted[0] = truth[0]
    score = ForecastScore()
    score.add(predicted, truth)
    result = score.result()
    assert result['sparseworld/miou/1s'] == result['occworld/miou/1s'] == result['geometric_iou/1s'] == 1.0
    for i, time_s in enumerate((1, 2, 3)):
        counts = confusion_counts(predicted[i], truth[i])
        for name, miou in CONVENTIONS.items():
            assert result[f'{name}/miou/{time_s}s'] == miou(counts)
    for name in ('sparseworld/miou', 'occworld/miou', 'geometric_iou'):
        assert result[f'{name}/2s'] < 1.0
        mean = (result[f'{name}/1s'] + result[f'{name}/2s'] + result[f'{name}/3s']) / 3
        assert result[f'{name}/mean_1_2_3s'] == pytest.approx(mean)


def test_counts_are_summed_over_samples():
    score = ForecastScore()
    for seed in (2, 3):
        score.add(*grids(seed))
    assert score.samples == 2
    both = [np.concatenate(sides, axis=1) for sides in zip(grids(2), grids(3), strict=True)]
    for i in range(3):
        np.testing.assert_array_equal(score.counts[i], confusion_counts(both[0][i], both[1][i]))


def test_other_times_have_no_mean():
    predicted, truth = grids(4)
    score = ForecastScore((0.5, 1.0, 2.0))
    score.add(predicted, truth)
    names = ('sparseworld/miou', 'occworld/miou', 'geometric_iou')
    assert set(score.result()) == {f'{name}/{time}' for name in names for time in ('0.5s', '1s', '2s')}


@pytest.mark.filterwarnings('error')
def test_a_truth_without_any_class_has_no_score():
    predicted, truth = grids(5)
    truth[1] = FREE
    score = ForecastScore()
    score.add(predicted, truth)
    result = score.result()
    for name in ('sparseworld/miou', 'occworld/miou', 'geometric_iou'):
        assert math.isnan(result[f'{name}/2s'])
        assert math.isnan(result[f'{name}/mean_1_2_3s'])  # a mean of two times would pass for the mean of three
        assert 0.0 < result[f'{name}/1s'] < 1.0
    assert all(math.isnan(value) for value in ForecastScore().result().values())


@pytest.mark.parametrize('times_s', [(), (1.0, 1.0), (1.0, math.nan)])
def test_bad_times_are_refused(times_s):
    with pytest.raises(ValueError, match='distinct finite seconds'):
        ForecastScore(times_s)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'truth': np.zeros(SHAPE[1:], np.uint8)}, r'truth \(6, 5, 4\) must be \[3, X, Y, Z\]'),
        ({'predicted': np.zeros((2, 6, 5, 4), np.uint8)}, r'predicted \(2, 6, 5, 4\) must be \[3, X, Y, Z\]'),
        ({'predicted': np.zeros((3, 6, 5, 3), np.uint8)}, 'differ in shape'),
        ({'predicted': np.zeros(SHAPE)}, 'predicted has dtype float64'),
        ({'predicted': np.full(SHAPE, 18)}, 'not within 0..17'),
    ],
)
def test_bad_input_is_refused_and_counts_nothing(changes, message):
    predicted, truth = grids(6)
    score = ForecastScore()
    with pytest.raises(ValueError, match=message):
        score.add(**{'predicted': predicted, 'truth': truth} | changes)
    assert score.counts.sum() == score.samples == 0

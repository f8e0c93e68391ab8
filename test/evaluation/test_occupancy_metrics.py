"""Confusion counts, Occ3D mIoU and geometric IoU: worked by hand, counted one by one, and as properties."""

import math

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE
from sparseoccvla_ros.evaluation.occupancy_metrics import (
    LABELS,
    OccupancyScore,
    class_iou,
    confusion_counts,
    geometric_iou,
    occ3d_miou,
)

BUS, CAR, TRUCK = CLASS_NAMES.index('bus'), CLASS_NAMES.index('car'), CLASS_NAMES.index('truck')
SHAPE = (5, 6, 4)


def grids(seed=0, dtype=np.uint8, labels=LABELS):
    """Predicted and true labels, more than half of them equal, and a mask."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, SHAPE)
    predicted = np.where(rng.random(SHAPE) < 0.6, truth, rng.integers(0, labels, SHAPE))
    return predicted.astype(dtype), truth.astype(dtype), rng.random(SHAPE) < 0.7


def test_scores_worked_by_hand():
    truth = np.array([CAR, CAR, CAR, TRUCK, FREE, FREE, 255, 255])
    predicted = np.array([CAR, CAR, FREE, CAR, BUS, FREE, CAR, FREE])
    counts = confusion_counts(predicted, truth)

    assert counts.dtype == np.int64
    assert counts.sum() == 6
    assert (counts[CAR, CAR], counts[CAR, FREE], counts[TRUCK, CAR], counts[FREE, BUS]) == (2, 1, 1, 1)
    ious = class_iou(counts)
    assert ious[[CAR, TRUCK, FREE]].tolist() == [2 / 4, 0.0, 1 / 3]
    # the bus is only predicted: left out of the mean, but a voxel too many in the geometric IoU
    assert math.isnan(ious[BUS])
    assert occ3d_miou(counts) == (2 / 4 + 0.0) / 2
    assert geometric_iou(counts) == 3 / 5


@pytest.mark.parametrize('dtype', [np.uint8, np.int8, np.uint16, np.int64])
def test_counts_equal_counting_one_by_one(dtype):
    predicted, truth, mask = grids(1, dtype)
    truth.flat[::7] = -1 if dtype == np.int8 else 255
    predicted.flat[::21] = 100  # where the truth is unlabelled nothing is counted, whatever was predicted
    expected = np.zeros((LABELS, LABELS), dtype=np.int64)
    for t, p, m in zip(truth.flat, predicted.flat, mask.flat, strict=True):
        if m and 0 <= t < LABELS:
            expected[t, p] += 1

    np.testing.assert_array_equal(confusion_counts(predicted, truth, mask), expected)
    np.testing.assert_array_equal(confusion_counts(predicted, truth, mask.astype(np.uint8)), expected)


def test_swapping_the_sides_transposes_the_counts():
    predicted, truth, mask = grids(2)
    counts = confusion_counts(predicted, truth, mask)
    swapped = confusion_counts(truth, predicted, mask)
    np.testing.assert_array_equal(swapped, counts.T)
    assert geometric_iou(swapped) == geometric_iou(counts)
    assert occ3d_miou(swapped) == pytest.approx(occ3d_miou(counts))  # every class is on both sides here


def test_perfect_prediction_scores_one():
    _, truth, mask = grids(3, labels=5)
    score = OccupancyScore()
    score.add(truth, truth, mask)
    result = score.result()
    assert result['camera_mask/miou'] == result['camera_mask/geometric_iou'] == 1.0
    assert result['camera_mask/iou/car'] == 1.0
    assert math.isnan(result['camera_mask/iou/truck'])


def test_a_batch_is_the_sum_of_its_samples():
    samples = [grids(4), grids(5)]
    singles, batch = OccupancyScore(), OccupancyScore()
    for sample in samples:
        singles.add(*sample)
    batch.add(*(np.stack(arrays) for arrays in zip(*samples, strict=True)))
    reverse = OccupancyScore()
    for sample in samples[::-1]:
        reverse.add(*sample)

    assert singles.samples == 2
    np.testing.assert_array_equal(singles.counts, batch.counts)
    assert singles.result() == pytest.approx(batch.result(), nan_ok=True)
    assert singles.result() == pytest.approx(reverse.result(), nan_ok=True)
    # the mean of the samples' scores is something else
    each = [occ3d_miou(confusion_counts(*sample)) for sample in samples]
    assert singles.result()['camera_mask/miou'] != pytest.approx(np.mean(each), abs=1e-6)


def test_only_what_the_mask_shows_counts():
    predicted, truth, mask = grids(6)
    changed = np.where(mask, predicted, CAR)
    np.testing.assert_array_equal(confusion_counts(changed, truth, mask), confusion_counts(predicted, truth, mask))
    assert confusion_counts(predicted, truth, mask).sum() == mask.sum()


def test_the_mask_stands_in_every_name():
    predicted, truth, mask = grids(7)
    unmasked, lidar = OccupancyScore(mask_name=None), OccupancyScore('lidar')
    unmasked.add(predicted, truth)
    lidar.add(predicted, truth, mask)
    assert {name.partition('/')[0] for name in unmasked.result()} == {'no_mask'}
    assert {name.partition('/')[0] for name in lidar.result()} == {'lidar_mask'}
    assert len(lidar.result()) == 2 + len(CLASS_NAMES)

    with pytest.raises(ValueError, match='without mask cannot count in a score named lidar_mask'):
        lidar.add(predicted, truth, None)
    with pytest.raises(ValueError, match='with a mask cannot count in a score named no_mask'):
        unmasked.add(predicted, truth, mask)
    assert (unmasked.samples, lidar.samples) == (1, 1)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('label', [FREE, 255])
def test_a_truth_without_any_class_has_no_score(label):
    truth = np.full(SHAPE, label, dtype=np.uint8)
    for predicted in (np.full(SHAPE, FREE, np.uint8), np.full(SHAPE, CAR, np.uint8)):
        score = OccupancyScore(mask_name=None)
        score.add(predicted, truth)
        assert all(math.isnan(value) for value in score.result().values())


@pytest.mark.filterwarnings('error')
def test_nothing_counted_has_no_score():
    assert all(math.isnan(value) for value in OccupancyScore().result().values())
    predicted, truth, mask = grids(8)
    score = OccupancyScore()
    score.add(predicted, truth, np.zeros_like(mask))
    assert all(math.isnan(value) for value in score.result().values())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'predicted': np.zeros((5, 6, 3), np.uint8)}, r'predicted \(5, 6, 3\) and truth \(5, 6, 4\) differ'),
        ({'predicted': np.zeros(SHAPE, np.float32)}, 'predicted has dtype float32'),
        ({'truth': np.zeros(SHAPE, bool)}, 'truth has dtype bool'),
        ({'predicted': np.full(SHAPE, 18, np.uint8)}, r'predicted labels 18..18 are not within 0..17'),
        ({'predicted': np.full(SHAPE, -1, np.int64)}, r'predicted labels -1..-1 are not within 0..17'),
        ({'mask': np.ones(SHAPE[:2], bool)}, r'mask \(5, 6\) and truth \(5, 6, 4\) differ'),
        ({'mask': np.ones(SHAPE, np.float64)}, 'mask has dtype float64'),
        ({'mask': np.full(SHAPE, 255, np.uint8)}, r'mask has values 255..255'),
    ],
)
def test_bad_input_is_refused_and_counts_nothing(changes, message):
    predicted, truth, mask = grids(9)
    score = OccupancyScore()
    with pytest.raises(ValueError, match=message):
        score.add(**{'predicted': predicted, 'truth': truth, 'mask': mask} | changes)
    assert score.counts.sum() == score.samples == 0

"""The best predictors that see nothing."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from sparseoccvla_ros.data.nuscenes import NuScenesError
from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, UNLABELLED, load_labels
from sparseoccvla_ros.evaluation.constant_occupancy import LabelCounts, learn_constants
from sparseoccvla_ros.evaluation.occupancy_metrics import LABELS, confusion_counts, occ3d_miou

CAR, TRUCK, ROAD = 4, 10, 11


def counted(*voxels):
    """Counts of a row of voxels, whose labels are given keyframe by keyframe."""
    counts = LabelCounts((len(voxels), 1, 1))
    for labels in zip(*voxels, strict=True):
        counts.add(np.array(labels, dtype=np.uint8).reshape(-1, 1, 1))
    return counts


def test_the_most_frequent_label_wins_and_unlabelled_voxels_are_free():
    counts = counted(
        [CAR, CAR, FREE], [CAR, FREE, FREE], [CAR, TRUCK, TRUCK], [UNLABELLED, ROAD, ROAD], [UNLABELLED] * 3
    )
    assert counts.most_likely()[:, 0, 0].tolist() == [CAR, FREE, TRUCK, ROAD, FREE]
    assert counts.counts.sum() == 3 * 5 - 4


def test_only_what_the_mask_shows_is_counted():
    counts, mask = LabelCounts((2, 2, 3)), np.zeros((2, 2, 3), dtype=np.uint8)
    mask[0, 0, :2] = 1
    counts.add(np.full((2, 2, 3), CAR, dtype=np.uint8), mask)
    assert counts.counts.sum() == 2
    assert counts.most_likely().reshape(-1)[:3].tolist() == [CAR, CAR, FREE]


def test_the_threshold_has_the_best_miou_of_all():
    """Against every threshold by brute force, on labels in which the best one is in between."""
    rng = np.random.default_rng(0)
    share = rng.random(300) ** 2
    keyframes = []
    for _ in range(12):
        labels = np.full(300, FREE, dtype=np.uint8)
        occupied = rng.random(300) < share
        labels[occupied] = rng.choice([CAR, ROAD], p=[0.2, 0.8], size=occupied.sum())
        keyframes.append(labels)
    counts = counted(*np.array(keyframes).T)
    found, threshold = counts.best_threshold()
    free = counts.counts[:, FREE]
    classes = counts.counts[:, :FREE].argmax(axis=1)
    mious = {}
    for step in range(100):
        predicted = np.where(100 * (12 - free) > step * 12, classes, FREE)
        mious[step / 100] = occ3d_miou(sum(confusion_counts(predicted, labels) for labels in keyframes))
    assert mious[threshold] == max(mious.values()) > max(mious[0.0], mious[0.99])
    expected = np.where((12 - free) / 12 > threshold, classes, FREE)
    np.testing.assert_array_equal(found[:, 0, 0], expected)


def test_nothing_occupied_at_all_is_free():
    found, threshold = counted([FREE]).best_threshold()
    assert (found == FREE).all()
    assert threshold == 0.0


SAMPLES = {'scene-0001': ['a', 'b', 'c'], 'scene-0002': ['d']}


@pytest.fixture(scope='module')
def tables(tmp_path_factory):
    """Random labels of two scenes, those of the first seen in part; a letter is a keyframe."""
    root = tmp_path_factory.mktemp('labels')
    rng = np.random.default_rng(0)
    share = rng.random(GRID_SHAPE)
    for scene, tokens in SAMPLES.items():
        for token in tokens:
            path = root / 'gts' / scene / token / 'labels.npz'
            path.parent.mkdir(parents=True)
            occupied, seen = rng.random(GRID_SHAPE) < share, rng.random(GRID_SHAPE) < 0.4
            semantics = np.where(occupied, rng.choice([CAR, ROAD], size=GRID_SHAPE), FREE).astype(np.uint8)
            masks = {'mask_camera': seen.astype(np.uint8)} if scene == 'scene-0001' else {}
            np.savez(path, semantics=semantics, **masks)
    scenes = {name: SimpleNamespace(samples=[SimpleNamespace(token=t) for t in own]) for name, own in SAMPLES.items()}
    return SimpleNamespace(dataroot=root, scene=scenes.get)


def split(tables, *train):
    (tables.dataroot / 'splits.json').write_text(json.dumps({'train': train, 'val': []}))


def test_constants_are_learnt_from_training_scenes_alone(tables):
    split(tables, 'scene-0001')
    gts = tables.dataroot / 'gts'
    likely, best = learn_constants(tables, gts, SAMPLES['scene-0002'])
    assert (likely.name, likely.title) == ('most_likely', 'most likely voxel map of 1 training scenes')
    labels = [load_labels(gts, 'scene-0001', token) for token in SAMPLES['scene-0001']]
    truth, masks = np.stack([at.semantics for at in labels]), np.stack([at.mask_camera for at in labels]) > 0
    counts = np.stack([(truth == label).sum(axis=0) for label in range(LABELS)])
    np.testing.assert_array_equal(likely.grid, counts.argmax(axis=0))
    seen = np.stack([((truth == label) & masks).sum(axis=0) for label in range(LABELS)])
    np.testing.assert_array_equal(likely.camera, np.where(masks.any(axis=0), seen.argmax(axis=0), FREE))
    assert (best.camera[~masks.any(axis=0)] == FREE).all()

    def miou(predicted, masks=(None, None, None)):
        counts = [confusion_counts(predicted, *sample) for sample in zip(truth, masks, strict=True)]
        return occ3d_miou(sum(counts))

    assert miou(best.grid) > miou(likely.grid)
    assert miou(best.camera, masks) > miou(best.grid, masks)


def test_without_masks_both_maps_are_those_of_the_whole_grid(tables):
    split(tables, 'scene-0002')
    for constant in learn_constants(tables, tables.dataroot / 'gts', []):
        np.testing.assert_array_equal(constant.grid, constant.camera)


def test_learning_from_what_is_judged_or_from_nothing_is_refused(tables):
    gts = tables.dataroot / 'gts'
    (tables.dataroot / 'splits.json').unlink(missing_ok=True)
    with pytest.raises(NuScenesError, match='a list of scenes of split'):
        learn_constants(tables, gts, [])
    split(tables)
    with pytest.raises(NuScenesError, match='names no scenes of split'):
        learn_constants(tables, gts, [])
    split(tables, 'scene-0002')
    with pytest.raises(NuScenesError, match='learns from scene-0002, which is to be judged'):
        learn_constants(tables, gts, ['d'])

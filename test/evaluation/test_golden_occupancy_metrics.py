"""Occupancy metrics against counts, rays and scores of the public implementations."""

import json

import numpy as np
import pytest
from scipy.spatial import cKDTree

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.evaluation.forecast_metrics import ForecastScore
from sparseoccvla_ros.evaluation.occupancy_metrics import OccupancyScore, class_iou
from sparseoccvla_ros.evaluation.ray_iou import RayIoU, cast_rays, lidar_ray_directions, scene_ray_origins
from sparseoccvla_ros.geometry import quat_xyzw_from_wxyz, transform_from

pytestmark = pytest.mark.golden

#: Tolerances of the fixtures' README; scores there are percent.
SCORE, OCCWORLD_PERCENT, DISTANCE_M, ORIGIN_M = 1e-9, 1e-4, 1e-4, 1e-4
#: The references print percent with two decimals.
ROUNDED = 0.005 + SCORE
#: Of the forecast fixture.
STEP_S = 0.5


def arrays(golden_dir, name):
    with np.load(golden_dir / name) as stored:
        return {key: stored[key] for key in stored.files}


@pytest.fixture(scope='module')
def scores(golden_dir):
    return json.loads((golden_dir / 'occ_metrics.json').read_text())


@pytest.fixture(scope='module')
def forecast(golden_dir):
    return arrays(golden_dir, 'occ_forecast.npz')


@pytest.fixture(scope='module')
def ray_data(golden_dir):
    return arrays(golden_dir, 'occ_rayiou.npz')


def test_occ3d_miou_with_every_mask(golden_dir, scores):
    stored = arrays(golden_dir, 'occ_miou.npz')
    cases = [key.removeprefix('hist_') for key in stored if key.startswith('hist_')]
    assert set(cases) == set(scores['miou'])
    for case in cases:
        mask_name, _, truth_suffix = case.partition('_')
        truths = stored['semantics_gt' + (f'_{truth_suffix}' if truth_suffix else '')]
        masks = [None] * len(truths)
        if mask_name != 'none':
            masks = np.unpackbits(stored[f'mask_{mask_name}_packed'], axis=-1, count=truths.shape[-1])
        score = OccupancyScore(None if mask_name == 'none' else mask_name)
        for predicted, truth, mask in zip(stored['semantics_pred'], truths, masks, strict=True):
            score.add(predicted, truth, mask)

        np.testing.assert_array_equal(score.counts, stored[f'hist_{case}'])
        np.testing.assert_allclose(class_iou(score.counts), stored[f'per_class_iou_{case}'], rtol=0, atol=SCORE)
        miou = score.result()['no_mask/miou' if mask_name == 'none' else f'{mask_name}_mask/miou']
        assert 100 * miou == pytest.approx(scores['miou'][case]['unrounded'], abs=SCORE)
        assert 100 * miou == pytest.approx(scores['miou'][case]['reported'], abs=ROUNDED)


def test_ray_directions(ray_data):
    stored = ray_data['lidar_rays']
    ours = lidar_ray_directions()
    distance, nearest = cKDTree(ours).query(stored)
    assert distance.max() < 1e-6
    if len(stored) == len(ours):
        np.testing.assert_array_equal(nearest, np.arange(len(ours)))


def test_every_ray(ray_data):
    sample_of_origin = np.repeat(np.arange(len(ray_data['n_origins'])), ray_data['n_origins'])
    rays = ray_data['lidar_rays']
    assert ray_data['ray_label_gt'].shape == (len(sample_of_origin) * len(rays),)
    for i, (sample, origin) in enumerate(zip(sample_of_origin, ray_data['origins'], strict=True)):
        grids = ray_data['semantics_pred'][sample], ray_data['semantics_gt'][sample]
        labels, distances_m = cast_rays(grids, origin, rays)
        part = slice(i * len(rays), (i + 1) * len(rays))
        for g, side in enumerate(('pred', 'gt')):
            np.testing.assert_array_equal(labels[g], ray_data[f'ray_label_{side}'][part])
            np.testing.assert_allclose(distances_m[g], ray_data[f'ray_dist_{side}'][part], rtol=0, atol=DISTANCE_M)


def test_ray_iou(ray_data, scores):
    name = next(key for key in ray_data if key.startswith('iou_'))
    thresholds_m = [float(text) for text in name.split('_')[1:]]
    score = RayIoU(ray_data['lidar_rays'], thresholds_m)
    ends = np.cumsum(ray_data['n_origins'])
    for predicted, truth, origins in zip(
        ray_data['semantics_pred'], ray_data['semantics_gt'], np.split(ray_data['origins'], ends[:-1]), strict=True
    ):
        score.add(predicted, truth, origins)

    np.testing.assert_allclose(score.class_iou(), ray_data[name], rtol=0, atol=SCORE)
    expected = {
        'rayiou/mean' if key == 'RayIoU' else f'rayiou/{float(key.partition("@")[2]):g}m': value
        for key, value in scores['rayiou'].items()
    }
    assert score.result() == pytest.approx(expected, abs=SCORE)


def test_ray_origins_of_a_scene(golden_dir):
    stored = arrays(golden_dir, 'occ_ray_origins.npz')

    def pose(translation, wxyz):
        return transform_from(translation, quat_xyzw_from_wxyz(wxyz))

    map_from_ego = [
        pose(*both) for both in zip(stored['ego2global_translation'], stored['ego2global_wxyz'], strict=True)
    ]
    origins = scene_ray_origins(map_from_ego, pose(stored['lidar2ego_translation'], stored['lidar2ego_wxyz']))
    assert [len(ours) for ours in origins] == stored['n_origins'].tolist()
    for ours, theirs in zip(origins, stored['origins'], strict=True):
        np.testing.assert_allclose(ours, theirs[: len(ours)], rtol=0, atol=ORIGIN_M)


@pytest.fixture(scope='module')
def forecast_score(forecast):
    score = ForecastScore(STEP_S * np.arange(forecast['semantics_gt'].shape[1]))
    for predicted, truth in zip(forecast['semantics_pred'], forecast['semantics_gt'], strict=True):
        score.add(predicted, truth)
    return score


def test_forecast_in_sparseworlds_convention(forecast, forecast_score, scores):
    stored, result = scores['forecast']['sparseworld'], forecast_score.result()
    assert {f'hist_{time_s}s' for time_s in stored['times_s']} == {key for key in forecast if key.startswith('hist_')}
    for i, time_s in enumerate(stored['times_s']):
        counts = forecast_score.counts[forecast_score.times_s.index(time_s)]
        np.testing.assert_array_equal(counts, forecast[f'hist_{time_s}s'])
        occupied = [
            [counts[FREE, FREE], counts[FREE, :FREE].sum()],
            [counts[:FREE, FREE].sum(), counts[:FREE, :FREE].sum()],
        ]
        np.testing.assert_array_equal(occupied, forecast[f'occ_hist_{time_s}s'])
        for name, key in (('sparseworld/miou', 'miou'), ('geometric_iou', 'iou')):
            percent = 100 * result[f'{name}/{time_s}s']
            assert percent == pytest.approx(stored[f'{key}_unrounded'][i], abs=SCORE)
            assert percent == pytest.approx(stored[f'{key}_reported'][i], abs=ROUNDED)
    assert 100 * result['sparseworld/miou/mean_1_2_3s'] == pytest.approx(stored['mean_1_2_3s_miou'], abs=SCORE)
    assert 100 * result['geometric_iou/mean_1_2_3s'] == pytest.approx(stored['mean_1_2_3s_iou'], abs=SCORE)


def test_forecast_in_occworlds_convention(forecast, forecast_score, scores):
    stored, result = scores['forecast']['occworld'], forecast_score.result()
    for i, time_s in enumerate(stored['times_s']):
        counts = forecast_score.counts[forecast_score.times_s.index(time_s)]
        np.testing.assert_array_equal(counts.sum(axis=1)[:FREE], forecast['occworld_seen'][i])
        np.testing.assert_array_equal(counts.sum(axis=0)[:FREE], forecast['occworld_positive'][i])
        np.testing.assert_array_equal(np.diagonal(counts)[:FREE], forecast['occworld_correct'][i])
        miou, iou = result[f'occworld/miou/{time_s:g}s'], result[f'geometric_iou/{time_s:g}s']
        assert 100 * miou == pytest.approx(stored['miou'][i], abs=OCCWORLD_PERCENT)
        assert 100 * iou == pytest.approx(stored['iou'][i], abs=OCCWORLD_PERCENT)
    assert len(forecast['occworld_seen']) == len(stored['times_s'])
    mean = 100 * result['occworld/miou/mean_1_2_3s']
    assert mean == pytest.approx(stored['avg_1_2_3s_miou'], abs=OCCWORLD_PERCENT)
    mean = 100 * result['geometric_iou/mean_1_2_3s']
    assert mean == pytest.approx(stored['avg_1_2_3s_iou'], abs=OCCWORLD_PERCENT)

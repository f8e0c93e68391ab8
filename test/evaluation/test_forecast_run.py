"""Scoring forecasts: hand-made streets, and a world through the real engines."""

import shutil
from queue import SimpleQueue

import numpy as np
import pytest
import torch

from sparseoccvla_ros.data.keyframes import keyframe_view
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, UNLABELLED, OccupancyLabels
from sparseoccvla_ros.evaluation.forecast_run import (
    FRAMES,
    MASKS,
    ROWS,
    ForecastModel,
    ForecastRun,
    LaterLabels,
    evaluate_forecast,
    forecast_points,
)
from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule
from sparseoccvla_ros.model.vla import build_language, build_perception
from sparseoccvla_ros.runtime.finite import NonFiniteOutput
from sparseoccvla_ros.runtime.occupancy import scene_points
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine
from sparseoccvla_ros.runtime.timing import StageTimer
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

CAR, ROAD = 4, 11


def street(car_x: int, ego_x: int = 0, mask: bool = True) -> OccupancyLabels:
    """A road of 200 x 10 voxels through the whole grid and a car of 10 x 4 x 3 on it.

    Args:
        car_x: where the car begins, in voxels of the frame of time 0.
        ego_x: how many voxels the vehicle has driven.
        mask: cameras see the car's half of the street, y < 100.
    """
    semantics = np.full(GRID_SHAPE, FREE, dtype=np.uint8)
    semantics[:, 90:110, 2] = ROAD
    semantics[car_x - ego_x : car_x - ego_x + 10, 94:98, 3:6] = CAR
    seen = np.zeros(GRID_SHAPE, dtype=np.uint8)
    seen[:, :100] = 1
    return OccupancyLabels(semantics, seen if mask else None, None)


def later(step: int, ego_step: int, mask: bool = True) -> list[LaterLabels]:
    """At 1, 2, 3 s: the car ``step`` voxels further each time, the vehicle ``ego_step``."""
    return [
        LaterLabels(street(120 + step * t, ego_step * t, mask), transform_from_planar(0.4 * ego_step * t, 0.0, 0.0))
        for t in (1, 2, 3)
    ]


def figures(run: ForecastRun, frame: str, mask: str, row: str) -> dict:
    return run.summary()['scores'][frame][mask][row]


@pytest.mark.parametrize('ego_step', [0, 5])
def test_a_perfect_forecast_scores_one_and_a_street_that_stands_still_does_not(ego_step):
    run = ForecastRun()
    exact = np.stack([street(120 + 2 * t).semantics for t in (1, 2, 3)])
    run.add(exact, street(120).semantics, street(120).semantics, later(2, ego_step))
    for mask in MASKS:
        perfect = figures(run, 'current_ego', mask, 'forecast')
        for name in ('geometric_iou', 'sparseworld/miou', 'occworld/miou', 'movable_miou'):
            assert all(perfect[f'{name}/{time}'] == 1.0 for time in ('1s', '2s', '3s', 'mean_1_2_3s'))
        for row in ('prediction_held', 'labels_held'):
            held = figures(run, 'current_ego', mask, row)
            # 10 voxels long, 2, 4, 6 ahead: by hand
            assert [held[f'iou/car/{t}s'] for t in (1, 2, 3)] == [8 / 12, 6 / 14, 4 / 16]
            assert [held[f'iou/driveable_surface/{t}s'] for t in (1, 2, 3)] == [1.0, 1.0, 1.0]
            assert held['sparseworld/miou/1s'] == pytest.approx((1.0 + 8 / 12) / 2)
            assert held['movable_miou/3s'] == 4 / 16
            assert held['iou/bus/1s'] is None


def test_what_the_later_range_reaches_beyond_the_present_one_counts_as_missed_in_the_leaked_frame_only():
    """The vehicle drives 5 voxels a second: 5 of 200 columns of the road are new at 1 s."""
    run = ForecastRun()
    exact = np.stack([street(120).semantics] * 3)
    run.add(exact, exact[0], exact[0], later(0, 5))
    assert figures(run, 'current_ego', 'no_mask', 'forecast')['geometric_iou/1s'] == 1.0
    leaked = figures(run, 'future_ego_leak', 'no_mask', 'forecast')
    assert [leaked[f'iou/driveable_surface/{t}s'] for t in (1, 2, 3)] == [195 / 200, 190 / 200, 185 / 200]
    assert leaked['iou/car/1s'] == 1.0


def test_behind_the_later_range_nothing_is_counted():
    """What a forecast says about the first 5 columns is neither right nor wrong."""
    run = ForecastRun()
    wrong = np.stack([street(120).semantics] * 3)
    wrong[:, :5] = CAR
    run.add(wrong, wrong[0], wrong[0], later(0, 5))
    assert figures(run, 'current_ego', 'no_mask', 'forecast')['geometric_iou/1s'] == 1.0


def test_the_camera_mask_is_that_of_the_later_keyframe():
    run = ForecastRun()
    wrong = np.stack([street(120).semantics] * 3)
    wrong[:, :, 100:] = FREE  # where no camera looks
    run.add(wrong, wrong[0], wrong[0], later(0, 5))
    assert figures(run, 'current_ego', 'camera_mask', 'forecast')['geometric_iou/1s'] == 1.0
    assert figures(run, 'current_ego', 'no_mask', 'forecast')['geometric_iou/1s'] < 0.6


def test_labels_without_camera_mask_count_in_the_whole_grid_only():
    run = ForecastRun()
    exact = np.stack([street(120).semantics] * 3)
    run.add(exact, exact[0], exact[0], later(0, 0, mask=False))
    assert (run.scored, run.with_camera_mask) == (1, 0)
    assert figures(run, 'current_ego', 'camera_mask', 'forecast')['geometric_iou/1s'] is None


def test_unlabelled_voxels_are_held_as_free():
    run = ForecastRun()
    labels = street(120).semantics
    labels[:10] = UNLABELLED
    run.add(np.stack([street(120).semantics] * 3), street(120).semantics, labels, later(0, 0))
    assert figures(run, 'current_ego', 'no_mask', 'labels_held')['iou/driveable_surface/1s'] == 190 / 200


def test_a_forecast_that_cannot_be_scored_is_in_none_of_the_scores():
    run, labels = ForecastRun(), street(120).semantics
    broken = [LaterLabels(street(120), np.full((4, 4), np.nan))] * 3
    with pytest.raises(ValueError, match='must be a finite'):
        run.add(np.stack([labels] * 3), labels, labels, broken)
    assert run.scored == 0
    assert all(run.scores[frame][mask][row].samples == 0 for frame in FRAMES for mask in MASKS for row in ROWS)


@pytest.fixture(scope='module')
def config():
    return load_model_config('tiny', {'image.width_px': 64, 'image.height_px': 32, 'language.layers': 1})


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """Two scenes of 8 keyframes; the first two of each have all of 1, 2 and 3 s ahead."""
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(2, 0, 64, 32, 2, 4.0, None), 1, lambda _: None)
    return root


@pytest.fixture
def root(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / 'data')


@pytest.fixture(scope='module')
def model(config):
    """Thresholds low enough for an untrained model to predict something."""
    perception = PerceptionEngine(build_perception(config, weights=None), config, torch.device('cpu'), CAMERAS)
    rule = VoxelRule(0.05, close=False)
    return ForecastModel(perception, build_language(config, weights=None), config, rule, rule)


def evaluate(root, model, history=0):
    tables = NuScenesTables(root, VERSION)
    done = []
    run = evaluate_forecast(
        tables, tables.scene_names, root / 'gts', model, history=history, progress=lambda: done.append(1)
    )
    assert len(done) == run.keyframes == 16
    return run


def test_keyframes_are_counted_by_what_lies_ahead_and_behind(written, model):
    run = evaluate(written, model, history=1)
    assert (run.scored, run.without_future, run.without_history) == (2, 12, 2)
    assert (run.temporal, run.degraded, run.failures) == (2, 0, [])
    assert run.with_camera_mask == 2
    assert run.scenes == ['scene-0001', 'scene-0002']
    scores = run.summary()['scores']
    for frame in FRAMES:
        for row in ROWS:
            assert 0.0 < scores[frame]['no_mask'][row]['geometric_iou/2s'] < 1.0
        assert scores[frame]['no_mask']['labels_held']['geometric_iou/2s'] > 0.4


def test_no_keyframe_after_the_last_scored_one_is_looked_at(root, model):
    """Scores cannot depend on later images: their files are not even opened."""
    before = evaluate(root, model).summary()
    tables = NuScenesTables(root, VERSION)
    for name in tables.scene_names:
        for sample in tables.scene(name).samples[2:]:
            for camera in CAMERAS:
                sample.sensors[camera].path.write_bytes(b'broken')
    assert evaluate(root, model).summary() == before


def test_the_forecast_is_that_of_the_engine_on_the_car(written, config, model):
    sample = NuScenesTables(written, VERSION).scene('scene-0001').samples[0]
    view = keyframe_view(sample, CAMERAS, 64, 32)
    engine = model.perception
    engine.memory.clear()
    output, _ = engine.encode(view, StageTimer(engine.device))
    engine.memory.clear()
    queries = engine.process(view)
    reasoning = ReasoningEngine(model.language, config, engine.device, score_threshold=0.05)
    results = SimpleQueue()
    reasoning.submit_scene(queries, results.put)
    result = results.get(timeout=60.0)
    reasoning.close()
    assert len(result.forecast) == 3
    for (points_m, logits), (_, expected) in zip(forecast_points(model.language, output), result.forecast, strict=True):
        found = scene_points(points_m, logits, config.space, 0.05)
        assert len(found.points_ego)
        np.testing.assert_array_equal(found.points_ego, expected.points_ego)
        np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_failed_keyframe_counts_as_one_where_nothing_is_found(written, model, monkeypatch):
    def fails(*_):
        raise NonFiniteOutput('perception: 3 of 7 values are not finite')

    monkeypatch.setattr(model.perception, 'encode', fails)
    run = evaluate(written, model)
    assert run.scored == 4
    assert [failure.reason for failure in run.failures] == [
        'no prediction: perception: 3 of 7 values are not finite'
    ] * 4
    assert figures(run, 'current_ego', 'no_mask', 'forecast')['geometric_iou/1s'] == 0.0
    assert figures(run, 'current_ego', 'no_mask', 'labels_held')['geometric_iou/1s'] > 0.4


def test_a_forecast_that_is_not_finite_leaves_the_prediction_of_the_present(written, config, model):
    broken = build_language(config, weights=None)
    with torch.no_grad():
        broken.forecaster.motion.bias.fill_(torch.nan)
    run = evaluate(written, ForecastModel(model.perception, broken, config, model.rule, model.forecast_rule))
    assert len(run.failures) == run.scored == 4
    assert 'no forecast: forecaster: ' in run.failures[0].reason
    assert figures(run, 'current_ego', 'no_mask', 'forecast')['geometric_iou/1s'] == 0.0
    assert figures(run, 'current_ego', 'no_mask', 'prediction_held')['geometric_iou/1s'] > 0.0


def test_a_keyframe_whose_later_labels_are_missing_is_reported(root, model):
    token = NuScenesTables(root, VERSION).scene('scene-0001').samples[7].token  # 3 s after the second one
    (root / 'gts' / 'scene-0001' / token / 'labels.npz').unlink()
    run = evaluate(root, model)
    assert run.scored == 3
    (failure,) = run.failures
    assert failure.sample == NuScenesTables(root, VERSION).scene('scene-0001').samples[1].token
    assert 'not scored: cannot read labels' in failure.reason


def test_another_space_is_refused(written, model):
    narrow = load_model_config('tiny', {'space.range_m': [-20.0, -20.0, -1.0, 20.0, 20.0, 5.4]})
    changed = ForecastModel(model.perception, model.language, narrow, model.rule, model.forecast_rule)
    with pytest.raises(ValueError, match='not in the space of Occ3D'):
        evaluate(written, changed)

"""``sparseoccvla eval forecast`` as a user calls it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.data.nuscenes import CAMERAS
from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, OccupancyLabels
from sparseoccvla_ros.evaluation import forecast_run
from sparseoccvla_ros.evaluation.forecast_run import ForecastRun, LaterLabels
from sparseoccvla_ros.evaluation.occupancy_run import Failure
from sparseoccvla_ros.model.config import config_to_yaml, load_model_config
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """One scene of 8 keyframes: two of them have 3 s ahead."""
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(1, 0, 64, 32, 2, 4.0, None), 1, lambda _: None)
    return root


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'small.yaml'
    changes = {'image.width_px': 64, 'image.height_px': 32, 'language.layers': 1}
    path.write_text(config_to_yaml(load_model_config('tiny', changes)))
    return path


@pytest.fixture
def seen(monkeypatch):
    """What the command evaluates with; the evaluation itself gives ``seen.run``."""
    seen = SimpleNamespace(run=ForecastRun(), calls=0)

    def spy(tables, scenes, gts_root, evaluated, *, history, progress):
        seen.calls += 1
        seen.scenes, seen.gts, seen.model, seen.history = scenes, gts_root, evaluated, history
        return seen.run

    monkeypatch.setattr(forecast_run, 'evaluate_forecast', spy)
    return seen


def call(data, model, *more):
    fixed = ['eval', 'forecast', '--data', str(data), '--version', VERSION, '--model', str(model), '--threads', '1']
    return CliRunner().invoke(app, [*fixed, *more])


def test_tables_and_json(data, model, tmp_path):
    json_file = tmp_path / 'new' / 'scores.json'
    result = call(data, model, '--json', str(json_file), '--score-threshold', '0.05')
    assert result.exit_code == 0, result.output
    stored = json.loads(json_file.read_text())
    assert (stored['keyframes'], stored['scored'], stored['without_future'], stored['failures']) == (8, 2, 6, [])
    assert stored['horizons_s'] == [1.0, 2.0, 3.0]
    assert set(stored['scores']) == {'current_ego', 'future_ego_leak'}
    rows = stored['scores']['current_ego']['no_mask']
    assert set(rows) == {'forecast', 'prediction_held', 'labels_held'}
    assert {'sparseworld/miou/1s', 'occworld/miou/mean_1_2_3s', 'geometric_iou/3s'} <= set(rows['forecast'])
    held = rows['labels_held']
    line = next(line for line in result.stdout.splitlines() if 'IoU' in line and 'labels_held' in line)
    for column in ('1s', '2s', '3s', 'mean_1_2_3s'):
        assert f'{100 * held[f"geometric_iou/{column}"]:.2f}' in line
    assert (
        '2 of 8 keyframes scored (1 with earlier frames, 0 without some camera), 2 with a camera mask' in result.stdout
    )
    assert '6 without a keyframe at 1s, 2s, 3s, 0 without enough earlier ones' in result.stdout
    assert result.stdout.count('a leak') == 2
    assert stored['intervals'] == {}
    assert 'no intervals: they need at least 2 known scenes with scores, found 1\n' in result.stdout


def test_intervals(data, model, seen, tmp_path):
    """Half of the road is forecast in one scene, all of it in the other."""
    json_file, road = tmp_path / 'scores.json', np.full(GRID_SHAPE, FREE, dtype=np.uint8)
    road[:, 90:110, 2] = 11
    later = [LaterLabels(OccupancyLabels(road, None, None), np.eye(4))] * 3
    for name, until in (('scene-0001', 100), ('scene-0002', 200)):
        found = road.copy()
        found[until:] = FREE
        seen.run.add(np.stack([found] * 3), found, road, later, name)
    result = call(data, model, '--bootstrap', '60', '--json', str(json_file))
    assert result.exit_code == 0, result.output
    stored = json.loads(json_file.read_text())
    assert (stored['bootstrap']['scenes'], stored['bootstrap']['resamples']) == (2, 60)
    rows = stored['intervals']['future_ego_leak']['no_mask']
    assert rows['forecast']['geometric_iou/2s'] == [0.5, 1.0]
    assert rows['labels_held']['iou/driveable_surface/3s'] == [1.0, 1.0]
    assert rows['forecast']['iou/car/1s'] is None
    assert stored['intervals']['current_ego']['camera_mask']['forecast']['geometric_iou/1s'] is None
    line = next(line for line in result.stdout.splitlines() if 'IoU' in line and 'forecast' in line)
    assert line.count('75.00 [50.00, 100.00]') == 4
    assert '60 resamples of 2 scenes' in result.stdout
    off = call(data, model, '--bootstrap', '0')
    assert 'no intervals: switched off' in off.stdout
    assert '75.00 [' not in off.stdout


def test_every_setting_reaches_the_evaluation_and_the_json(data, model, seen, tmp_path):
    json_file, gts = tmp_path / 'scores.json', tmp_path / 'labels'
    options = ['--score-threshold', '0.25', '--forecast-threshold', '0.1', '--no-closing', '--history', '4']
    more = ['--cameras', 'CAM_BACK,CAM_FRONT', '--gts', str(gts), '--json', str(json_file)]
    result = call(data, model, *options, *more)
    assert result.exit_code == 0, result.output
    assert (seen.model.rule, seen.model.forecast_rule) == (VoxelRule(0.25, close=False), VoxelRule(0.1, close=False))
    assert seen.model.perception.cameras == ('CAM_BACK', 'CAM_FRONT')
    assert (seen.scenes, seen.gts, seen.history) == (['scene-0001'], gts, 4)
    stored = json.loads(json_file.read_text())
    assert stored.pop('revision')
    assert stored.pop('bootstrap')['scenes'] == len(stored.pop('intervals')) == 0
    assert {name: value for name, value in stored.items() if name not in seen.run.summary()} == {
        'data': str(data), 'version': VERSION, 'gts': str(gts), 'scenes': ['scene-0001'], 'model': str(model),
        'config': 'tiny', 'weights': 'untrained', 'cameras': ['CAM_BACK', 'CAM_FRONT'], 'device': 'cpu',
        'score_threshold': 0.25, 'forecast_threshold': 0.1, 'closing': False, 'history': 4,
    }  # fmt: skip


def test_defaults(data, model, seen):
    assert call(data, model, '--score-threshold', '0.3').exit_code == 0
    assert seen.model.rule == seen.model.forecast_rule == VoxelRule(0.3, close=True)
    assert (seen.model.perception.cameras, seen.gts, seen.history) == (CAMERAS, data / 'gts', 0)


def test_failures_fail_the_run(data, model, seen):
    seen.run.failures.append(Failure('scene-0001', 'token', 'no labels'))
    result = call(data, model)
    assert result.exit_code == 1
    assert 'scene-0001 token: no labels' in result.stderr
    assert call(data, model, '--allow-failures').exit_code == 0


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--scene', 'scene-9999'], '1 scenes are not in v1.0-world, for example scene-9999'),
        (['--weights', 'nowhere'], "weights is 'nowhere'"),
        (['--device', 'cuda:7'], 'this process sees'),
        (['--cameras', 'CAM_BOCK'], "no keyframe has 'CAM_BOCK'"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(data, model, more, message):
    result = call(data, model, *more)
    assert result.exit_code == 2
    assert message in result.output
    assert 'Traceback' not in result.output

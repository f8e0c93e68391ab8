"""``sparseoccvla eval occupancy`` as a user calls it."""

import json

import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.model.config import config_to_yaml, load_model_config
from sparseoccvla_ros.world.tables import VERSION
from sparseoccvla_ros.world.writer import WorldRequest, write_world


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(2, 0, 64, 32, 2, 1.0, None), 1, lambda _: None)
    return root


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'small.yaml'
    path.write_text(config_to_yaml(load_model_config('tiny', {'image.width_px': 64, 'image.height_px': 32})))
    return path


def call(data, model, *more):
    fixed = ['eval', 'occupancy', '--data', str(data), '--version', VERSION, '--model', str(model), '--threads', '1']
    return CliRunner().invoke(app, [*fixed, *more])


def test_table_and_json(data, model, tmp_path):
    scenes, json_file = tmp_path / 'split.txt', tmp_path / 'new' / 'scores.json'
    scenes.write_text('scene-0002\n')
    result = call(data, model, '--scenes-file', str(scenes), '--json', str(json_file), '--score-threshold', '0.05')
    assert result.exit_code == 0, result.output
    stored = json.loads(json_file.read_text())
    assert stored['scenes'] == ['scene-0002']
    assert (stored['keyframes'], stored['temporal'], stored['degraded'], stored['failures']) == (2, 1, 0, [])
    assert stored['weights'] == 'untrained'
    for name in ('camera_mask/miou', 'no_mask/geometric_iou', 'camera_mask/iou/car', 'rayiou/2m', 'rayiou/mean'):
        assert name in stored['scores']
    percent = f'{100 * stored["scores"]["camera_mask/geometric_iou"]:.2f}'
    assert percent in next(line for line in result.stdout.splitlines() if 'geometric_iou' in line)
    assert '2 keyframes (1 with earlier frames, 0 without some camera), 2 with a camera mask' in result.stdout


def test_missing_labels_fail_the_run(data, model, tmp_path):
    token = NuScenesTables(data, VERSION).scene('scene-0001').samples[0].token
    result = call(data, model, '--scene', 'scene-0001', '--gts', str(tmp_path))
    assert result.exit_code == 1
    assert '2 keyframes failed' in result.output
    assert token in result.output
    assert call(data, model, '--scene', 'scene-0001', '--gts', str(tmp_path), '--allow-failures').exit_code == 0


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--scene', 'scene-9999'], '1 scenes are not in v1.0-world, for example scene-9999'),
        (['--weights', 'nowhere'], "weights is 'nowhere'"),
        (['--device', 'cuda:7'], 'this process sees'),
        (['--cameras', 'CAM_FRONT,CAM_FRONT'], 'cameras must be distinct names'),
        (['--version', 'v0'], 'is not a folder'),
    ],
)
def test_wrong_requests_are_refused_in_one_line(data, model, more, message):
    result = call(data, model, *more)
    assert result.exit_code == 2
    assert message in result.output
    assert 'Traceback' not in result.output

"""``sparseoccvla eval occupancy`` as a user calls it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from sparseoccvla_ros import resources
from sparseoccvla_ros.cli.eval_common import weights_asked
from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, OccupancyLabels
from sparseoccvla_ros.evaluation import occupancy_run
from sparseoccvla_ros.evaluation.occupancy_run import Failure, OccupancyRun, OccupancyScores
from sparseoccvla_ros.model.config import config_to_yaml, load_model_config
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule
from sparseoccvla_ros.model.opus_import import OPUS_CAMERAS
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world


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


@pytest.fixture
def seen(monkeypatch):
    """What the command evaluates with; the evaluation itself gives ``seen.run``."""
    seen = SimpleNamespace(run=OccupancyRun(), calls=0)

    def spy(tables, scenes, gts_root, engine, config, rule, progress, constants):
        seen.calls += 1
        seen.constants = constants
        seen.scenes, seen.gts, seen.cameras, seen.rule = scenes, gts_root, engine.cameras, rule
        return seen.run

    monkeypatch.setattr(occupancy_run, 'evaluate_occupancy', spy)
    return seen


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
    assert stored['intervals'] == {}
    assert (stored['bootstrap']['unit'], stored['bootstrap']['scenes'], stored['constants']) == ('scene', 1, {})
    assert 'no intervals: they need at least 2 known scenes with scores, found 1\n' in result.stdout
    counts = '2 keyframes (1 with earlier frames, 0 without some camera), 2 with a camera mask'
    assert f'{counts}; rays from: LIDAR_TOP\n' in result.stdout


def test_intervals_and_constants_beside_the_model(data, model, seen, tmp_path):
    """Learnt from the first scene. The run holds two scenes: the model is right in one, and finds nothing in the other;
    a constant is right in both.
    """
    train, json_file = tmp_path / 'train', tmp_path / 'scores.json'
    train.mkdir()
    for folder in (VERSION, 'gts'):
        (train / folder).symlink_to(data / folder)
    (train / 'splits.json').write_text(json.dumps({'train': ['scene-0001']}))
    wall = np.full(GRID_SHAPE, FREE, dtype=np.uint8)
    wall[:, 120] = 15
    seen.run.constants['most_likely'] = OccupancyScores()
    for name, found in (('scene-0002', wall), ('scene-0003', np.full_like(wall, FREE))):
        labels, origins = OccupancyLabels(wall, np.ones_like(wall), None), np.zeros((1, 3))
        seen.run.scores.add(found, labels, origins, name)
        seen.run.constants['most_likely'].add(wall, labels, origins, name)
    more = ['--constant-from', str(train), '--scene', 'scene-0002', '--bootstrap', '50', '--json', str(json_file)]
    result = call(data, model, *more)
    assert result.exit_code == 0, result.output
    assert [constant.name for constant in seen.constants] == ['most_likely', 'best_threshold']
    labels = [np.load(path)['semantics'] for path in (data / 'gts' / 'scene-0001').glob('*/labels.npz')]
    assert ((seen.constants[0].grid == labels[0]) | (seen.constants[0].grid == labels[1])).all()
    stored = json.loads(json_file.read_text())
    assert stored['bootstrap'] == {
        'unit': 'scene', 'scenes': 2, 'resamples': 50, 'seed': 0, 'level': 0.95, 'off': '',
    }  # fmt: skip
    assert set(stored['intervals']) == set(stored['scores'])
    for name in ('camera_mask/miou', 'no_mask/iou/manmade', 'rayiou/mean'):
        assert (stored['scores'][name], stored['intervals'][name]) == (0.5, [0.0, 1.0])
    assert stored['intervals']['no_mask/iou/car'] is None
    constant = stored['constants']['most_likely']
    assert constant['title'] == 'constant (most likely voxel map of 1 training scenes)'
    assert constant['title'] in result.stdout
    assert constant['intervals']['no_mask/miou'] == [1.0, 1.0]
    miou = constant['against']['camera_mask/miou']
    assert (miou['difference'], miou['difference_interval'], miou['ratio']) == (-0.5, [-1.0, 0.0], 0.5)
    assert 'camera_mask/miou: -50.00 [-100.00, +0.00], 0.50 [0.00, 1.00] times' in result.stdout
    lines = [line for line in result.stdout.splitlines() if 'geometric_iou' in line and 'against' not in line]
    for line, shown in zip(lines, ('50.00 [0.00, 100.00]', '100.00 [100.00, 100.00]'), strict=True):
        assert line.count(shown) == 2
    assert '95 % interval by bootstrap over scenes, 50 resamples of 2 scenes' in result.stdout


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
        (
            ['--cameras', 'CAM_FRONT,CAM_BOCK'],
            "no keyframe has 'CAM_BOCK'; the scenes have CAM_BACK, CAM_BACK_LEFT, CAM_BACK_RIGHT, CAM_FRONT, ",
        ),
        (['--version', 'v0'], 'is not a folder'),
        (['--constant-from', 'nowhere'], 'is not a folder'),
    ],
)
def test_wrong_requests_are_refused_in_one_line(data, model, more, message):
    result = call(data, model, *more)
    assert result.exit_code == 2
    assert message in result.output
    assert 'Traceback' not in result.output


def test_a_constant_of_the_judged_scenes_is_refused(data, model):
    result = call(data, model, '--constant-from', str(data))
    assert result.exit_code == 2
    assert 'the constant learns from scene-0001, which is to be judged' in result.output


def test_every_setting_reaches_the_evaluation_and_the_json(data, model, seen, tmp_path):
    rig, json_file, gts = ['CAM_BACK', 'CAM_FRONT', 'CAM_FRONT_LEFT'], tmp_path / 'scores.json', tmp_path / 'labels'
    options = ['--score-threshold', '0.25', '--no-closing', '--cameras', ' CAM_BACK, CAM_FRONT ,CAM_FRONT_LEFT']
    scenes = ['--scene', 'scene-0002', '--scene', 'scene-0001', '--scene', 'scene-0002']
    result = call(data, model, *options, *scenes, '--gts', str(gts), '--json', str(json_file))
    assert result.exit_code == 0, result.output
    assert seen.rule == VoxelRule(0.25, close=False)
    assert seen.cameras == tuple(rig)
    assert seen.gts == gts
    assert seen.scenes == ['scene-0002', 'scene-0001']
    stored = json.loads(json_file.read_text())
    assert stored.pop('revision')
    assert stored.pop('bootstrap')['scenes'] == len(stored.pop('intervals')) == len(stored.pop('constants')) == 0
    assert {name: value for name, value in stored.items() if name not in seen.run.summary()} == {
        'data': str(data),
        'version': VERSION,
        'gts': str(gts),
        'scenes': ['scene-0002', 'scene-0001'],
        'model': str(model),
        'config': 'tiny',
        'weights': 'untrained',
        'cameras': rig,
        'device': 'cpu',
        'score_threshold': 0.25,
        'closing': False,
        'constant_from': '',
    }


def test_defaults(data, model, seen):
    assert call(data, model).exit_code == 0
    assert seen.rule == VoxelRule(0.5, close=True)
    assert (seen.cameras, seen.gts, seen.constants) == (CAMERAS, data / 'gts', [])
    assert seen.scenes == ['scene-0001', 'scene-0002']


@pytest.mark.parametrize(
    ('model', 'weights', 'taken'),
    [
        ('small', None, 'small'),
        ('small', '', ''),
        ('small', 'out/mine', 'out/mine'),
        ('other', None, ''),
        ('', None, ''),
        ('/etc/small.yaml', None, ''),
    ],
)
def test_weights_that_come_along_are_taken_unless_others_are_asked_for(monkeypatch, tmp_path, model, weights, taken):
    monkeypatch.setattr(resources, 'share_directory', lambda: tmp_path)
    (tmp_path / 'weights' / 'small').mkdir(parents=True)
    (tmp_path / 'weights' / 'small' / 'model.safetensors').touch()
    assert weights_asked(model, weights) == taken


@pytest.mark.parametrize('target', ['folder', 'file/scores.json'])
def test_a_json_file_that_cannot_be_written_is_refused_before_the_run(data, model, seen, tmp_path, target):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').write_text('')
    result = call(data, model, '--json', str(tmp_path / target))
    assert (result.exit_code, seen.calls) == (2, 0)
    assert str(tmp_path / target.split('/')[0]) in result.stderr
    assert 'Traceback' not in result.output


def test_the_table_is_there_although_the_json_file_cannot_be_written(data, model, seen, tmp_path, monkeypatch):
    json_file = tmp_path / 'scores.json'
    seen.run.failures.append(Failure('scene-0001', 'token', 'no labels'))
    monkeypatch.setattr(type(json_file), 'write_text', lambda *_, **__: (_ for _ in ()).throw(OSError('disk full')))
    result = call(data, model, '--json', str(json_file))
    assert result.exit_code == 2
    assert 'geometric_iou' in result.stdout
    assert 'scene-0001 token: no labels' in result.stderr
    assert 'error: disk full' in result.stderr


@pytest.mark.parametrize(
    ('choice', 'cameras', 'warned'),
    [
        ({'encoder.shared_points': 'first'}, CAMERAS, True),
        ({'encoder.unseen_points': 'view0'}, CAMERAS, True),
        ({'encoder.shared_points': 'first'}, OPUS_CAMERAS, False),
        ({}, CAMERAS, False),
    ],
)
def test_the_default_order_of_cameras_is_warned_of(data, seen, tmp_path, choice, cameras, warned):
    path = tmp_path / 'opus.yaml'
    path.write_text(config_to_yaml(load_model_config('tiny', choice)))
    result = call(data, path, '--cameras', ','.join(cameras))
    assert result.exit_code == 0, result.output
    warnings = [line for line in result.stderr.splitlines() if 'warning' in line]
    assert len(warnings) == warned
    assert all(line.endswith(f'--cameras {",".join(OPUS_CAMERAS)}') for line in warnings)

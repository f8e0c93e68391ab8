"""``sparseoccvla eval planning`` as a user calls it."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.data.nuscenes import CAMERAS
from sparseoccvla_ros.evaluation import planning_run
from sparseoccvla_ros.evaluation.occupancy_run import Failure
from sparseoccvla_ros.evaluation.planning_metrics import PlanningScore, PlanningTruth
from sparseoccvla_ros.evaluation.planning_raster import FutureObjects
from sparseoccvla_ros.evaluation.planning_run import PlanningRun
from sparseoccvla_ros.model.config import config_to_yaml, load_model_config
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

BASELINES = ['constant_velocity', 'constant_turn_rate']
LEAK = 'command from the RECORDED future: a leak'


def world(tmp_path_factory, seed):
    """One scene of 10 keyframes: two of them are judged."""
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(1, seed, 64, 32, 2, 5.0, None), 1, lambda _: None)
    return root


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return world(tmp_path_factory, 0)


@pytest.fixture(scope='module')
def train(tmp_path_factory):
    return world(tmp_path_factory, 1)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'small.yaml'
    changes = {'image.width_px': 64, 'image.height_px': 32, 'language.layers': 1}
    path.write_text(config_to_yaml(load_model_config('tiny', changes)))
    return path


def call(data, *more):
    fixed = ['eval', 'planning', '--data', str(data), '--version', VERSION, '--threads', '1']
    return CliRunner().invoke(app, [*fixed, *map(str, more)])


def test_tables_and_json(data, train, model, tmp_path):
    json_file = tmp_path / 'new' / 'scores.json'
    result = call(data, '--model', model, '--baselines-from', train, '--json', json_file)
    assert result.exit_code == 0, result.output
    stored = json.loads(json_file.read_text())
    rows = ['model', 'model_gated', *BASELINES, 'ego_status_mlp']
    assert list(stored['scores']) == rows
    assert (stored['keyframes'], stored['judged'], stored['failures']) == (10, 2, [])
    assert stored['left_out'] == {'without_future': 6, 'without_past': 2}
    assert (stored['commands'], stored['note'], stored['leaky_command']) == ({'route': 2}, '', False)
    assert (stored['weights'], stored['cameras'], stored['vehicle']) == ('untrained', list(CAMERAS), 'default')
    learnt = f'keyframes of the training split of world {train}'
    assert learnt in stored['ego_status_mlp']
    assert learnt in result.stdout.replace('\n', '')
    for protocol in ('stp3', 'vad', 'uniad', 'omnidrive'):
        assert f'{protocol}: {model}, untrained' in result.stdout.replace('\n', '')
    own, other = (stored['scores'][row]['stp3/l2/mean_1_2_3s'] for row in ('model', 'constant_velocity'))
    against = stored['against']['model']['constant_velocity']['stp3/l2/mean_1_2_3s']
    assert against['difference'] == pytest.approx(own - other)
    assert f'model against constant_velocity, stp3 mean: L2 {own - other:+.3f}' in result.stdout
    lines = [line for line in result.stdout.splitlines() if 'constant_velocity' in line and 'against' not in line]
    shown = [(p, m) for p in ('stp3', 'vad', 'uniad') for m in ('l2', 'collision')]
    shown += [('omnidrive', m) for m in ('l2', 'collision', 'boundary')]
    for line, (protocol, measure) in zip(lines, shown, strict=True):
        values = [
            stored['scores']['constant_velocity'][f'{protocol}/{measure}/{t}']
            for t in ('1s', '2s', '3s', 'mean_1_2_3s')
        ]
        cells = [cell.strip() for cell in line.split('│')[3:7]]
        assert cells == [f'{value:.3f}' if measure == 'l2' else f'{100 * value:.2f}' for value in values]
    assert 'RECORDED' not in result.output
    assert '2 of 10 keyframes judged' in result.stdout
    assert 'commands: 2 route' in result.stdout


def test_the_baselines_alone_need_no_images(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / 'data')
    shutil.rmtree(copy / 'samples')
    json_file = tmp_path / 'scores.json'
    result = call(copy, '--json', json_file)
    assert result.exit_code == 0, result.output
    stored = json.loads(json_file.read_text())
    assert list(stored['scores']) == BASELINES
    assert (stored['ego_status_mlp'], stored['cameras']) == (None, [])
    assert (stored['intervals'], stored['bootstrap']['scenes']) == ({}, 1)
    assert 'no intervals: they need at least 2 known scenes' in result.stdout


def test_intervals(data, monkeypatch, tmp_path):
    """Two samples in one scene 1 m off, one in the other 4 m off."""
    nothing = np.zeros((6, 0), dtype=bool)
    truth = PlanningTruth(
        np.stack([5.0 * np.arange(1, 7), np.zeros(6)], axis=-1),
        FutureObjects(np.zeros((6, 0, 2)), nothing * 0.0, nothing, *np.zeros((2, 0)), *nothing[:3]),
        None,
    )
    run = PlanningRun(False, {'constant_velocity': PlanningScore()})
    for name, off_m in (('scene-0001', 1.0), ('scene-0001', 1.0), ('scene-0002', 4.0)):
        run.rows['constant_velocity'].add(truth, truth.path_ego_m + np.array([0.0, off_m]), name)
    monkeypatch.setattr(planning_run, 'evaluate_planning', lambda *_, **__: run)
    json_file = tmp_path / 'scores.json'
    result = call(data, '--bootstrap', 60, '--json', json_file)
    assert result.exit_code == 0, result.output
    stored = json.loads(json_file.read_text())
    assert stored['scores']['constant_velocity']['stp3/l2/1s'] == 2.0
    intervals = stored['intervals']['constant_velocity']
    assert (intervals['stp3/l2/1s'], intervals['uniad/l2/mean_1_2_3s']) == ([1.0, 4.0], [1.0, 4.0])
    assert intervals['stp3/collision/3s'] == [0.0, 0.0]
    assert intervals['omnidrive/boundary/1s'] is None
    assert (stored['bootstrap']['scenes'], stored['bootstrap']['resamples']) == (2, 60)
    assert '2.000 [1.000, 4.000]' in result.stdout
    assert '60 resamples of 2 scenes' in result.stdout


def test_a_leaked_command_is_labelled_everywhere(data, tmp_path):
    """Without a route the command is straight on, unless the user asks for the leak."""
    copy = shutil.copytree(data, tmp_path / 'data')
    shutil.rmtree(copy / 'ego')
    json_file = tmp_path / 'scores.json'
    assert 'commands: 2 default' in call(copy).stdout
    result = call(copy, '--leaky-command', '--json', json_file)
    assert result.exit_code == 0, result.output
    assert result.stdout.replace('\n', '').count(LEAK) == 4  # every table
    assert 'commands: 2 recorded future (leak)' in result.stdout
    stored = json.loads(json_file.read_text())
    assert (stored['note'], stored['leaky_command']) == (LEAK, True)
    assert stored['commands'] == {'recorded future (leak)': 2}


@pytest.fixture
def seen(monkeypatch):
    """What the command evaluates with; the evaluation itself gives a run with one failure."""
    seen = {}

    def spy(tables, scenes, model, others, *, leaky_command, progress):
        seen.update(scenes=scenes, model=model, others=list(others), leaky=leaky_command)
        return PlanningRun(leaky_command, {}, failures=[Failure('scene-0001', 'token', 'no plan: because')])

    monkeypatch.setattr(planning_run, 'evaluate_planning', spy)
    return seen


def test_failures_fail_the_run(data, seen):
    result = call(data)
    assert result.exit_code == 1
    assert 'scene-0001 token: no plan: because' in result.stderr
    assert call(data, '--allow-failures').exit_code == 0
    assert seen == {'scenes': ['scene-0001'], 'model': None, 'others': BASELINES, 'leaky': False}


def test_every_setting_reaches_the_model(data, model, seen):
    call(data, '--model', model, '--cameras', 'CAM_BACK,CAM_FRONT', '--leaky-command')
    assert seen['model'].perception.cameras == ('CAM_BACK', 'CAM_FRONT')
    assert seen['leaky']


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--scene', 'scene-9999'], '1 scenes are not in v1.0-world, for example scene-9999'),
        (['--weights', 'nowhere'], '--weights nowhere needs --model'),
        (['--model', 'tiny', '--weights', 'nowhere'], "weights is 'nowhere'"),
        (['--model', 'tiny', '--device', 'cuda:7'], 'this process sees'),
        (['--model', 'tiny', '--cameras', 'CAM_BOCK'], "no keyframe has 'CAM_BOCK'"),
        (['--vehicle', 'bicycle'], "no vehicle 'bicycle'"),
        (['--baselines-from', 'nowhere'], 'is not a folder'),
    ],
)
def test_wrong_requests_are_refused_in_one_line(data, more, message):
    result = call(data, *more)
    assert result.exit_code == 2
    assert message in result.output
    assert 'Traceback' not in result.output


def test_learning_from_what_is_judged_is_refused(data):
    result = call(data, '--baselines-from', data)
    assert result.exit_code == 2
    assert 'the ego-status MLP learns from scene-0001, which is to be judged' in result.output

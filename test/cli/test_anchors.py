"""``sparseoccvla anchors``: the file, what it says of itself, the comparison, and refusals."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli import anchors as command_module
from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.data import anchor_futures
from sparseoccvla_ros.data.anchor_futures import DrivenFutures
from sparseoccvla_ros.data.ego_future import CommandSource
from sparseoccvla_ros.planning.anchors import load_anchors
from sparseoccvla_ros.runtime.scene import Command

COMMANDS = [command.name for command in Command]


class Tables:
    """A data set of three scenes."""

    scene_names = ('scene-0001', 'scene-0002', 'scene-0003')

    def __init__(self, dataroot, version):
        self.dataroot, self.version = dataroot, version


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data set with a split whose scenes have 9, 12 and 30 futures for the three commands; tells what was read."""
    root = tmp_path / 'world'
    root.mkdir()
    (root / 'splits.json').write_text(json.dumps({'train': ['scene-0001', 'scene-0002'], 'val': ['scene-0003']}))
    rng = np.random.default_rng(0)
    by_command = {command: rng.uniform(-9.0, 9.0, (n, 6, 2)) for command, n in zip(Command, (9, 12, 30), strict=True)}
    seen = []

    def driven(tables, scenes):
        seen.append(list(scenes))
        source = CommandSource.ROUTE if (root / 'splits.json').exists() else CommandSource.RECORDED_FUTURE
        return DrivenFutures(by_command, source)

    monkeypatch.setattr(command_module, 'NuScenesTables', Tables)
    monkeypatch.setattr(anchor_futures, 'driven_futures', driven)
    return root, by_command, seen


def run(*arguments):
    return CliRunner().invoke(app, ['anchors', *map(str, arguments)], env={'COLUMNS': '200'})


def test_a_file_of_the_training_split_that_says_where_it_is_from(data, tmp_path):
    root, futures, seen = data
    out = tmp_path / 'made' / 'anchors.json'
    result = run('--data', root, '--out', out, '--modes', '3', '--seed', '5')
    assert result.exit_code == 0, result.output
    assert seen == [['scene-0001', 'scene-0002']]
    assert load_anchors(out).waypoints_ego_m.shape == (3, 3, 6, 2)
    stored = json.loads(out.read_text())
    assert stored['frame'] == 'ego, x forward, y left'
    assert (stored['unit'], stored['interval_s'], stored['commands']) == ('m', 0.5, COMMANDS)
    assert stored['source'] == {
        'data_set': 'world',
        'version': 'v1.0-world',
        'split': 'train',
        'scenes': ['scene-0001', 'scene-0002'],
        'futures': {'RIGHT': 9, 'LEFT': 12, 'STRAIGHT': 30},
        'command_source': 'route',
        'method': 'k-means',
        'modes': 3,
        'seed': 5,
    }
    # one cluster is the mean of all
    assert run('--data', root, '--out', out, '--modes', '1').exit_code == 0
    for command in Command:
        np.testing.assert_allclose(
            load_anchors(out).waypoints_ego_m[command, 0], futures[command].mean(axis=0), atol=2e-3
        )


@pytest.mark.parametrize('modes', ['3', '6'])
def test_the_same_seed_gives_the_same_bytes(data, tmp_path, modes):
    for name in 'ab':
        assert run('--data', data[0], '--out', tmp_path / name, '--modes', modes, '--seed', '1').exit_code == 0
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def test_scenes_that_are_asked_for_and_a_data_set_without_split(data, tmp_path):
    root, _, seen = data
    out = tmp_path / 'a.json'
    assert run('--data', root, '--out', out, '--modes', '2', '--scene', 'scene-0003').exit_code == 0
    (root / 'splits.json').unlink()
    assert run('--data', root, '--out', out, '--modes', '2').exit_code == 0
    assert seen == [['scene-0003'], list(Tables.scene_names)]
    source = json.loads(out.read_text())['source']
    assert (source['split'], source['command_source']) == ('all', 'recorded future (leak)')
    unknown = run('--data', root, '--out', out, '--scene', 'scene-0009')
    assert unknown.exit_code == 2
    assert 'scene-0009' in unknown.output


def test_comparison_with_others(data, tmp_path):
    """Anchors that are the futures themselves are at distance 0; others 5 m beside them at 5 m."""
    root, futures, _ = data
    same = np.stack([futures[command][:9] for command in Command])
    futures.update({command: same[command] for command in Command})
    np.save(tmp_path / 'same.npy', np.stack([-same[..., 1], same[..., 0]], axis=-1))  # x right, y forward
    far = same[:, :1] * 0.0 + 1000.0
    np.save(tmp_path / 'far.npy', far)
    result = run(
        '--data', root, '--out', tmp_path / 'a.json', '--modes', '2',
        '--compare', tmp_path / 'same.npy', '--compare', tmp_path / 'far.npy', '--compare', tmp_path / 'absent.npy',
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert 'absent.npy is absent: not compared' in result.output
    rows = [line for line in result.output.splitlines() if '(3 x ' in line]
    assert rows[1].count('0.000') == 4
    assert all(float(cell) > 1300.0 for cell in rows[2].replace('│', ' ').split()[-4:])


def test_what_cannot_be_read_is_refused(data, tmp_path):
    root, _, _ = data
    broken = tmp_path / 'broken.npy'
    np.save(broken, np.zeros((3, 6, 12)))
    refused = run('--data', root, '--out', tmp_path / 'a.json', '--modes', '2', '--compare', broken)
    assert refused.exit_code == 2
    assert 'anchors must be [3, modes, 6, 2], got [3, 6, 12]' in refused.output
    (root / 'splits.json').write_text('{"train": []}')
    refused = run('--data', root, '--out', tmp_path / 'a.json')
    assert refused.exit_code == 2
    assert "names no scenes of split 'train'" in refused.output


def test_too_few_futures_are_named(data, tmp_path):
    result = run('--data', data[0], '--out', tmp_path / 'a.json', '--modes', '12')
    assert result.exit_code == 2
    assert 'command RIGHT has 9 futures, 9 different ones; 12 modes need as many' in result.output
    assert not (tmp_path / 'a.json').exists()

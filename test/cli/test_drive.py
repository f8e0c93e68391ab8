"""``sparseoccvla drive``: the simple drivers, and the real stack in a domain of its own."""

import json
import sys

import pytest
import typer
from typer.testing import CliRunner

from sparseoccvla_ros.cli.drive import drive

app = typer.Typer()
app.command()(drive)


def run(*options):
    return CliRunner().invoke(app, [str(option) for option in options])


def test_simple_drivers_tell_how_it_went(tmp_path):
    common = ('--seed', 3, '--first', 1, '--seconds', 3.0, '--city', 'oldtown')
    file = tmp_path / 'drive.json'
    result = run('--driver', 'rules', *common, '--json', file)
    assert result.exit_code == 0, result.output
    assert 'scene-0002 (oldtown' in result.output
    (summary,) = json.loads(file.read_text())
    assert (summary['ended'], summary['collisions'], summary['driven_s']) == ('time over', [], 3.0)
    result = run('--driver', 'keep-going', *common)
    assert result.exit_code == 0, result.output
    assert 'with a collision' in result.output


def test_the_stack_drives_in_lockstep(tmp_path):
    file = tmp_path / 'drive.json'
    result = run('--seconds', 1.0, '--city', 'oldtown', '--logs', tmp_path / 'logs', '--json', file)
    assert result.exit_code == 0, result.output
    (summary,) = json.loads(file.read_text())
    assert summary['driven_s'] > 0.0
    assert summary['counters'].get('no_trajectory', 0) <= 1
    assert 'the drive is over' in (tmp_path / 'logs/scene-0001/simulator.log').read_text()


def test_wrong_options_are_told():
    result = run('--driver', 'racer', '--seconds', 1.0)
    assert result.exit_code == 2
    assert "no driver 'racer'; there are stack, rules, keep-going" in result.stderr
    result = run('--seconds', 301.0)
    assert result.exit_code == 2
    result = run('--driver', 'rules', '--city', 'atlantis')
    assert result.exit_code == 2
    assert 'atlantis' in result.stderr


def test_figures_that_cannot_be_written_are_told_before_anybody_drives(tmp_path, monkeypatch):
    module = sys.modules[drive.__module__]
    monkeypatch.setattr(module, '_drive', lambda *_: pytest.fail('driven'))
    for file, told in ((tmp_path / 'missing/drive.json', 'there is no folder'), (tmp_path, 'this is a folder')):
        result = run('--driver', 'rules', '--json', file)
        assert result.exit_code == 2
        assert told in result.stderr
        assert not result.stdout


def test_the_table_is_printed_even_if_the_file_fails_at_the_end(tmp_path, monkeypatch):
    folder = tmp_path / 'folder'
    folder.mkdir()
    summary = {
        'scene': 'scene-0001',
        'description': '',
        'ended': 'time over',
        'driven_s': 1.0,
        'distance_m': 1.0,
        'collisions': [],
        'red_lights': 0,
        'off_road_s': 0.0,
        'progress_m': 1.0,
        'stale_s': 0.0,
        'brake_mps2': 0.0,
        'lateral_accel_mps2': 0.0,
        'time_to_collision_s': None,
    }

    def drive_and_lose_the_folder(*_):
        folder.rmdir()
        return summary

    monkeypatch.setattr(sys.modules[drive.__module__], '_drive', drive_and_lose_the_folder)
    result = run('--driver', 'rules', '--json', folder / 'drive.json')
    assert result.exit_code == 2
    assert 'along the route' in result.stdout

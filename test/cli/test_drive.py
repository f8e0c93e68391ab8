"""``sparseoccvla drive``: the simple drivers, and the real stack in a domain of its own."""

import json

import typer
from typer.testing import CliRunner

from sparseoccvla_ros.cli.drive import drive

app = typer.Typer()
app.command()(drive)


def run(*options):
    return CliRunner().invoke(app, [str(option) for option in options])


def test_simple_drivers_tell_how_it_went(tmp_path):
    common = ('--seed', 3, '--first', 1, '--seconds', 5.0, '--city', 'oldtown')
    file = tmp_path / 'drive.json'
    result = run('--driver', 'rules', *common, '--json', file)
    assert result.exit_code == 0, result.output
    assert 'scene-0002 (oldtown' in result.output
    (summary,) = json.loads(file.read_text())
    assert (summary['ended'], summary['collisions'], summary['driven_s']) == ('time over', [], 5.0)
    result = run('--driver', 'keep-going', *common)
    assert result.exit_code == 0, result.output
    assert 'with a collision' in result.output


def test_the_stack_drives_in_lockstep(tmp_path):
    file = tmp_path / 'drive.json'
    result = run('--seconds', 2.0, '--city', 'oldtown', '--logs', tmp_path / 'logs', '--json', file)
    assert result.exit_code == 0, result.output
    (summary,) = json.loads(file.read_text())
    assert summary['driven_s'] > 0.0
    assert summary['counters'].get('no_trajectory', 0) <= 1
    assert 'the drive is over' in (tmp_path / 'logs/scene-0001/simulator.log').read_text()


def test_wrong_options_are_told():
    result = run('--driver', 'racer', '--seconds', 1.0)
    assert result.exit_code == 2
    assert "no driver 'racer'; there are stack, rules, keep-going" in result.stderr
    result = run('--driver', 'rules', '--city', 'atlantis')
    assert result.exit_code == 2
    assert 'atlantis' in result.stderr

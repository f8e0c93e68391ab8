import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from sparseoccvla_ros.cli.world import world
from sparseoccvla_ros.world.files.partial import Partial
from sparseoccvla_ros.world.files.writer import WorldSummary

app = typer.Typer()
app.command()(world)
FAST = ['--scenes', '1', '--seed', '0', '--size', '64x32', '--seconds', '1']
PROGRAM = 'import typer; from sparseoccvla_ros.cli.world import world; typer.run(world)'


def said(text: str) -> str:
    """Without the line breaks of a narrow terminal."""
    return ' '.join(text.split())


def test_it_writes_a_data_set_and_says_so(tmp_path):
    result = CliRunner().invoke(app, ['--out', str(tmp_path / 'data'), '--city', '3', '--no-lens', *FAST])
    assert result.exit_code == 0, result.output
    assert 'version v1.0-world): 1 scenes, 2 keyframes, 12 images' in result.stdout
    assert 'keyframes a second with 2 workers)' in result.stdout
    assert '"location": "world-suburb"' in (tmp_path / 'data' / 'v1.0-world' / 'log.json').read_text()
    assert {path.name for path in (tmp_path / 'data').iterdir()} == {
        'can_bus', 'ego', 'gts', 'maps', 'questions', 'samples', 'splits.json', 'v1.0-world'
    }  # fmt: skip


def test_an_existing_folder_is_refused(tmp_path):
    result = CliRunner().invoke(app, ['--out', str(tmp_path), *FAST])
    assert result.exit_code == 2
    assert 'nothing is overwritten' in said(result.output)
    assert 'Traceback' not in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_data_set_of_another_request_is_refused(tmp_path):
    folder = Partial(tmp_path / 'data').folder
    folder.mkdir()
    (folder / 'request.json').write_text(json.dumps({'seed': 1}))
    result = CliRunner().invoke(app, ['--out', str(tmp_path / 'data'), *FAST])
    assert result.exit_code == 2
    assert 'seed is 1 there and 0 here' in said(result.output)
    assert [path.name for path in folder.iterdir()] == ['request.json']


def test_refusals_are_one_line_without_a_progress_bar(tmp_path, monkeypatch):
    monkeypatch.setenv('COLUMNS', '40')
    folder = tmp_path / 'data.partial'
    folder.mkdir()
    (folder / 'mine').write_text('text')
    for out, message in (
        (tmp_path, f'{tmp_path} exists; nothing is overwritten: remove it or choose another folder'),
        (
            tmp_path / 'data',
            f'{folder} exists and is no unfinished data set (it holds no request.json); nothing is overwritten: '
            'move it away or choose another folder',
        ),
    ):
        result = CliRunner().invoke(app, ['--out', str(out), *FAST])
        assert result.exit_code == 2
        assert result.stderr == f'world: {message}\n'
    assert [path.name for path in folder.iterdir()] == ['mine']


@pytest.mark.parametrize('questions', [0, 5])
def test_a_data_set_without_questions_is_told(tmp_path, monkeypatch, questions):
    summary = WorldSummary(tmp_path / 'data', 1, 2, 12, 3, questions, 0)
    monkeypatch.setattr('sparseoccvla_ros.cli.world.write_world', lambda *_: summary)
    result = CliRunner().invoke(app, ['--out', str(tmp_path / 'data'), *FAST])
    assert result.exit_code == 0
    assert f'{questions} questions' in result.stdout
    assert ('world: no questions' in result.stderr) == (questions == 0)


def test_a_full_disk_is_told_and_the_command_can_go_on(tmp_path):
    def limit() -> None:
        # Writing beyond it fails as on a full disk, but with EFBIG.
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    command = [sys.executable, '-c', PROGRAM, '--out', str(tmp_path / 'data'), *FAST]
    result = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2, result.stderr
    assert 'File too large; finished scenes stay in' in said(result.stderr)
    assert 'the same command goes on from there' in said(result.stderr)
    assert 'Traceback' not in result.stderr
    assert Partial(tmp_path / 'data').folder.is_dir()
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize('workers', ['1', '2'])
def test_ctrl_c_says_how_to_go_on(tmp_path, workers):
    long = ['--scenes', '2', '--seed', '0', '--size', '64x32', '--seconds', '30', '--workers', workers]
    command = [sys.executable, '-c', PROGRAM, '--out', str(tmp_path / 'data'), *long]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    unfinished = Partial(tmp_path / 'data')
    end_s = time.monotonic() + 60.0
    while not unfinished.data.is_dir():
        assert process.poll() is None
        assert time.monotonic() < end_s
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, message = process.communicate(timeout=30)
    assert process.returncode == 130, message
    assert 'interrupted; finished scenes stay in' in said(message)
    assert 'Traceback' not in message
    assert unfinished.folder.is_dir()


@pytest.mark.parametrize('lost', ['for an error', 'for nothing', 'for nothing, after the last keyframe'])
def test_ctrl_c_that_a_library_takes_for_something_else_interrupts(tmp_path, monkeypatch, lost):
    def write_world(_out, _request, _workers, on_keyframes):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as interruption:  # as numpy's comparison of records
            if lost == 'for an error':
                raise TypeError('Cannot compare structured arrays') from interruption
        if lost == 'for nothing':
            on_keyframes(1)
            pytest.fail('it went on')

    monkeypatch.setattr('sparseoccvla_ros.cli.world.write_world', write_world)
    before = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(app, ['--out', str(tmp_path / 'data'), *FAST])
    assert result.exit_code == 130, result.output
    assert 'Traceback' not in result.output
    assert signal.getsignal(signal.SIGINT) is before


def test_impossible_parameters_are_refused(tmp_path):
    for option, value, message in (
        ('--size', '352', 'WIDTHxHEIGHT'),
        ('--sweep-hz', '3', 'sweep_hz is 3'),
        ('--city', 'oz', "unknown city 'oz'"),
        ('--city', '0', 'city is 0; one of 1 (harbour)'),
        ('--seconds', '0', 'seconds is 0'),
    ):
        result = CliRunner().invoke(app, ['--out', str(tmp_path / 'data'), *FAST, option, value])
        assert result.exit_code == 2
        assert message in said(result.output)
        assert not (tmp_path / 'data').exists()

"""``sparseoccvla bench`` as a user calls it, on small sizes."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.evaluation import encoder_cost, language_cost, loss_cost, planner_cost
from sparseoccvla_ros.evaluation.encoder_cost import Cell
from sparseoccvla_ros.evaluation.language_cost import LanguageCost
from sparseoccvla_ros.evaluation.planner_cost import StepsCost


def call(*arguments):
    return CliRunner().invoke(app, ['bench', *arguments])


@pytest.mark.parametrize('device', ['foo', 'cuda:97'])
def test_a_device_that_is_not_there_is_refused_in_one_line(device):
    result = call('encoder', '--device', device)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: device is '{device}'; ")


def test_no_frames_are_refused():
    result = call('encoder', '--frames', '0')
    assert result.exit_code == 2
    assert '--frames' in result.stderr


def test_encoder_prints_a_row_of_each_workload(monkeypatch):
    def measure(workload, repeats, threads):
        assert (workload.queries, workload.cameras, workload.device, repeats, threads) == (20, 3, 'cpu', 1, 1)
        return [Cell('layer', workload.frames, False, 2.0, 3.0, 5.0, 7.0)]

    monkeypatch.setattr(encoder_cost, 'measure', measure)
    sizes = ['--frames', '1', '--frames', '4', '--queries', '20', '--cameras', '3']
    result = call('encoder', *sizes, '--repeats', '1', '--threads', '1')
    assert result.exit_code == 0, result.output
    assert '| layer | 1 | forward | 3 | 2 | 1.5 | 7 | 5 |\n| layer | 4 | ' in result.stdout


def test_loss_prints_every_search_and_the_whole(monkeypatch):
    for name, value in {'QUERIES': 6, 'POINTS_PER_LAYER': (1, 4), 'VOXELS': 50}.items():
        monkeypatch.setattr(loss_cost, name, value)
    monkeypatch.setattr(loss_cost, 'in_own_process', lambda function, *arguments: function(*arguments))
    result = call('loss', '--threads', '1')
    assert result.exit_code == 0, result.output
    assert '1 threads, median of 3\n' in result.stdout
    header, _, *rows = result.stdout.split('\n\n')[1].splitlines()
    assert header == '| what | ms | MiB |'
    assert [row.split('|')[1].split(': ')[-1].strip() for row in rows] == [
        'k-d tree', 'in chunks', 'all terms of one sample, six layers, forward + backward',
    ]  # fmt: skip


def test_the_median_of_three_runs_counts(monkeypatch):
    """Not the run in which the memory is measured: it warms up."""
    runs, clock_s = [], iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(loss_cost, '_RUNS', {'it': lambda: lambda: runs.append(1)})
    monkeypatch.setattr(loss_cost, 'peak_mib', lambda run, device: 7.0)
    monkeypatch.setattr(loss_cost, 'in_own_process', lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(loss_cost, 'time', SimpleNamespace(perf_counter=lambda: next(clock_s)))
    assert loss_cost.measure_loss(1) == [('it', 2000.0, 7.0)]
    assert len(runs) == 3


def test_language_prints_a_column_of_each_size_and_writes_json(monkeypatch, tmp_path):
    def measure(size, *, repeats, scenes, threads):
        assert (repeats, scenes, threads) == (2, 9, 1)
        return LanguageCost(size, 300, 314, 40.0, 5.0, 100.0, 250.0, 200.0, 8.0, 30.0, 40.0, 35.0, 52.0, 2.5)

    monkeypatch.setattr(language_cost, 'measure', measure)
    figures = tmp_path / 'figures.json'
    sizes = ['--size', 'tiny', '--size', 'middle']
    result = call('language', *sizes, '--repeats', '2', '--scenes', '9', '--json', str(figures))
    assert result.exit_code == 0, result.output
    assert '| earlier by | 8.0x | 8.0x |' in result.stdout
    assert '| faster at once (one scene) by | 2.5x | 2.5x |' in result.stdout
    assert '| p99 less one round, over the p99 alone | 1.10 | 1.10 |' in result.stdout
    assert [cost['size'] for cost in json.loads(figures.read_text())] == ['tiny', 'middle']


def test_language_of_an_unknown_size_is_refused_in_one_line():
    result = call('language', '--size', 'huge')
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line == "error: size is 'huge'; expected tiny or middle"


def test_planner_prints_a_row_of_each_number_of_steps_and_writes_json(monkeypatch, tmp_path):
    def measure(steps, *, model, repeats, threads):
        assert (model, repeats, threads) == ('tiny', 3, 1)
        return [StepsCost(number, 2.0 + number, 9.0) for number in steps]

    monkeypatch.setattr(planner_cost, 'measure', measure)
    figures = tmp_path / 'figures.json'
    result = call('planner', '--repeats', '3', '--threads', '1', '--json', str(figures))
    assert result.exit_code == 0, result.output
    assert '| 1 | 3.0 | 9.0 | 1.00 |\n| 2 | 4.0 | 9.0 | 1.33 |\n| 4 | 6.0 | 9.0 | 2.00 |\n| 8 | ' in result.stdout
    assert [cost['steps'] for cost in json.loads(figures.read_text())] == [1, 2, 4, 8]


@pytest.mark.parametrize(('arguments', 'message'), [(['--steps', '21'], 'step_window'), (['--model', 'big'], "'big'")])
def test_planner_refuses_what_cannot_be_in_one_line(arguments, message):
    result = call('planner', *arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert message in line

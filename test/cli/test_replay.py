"""``sparseoccvla replay``: its errors, which need no stack. What it does is tested in test/nodes/test_replay.py."""

import runpy

import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.demo import demo
from sparseoccvla_ros.cli.main import app


@pytest.fixture(scope='module')
def bag(project_root, tmp_path_factory):
    path = tmp_path_factory.mktemp('bag') / 'bag'
    runpy.run_path(str(project_root / 'test/nodes/fakes/bag.py'))['write_input_bag'](path, sets=1)
    return path


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        ([], 'default names'),
        (['--topics', 'nothing_like_it'], "no topic preset 'nothing_like_it'"),
        (['--ask', ' '], 'a question is empty'),
        (['--params', 'missing.yaml'], 'missing.yaml'),
    ],
)
def test_wrong_requests_end_with_code_2_and_the_reason(bag, project_root, tmp_path, arguments, complaint):
    if not arguments:
        bag = tmp_path / 'bag'
        runpy.run_path(str(project_root / 'test/nodes/fakes/bag.py'))['write_input_bag'](bag, sets=1, topics='/car')

    done = CliRunner().invoke(app, ['replay', str(bag), '--out', str(tmp_path / 'out'), *arguments])

    assert done.exit_code == 2
    assert complaint in done.output
    assert not (tmp_path / 'out').exists()


def test_a_bag_that_is_not_there_ends_with_code_2(tmp_path):
    done = CliRunner().invoke(app, ['replay', str(tmp_path / 'none'), '--out', str(tmp_path / 'out')])

    assert done.exit_code == 2
    assert 'does not exist' in done.output


def test_a_folder_with_other_things_in_it_is_left_alone(bag, tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')

    done = CliRunner().invoke(app, ['replay', str(bag), '--out', str(tmp_path)])

    assert done.exit_code == 2
    assert 'thesis.tex' in done.output
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'


def test_the_demo_names_a_data_set_that_is_not_there(tmp_path, monkeypatch):
    import typer

    monkeypatch.chdir(tmp_path)
    alone = typer.Typer()
    alone.command()(demo)

    done = CliRunner().invoke(alone, ['--data', 'nowhere'])

    assert done.exit_code == 2
    assert 'nowhere' in done.output

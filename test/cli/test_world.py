import typer
from typer.testing import CliRunner

from sparseoccvla_ros.cli.world import world

app = typer.Typer()
app.command()(world)
FAST = ['--scenes', '1', '--seed', '0', '--size', '64x32', '--seconds', '1']


def test_it_writes_a_data_set_and_says_so(tmp_path):
    result = CliRunner().invoke(app, ['--out', str(tmp_path / 'data'), '--city', 'suburb', *FAST])
    assert result.exit_code == 0, result.output
    assert 'version v1.0-world): 1 scenes, 2 keyframes, 12 images' in result.stdout
    assert (tmp_path / 'data' / 'v1.0-world' / 'scene.json').is_file()


def test_an_existing_folder_is_refused(tmp_path):
    result = CliRunner().invoke(app, ['--out', str(tmp_path), *FAST])
    assert result.exit_code == 2
    assert 'nothing is overwritten' in result.output
    assert 'Traceback' not in result.output
    assert list(tmp_path.iterdir()) == []


def test_impossible_parameters_are_refused(tmp_path):
    for option, value, message in (
        ('--size', '352', 'WIDTHxHEIGHT'),
        ('--sweep-hz', '3', 'sweep_hz is 3'),
        ('--city', 'oz', "unknown city 'oz'"),
        ('--seconds', '0', 'seconds is 0'),
    ):
        result = CliRunner().invoke(app, ['--out', str(tmp_path / 'data'), *FAST, option, value])
        assert result.exit_code == 2
        assert message in ' '.join(result.output.split())
        assert not (tmp_path / 'data').exists()

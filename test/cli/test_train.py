"""Exit codes of `sparseoccvla train`, which scripts go by."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.training import trainer
from sparseoccvla_ros.training.run_state import RunWriteError
from sparseoccvla_ros.training.trainer import TrainingError

RECIPE = """
out: {out}
model: tiny
terms: [occupancy]
train: [perception]
data: {{root: somewhere}}
optimization: {{steps: 1, batch_size: 1}}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text(RECIPE.format(out=tmp_path / 'run'))
    return str(path)


def run(*arguments: str):
    return CliRunner().invoke(app, ['train', *arguments])


def test_recipe_and_data_that_do_not_fit(recipe):
    for arguments, message in (
        (['nowhere.yaml'], 'nowhere.yaml is no file'),
        ([recipe, 'optimization.stesp=1'], 'unknown key optimization.stesp'),
        ([recipe], 'somewhere/v1.0-world is not a folder'),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr


@pytest.mark.parametrize('error', [TrainingError('step 3: stop'), RunWriteError('no space left')])
def test_a_training_that_had_to_stop(recipe, monkeypatch, error):
    def stops(*_, **__):
        raise error

    monkeypatch.setattr(trainer, 'train', stops)
    result = run(recipe)
    assert result.exit_code == 1
    assert str(error) in result.stderr


def test_time_limit_and_end(recipe, monkeypatch):
    asked = []

    def ends(read, *, stop_after_s):
        asked.append((read.optimization.steps, stop_after_s))
        return None if stop_after_s == 90.0 else Path('checkpoint')

    monkeypatch.setattr(trainer, 'train', ends)
    assert run(recipe, '--stop-after-min', '1.5').exit_code == 3
    done = run(recipe, 'optimization.steps=9')
    assert done.exit_code == 0
    assert 'checkpoint: checkpoint' in done.stderr
    assert asked == [(1, 90.0), (9, float('inf'))]

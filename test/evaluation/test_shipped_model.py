"""The shipped weights see, answer and plan on a street they do not know: a wrong packing or a changed input is noticed.

Bounds are far from what docs/results.md reports, as one scene says little; an untrained model misses each by far (no
class at all, plans 11 m off, no answer of a question's form).
"""

import json

import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world


@pytest.fixture(scope='module')
def street(tmp_path_factory):
    """Twelve keyframes in a town of the training's; of no seed that anything was learnt from or is reported."""
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(scenes=1, seed=800, seconds=6.0, city='suburb', questions_per_keyframe=20), 1)
    return root


@pytest.fixture
def evaluate(street, tmp_path):
    def run(what, *more):
        out = tmp_path / 'scores.json'
        common = ['--data', street, '--version', VERSION, '--model', 'tiny', '--weights', 'tiny', '--threads', 1]
        result = CliRunner().invoke(app, ['eval', what, *map(str, [*common, '--json', out, *more])])
        assert result.exit_code == 0, result.output
        return json.loads(out.read_text())

    return run


def test_it_sees(evaluate):
    scores = evaluate('occupancy')['scores']
    assert scores['camera_mask/miou'] > 0.15
    assert scores['camera_mask/geometric_iou'] > 0.5
    assert scores['camera_mask/iou/car'] > 0.1


def test_it_plans(evaluate):
    found = evaluate('planning')
    assert found['judged'] >= 4
    assert found['scores']['model']['stp3/l2/mean_1_2_3s'] < 1.0
    assert found['refused_by_gate'] <= 1


def test_it_answers(evaluate):
    found = evaluate('language', '--questions', 'world', '--split', 'all', '--limit', 60)
    assert found['missing'] == 0
    assert found['scores']['exact_match'] > 0.15
    assert found['scores']['CIDEr'] > 2.0

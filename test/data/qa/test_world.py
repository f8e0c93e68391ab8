"""The world's own question files."""

import json

import pytest

from sparseoccvla_ros.data.qa.pairs import QAError, QAPair
from sparseoccvla_ros.data.qa.world import load_world


def row(**changes):
    fields = {
        'sample_token': 'k1', 'scene_token': 's1', 'kind': 'count', 'question': 'How many cars?', 'answer': '2 cars.',
        'template': 3,
    }  # fmt: skip
    return json.dumps({**fields, **changes})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'train.jsonl').write_text(f'{row()}\n{row(kind="locate", answer="At (1.0, 2.0).")}\n')
    (tmp_path / 'val.jsonl').write_text(f'{row(sample_token="k2", scene_token="s2")}\n')
    return tmp_path


def test_pairs_have_their_kind_and_scene(folder):
    assert load_world(folder, 'train').pairs == [
        QAPair('k1', 's1', 'count', 'How many cars?', '2 cars.', 'world'),
        QAPair('k1', 's1', 'locate', 'How many cars?', 'At (1.0, 2.0).', 'world'),
    ]
    assert [pair.sample_token for pair in load_world(folder, 'val').pairs] == ['k2']
    assert [pair.sample_token for pair in load_world(folder, 'all').pairs] == ['k1', 'k1', 'k2']


def test_what_is_wrong_is_named_with_its_line(folder):
    with pytest.raises(QAError, match=r"split must be one of train, val, all, got 'test'"):
        load_world(folder, 'test')
    (folder / 'val.jsonl').write_text(f'{row()}\n{{')
    with pytest.raises(QAError, match=r'val\.jsonl, line 2 is not valid JSON'):
        load_world(folder, 'val')
    (folder / 'val.jsonl').write_text(row(kind=''))
    with pytest.raises(QAError, match=r"val\.jsonl, line 1: expected a text 'kind'"):
        load_world(folder, 'all')
    (folder / 'train.jsonl').unlink()
    with pytest.raises(QAError, match=r'cannot read .*train\.jsonl'):
        load_world(folder, 'all')

"""OmniDrive's files, and those of the synthetic world in the same form."""

import json
from collections import Counter

import pytest

from sparseoccvla_ros.data.qa.drivelm import load_drivelm
from sparseoccvla_ros.data.qa.omnidrive import ACTION_QUESTION, DESCRIPTION_QUESTION, load_omnidrive
from sparseoccvla_ros.data.qa.pairs import QAError, QAPair
from sparseoccvla_ros.data.qa.sources import PLACES, load_questions

FILES = {
    'keywords/val/b.json': 'slow down',
    'desc/val/b.json': {'description': 'A wet street.', 'action': '- brake'},
    'conv/val/b.json': [{'question': 'How many cars?', 'answer': 'Two.'}, {'question': 'Lights?', 'answer': ''}],
    'vqa/val/b.json': [{'question': 'What next?', 'answer': 'Stop.'}],
    'conv/val/a.json': [{'question': 'Any bus?', 'answer': 'No.'}],
    'conv/train/c.json': [{'question': 'Why?', 'answer': 'So.'}],
}


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))
    return root


def test_keyframes_come_sorted_and_each_in_the_order_of_the_folders(tmp_path):
    found = load_omnidrive(write(tmp_path, FILES), 'val')
    assert found.pairs == [
        QAPair('a', '', 'conv', 'Any bus?', 'No.', 'omnidrive'),
        QAPair('b', '', 'keywords', ACTION_QUESTION, 'slow down', 'omnidrive'),
        QAPair('b', '', 'desc', DESCRIPTION_QUESTION, 'A wet street.', 'omnidrive'),
        QAPair('b', '', 'conv', 'How many cars?', 'Two.', 'omnidrive'),
        QAPair('b', '', 'vqa', 'What next?', 'Stop.', 'omnidrive'),
    ]
    assert found.skipped == Counter({'no answer in the file': 1})


def test_folders_that_are_not_there_are_told(tmp_path):
    found = load_omnidrive(write(tmp_path, FILES), 'train')
    assert [pair.question for pair in found.pairs] == ['Why?']
    assert found.skipped == {f'folder {name}/train is not there': 1 for name in ('keywords', 'desc', 'vqa')}


def test_other_keyframes_are_left_out_and_counted(tmp_path):
    found = load_omnidrive(write(tmp_path, FILES), 'val')
    found.restrict({'a'})
    assert [pair.sample_token for pair in found.pairs] == ['a']
    assert found.skipped['keyframe not asked for'] == 4


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('keywords/val/b.json', ['slow'], r'b.json: expected a text, found \["slow"\]'),
        ('desc/val/b.json', {'action': 'x'}, "b.json: expected a text 'description', found null"),
        ('conv/val/b.json', {}, 'b.json: expected a list of questions'),
        ('conv/val/b.json', ['x'], 'b.json, entry 0: expected an object, found "x"'),
        ('vqa/val/b.json', [{'answer': 'x'}], "b.json, entry 0: expected a text 'question', found null"),
        ('vqa/val/b.json', [{'question': 'x'}], "b.json, entry 0: expected a text 'answer', found null"),
    ],
)
def test_what_is_not_of_the_form_is_refused(tmp_path, name, content, message):
    write(tmp_path, FILES | {name: content})
    with pytest.raises(QAError, match=message):
        load_omnidrive(tmp_path, 'val')


def test_a_split_that_is_nowhere_is_refused(tmp_path):
    with pytest.raises(QAError, match='expected at least one of the folders keywords/val, desc/val'):
        load_omnidrive(tmp_path, 'val')
    with pytest.raises(QAError, match="split must be one of train, val, got 'test'"):
        load_omnidrive(tmp_path, 'test')
    with pytest.raises(QAError, match="one of omnidrive, drivelm, world, got 'nuinstruct'"):
        load_questions('nuinstruct', tmp_path, 'val')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(1, 0, 176, 64, 2, 1.0, None), 1)
    return root


def test_all_forms_of_the_world_hold_the_same_questions(world):
    """They differ in what objects are called and in what OmniDrive's form asks by itself."""
    own = load_questions('world', PLACES['world'](world), 'train')
    assert {pair.source for pair in own.pairs} == {'world'}
    omnidrive = load_questions('omnidrive', world / 'questions' / 'omnidrive', 'train')
    drivelm = load_drivelm(world / 'questions' / 'drivelm' / 'train.json')
    of_keyframe = Counter(pair.sample_token for pair in own.pairs)
    for other in (omnidrive, drivelm):
        assert Counter(pair.sample_token for pair in other.pairs) == of_keyframe
    assert len(omnidrive.pairs) > 10
    for frame in drivelm.frames.values():
        assert frame.scene_token in drivelm.scene_descriptions

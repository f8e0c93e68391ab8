"""The files of OmniDrive and the document of DriveLM."""

import json
import re

import pytest

from sparseoccvla_ros.world.questions.balance import select
from sparseoccvla_ros.world.questions.drivelm import STAGES, drivelm_document
from sparseoccvla_ros.world.questions.generate import candidates
from sparseoccvla_ros.world.questions.omnidrive import omnidrive_files
from sparseoccvla_ros.world.questions.pair import Pair

TAG = re.compile(r'<c(\d+),(CAM_\w+),(\d+\.\d),(\d+\.\d)>')


@pytest.fixture(scope='module')
def facts(random_scene) -> list:
    return [item for index in range(40) for item in random_scene(9, index, keyframes=3)]


@pytest.fixture(scope='module')
def pairs(random_scene) -> list[Pair]:
    by_scene = [candidates(random_scene(9, index, keyframes=3), index, seed=1) for index in range(40)]
    return select(by_scene, seed=1, per_keyframe=16)


@pytest.fixture(scope='module')
def document(pairs, facts) -> dict:
    paths = {item.sample_token: {'CAM_FRONT': f'samples/CAM_FRONT/{item.sample_token}.jpg'} for item in facts}
    return json.loads(json.dumps(drivelm_document(pairs, facts, paths)))


def shape_of(document: dict) -> dict:
    """Fields of a DriveLM document, and the types of their values."""
    scene = next(iter(document.values()))
    frames = [frame for entry in document.values() for frame in entry['key_frames'].values()]
    infos = [info for frame in frames for info in frame['key_object_infos'].values()]
    entries = [entry for frame in frames for stage in frame['QA'].values() for entry in stage]
    return {
        'scene': sorted(scene),
        'frame': sorted(frames[0]),
        'stages': sorted(frames[0]['QA']),
        'info': sorted(infos[0]),
        'entry': sorted(entries[0]),
        'bounds': {len(info['2d_bbox']) for info in infos},
        'categories': {type(info['Category']) for info in infos},
    }


@pytest.mark.drivelm
def test_the_document_has_the_published_form(document, drivelm_dir):
    assert shape_of(document) == shape_of(json.loads((drivelm_dir / 'qa.json').read_text()))


def test_every_pair_is_in_the_document(document, pairs):
    frames = [frame for scene in document.values() for frame in scene['key_frames'].values()]
    assert sum(len(frame['QA'][stage]) for frame in frames for stage in STAGES) == len(pairs)
    assert all(scene['scene_description'].endswith('.') for scene in document.values())


def test_objects_are_named_by_tags(document, pairs):
    used = 0
    for scene in document.values():
        for frame in scene['key_frames'].values():
            tags = set(frame['key_object_infos'])
            for entry in (entry for stage in frame['QA'].values() for entry in stage):
                found = {match.group() for text in (entry['Q'], entry['A']) for match in TAG.finditer(text)}
                assert found <= tags
                used += len(found)
    assert used >= sum(len(pair.mentions) for pair in pairs)


def test_tags_give_camera_and_middle(make_facts, make_object):
    facts = make_facts(make_object((10.0, 0.0), pixel_px={'CAM_FRONT': (714.25, 503.6)}))
    pair = Pair(
        scene_index=0,
        scene_token='scene',
        sample_token='sample',
        keyframe=0,
        split='train',
        kind='motion',
        key='parked',
        question='Where is the car?',
        answer='The car is parked.',
        template=0,
        wording='Where is $object?',
        mentions=(('the car', 0),),
    )
    frame = drivelm_document([pair], [facts], {'sample': {}})['scene']['key_frames']['sample']
    tag = '<c1,CAM_FRONT,714.2,503.6>'
    assert frame['QA']['perception'][0]['Q'] == f'Where is {tag}?'
    assert frame['QA']['perception'][0]['A'] == f'{tag} is parked.'
    assert frame['key_object_infos'] == {
        tag: {
            'Category': 'Vehicle',
            'Status': 'Stationary',
            'Visual_description': 'Grey car.',
            '2d_bbox': [750.0, 450.0, 850.0, 550.0],
        }
    }


def test_omnidrive_files(pairs):
    files = json.loads(json.dumps(omnidrive_files(pairs)))
    folders = {path.split('/')[0] for path in files}
    assert folders == {'conv', 'vqa', 'desc', 'keywords'}
    listed = 0
    for path, content in files.items():
        folder, split, name = path.split('/')
        assert split == ('val' if int(name[6:10]) % 5 == 4 else 'train')
        if folder in ('conv', 'vqa'):
            assert all(set(entry) == {'question', 'answer'} for entry in content)
            listed += len(content)
        elif folder == 'desc':
            assert set(content) == {'description', 'action'}
        else:
            assert isinstance(content, str)
    assert listed == sum(pair.kind not in ('scene', 'behaviour') for pair in pairs)

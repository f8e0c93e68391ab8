"""DriveLM's files: the real one (mark drivelm), and what is refused."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sparseoccvla_ros.data.nuscenes import CAMERAS
from sparseoccvla_ros.data.qa.drivelm import (
    STAGES,
    image_file,
    load_drivelm,
    load_image_index,
    object_references,
)
from sparseoccvla_ros.data.qa.pairs import QAError, QAPair
from sparseoccvla_ros.runtime.questions import Question, QuestionLimits, checked

TAG = '<c1,CAM_FRONT,714.3,503.6>'


def document():
    pair = {'Q': f'Where is {TAG}?', 'A': 'Ahead.', 'C': None, 'con_up': None, 'con_down': None, 'cluster': None,
            'layer': None}  # fmt: skip
    info = {'Category': 'Vehicle', 'Status': None, 'Visual_description': 'Red car.', '2d_bbox': [1, 2, 3, 4]}
    frame = {
        'key_object_infos': {TAG: info},
        'QA': {'perception': [pair], 'behavior': [{'Q': 'And then?', 'A': 'It stops.', 'tag': [0, 2]}]},
        'image_paths': {'CAM_FRONT': '../nuscenes/samples/CAM_FRONT/a.jpg'},
    }
    return {'scene': {'scene_description': 'A street.', 'key_frames': {'sample': frame}}}


def load(tmp_path, content):
    path = tmp_path / 'qa.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_drivelm(path)


def test_every_field_arrives(tmp_path):
    found = load(tmp_path, document())
    assert found.pairs == [
        QAPair('sample', 'scene', 'perception', f'Where is {TAG}?', 'Ahead.', 'drivelm'),
        QAPair('sample', 'scene', 'behavior', 'And then?', 'It stops.', 'drivelm', (0, 2)),
    ]
    assert found.scene_descriptions == {'scene': 'A street.'}
    frame = found.frames['sample']
    (item,) = frame.key_objects
    assert (item.tag, item.category, item.status, item.description) == (TAG, 'Vehicle', None, 'Red car.')
    assert (item.reference.name, item.reference.camera, item.reference.x_px, item.reference.y_px) == (
        'c1', 'CAM_FRONT', 714.3, 503.6,
    )  # fmt: skip
    assert item.box_px == (1.0, 2.0, 3.0, 4.0)
    assert image_file(frame, 'CAM_FRONT', Path('/data')) == Path('/data/samples/CAM_FRONT/a.jpg')
    with pytest.raises(QAError, match='expected an image of CAM_BACK, found CAM_FRONT'):
        image_file(frame, 'CAM_BACK', Path('/data'))


def test_questions_without_answers_are_counted_and_left_out(tmp_path):
    content = document()
    frame = content['scene']['key_frames']['sample']
    del frame['QA']['perception'][0]['A'], frame['key_object_infos']  # the challenge's form
    frame['QA']['behavior'][0]['A'] = ' '
    found = load(tmp_path, content)
    assert (found.pairs, found.skipped) == ([], Counter({'no answer in the file': 2}))
    assert found.frames['sample'].key_objects == ()


def broken(change):
    content = document()
    change(content['scene']['key_frames']['sample'])
    return content


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'qa.json is not valid JSON'),
        ([], r'qa.json: expected an object, found \[\]'),
        ({'scene': {}}, "scene scene: expected an object 'key_frames', found null"),
        (broken(lambda f: f.pop('QA')), "key frame sample: expected an object 'QA', found null"),
        (broken(lambda f: f['QA'].update(plans=[])), 'expected stages perception, .*, found plans'),
        (broken(lambda f: f['QA'].update(planning={})), "expected a list 'planning'"),
        (broken(lambda f: f['QA']['perception'][0].update(Q='')), 'perception 0: expected a text \'Q\', found ""'),
        (broken(lambda f: f['QA']['perception'][0].update(A=3)), "perception 0: expected a text 'A', found 3"),
        (broken(lambda f: f['QA']['perception'][0].update(tag=[4])), "expected a list of 0 to 3 as 'tag'"),
        (broken(lambda f: f['key_object_infos'].update(c1={})), 'key object c1: expected a name like <c1,CAM_FRONT'),
        (broken(lambda f: f['key_object_infos'][TAG].update({'2d_bbox': [1]})), "expected four numbers '2d_bbox'"),
        (broken(lambda f: f.update(image_paths=None)), "expected an object 'image_paths', found null"),
    ],
)
def test_what_is_not_of_the_form_is_refused(tmp_path, content, message):
    with pytest.raises(QAError, match=message):
        load(tmp_path, content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(QAError, match='No such file'):
        load_drivelm(tmp_path / 'qa.json')


@pytest.mark.parametrize('path', ['../nuscenes/sweeps/a.jpg', 'samples/../../secret', 'samples'])
def test_a_path_that_leads_elsewhere_is_refused(tmp_path, path):
    found = load(tmp_path, broken(lambda f: f['image_paths'].update(CAM_FRONT=path)))
    with pytest.raises(QAError, match='expected a path with samples/'):
        image_file(found.frames['sample'], 'CAM_FRONT', tmp_path)


@pytest.mark.parametrize('relative', ['gone.jpg', '../qa.json', '/etc/hostname'])
def test_an_index_that_leads_nowhere_is_refused(tmp_path, relative):
    (tmp_path / 'index.json').write_text(json.dumps({'sample': {'CAM_FRONT': relative}}))
    with pytest.raises(QAError, match='key frame sample: expected an image below'):
        load_image_index(tmp_path / 'index.json')


def entries(drivelm_dir):
    """Counted anew from the file: (stage, entry), and names of key objects."""
    content = json.loads((drivelm_dir / 'qa.json').read_text())
    frames = [frame for scene in content.values() for frame in scene['key_frames'].values()]
    pairs = [(stage, entry) for frame in frames for stage in STAGES for entry in frame['QA'][stage]]
    return pairs, [name for frame in frames for name in frame['key_object_infos']]


@pytest.mark.drivelm
def test_the_real_file_loads_whole(drivelm_dir):
    found = load_drivelm(drivelm_dir / 'qa.json')
    pairs, _ = entries(drivelm_dir)
    assert [(pair.kind, pair.question, pair.answer) for pair in found.pairs] == [
        (stage, entry['Q'], entry['A']) for stage, entry in pairs
    ]
    assert found.skipped == Counter()
    assert found.kinds() == Counter(stage for stage, _ in pairs)
    if len(pairs) == 479:  # the set named in the documents
        assert found.kinds() == {'perception': 194, 'prediction': 172, 'planning': 108, 'behavior': 5}


@pytest.mark.drivelm
def test_key_objects_of_the_real_file(drivelm_dir):
    found = load_drivelm(drivelm_dir / 'qa.json')
    items = [item for frame in found.frames.values() for item in frame.key_objects]
    assert [item.tag for item in items] == entries(drivelm_dir)[1]
    for item in items:
        assert item.reference.camera in CAMERAS
        x0, y0, x1, y1 = item.box_px
        assert 0 <= x0 < item.reference.x_px < x1 <= 1600
        assert item.reference.y_px == pytest.approx((y0 + y1) / 2, abs=0.1)
    named = {(pair.sample_token, ref) for pair in found.pairs for ref in object_references(pair.question)}
    known = {(token, item.reference) for token, frame in found.frames.items() for item in frame.key_objects}
    assert named
    assert named <= known  # questions speak of key objects only


@pytest.mark.drivelm
def test_images_of_the_real_file(drivelm_dir):
    found, index = load_drivelm(drivelm_dir / 'qa.json'), load_image_index(drivelm_dir / 'index.json')
    assert index.keys() == found.frames.keys()
    for token, frame in found.frames.items():
        assert set(index[token]) == set(frame.image_paths) == set(CAMERAS)
        for camera, path in index[token].items():
            assert image_file(frame, camera, Path()).name == path.name
            assert path.read_bytes()[:2] == b'\xff\xd8'


@pytest.mark.drivelm
def test_the_tiny_model_can_be_asked_every_real_question(drivelm_dir):
    """With the scene's tokens and an answer of 64 they fit its context; nothing is lost by its tokenizer."""
    from sparseoccvla_ros.model.config import load_model_config
    from sparseoccvla_ros.model.vla import build_language

    config = load_model_config('tiny')
    language = build_language(config, weights=None, seed=0)
    scene_tokens = config.encoder.queries + config.language.global_tokens
    for pair in load_drivelm(drivelm_dir / 'qa.json').pairs:
        question = checked(Question(pair.question), QuestionLimits())
        tokens = language.question_tokens([(question.text, None)])
        assert scene_tokens + len(tokens) + question.max_tokens < config.language.context_length - 64
        assert max(tokens) < config.language.vocabulary
        assert question.text in language.tokenizer.decode(tokens)

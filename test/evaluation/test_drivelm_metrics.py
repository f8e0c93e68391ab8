"""DriveLM's scores: the graph gate, the tags, and the real file."""

import pytest

from sparseoccvla_ros.data.qa.drivelm import DriveLMFrame, KeyObject, load_drivelm, object_references
from sparseoccvla_ros.data.qa.pairs import QAPair
from sparseoccvla_ros.evaluation.drivelm_metrics import (
    challenge_questions,
    language_score,
    match_points,
    points_px,
    score_drivelm,
)

A, B = '<c1,CAM_FRONT,700.0,500.0>', '<c2,CAM_BACK,900.0,400.0>'


def pair(kind, question, answer, *tags, token='s'):
    return QAPair(token, 'scene', kind, question, answer, 'drivelm', tags)


def test_points_and_their_match():
    assert points_px(f'{A} and 5.5') == [(700.0, 500.0)]
    assert match_points('at 707.9,508.0', A) == ([(700.0, 500.0)], pytest.approx(1.0))
    assert match_points('at 708.0,508.0', A) == ([], 0.0)  # 16 px are too far
    assert match_points('at 700.0,500.0', f'{A} {B}')[1] == pytest.approx(2 / 3)
    assert match_points('', A) == ([], 0.0)
    # a reference is taken once
    assert match_points(f'{A} {A}', A)[1] == pytest.approx(2 / 3)


def test_questions_about_objects_that_the_first_answer_missed_are_gated():
    pairs = [
        pair('perception', 'Important objects?', f'{A} and {B}', 2),
        pair('perception', f'What does {A} do?', 'Stopped.', 0),
        pair('perception', f'What does {B} do?', 'Stopped.', 0),
        pair('planning', f'Act on {A}?', 'Brake.', 1),
        pair('behavior', 'And then?', 'B', 0),
        pair('prediction', 'Notice?', A, 3, token='t'),  # the first of its keyframe is never gated
    ]
    found = score_drivelm(pairs, [f'I see {A}', 'Stopped.', 'Stopped.', 'x', 'A', B])
    assert found.gated == 1
    assert found.questions == {'accuracy': 2, 'gpt': 1, 'language': 1, 'match': 1}
    assert (found.accuracy, found.match_f1, found.language) == (0.5, 0.0, (0,))


def test_missing_answers_are_wrong():
    pairs = [pair('perception', 'Objects?', A, 3), pair('behavior', 'Then?', 'B', 0)]
    found = score_drivelm(pairs, ['', ''])
    assert (found.accuracy, found.match_f1) == (0.0, 0.0)


def test_no_tags_no_scores():
    found = score_drivelm([pair('perception', 'Why?', 'So.')], ['So.'])
    assert (found.accuracy, found.match_f1, found.language) == (None, None, ())


def test_questions_of_a_file_without_tags():
    objects = tuple(
        KeyObject(tag, object_references(tag)[0], 'Vehicle', None, look, None)
        for tag, look in ((A, 'Red car.'), (B, 'Bus.'))
    )
    pairs = [
        pair('perception', 'Left?', 'A red car.'),
        pair('perception', f'What is the moving status of object {A}?', 'Going ahead.'),
        pair('perception', f'What is the moving status of object {B}?', 'Stopped.'),
        pair('perception', 'Important objects?', 'A red car and a bus.'),
        pair('prediction', 'Notice?', f'Notice {A}, then {B}.'),
        pair('prediction', f'Is {A} a sign?', 'No.'),
        pair('planning', 'What are safe actions?', 'Brake.'),
        pair('planning', f'What actions could the ego vehicle take based on {A}?', 'Brake.'),
        pair('behavior', 'Predict.', 'Straight.'),
    ]
    chosen = challenge_questions(pairs, {'s': DriveLMFrame('s', 'scene', objects, {})})
    assert [(place, item.tags) for place, item in chosen] == [
        (3, (2,)), (1, (0,)), (4, (3,)), (5, (0,)), (7, (1,)), (6, (1,)), (8, (0,)),
    ]  # fmt: skip


def test_language_score():
    """Thirds: mean BLEU, ROUGE-L, and CIDEr of ten."""
    scores = {'Bleu_1': 0.8, 'Bleu_2': 0.6, 'Bleu_3': 0.4, 'Bleu_4': 0.2, 'ROUGE_L': 0.7, 'CIDEr': 3.0}
    assert language_score(scores) == pytest.approx((0.5 + 0.7 + 0.3) / 3)
    del scores['CIDEr']
    assert language_score(scores) is None


@pytest.mark.drivelm
def test_the_real_answers_score_one_against_themselves(drivelm_dir):
    found = load_drivelm(drivelm_dir / 'qa.json')
    chosen = [item for _, item in challenge_questions(found.pairs, found.frames)]
    scores = score_drivelm(chosen, [item.answer for item in chosen])
    assert scores.accuracy == 1.0
    assert scores.gated == 0
    assert scores.questions['accuracy'] == 3 * len(found.frames)
    assert scores.questions['gpt'] == 3 * len(found.frames)
    assert scores.questions['language'] == len(found.frames)
    with_points = [item.answer for item in found.pairs if points_px(item.answer)]
    assert with_points
    for answer in with_points:
        matched, f1 = match_points(answer, answer)
        assert len(matched) == len(points_px(answer))
        assert f1 == pytest.approx(1.0)

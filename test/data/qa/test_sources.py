"""Answers from a file, and which pair gets which."""

import json

import pytest

from sparseoccvla_ros.data.qa.pairs import QAError, QAPair, QuestionSet
from sparseoccvla_ros.data.qa.sources import answers_to, load_answers


def pair(question, answer='x', token='s'):
    return QAPair(token, '', 'conv', question, answer, 'omnidrive')


def load(tmp_path, content):
    (tmp_path / 'answers.json').write_text(json.dumps(content))
    return load_answers(tmp_path / 'answers.json')


def test_both_forms_of_answers(tmp_path):
    ours = {'sample_token': 's', 'question': 'Why?', 'answer': 'So.', 'note': 1}
    drivelm = {'id': 'scene_t_12', 'question': '<image>\nWhere?', 'gt_answer': 'There.', 'answer': 'Here.'}
    assert load(tmp_path, [ours, drivelm]) == {('s', 'Why?'): ['So.'], ('t', 'Where?'): ['Here.']}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({}, 'expected a list of answers'),
        ([{'question': 'q', 'answer': 'a'}], "entry 0: expected a text 'sample_token', found null"),
        ([{'id': 's_t', 'question': 'q', 'answer': 'a'}], "expected an 'id' of scene, sample and number"),
        ([{'sample_token': 's', 'question': 'q'}], "entry 0: expected a text 'answer', found null"),
        (['x'], 'entry 0: expected an object'),
    ],
)
def test_other_forms_are_refused(tmp_path, content, message):
    with pytest.raises(QAError, match=message):
        load(tmp_path, content)


def test_missing_and_foreign_answers():
    questions = QuestionSet([pair('a'), pair('b'), pair('a', token='t')])
    assert answers_to(questions, {('s', 'a'): ['1'], ('s', 'c'): ['2', '3']}) == ['1', '', '']
    assert questions.skipped == {'answer to no question of the set': 2}


def test_a_question_with_several_references():
    questions = QuestionSet([pair('a', 'x'), pair('b'), pair('a', 'y')])
    assert answers_to(questions, {('s', 'a'): ['1'], ('s', 'b'): ['2']}) == ['1', '2', '1']
    assert answers_to(questions, {('s', 'a'): ['1', '3'], ('s', 'b'): ['2']}) == ['1', '2', '3']
    with pytest.raises(QAError, match='expected 1 or 2 answers to "a" about s, found 3'):
        answers_to(questions, {('s', 'a'): ['1', '3', '4']})
    with pytest.raises(QAError, match='expected 1 answer to "b" about s, found 2'):
        answers_to(questions, {('s', 'b'): ['1', '3']})

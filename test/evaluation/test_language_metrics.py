"""Language scores worked by hand, and what happens without Java."""

import math

import pytest

from sparseoccvla_ros.evaluation import tokenization
from sparseoccvla_ros.evaluation.language_metrics import add_meteor, score_tokens, tokenized
from sparseoccvla_ros.evaluation.meteor import MeteorProcess
from sparseoccvla_ros.evaluation.tokenization import JavaError, tokenize


@pytest.fixture
def no_java(monkeypatch):
    monkeypatch.setattr(tokenization.shutil, 'which', lambda program: None)


@pytest.fixture
def java(monkeypatch, tmp_path):
    """A java that prints what it is told and fails."""

    def install(script):
        path = tmp_path / 'java'
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv('PATH', str(tmp_path), prepend=':')

    return install


def test_by_hand():
    """'a b c d' against 'a b c e': 3 of 4 words, 2 of 3 pairs, 1 of 2 triples; the longest common part has 3 of 4."""
    found = score_tokens([['a b c e'], ['x y z']], ['a b c d', 'x y z'])
    assert found.per_answer['Bleu_1'][0] == pytest.approx(3 / 4)
    assert found.per_answer['Bleu_2'][0] == pytest.approx(math.sqrt(3 / 4 * 2 / 3))
    assert found.per_answer['Bleu_3'][0] == pytest.approx((3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3))
    assert found.per_answer['ROUGE_L'] == pytest.approx([3 / 4, 1.0])
    # every word is in one of two references, so all weigh ln 2: similarities are 3/4, 2/3, 1/2, 0
    assert found.per_answer['CIDEr'][0] == pytest.approx(10 * (3 / 4 + 2 / 3 + 1 / 2) / 4)
    assert found.per_answer['CIDEr'][1] == pytest.approx(10 * 3 / 4)  # three words have no 4-gram
    assert found.unavailable == {}


def test_one_question_has_no_cider():
    found = score_tokens([['a b']], ['a b'])
    assert 'CIDEr' not in found.corpus
    assert 'is 0 for a single one' in found.unavailable['CIDEr']


def test_a_missing_answer_scores_nothing():
    found = score_tokens([['a b c d'], ['e f g h']], ['', 'e f g h'])
    assert {name: values[0] for name, values in found.per_answer.items()} == dict.fromkeys(found.per_answer, 0.0)
    assert found.corpus['ROUGE_L'] == pytest.approx(0.5)


def test_the_simple_tokenizer():
    assert tokenize('simple', ['The CAR isn\'t <c1,CAM_BACK,991.7>.', '', '...']) == [
        "the car isn't c1 cam_back 991 7", '', '',
    ]  # fmt: skip
    assert tokenize('whitespace', ['A.  b']) == ['A.  b']
    with pytest.raises(ValueError, match="one of ptb, simple, whitespace, got 'words'"):
        tokenize('words', ['a'])


def test_without_java_the_simple_tokenizer_works_and_meteor_says_why_it_is_not_there(no_java):
    tokens = tokenized([['A car.'], ['A bus.']], ['a car', 'a bus'], 'simple')
    found = score_tokens(*tokens)
    add_meteor(found, *tokens)
    assert found.corpus['Bleu_1'] == pytest.approx(1.0)
    assert 'METEOR' not in found.corpus
    assert 'no java in PATH' in found.unavailable['METEOR']
    with pytest.raises(JavaError, match=r'the PTB tokenizer needs Java: no java in PATH .*; the simple tokenizer does'):
        tokenized([['A car.']], ['a car'], 'ptb')


def test_a_java_that_fails_is_an_error_with_its_last_words(java):
    java('echo first >&2; echo "Error: no room" >&2; exit 1')
    with pytest.raises(JavaError, match=r'the PTB tokenizer failed.*Error: no room'):
        tokenize('ptb', ['a'])
    with MeteorProcess() as meteor, pytest.raises(JavaError, match='METEOR failed: Error: no room'):
        meteor.score([['a']], ['a'])


def test_lines_that_java_loses_are_noticed(java):
    java('echo a')
    with pytest.raises(JavaError, match='gave 1 lines for 2 texts'):
        tokenize('ptb', ['a', 'b'])


@pytest.mark.parametrize(('references', 'answers'), [([], []), ([['a']], []), ([[]], ['a'])])
def test_answers_without_references_are_refused(references, answers):
    with pytest.raises(ValueError, match='expected answers with references each'):
        tokenized(references, answers, 'simple')

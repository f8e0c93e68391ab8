"""All scores of a set together, and the named protocols."""

import json

import pytest

from sparseoccvla_ros.data.qa.pairs import QAPair
from sparseoccvla_ros.evaluation import tokenization
from sparseoccvla_ros.evaluation.bootstrap import SceneBootstrap
from sparseoccvla_ros.evaluation.language_report import asked, chosen_tokenizer, is_exact, report


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """Java's part has tests of its own, and takes seconds."""
    monkeypatch.setattr(tokenization.shutil, 'which', lambda program: None)


def pair(kind, question, answer, token='s', source='omnidrive'):
    return QAPair(token, '', kind, question, answer, source)


PAIRS = [
    pair('desc', 'Describe.', 'A wet street with many cars.'),
    pair('conv', 'How many cars?', 'There are two cars.'),
    pair('conv', 'Any bus here?', 'There is no bus.'),
    pair('vqa', 'What to do now?', 'Keep on and look left.'),
]
ANSWERS = ['A wet street with many cars', 'there are  two cars', ' ', 'Brake']


def test_kinds_add_up_to_the_whole():
    found = report(PAIRS, ANSWERS, 'simple')
    assert (found.questions, found.missing, found.exact_match) == (4, 1, 0.5)
    assert list(found.by_kind) == ['desc', 'conv', 'vqa']
    conv = found.by_kind['conv']
    assert (conv.questions, conv.missing, conv.exact_match) == (2, 1, 0.5)
    for name, field in (('CIDEr', 'cider'), ('ROUGE_L', 'rouge_l')):
        mean = sum(getattr(row, field) * row.questions for row in found.by_kind.values()) / 4
        assert mean == pytest.approx(found.language.corpus[name])
    assert (found.numeric['count'].questions, found.numeric['count'].shares) == (1, {'exact': 1.0})
    assert found.drivelm is None


def test_the_summary_is_json_and_a_score_that_is_not_there_is_null():
    summary = json.loads(json.dumps(report(PAIRS, ANSWERS, 'simple').summary()))
    assert summary['scores']['METEOR'] is None
    assert 'no java in PATH' in summary['unavailable']['METEOR']
    assert summary['scores']['exact_match'] == 0.5
    assert summary['numeric']['count']['questions'] == 1
    assert (summary['protocol'], summary['tokenizer'], summary['missing']) == ('all', 'simple', 1)


def test_intervals_of_a_whole_that_is_drawn_scene_by_scene():
    """Two scenes: either, or both as they are; CIDEr keeps the whole set's weights."""
    scenes = ['a', 'a', 'b', 'b']
    found = report(PAIRS, ANSWERS, 'simple', scenes=scenes, bootstrap=SceneBootstrap(scenes, 100))
    assert found.intervals['exact_match'] == [0.0, 1.0]
    own = found.language.per_answer
    for name in ('CIDEr', 'ROUGE_L'):
        assert found.intervals[name] == pytest.approx([sum(own[name][2:]) / 2, sum(own[name][:2]) / 2])
    for name in ('Bleu_1', 'Bleu_4'):
        alone = [report(PAIRS[part], ANSWERS[part], 'simple').language.corpus[name] for part in (slice(2, 4), slice(2))]
        assert found.intervals[name] == pytest.approx(alone)
    assert found.intervals['by_kind/conv/exact_match'] == [0.0, 1.0]
    assert found.intervals['by_kind/desc/rouge_l'] == pytest.approx([1.0, 1.0])  # in scene a alone
    assert found.intervals['numeric/count/exact'] == [1.0, 1.0]
    assert found.intervals['numeric/count/mean_error'] == [0.0, 0.0]
    assert found.summary()['intervals'] == found.intervals
    assert report(PAIRS, ANSWERS, 'simple').intervals == {}


def test_hermes_drops_the_last_two_pairs_of_each_keyframe_and_cuts_at_blanks():
    more = [pair('conv', 'a', 'x', 't'), pair('vqa', 'b', 'y', 't'), pair('keywords', 'c', 'z', 't')]
    assert asked([*PAIRS, *more], 'hermes') == [0, 1]  # two pairs or fewer: nothing is left
    assert asked([*PAIRS, *more], 'all') == list(range(7))
    assert chosen_tokenizer('auto', 'hermes') == 'whitespace'
    found = report(PAIRS[:2], ANSWERS[:2], 'whitespace', 'hermes')
    assert found.language.per_answer['ROUGE_L'][0] < 1.0  # 'cars.' is not 'cars'
    assert 'NLTK' in found.language.unavailable['METEOR']


@pytest.mark.parametrize(
    ('pairs', 'protocol', 'message'),
    [
        (PAIRS, 'gpt', "protocol must be one of all, hermes, got 'gpt'"),
        ([], 'all', 'no question is left to score under protocol all'),
        (PAIRS[:2], 'hermes', 'no question is left to score under protocol hermes'),
        ([pair('planning', 'a', 'b', source='drivelm')], 'hermes', 'not for drivelm'),
    ],
)
def test_wrong_protocols_are_refused(pairs, protocol, message):
    with pytest.raises(ValueError, match=message):
        asked(pairs, protocol)


def test_the_tokenizer_depends_on_java_only_where_it_may(monkeypatch):
    assert chosen_tokenizer('auto', 'all') == 'simple'
    for wanted, protocol, message in (
        ('ptb', 'all', 'needs Java'), ('words', 'all', "auto, ptb, simple, whitespace, got 'words'"),
        ('simple', 'hermes', 'has the tokenizer whitespace'),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            chosen_tokenizer(wanted, protocol)
    monkeypatch.setattr(tokenization.shutil, 'which', lambda program: '/usr/bin/java')
    assert chosen_tokenizer('auto', 'all') == 'ptb'


def test_exact_answers():
    assert is_exact('Two  cars', 'two cars.')
    assert not is_exact('two', 'two cars')
    assert not is_exact('', 'two')

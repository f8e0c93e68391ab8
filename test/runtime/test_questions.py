"""What is refused before any language model runs, and that an answer comes exactly once."""

import math

import pytest

from sparseoccvla_ros.runtime.conversation import Conversations
from sparseoccvla_ros.runtime.questions import Answer, PendingAnswer, Question, QuestionLimits, QuestionRefused, checked

LIMITS = QuestionLimits(max_question_chars=40, default_max_tokens=16, max_answer_tokens=32, time_limit_s=5.0)


@pytest.mark.parametrize(
    ('question', 'reason'),
    [
        (Question(''), 'empty'),
        (Question(' \t\n\u3000'), 'empty'),
        (Question('x' * 41), 'too long: 41 characters, at most 40'),
        (Question('is it caf\ufffd?'), r'U\+FFFD'),
        (Question('hello', conversation_id='\ufffd'), r'U\+FFFD'),
        (Question('a\0b'), 'NUL'),
        (Question('hello', conversation_id='a\0'), 'NUL'),
        (Question('hello', conversation_id='x' * 129), 'conversation id'),
        (Question('hello', max_tokens=33), r'max_tokens \(33\)'),
        (Question('hello', max_tokens=-1), r'max_tokens \(-1\)'),
        (Question('hello', temperature=-0.1), 'temperature'),
        (Question('hello', temperature=math.nan), 'temperature'),
        (Question('hello', temperature=math.inf), 'temperature'),
        (Question('hello', time_limit_s=0.0), 'time_limit_s'),
    ],
)
def test_refused_with_the_reason(question, reason):
    with pytest.raises(QuestionRefused, match=reason):
        checked(question, LIMITS)


def test_accepted_is_stripped_and_completed():
    question = checked(Question('  Is the way free?\n'), LIMITS)
    assert (question.text, question.max_tokens, question.time_limit_s) == ('Is the way free?', 16, 5.0)
    named = checked(Question('x' * 40, max_tokens=32, temperature=0.7, time_limit_s=1.0), LIMITS)
    assert (named.max_tokens, named.temperature, named.time_limit_s) == (32, 0.7, 1.0)
    # Text that only looks dangerous is text: format strings, shell, other scripts, emoji.
    for text in ('{0} %s $(ls) `id`', '前方有什么？', 'was ist 🚗?'):
        assert checked(Question(text), LIMITS).text == text


def test_limits_are_checked():
    with pytest.raises(ValueError, match='kept_scenes'):
        QuestionLimits(kept_scenes=0)
    with pytest.raises(ValueError, match=r'default_max_tokens \(600\)'):
        QuestionLimits(default_max_tokens=600)


def test_an_answer_comes_once():
    got = []
    pending = PendingAnswer(got.append)
    assert not pending.done
    assert pending.wait(0.0) is None
    first = Answer(True, '', 'yes')
    pending.finish(first)
    pending.finish(Answer(False, 'late'))
    assert got == [first]
    assert pending.wait() is first


def test_conversations_are_bounded_and_apart():
    conversations = Conversations(max_conversations=2, max_turns=2)
    epoch = conversations.epoch
    for i in range(3):
        conversations.record('a', f'q{i}', f'a{i}', epoch)
    assert conversations.turns('a') == (('q1', 'a1'), ('q2', 'a2'))
    conversations.record('', 'q', 'a', epoch)
    assert conversations.turns('') == ()
    conversations.record('b', 'q', 'a', epoch)
    conversations.turns('a')  # used: b is now the one used longest ago
    conversations.record('c', 'q', 'a', epoch)
    assert conversations.turns('b') == ()
    assert len(conversations.turns('a')) == 2


def test_a_turn_that_began_before_a_reset_is_not_kept():
    conversations = Conversations(2, 2)
    epoch = conversations.epoch
    conversations.record('a', 'q', 'a', epoch)
    conversations.clear()
    conversations.record('a', 'q', 'a', epoch)
    assert conversations.turns('a') == ()
    conversations.record('a', 'q', 'a', conversations.epoch)
    assert conversations.turns('a') == (('q', 'a'),)

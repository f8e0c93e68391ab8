"""Questions put to the reasoning engine of the car, and how many answers are exactly right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from queue import SimpleQueue

from language_overfit.choice import AskedQuestion
from language_overfit.keyframes import Keyframes
from sparseoccvla_ros.runtime.questions import Question, QuestionLimits
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine, SceneResult

MAX_ANSWER_TOKENS = 160
#: Nothing is refused: all questions about a keyframe wait together.
LIMITS = QuestionLimits(
    kept_scenes=1, max_waiting=256, max_running=8, default_max_tokens=MAX_ANSWER_TOKENS, time_limit_s=300.0
)


def ask_all(
    engine: ReasoningEngine, keyframes: Keyframes, questions: Sequence[AskedQuestion], seen_at: Sequence[int]
) -> list[str]:
    """Greedy answers, in the order of the questions.

    Args:
        engine: with :data:`LIMITS`.
        keyframes: that the questions are about.
        questions: what is asked.
        seen_at: for each keyframe the one whose queries the engine gets to see in its place.

    Raises:
        RuntimeError: the engine could not read a scene, or gave no answer; an answer without visible text is ''.
    """
    of_keyframe: dict[str, list[int]] = defaultdict(list)
    for number, question in enumerate(questions):
        of_keyframe[question.sample_token].append(number)
    answers = [''] * len(questions)
    for place, token in enumerate(keyframes.sample_tokens):
        if token not in of_keyframe:
            continue
        results = SimpleQueue[SceneResult]()
        engine.submit_scene(keyframes.queries(seen_at[place], keyframes.stamps_ns[place]), results.put)
        failure = results.get().failure
        if failure:
            raise RuntimeError(f'keyframe {token}: {failure}')
        pending = {number: engine.ask(Question(questions[number].text)) for number in of_keyframe[token]}
        for number, waiting in pending.items():
            answer = waiting.wait()
            assert answer is not None  # it waits without limit
            if not answer.success and 'no visible text' not in answer.message:
                raise RuntimeError(f'{questions[number].text!r}: {answer.message}')
            answers[number] = answer.answer
    return answers


def right_for_shown(
    keyframes: Keyframes, questions: Sequence[AskedQuestion], seen_at: Sequence[int]
) -> list[str | None]:
    """For each question the reference answer of the keyframe shown in its own's place, where that was asked the same
    words; else None.
    """
    known = {(question.sample_token, question.text): question.answer for question in questions}
    shown = {
        token: keyframes.sample_tokens[place] for token, place in zip(keyframes.sample_tokens, seen_at, strict=True)
    }
    return [known.get((shown[question.sample_token], question.text)) for question in questions]


def exact(questions: Sequence[AskedQuestion], answers: Sequence[str]) -> float:
    """Share of answers that are the reference, character by character."""
    return sum(q.answer == answer for q, answer in zip(questions, answers, strict=True)) / len(questions)


def exact_by_kind(questions: Sequence[AskedQuestion], answers: Sequence[str]) -> dict[str, float]:
    """:func:`exact` for each kind."""
    kinds = sorted({question.kind for question in questions})
    places = {kind: [number for number, q in enumerate(questions) if q.kind == kind] for kind in kinds}
    return {
        kind: exact([questions[number] for number in of_kind], [answers[number] for number in of_kind])
        for kind, of_kind in places.items()
    }

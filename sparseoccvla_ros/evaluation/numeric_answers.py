"""Counts, distances and positions in answers, and their scores.

An answer that is missing, or that holds no value, counts as wrong: it is in the denominator of every share. Errors are
means over the answers that hold a value, beside the number of those.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.qa.pairs import QAPair

COUNT, DISTANCE, POSITION = 'count', 'distance', 'position'
TYPES = (COUNT, DISTANCE, POSITION)
RELATIVE_ERROR = 0.1
DISTANCE_ERROR_M = 1.0
POSITION_ERROR_M = 2.0

_WORDS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve',
          'thirteen', 'fourteen', 'fifteen', 'sixteen', 'seventeen', 'eighteen', 'nineteen', 'twenty')  # fmt: skip
_NUMBER = r'[+-]?\d+(?:\.\d+)?'
_POSITION = re.compile(rf'\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*(?:,\s*{_NUMBER}\s*)?\)')
_METRES = re.compile(rf'(?<![\w.])({_NUMBER})\s*(?:-\s*)?(?:m|met(?:re|er)s?)\b(?!\s*/)', re.IGNORECASE)
_WITH_UNIT = re.compile(rf'{_NUMBER}\s*(?:-\s*)?(?:km/h|mph|m/s|m|met(?:re|er)s?|s|seconds?|%|degrees?)(?!\w)', re.I)
_COUNT = re.compile(rf'(?<![\w.])(\d+|{"|".join(_WORDS)})(?![\w]|\.\d)', re.IGNORECASE)
_NOTHING = re.compile(r'\b(?:no|none|nothing|not any|nobody)\b', re.IGNORECASE)
_COUNT_QUESTION = re.compile(r'\bhow many\b(?! met)|\bcount\b|\bnumber of\b', re.IGNORECASE)
_DISTANCE_QUESTION = re.compile(r'\bhow (?:far|close|near|many met)|\b(?:distance|range)\b', re.IGNORECASE)
_POSITION_QUESTION = re.compile(r'\bwhere\b|\b(?:position|coordinates|point|place)\b|\bloca[lt]', re.IGNORECASE)
_COMPARED = re.compile(r'\b(?:farther|further)\b', re.IGNORECASE)


def count_in(text: str) -> int | None:
    """The first number without a unit, in digits or words up to twenty; 0 for 'no', 'none', 'nothing'; else None."""
    bare = _WITH_UNIT.sub(' ', _POSITION.sub(' ', text))
    found = _COUNT.search(bare)
    if found is None:
        return 0 if _NOTHING.search(bare) else None
    word = found[1].lower()
    return _WORDS.index(word) if word in _WORDS else int(word)


def distance_in_m(text: str) -> float | None:
    """The first number of metres; without any unit the only number there is; else None."""
    metres = _METRES.search(text)
    if metres is not None:
        return float(metres[1])
    numbers = re.findall(rf'(?<![\w.]){_NUMBER}', text)
    return float(numbers[0]) if len(numbers) == 1 else None


def positions_in_m(text: str) -> list[tuple[float, float]]:
    """All positions written as ``(x, y)`` or ``(x, y, z)``, without z: ego frame, x forward, y left."""
    return [(float(x), float(y)) for x, y in _POSITION.findall(text)]


def type_of(pair: QAPair) -> str | None:
    """Which value the pair asks for, by the question's words and the reference answer's form; None if none of them.

    A count: 'how many', 'number of'. A distance: 'how far', 'distance', and a single number of metres. A position:
    'where', 'position', 'coordinates', and a single (x, y) that the question does not hold already.
    """
    positions, metres = positions_in_m(pair.answer), _METRES.findall(pair.answer)
    told = positions_in_m(pair.question)
    if _COUNT_QUESTION.search(pair.question) and count_in(pair.answer) is not None:
        return COUNT
    if _POSITION_QUESTION.search(pair.question) and len(positions) == 1 and not metres and positions[0] not in told:
        return POSITION
    if _DISTANCE_QUESTION.search(pair.question) and len(metres) == 1 and not positions:
        return None if _COMPARED.search(pair.answer) else DISTANCE
    return None


@dataclass(frozen=True)
class NumericScore:
    """Of the questions that ask for one type of value: their number, how many answers hold no value, shares over all
    of them by name, and the mean absolute error of the others (counts, or metres; None if no answer holds a value).
    """

    questions: int
    without_value: int
    shares: dict[str, float]
    mean_error: float | None


@dataclass(frozen=True, eq=False)
class NumericAnswers:
    """Answers to the questions that ask for one type of value: the ``places`` of these among all, whether each answer
    is ``right`` by the name of the share, bool [N], and its absolute error [N], nan without a value.
    """

    places: list[int]
    right: dict[str, np.ndarray]
    errors: np.ndarray


def numeric_answers(pairs: Sequence[QAPair], answers: Sequence[str]) -> dict[str, NumericAnswers]:
    """By type, for the types that occur among the pairs, and by ``<type> of <kind>`` where several kinds of questions
    ask for the same type: `where is ...` and `where will ... be in 3 s` both ask for a position.

    Args:
        pairs: with the reference answers.
        answers: one for each pair, '' where it is missing.
    """
    types = [type_of(pair) for pair in pairs]
    found = {}
    for type_ in TYPES:
        places = [place for place, own in enumerate(types) if own == type_]
        kinds = dict.fromkeys(pairs[place].kind for place in places)
        chosen = {type_: places} if places else {}
        if len(kinds) > 1:
            chosen |= {f'{type_} of {kind}': [p for p in places if pairs[p].kind == kind] for kind in kinds}
        for name, own in chosen.items():
            values = [_error(type_, pairs[place].answer, answers[place]) for place in own]
            errors, true = np.array(values, dtype=np.float64).T
            found[name] = NumericAnswers(own, _right(type_, errors, true), errors)
    return found


def score_numeric(answers: Mapping[str, NumericAnswers]) -> dict[str, NumericScore]:
    """Scores of :func:`numeric_answers`."""
    scores = {}
    for kind, found in answers.items():
        held = found.errors[~np.isnan(found.errors)]
        scores[kind] = NumericScore(
            questions=len(found.errors),
            without_value=len(found.errors) - len(held),
            shares={name: float(right.mean()) for name, right in found.right.items()},
            mean_error=float(held.mean()) if held.size else None,
        )
    return scores


def _error(kind: str, reference: str, answer: str) -> tuple[float | None, float]:
    """(absolute error, None if the answer holds no value; the true value, 0 for a position)."""
    if kind == COUNT:
        found, true = count_in(answer), count_in(reference)
    elif kind == DISTANCE:
        found, true = distance_in_m(answer), distance_in_m(reference)
    else:
        places = positions_in_m(answer)
        return (math.dist(places[0], positions_in_m(reference)[0]) if places else None), 0.0
    assert true is not None, reference  # type_of saw it
    return (None if found is None else abs(found - true)), float(true)


def _right(kind: str, errors: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    # for the rounding of floats: 8.2 m is 1 m from 9.2 m
    slack = 1e-6
    if kind == COUNT:
        return {'exact': errors == 0}
    if kind == DISTANCE:
        return {
            'within_10_percent': errors <= RELATIVE_ERROR * true + slack,
            'within_1_m': errors <= DISTANCE_ERROR_M + slack,
        }
    return {'within_2_m': errors <= POSITION_ERROR_M + slack}

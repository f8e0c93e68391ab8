"""DriveLM's own scores, without the part that asks GPT. Source: OpenDriveLab/DriveLM, ``challenge/evaluation.py``.

Each question has a tag: 0 accuracy (equal text), 1 GPT, 2 language (BLEU, ROUGE-L, CIDEr), 3 match (coordinates). The
challenge's total, 0.4 GPT + 0.2 language + 0.2 match + 0.2 accuracy, and its match score, half of which is GPT's, need
a paid service and are left out; what is here are the other parts, all as fractions 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from sparseoccvla_ros.data.qa.drivelm import DriveLMFrame
from sparseoccvla_ros.data.qa.pairs import QAPair

ACCURACY, GPT, LANGUAGE, MATCH = range(4)
#: Points nearer than this, |dx| + |dy|, are the same.
MATCH_PX = 16.0
_DECIMAL = re.compile(r'\d+\.\d+')
_EPSILON = 1e-8

Point = tuple[float, float]
Chooser = Callable[[QAPair], bool]


@dataclass(frozen=True)
class DriveLMScores:
    """``accuracy`` and ``match_f1`` are None where no question has their tag. ``gated`` questions are about objects
    that the keyframe's first answer did not find, and count nowhere, as in the challenge; ``gpt`` were left out.
    ``language`` holds the places of the scored pairs with tag 2.
    """

    accuracy: float | None
    match_f1: float | None
    language: tuple[int, ...]
    questions: Mapping[str, int]
    gated: int


def points_px(text: str) -> list[Point]:
    """All decimal numbers of a text in pairs; an odd last one is dropped."""
    numbers = [float(number) for number in _DECIMAL.findall(text)]
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def match_points(answer: str, reference: str) -> tuple[list[Point], float]:
    """Points of the reference that the answer names, and F1.

    Points of the answer, in order, each take the nearest point of the reference that is left, if within ``MATCH_PX``.
    """
    left, named = points_px(reference), points_px(answer)
    total, matched = len(left), []
    for x_px, y_px in named:
        nearest = min(left, key=lambda point: abs(point[0] - x_px) + abs(point[1] - y_px), default=None)
        if nearest is not None and abs(nearest[0] - x_px) + abs(nearest[1] - y_px) < MATCH_PX:
            matched.append(nearest)
            left.remove(nearest)
    precision = len(matched) / (len(named) + _EPSILON)
    recall = len(matched) / (total + _EPSILON)
    return matched, 2.0 * precision * recall / (precision + recall + _EPSILON)


def challenge_questions(pairs: Sequence[QAPair], frames: Mapping[str, DriveLMFrame]) -> list[tuple[int, QAPair]]:
    """The questions that DriveLM takes from files without tags (its ``extract_data.py``): places in ``pairs``, and the
    pairs with tags.

    Of each keyframe: the first perception answer that describes all key objects (language), the first question for a
    moving status (accuracy), the first prediction answer that names all key objects (match), the first other one with
    yes or no (accuracy), up to three questions for actions (GPT) and the behaviour (accuracy). The challenge then makes
    two of these multiple choice by lot; here they keep their free answers, so accuracy does not compare with its own.
    """
    chosen: list[tuple[int, QAPair]] = []
    for token, group in groupby(enumerate(pairs), key=lambda item: item[1].sample_token):
        of_stage: dict[str, list[tuple[int, QAPair]]] = {}
        for place, pair in group:
            of_stage.setdefault(pair.kind, []).append((place, pair))
        for stage, tag, fits in _choices(frames[token]):
            taken = {place for place, _ in chosen}
            for place, pair in of_stage.get(stage, ()):
                if place not in taken and fits(pair):
                    chosen.append((place, replace(pair, tags=(tag,))))
                    break
        chosen += [(place, replace(pair, tags=(ACCURACY,))) for place, pair in of_stage.get('behavior', ())]
    return chosen


def _choices(frame: DriveLMFrame) -> tuple[tuple[str, int, Chooser], ...]:
    """Stage, tag, and what the first fitting question of it gets the tag for."""
    looks = [item.description.split('.')[0].lower() for item in frame.key_objects]
    tags = [item.tag.lower() for item in frame.key_objects]

    def answer_has(words: Sequence[str]) -> Chooser:
        return lambda pair: all(word in pair.answer.lower() for word in words)

    def question_has(words: str) -> Chooser:
        return lambda pair: words in pair.question.lower()

    return (
        ('perception', LANGUAGE, answer_has(looks)),
        ('perception', ACCURACY, question_has('what is the moving status of object')),
        ('prediction', MATCH, answer_has(tags)),
        ('prediction', ACCURACY, lambda pair: 'yes' in pair.answer.lower() or 'no' in pair.answer.lower()),
        ('planning', GPT, question_has('what actions could the ego vehicle take')),
        ('planning', GPT, question_has('lead to a collision')),
        ('planning', GPT, question_has('safe actions')),
    )


def score_drivelm(pairs: Sequence[QAPair], answers: Sequence[str]) -> DriveLMScores:
    """Scores of tagged pairs, keyframe by keyframe in the order of the file.

    Args:
        pairs: tagged.
        answers: one for each pair, '' where it is missing (then it is wrong).
    """
    by_tag: dict[int, list[int]] = {tag: [] for tag in (ACCURACY, GPT, LANGUAGE, MATCH)}
    gated = 0
    for _, places in groupby(range(len(pairs)), key=lambda place: pairs[place].sample_token):
        known: set[Point] | None = None
        for place in places:
            if known is None:
                known = set(match_points(answers[place], pairs[place].answer)[0])
            elif not known.issuperset(points_px(pairs[place].question)):
                gated += 1
                continue
            for tag in pairs[place].tags:
                by_tag[tag].append(place)
    return DriveLMScores(
        accuracy=_mean([float(answers[place] == pairs[place].answer) for place in by_tag[ACCURACY]]),
        match_f1=_mean([match_points(answers[place], pairs[place].answer)[1] for place in by_tag[MATCH]]),
        language=tuple(by_tag[LANGUAGE]),
        questions={
            name: len(by_tag[tag])
            for name, tag in (('accuracy', ACCURACY), ('gpt', GPT), ('language', LANGUAGE), ('match', MATCH))
        },
        gated=gated,
    )


def language_score(scores: Mapping[str, float]) -> float | None:
    """(mean of BLEU-1..4)/3 + ROUGE_L/3 + CIDEr/30; None where one of them is not there."""
    names = ('Bleu_1', 'Bleu_2', 'Bleu_3', 'Bleu_4', 'ROUGE_L', 'CIDEr')
    if any(name not in scores for name in names):
        return None
    return sum(scores[name] for name in names[:4]) / 12.0 + scores['ROUGE_L'] / 3.0 + scores['CIDEr'] / 30.0


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

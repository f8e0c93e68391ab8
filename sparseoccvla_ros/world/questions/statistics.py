"""How varied and how balanced a set of pairs is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sparseoccvla_ros.world.questions.generate import KINDS, WORDINGS
from sparseoccvla_ros.world.questions.pair import Pair
from sparseoccvla_ros.world.questions.wording import expand, is_val


@dataclass(frozen=True)
class KindStatistics:
    """Of the pairs of one kind: how many, the most frequent answer and key with their shares, distinct wordings used
    (with slots open), and distinct questions.
    """

    kind: str
    pairs: int
    keys: int
    top_answer: str
    top_answer_share: float
    top_key: str
    top_key_share: float
    wordings: int
    questions: int


@dataclass(frozen=True)
class WordingOverlap:
    """What two sets of pairs have in common: numbers of templates, wordings (templates with chosen words, slots open)
    and complete questions of the second set, and how many of these occur in the first.
    """

    val_templates: int
    shared_templates: int
    val_wordings: int
    shared_wordings: int
    val_questions: int
    shared_questions: int


def statistics(pairs: Sequence[Pair]) -> list[KindStatistics]:
    """One entry for each kind that occurs, in the order of ``KINDS``."""
    table = []
    for kind in KINDS:
        group = [pair for pair in pairs if pair.kind == kind]
        if not group:
            continue
        answers, keys = Counter(pair.answer for pair in group), Counter(pair.key for pair in group)
        (answer, answer_count), (key, key_count) = answers.most_common(1)[0], keys.most_common(1)[0]
        table.append(
            KindStatistics(
                kind=kind,
                pairs=len(group),
                keys=len(keys),
                top_answer=answer,
                top_answer_share=answer_count / len(group),
                top_key=key,
                top_key_share=key_count / len(group),
                wordings=len({pair.wording for pair in group}),
                questions=len({pair.question for pair in group}),
            )
        )
    return table


def wording_overlap(train: Sequence[Pair], val: Sequence[Pair]) -> WordingOverlap:
    """How much of the validation questions' wording is known from training."""
    templates = [{(pair.kind, pair.template) for pair in pairs} for pairs in (train, val)]
    wordings = [{pair.wording for pair in pairs} for pairs in (train, val)]
    questions = [{pair.question for pair in pairs} for pairs in (train, val)]
    return WordingOverlap(
        val_templates=len(templates[1]),
        shared_templates=len(templates[0] & templates[1]),
        val_wordings=len(wordings[1]),
        shared_wordings=len(wordings[0] & wordings[1]),
        val_questions=len(questions[1]),
        shared_questions=len(questions[0] & questions[1]),
    )


def possible_wordings() -> dict[str, dict[str, int]]:
    """By kind: numbers of templates, and of wordings for training and for validation."""
    return {
        kind: {
            'templates': len(templates),
            'train': sum(len(expand(text)) for number, text in enumerate(templates) if not is_val(number)),
            'val': sum(len(expand(text)) for number, text in enumerate(templates) if is_val(number)),
        }
        for kind, templates in WORDINGS.items()
    }

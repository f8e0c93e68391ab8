"""Questions and answers of a data set: how many, how varied, how easily guessed, and what val shares with train."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Pair = dict[str, Any]
SPLITS = ('train', 'val')


@dataclass(frozen=True)
class KindFigures:
    """Of the pairs of one kind in one split; shares are those of the most frequent answer and key."""

    kind: str
    split: str
    pairs: int
    answers: int
    wordings: int
    top_answer: str
    answer_share: float
    top_key: str
    key_share: float


@dataclass(frozen=True)
class Overlap:
    """How many distinct items of one sort val has, and how many of them train has too."""

    what: str
    val: int
    shared: int


def read_pairs(dataroot: Path) -> list[Pair]:
    """All pairs, one a line in ``questions/pairs/<split>.jsonl``; none where the data set has no such file.

    Raises:
        OSError: a file cannot be read.
        ValueError: a line is no JSON.
    """
    paths = [dataroot / 'questions' / 'pairs' / f'{split}.jsonl' for split in SPLITS]
    return [json.loads(line) for path in paths if path.is_file() for line in path.read_text().splitlines()]


def kind_figures(pairs: Sequence[Pair]) -> list[KindFigures]:
    """By kind and split, in the order of the alphabet; only where there are pairs."""
    groups: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair['kind'], pair['split']].append(pair)
    figures = []
    for (kind, split), group in sorted(groups.items()):
        top_answer, answer_count = Counter(pair['answer'] for pair in group).most_common(1)[0]
        top_key, key_count = Counter(pair['key'] for pair in group).most_common(1)[0]
        figures.append(
            KindFigures(
                kind,
                split,
                len(group),
                len({pair['answer'] for pair in group}),
                len({pair['wording'] for pair in group}),
                top_answer,
                answer_count / len(group),
                top_key,
                key_count / len(group),
            )
        )
    return figures


def overlaps(pairs: Sequence[Pair]) -> list[Overlap]:
    """What val shares with train, from scenes to complete questions."""
    sorts = {
        'scenes': lambda pair: pair['scene_token'],
        'templates': lambda pair: (pair['kind'], pair['template']),
        'wordings (slots open)': lambda pair: pair['wording'],
        'questions (complete)': lambda pair: pair['question'],
        'answers': lambda pair: pair['answer'],
    }
    found = []
    for name, of in sorts.items():
        train, val = ({of(pair) for pair in pairs if pair['split'] == split} for split in SPLITS)
        found.append(Overlap(name, len(val), len(train & val)))
    return found


def counts(pairs: Sequence[Pair], split: str) -> dict[str, int]:
    """Pairs of the kind ``count`` by the number that is their answer's first word."""
    numbers = [pair['answer'].split()[0] for pair in pairs if pair['kind'] == 'count' and pair['split'] == split]
    return dict(sorted(Counter(numbers).items()))

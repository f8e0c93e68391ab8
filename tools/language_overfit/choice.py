"""Which of the world's questions are asked: such that the words of a question alone do not give its answer away.

The world words its questions in hundreds of ways and names things in thousands, so that a model which learns a few
hundred by heart need not look at the scene. Here each kind has one wording for the same slots, and questions come in
couples: the same words about two scenes, with different answers. Whoever reads only the words is right at most half of
the time.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from sparseoccvla_ros.world.questions.generate import WORDINGS
from sparseoccvla_ros.world.questions.pair import Pair
from sparseoccvla_ros.world.questions.speech import sentence
from sparseoccvla_ros.world.questions.wording import expand

_SLOT = re.compile(r'\$(\w+)')


@dataclass(frozen=True)
class AskedQuestion:
    """A question about a keyframe, and its reference answer."""

    sample_token: str
    scene_token: str
    kind: str
    text: str
    answer: str


def load_pairs(data: Path) -> list[Pair]:
    """The training scenes' pairs of a world."""
    lines = (data / 'questions' / 'pairs' / 'train.jsonl').read_text(encoding='utf-8').splitlines()
    return [Pair.from_json(json.loads(line)) for line in lines]


def train_scenes(data: Path) -> list[str]:
    """Names of a world's training scenes."""
    return json.loads((data / 'splits.json').read_text(encoding='utf-8'))['train']


def reworded(pair: Pair) -> str | None:
    """The question in its kind's first wording with the same slots; None where there is none or they cannot be read."""
    names = _SLOT.findall(pair.wording)
    if pair.wording.startswith('$'):  # its filling was capitalized
        return None
    literals = [re.escape(text) for text in re.split(r'\$\w+', pair.wording)]
    pattern = literals[0] + ''.join(f'(.*?){literal}' for literal in literals[1:])
    match = re.fullmatch(pattern, pair.question, re.IGNORECASE)
    if match is None:
        return None
    slots = dict(zip(names, match.groups(), strict=True))
    wordings = itertools.chain.from_iterable(map(expand, WORDINGS[pair.kind]))
    same_slots = (wording for wording in wordings if set(_SLOT.findall(wording)) == set(names) and wording[0] != '$')
    first = next(same_slots, None)
    return None if first is None else sentence(Template(first).substitute(slots))


def asked_questions(pairs: Iterable[Pair], sample_tokens: Collection[str]) -> list[AskedQuestion]:
    """The pairs about these keyframes, reworded; none that would be asked twice about a keyframe."""
    found: dict[tuple[str, str], AskedQuestion] = {}
    ambiguous = set()
    for pair in pairs:
        text = reworded(pair) if pair.sample_token in sample_tokens else None
        if text is None:
            continue
        question = AskedQuestion(pair.sample_token, pair.scene_token, pair.kind, text, pair.answer)
        if found.setdefault((pair.sample_token, text), question).answer != pair.answer:
            ambiguous.add((pair.sample_token, text))
    return [question for key, question in found.items() if key not in ambiguous]


def couples(questions: Sequence[AskedQuestion]) -> list[tuple[AskedQuestion, AskedQuestion]]:
    """Couples of the same words, of two scenes and with different answers; each question in one at most."""
    by_text: dict[str, list[AskedQuestion]] = defaultdict(list)
    for question in questions:
        by_text[question.text].append(question)
    found = []
    for group in by_text.values():
        left = list(group)
        while left:
            count = Counter(question.answer for question in left)
            # the commonest answer first, or its questions would be left over
            first = max(left, key=lambda question: count[question.answer])
            left.remove(first)
            others = [q for q in left if q.answer != first.answer and q.scene_token != first.scene_token]
            if others:
                second = max(others, key=lambda question: count[question.answer])
                left.remove(second)
                found.append((first, second))
    return found


def choose(questions: Sequence[AskedQuestion], count: int) -> list[AskedQuestion]:
    """``count`` questions in couples, of all kinds in turn.

    Raises:
        ValueError: ``count`` is odd, or there are not so many.
    """
    if count % 2:
        raise ValueError(f'questions come in couples, {count} is odd')
    by_kind: dict[str, list[tuple[AskedQuestion, AskedQuestion]]] = defaultdict(list)
    for couple in couples(questions):
        by_kind[couple[0].kind].append(couple)
    rounds = itertools.zip_longest(*(by_kind[kind] for kind in sorted(by_kind)))
    in_turn = [couple for row in rounds for couple in row if couple is not None]
    if 2 * len(in_turn) < count:
        raise ValueError(f'{count} questions asked for, {2 * len(in_turn)} found: take more scenes')
    return [question for couple in in_turn[: count // 2] for question in couple]


def prior_answers(questions: Sequence[AskedQuestion], *, by_text: bool) -> list[str]:
    """The commonest answer to each question's kind, or (``by_text``) to its very words: what is known blind."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        counts[question.text if by_text else question.kind][question.answer] += 1
    return [counts[question.text if by_text else question.kind].most_common(1)[0][0] for question in questions]

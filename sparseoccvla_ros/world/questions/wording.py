"""A small grammar for wordings, and which of them are for training.

A template is text with alternatives in braces, which may be nested, ``{How far away|At what distance} is $object?``,
and slots ``$name`` for what depends on the keyframe. The templates of a kind are listed in one tuple;
every fifth of them, with all its wordings, is for validation, the others are for training.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from string import Template

import numpy as np

from sparseoccvla_ros.world.questions.speech import sentence

VAL_EVERY = 5


def is_val(template: int) -> bool:
    """Whether the template with this number within its kind is for validation."""
    return template % VAL_EVERY == VAL_EVERY - 1


@cache
def expand(template: str) -> tuple[str, ...]:
    """All wordings of a template, in the order of its alternatives.

    Raises:
        ValueError: braces do not match.
    """
    wordings, rest = _sequence(template, 0)
    if rest != len(template):
        raise ValueError(f'unmatched }} or | at {rest} of template {template!r}')
    # An alternative that is empty leaves a space too many.
    return tuple(dict.fromkeys(re.sub(r' +(?=[ ?.,:]|$)', '', wording) for wording in wordings))


def choose(templates: tuple[str, ...], split: str, rng: np.random.Generator) -> tuple[int, str]:
    """Number of a template of the split, and one of its wordings.

    Templates are drawn in proportion to the square root of their number of wordings, so that neither the rich ones nor
    single sentences prevail.
    """
    numbers = [number for number in range(len(templates)) if is_val(number) == (split == 'val')]
    weights = np.sqrt([len(expand(templates[number])) for number in numbers])
    number = numbers[rng.choice(len(numbers), p=weights / weights.sum())]
    wordings = expand(templates[number])
    return number, wordings[rng.integers(len(wordings))]


def fill(wording: str, slots: dict[str, str]) -> str:
    """The wording with its slots filled, as a sentence that begins with a capital letter.

    Raises:
        KeyError: a slot has no filling.
    """
    return sentence(Template(wording).substitute(slots))


def _sequence(text: str, at: int) -> tuple[list[str], int]:
    parts: list[list[str]] = []
    start = at
    while at < len(text) and text[at] not in '|}':
        if text[at] == '{':
            parts.append([text[start:at]])
            options, at = _alternatives(text, at + 1)
            parts.append(options)
            start = at
        else:
            at += 1
    parts.append([text[start:at]])
    return [''.join(choice) for choice in itertools.product(*parts)], at


def _alternatives(text: str, at: int) -> tuple[list[str], int]:
    options: list[str] = []
    while True:
        found, at = _sequence(text, at)
        options += found
        if at == len(text):
            raise ValueError(f'unmatched {{ in template {text!r}')
        at += 1
        if text[at - 1] == '}':
            return options, at

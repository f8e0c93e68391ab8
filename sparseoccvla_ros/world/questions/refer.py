"""Phrases that stand for exactly one object of a keyframe: 'the red car', 'the truck behind'."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.world.questions.speech import (
    DIRECTIONS,
    nouns,
    off,
    place,
    with_paint,
)
from sparseoccvla_ros.world.questions.view import COMPARE_M, View, state_of

#: Positions of two objects of one class that are to be told apart by them.
APART_M = 2.0


@dataclass(frozen=True)
class Reference:
    """A phrase for one object, and what it tells: 'paint', 'sector', 'distance', 'position', 'nearest', 'state'."""

    text: str
    tells: frozenset[str]


def references(view: View, index: int, rng: np.random.Generator) -> list[Reference]:
    """All phrases that fit the visible object ``index`` and no other object that the images show at any range.

    ``rng`` chooses among words of the same meaning.
    """
    item, rivals, distance_m = view[index], view.rivals[index], view.distance_m[index]
    words = nouns(item)
    word = words[rng.integers(len(words))]
    where = view.near[index][0] if len(view.near[index]) == 1 else None
    direction = '' if where is None else DIRECTIONS[where][rng.integers(len(DIRECTIONS[where]))]
    found: list[Reference] = []

    def add(text: str, *tells: str) -> None:
        found.append(Reference(f'the {text}', frozenset(tells)))

    if not rivals:
        add(word)
    if view.colour_is_clear(index):
        painted = with_paint(word, item)
        # What has no word for its colour could be taken for this one.
        alike = [rival for rival in rivals if view[rival].paint in ('', item.paint)]
        if not alike:
            add(painted, 'paint')
        if where is not None and all(where not in view.near[rival] for rival in alike):
            add(f'{painted} {direction}', 'paint', 'sector')
    if where is not None and all(where not in view.near[rival] for rival in rivals):
        add(f'{word} {direction}', 'sector')
    if rivals and view.distance_m[rivals[0]] > distance_m + COMPARE_M:
        add(f'{("nearest", "closest")[rng.integers(2)]} {word}', 'nearest')
    if all(abs(view.distance_m[rival] - distance_m) > COMPARE_M for rival in rivals):
        add(f'{word} {off(distance_m)}', 'distance')
    if view.is_apart(index, rivals, APART_M):
        add(f'{word} at {place(item.position_m)}', 'position')
    if state_of(item) == 'parked' and all(state_of(view[rival]) in ('moving', 'standing') for rival in rivals):
        add(f'parked {word}', 'state')
    return found


def refer(view: View, index: int, rng: np.random.Generator, without: Collection[str] = ()) -> str | None:
    """One phrase for the object that tells nothing of what is in ``without``; None if there is none."""
    fitting = [item.text for item in references(view, index, rng) if not item.tells.intersection(without)]
    return fitting[rng.integers(len(fitting))] if fitting else None


def place_of(view: View, index: int) -> str:
    """'the car at (12.3, -3.1)': the phrase of answers."""
    return f'the {view.word[index]} at {place(view[index].position_m)}'

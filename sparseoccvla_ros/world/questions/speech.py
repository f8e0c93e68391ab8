"""Words and numbers of questions and answers: things, directions, distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparseoccvla_ros.world.bodies.thing import (
    BARRIER,
    BICYCLE,
    BUS,
    CAR,
    CONSTRUCTION_VEHICLE,
    MOTORCYCLE,
    PEDESTRIAN,
    TRAFFIC_CONE,
    TRAILER,
    TRUCK,
)
from sparseoccvla_ros.world.labels.facts import SeenObject

#: By Occ3D class: words for one, the first of which is used in answers.
NOUNS: dict[int, tuple[str, ...]] = {
    BARRIER: ('barrier', 'road barrier'),
    BICYCLE: ('bicycle', 'bike'),
    BUS: ('bus',),
    CAR: ('car',),
    CONSTRUCTION_VEHICLE: ('construction vehicle', 'construction machine'),
    MOTORCYCLE: ('motorcycle', 'motorbike'),
    PEDESTRIAN: ('pedestrian', 'person on foot'),
    TRAFFIC_CONE: ('traffic cone', 'cone'),
    TRAILER: ('trailer',),
    TRUCK: ('truck', 'lorry'),
}
#: The same for categories of the class ``others``.
OTHER_NOUNS: dict[str, tuple[str, ...]] = {
    'animal': ('animal',),
    'movable_object.debris': ('pile of debris', 'heap of debris'),
    'movable_object.pushable_pullable': ('cart or bin',),
}
PLURALS = {
    'bus': 'buses',
    'person on foot': 'people on foot',
    'pile of debris': 'piles of debris',
    'heap of debris': 'heaps of debris',
    'cart or bin': 'carts or bins',
    'lorry': 'lorries',
}

#: Counter-clockwise from ahead, each 45 degrees wide.
SECTORS = ('ahead', 'front left', 'left', 'rear left', 'behind', 'rear right', 'right', 'front right')
#: An object nearer to a border of sectors than this is in neither for sure.
SECTOR_MARGIN_RAD = np.deg2rad(5.0)
#: Directions of what is nearer than this are not clear: the ego itself is 5 m long.
SECTOR_LEAST_M = 3.5
#: After 'the car', 'What is' ...; the first is used in answers.
DIRECTIONS: dict[str, tuple[str, ...]] = {
    'ahead': ('ahead', 'straight ahead', 'in front'),
    'front left': ('to the front left', 'on the front left', 'ahead and to the left'),
    'left': ('to the left', 'on the left', 'directly to the left'),
    'rear left': ('to the rear left', 'on the rear left', 'behind and to the left'),
    'behind': ('behind', 'at the rear', 'at the back'),
    'rear right': ('to the rear right', 'on the rear right', 'behind and to the right'),
    'right': ('to the right', 'on the right', 'directly to the right'),
    'front right': ('to the front right', 'on the front right', 'ahead and to the right'),
}


def nouns(item: SeenObject) -> tuple[str, ...]:
    """Words for the object's class, the usual one first.

    Raises:
        KeyError: its category has no word.
    """
    return NOUNS[item.label] if item.label in NOUNS else OTHER_NOUNS[item.category]


def noun(item: SeenObject) -> str:
    """The usual word for the object's class."""
    return nouns(item)[0]


def plural(word: str) -> str:
    """'cars' of 'car'."""
    return PLURALS.get(word, f'{word}s')


def number_of(count: int, word: str) -> str:
    """'1 car', '3 cars'."""
    return f'{count} {word if count == 1 else plural(word)}'


def with_article(phrase: str) -> str:
    """'a car', 'an animal'."""
    return f'{"an" if phrase[0] in "aeio" else "a"} {phrase}'


def with_paint(word: str, item: SeenObject) -> str:
    """'red car', 'pedestrian in red'; the word alone if the object has no colour worth naming."""
    if not item.paint:
        return word
    return f'{word} in {item.paint}' if item.label == PEDESTRIAN else f'{item.paint} {word}'


def listing(phrases: Sequence[str], joint: str = 'and') -> str:
    """'a', 'a and b', 'a, b and c'."""
    if len(phrases) == 1:
        return phrases[0]
    return f'{", ".join(phrases[:-1])} {joint} {phrases[-1]}'


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def tenths(value: float) -> str:
    """One decimal, without a minus before zero."""
    return f'{round(float(value), 1) + 0.0:.1f}'


def metres(value: float) -> str:
    """'8.2 m'."""
    return f'{tenths(value)} m'


def off(value: float) -> str:
    """'8.2 m from your rear axle': how far the middle of a box is from the ego frame's origin, on the ground."""
    return f'{metres(value)} from your rear axle'


def within(value: float) -> str:
    """'within 25 m of your rear axle', measured in the same way."""
    return f'within {value:.0f} m of your rear axle'


def place(position_m: np.ndarray) -> str:
    """'(12.3, -3.1)': x forward, y left."""
    return f'({tenths(position_m[0])}, {tenths(position_m[1])})'


def bearing_rad(position_m: np.ndarray) -> float:
    """Angle from ahead, counter-clockwise."""
    return float(np.arctan2(position_m[1], position_m[0]))


def sectors_near(position_m: np.ndarray) -> tuple[str, ...]:
    """The sector of a position, and the neighbour too where a border is near; all where the ego is near."""
    if np.hypot(*position_m) < SECTOR_LEAST_M:
        return SECTORS
    turns = bearing_rad(position_m) / (np.pi / 4.0)
    margin = SECTOR_MARGIN_RAD / (np.pi / 4.0)
    both = (round(turns - margin) % 8, round(turns + margin) % 8)
    return tuple(SECTORS[number] for number in dict.fromkeys(both))


def sector(position_m: np.ndarray) -> str | None:
    """The sector that a position is clearly in, None near a border."""
    near = sectors_near(position_m)
    return near[0] if len(near) == 1 else None

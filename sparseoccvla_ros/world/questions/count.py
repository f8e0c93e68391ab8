"""Counting, up to 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.world.bodies.thing import (
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
from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.speech import DIRECTIONS, SECTORS, within
from sparseoccvla_ros.world.questions.view import RANGE_M, View, state_of

GREATEST = 4
RANGES_M = (10.0, 15.0, 20.0, RANGE_M)

WORDINGS = {
    'count': (
        'How many $things {are visible|can be seen|are in sight|do you see|can you see} $region?',
        '{Count|Please count} the {visible $things|$things that you see|$things in sight} $region.',
        'What is the number of {visible $things|$things in sight} $region?',
        '$Region, how many $things {are visible|can be seen|do you see|are in sight}?',
        '{How many visible $things are there|How many $things are there in sight|What number of $things can you see} '
        '$region{ now|}?',
        '{Tell me|Please tell me|Say} how many $things {are visible|can be seen|you see} $region.',
        '{Give|Please give|Report} the number of {visible $things|$things that are in sight|$things you see} $region.',
        '{Looking at|From} the images, how many $things are {visible|in sight} $region?',
        'How many $things {do the cameras show|do the images show|are shown by the cameras} $region?',
        '{State|Please state|Write down} {the number of visible $things|how many $things are visible|how many $things '
        'are in sight} $region.',
        'How many $things {could you point at|do you make out|can be made out} $region?',
    )
}


@dataclass(frozen=True)
class Group:
    """What is counted: words for one and many, and whether an object is one; None if that is not clear."""

    one: str
    many: str
    holds: Callable[[SeenObject], bool | None]


def _of(*labels: int) -> Callable[[SeenObject], bool | None]:
    return lambda item: item.label in labels


def _of_state(state: str, *labels: int) -> Callable[[SeenObject], bool | None]:
    def holds(item: SeenObject) -> bool | None:
        if item.label not in labels:
            return False
        found = state_of(item)
        return None if found is None else found == state

    return holds


GROUPS = (
    Group('car', 'cars', _of(CAR)),
    Group('pedestrian', 'pedestrians', _of(PEDESTRIAN)),
    Group('truck', 'trucks', _of(TRUCK)),
    Group('bus', 'buses', _of(BUS)),
    Group('bicycle', 'bicycles', _of(BICYCLE)),
    Group('motorcycle', 'motorcycles', _of(MOTORCYCLE)),
    Group('trailer', 'trailers', _of(TRAILER)),
    Group('traffic cone', 'traffic cones', _of(TRAFFIC_CONE)),
    Group('construction vehicle', 'construction vehicles', _of(CONSTRUCTION_VEHICLE)),
    Group('bicycle or motorcycle', 'bicycles and motorcycles', _of(BICYCLE, MOTORCYCLE)),
    Group('car, truck or bus', 'cars, trucks and buses', _of(CAR, TRUCK, BUS)),
    Group('parked car', 'parked cars', _of_state('parked', CAR)),
    Group('moving car', 'moving cars', _of_state('moving', CAR)),
    Group('walking pedestrian', 'walking pedestrians', _of_state('moving', PEDESTRIAN)),
    Group('standing pedestrian', 'standing pedestrians', _of_state('standing', PEDESTRIAN)),
)


def count_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Visible objects of a group, all around within a range or in one sector within 25 m."""
    drafts = []
    regions: list[tuple[str, list[int] | None]] = [(within(range_m), view.within(range_m)) for range_m in RANGES_M]
    for name in SECTORS:
        words = DIRECTIONS[name]
        regions.append((f'{words[rng.integers(len(words))]} {within(RANGE_M)}', view.within(RANGE_M, name)))
    for region, inside in regions:
        if inside is None:
            continue
        for group in GROUPS:
            held = [group.holds(view[index]) for index in inside]
            number = sum(value is True for value in held)
            if None in held or number > GREATEST:
                continue
            answer = f'{number} {group.one if number == 1 else group.many}.'
            slots = {'things': group.many, 'region': region, 'Region': region[:1].upper() + region[1:]}
            drafts.append(Draft('count', str(number), answer, slots))
    return drafts

"""Distances: of one object, and of several compared."""

from __future__ import annotations

import itertools

import numpy as np

from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.refer import place_of, refer
from sparseoccvla_ros.world.questions.speech import DIRECTIONS, SECTORS, listing, metres, sentence
from sparseoccvla_ros.world.questions.view import COMPARE_M, RANGE_M, View

#: Keys of distances: the upper borders of the bins.
BINS_M = (6.0, 9.0, 12.0, 15.0, 18.0, 21.0, RANGE_M + 0.1)
ORDERED = 3
#: Of two objects, less than this across counts as in line; between this and ``COMPARE_M`` nothing is asked.
LEVEL_M = 0.7
ORDINALS = ('first', 'second', 'third')

WORDINGS = {
    'distance': (
        'How far {away is $object|is $object from you|is $object from the ego car|is it to $object}?',
        'At {what|which} distance {is $object|do you see $object|does one find $object}?',
        'What is the distance {to|of|between you and} $object {in metres|}?',
        'How many metres {away is $object|is $object from you|is it to $object|are there between you and $object}?',
        '{Estimate|Please estimate|Tell me|Give} the distance {to|of} $object.',
        '{Tell me|Please tell me|Say} how far away $object is.',
        'How {close is $object|near is $object|close to you is $object} in metres?',
        'What {distance|range} does $object have {from you|from the ego car|}?',
        'How many metres separate {you|the ego car} {from|and} $object?',
        'What distance is there {to|between {you|the ego car} and} $object?',
        '{Measure|Judge|Please judge} how far {off|away} $object is.',
    ),
    'nearest': (
        'Which visible object {is|lies} {nearest|closest} to {you|the ego car}$region?',
        'What is the {nearest|closest} {visible object|object in sight}$region?',
        '{Name|Tell me|Give} the {visible object|object in sight} that is {nearest|closest} to you$region.',
        'Of {all visible objects|everything in sight}, what is {nearest|closest} to {you|the ego car}$region?',
        'Who or what is {nearest|closest} to {you|the ego car}$region?',
        'What {object|visible object} do you {find|see} {nearest|closest} to {you|the ego car}$region?',
        'Which {visible object|object in sight} has the {least|shortest} distance {to|from} {you|the ego car}$region?',
        '{Identify|Please identify} the {nearest|closest} visible object$region.',
        'Going by distance{ alone|}, which {visible object|object in sight} would you {reach|name} first$region?',
        '{Sort the visible objects by distance|Look at the distances}: what is {nearest|closest}$region?',
    ),
    'order': (
        '{Sort|Order|Please sort|Please order} by distance, nearest first: $list.',
        'In {what|which} order of distance{, nearest first,|} do you see $list?',
        'Which is nearest, {which comes next|which is second} and which is farthest: $list?',
        'From near to far, {what is the order of|how do you sort|how would you order|how do you line up} $list?',
        '{Rank|Please rank} $list by {their distance|distance}, {the nearest first|beginning with the nearest}.',
        '{Compare|Please compare} the distances of $list{, nearest first|}.',
        'What is the {order|ranking|sequence} of $list from {the nearest to the farthest|near to far}?',
        '{Put|Please put|Arrange|Please arrange} $list in {order of distance|order from near to far}.',
        'How do $list {rank|compare} in distance{, from near to far|, the nearest first}?',
        'Beginning with the nearest, {list|name} these {by|in order of} distance: $list.',
    ),
    'relative': (
        'Where is $object {relative to|in relation to|as seen from} $other{, in your axes|, in the ego frame}?',
        'Seen along your driving direction, where is $object relative to $other?',
        'How is $object placed {relative to|with respect to} $other {in the ego frame|in your axes}?',
        '{Describe|Please describe|Give} the position of $object relative to $other {in the ego frame|in your axes}.',
        'In the ego frame, how far {ahead and to which side|forward and sideways} of $other is $object?',
        '{Compare|Please compare} the position of $object with {that|the position} of $other in the ego frame.',
        'In {your axes|the ego frame}, how do you get from $other to $object?',
        '{Starting|Going} from $other, where is $object in {the ego frame|your axes}?',
        'What is the {offset|displacement} from $other to $object {in the ego frame|in your axes}{, in metres|}?',
        'Take $other as the {origin|starting point}: where is $object in {the ego frame|your axes}?',
        'By how much {forward or back|ahead or behind} and {left or right|to which side} of $other is $object, in your '
        'axes?',
    ),
}


def distance_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """How far an object is, to its middle."""
    drafts = []
    for index in view.visible:
        phrase = refer(view, index, rng, without=('distance', 'position'))
        if phrase is None:
            continue
        distance_m = view[index].distance_m
        key = next(f'below {border:.0f}' for border in BINS_M if distance_m < border)
        answer = f'{sentence(phrase)} is {metres(distance_m)} away.'
        drafts.append(Draft('distance', key, answer, {'object': phrase}, ((phrase, index),)))
    return drafts


def nearest_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """What is nearest, all around or in one sector."""
    drafts = []
    for name in (None, *SECTORS):
        first = view.nearest(name)
        if first is None:
            continue
        region = ''
        if name is not None:
            region = f' among those {DIRECTIONS[name][rng.integers(len(DIRECTIONS[name]))]}'
        phrase = place_of(view, first)
        answer = f'{sentence(phrase)}, {metres(view.distance_m[first])} away.'
        drafts.append(Draft('nearest', view.word[first], answer, {'region': region}, ((phrase, first),)))
    return drafts


def order_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Three objects sorted by distance; the question names them in a random order."""
    phrases = {index: refer(view, index, rng, without=('distance', 'position', 'nearest')) for index in view.visible}
    named = [index for index in view.visible if phrases[index] is not None]
    groups = [
        group
        for group in itertools.combinations(named, ORDERED)
        if all(view.distance_m[b] - view.distance_m[a] > COMPARE_M for a, b in itertools.pairwise(group))
    ]
    drafts = []
    for number in rng.permutation(len(groups))[:2]:
        group = groups[number]
        asked = [group[place] for place in rng.permutation(ORDERED)]
        slots = {'list': listing([str(phrases[index]) for index in asked])}
        answer = sentence(', then '.join(f'{phrases[index]}' for index in group)) + '.'
        key = ' '.join(ORDINALS[asked.index(index)] for index in group)
        drafts.append(Draft('order', key, answer, slots, tuple((str(phrases[index]), index) for index in group)))
    return drafts


def relative_drafts(view: View, rng: np.random.Generator) -> list[Draft]:
    """Where one object is from another, along the axes of the ego."""
    phrases = {index: refer(view, index, rng, without=('sector', 'distance', 'position')) for index in view.visible}
    named = [index for index in view.visible if phrases[index] is not None]
    drafts = []
    for index, other in itertools.permutations(named, 2):
        forward_m, left_m = view[index].position_m - view[other].position_m
        along = _side(forward_m, 'farther forward', 'farther back', 'level')
        across = _side(left_m, 'farther left', 'farther right', 'in line')
        if along is None or across is None or (along == 'level' and across == 'in line'):
            continue
        steps = [
            f'{metres(abs(value))} {word}'
            for value, word in ((forward_m, along), (left_m, across))
            if word not in ('level', 'in line')
        ]
        answer = f'{sentence(str(phrases[index]))} is {listing(steps)}.'
        mentions = ((str(phrases[index]), index), (str(phrases[other]), other))
        slots = {'object': str(phrases[index]), 'other': str(phrases[other])}
        drafts.append(Draft('relative', f'{along}, {across}', answer, slots, mentions))
    return drafts


def _side(value_m: float, positive: str, negative: str, level: str) -> str | None:
    if abs(value_m) < LEVEL_M:
        return level
    if abs(value_m) <= COMPARE_M:
        return None
    return positive if value_m > 0.0 else negative

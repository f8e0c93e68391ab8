"""Distances: of one object, and of several compared."""

from __future__ import annotations

import itertools

import numpy as np

from sparseoccvla_ros.world.questions.pair import Draft
from sparseoccvla_ros.world.questions.refer import place_of, refer
from sparseoccvla_ros.world.questions.speech import DIRECTIONS, SECTORS, listing, metres, off, sentence
from sparseoccvla_ros.world.questions.view import COMPARE_M, RANGE_M, View

#: Keys of distances: the upper borders of the bins.
BINS_M = (6.0, 9.0, 12.0, 15.0, 18.0, 21.0, RANGE_M + 0.1)
ORDERED = 3
#: Of two objects, less than this across counts as in line; between this and ``COMPARE_M`` nothing is asked.
LEVEL_M = 0.7
#: What counts: poles, trees and walls are nearer at times.
KIND_OF_THING, KINDS_OF_THINGS = 'road user or movable object', 'road users and movable objects'
ORDINALS = ('first', 'second', 'third')

WORDINGS = {
    'distance': (
        'How far {is|away is} the middle of $object from {your|the} rear axle?',
        'At {what|which} distance from {your|the} rear axle {is|lies|do you see} the middle of $object?',
        'What is the distance {from your rear axle to|between your rear axle and} the middle of $object{, in metres|}?',
        'How many metres {is it|are there} from {your|the} rear axle to the middle of $object?',
        '{Estimate|Please estimate|Tell me|Give} the distance {from your rear axle to|between your rear axle and} the '
        'middle of $object.',
        '{Tell me|Please tell me|Say} how far the middle of $object is from {your|the} rear axle.',
        'How {close|near} {is the middle of $object to|does the middle of $object come to} your rear axle, in metres?',
        'Measured from {your|the} rear axle, {how far away is|at what distance is} the middle of $object?',
        'How many metres separate {your|the} rear axle {from|and} the middle of $object?',
        "What distance {is there|lies} between {your|the|the ego car's} rear axle and the middle of $object?",
        '{Measure|Judge|Please judge} how far {off|away} the middle of $object is from {your|the} rear axle.',
    ),
    'nearest': (
        'Which visible $thing {is|lies} {nearest|closest} to {your|the} rear axle, measured to its middle$region?',
        'What is the $thing in sight whose middle is {nearest|closest} to {your|the} rear axle$region?',
        '{Name|Tell me|Give} the {visible $thing|$thing in sight} whose middle is {nearest|closest} to your rear '
        'axle$region.',
        'Of all {visible $things|$things in sight}, whose middle is {nearest|closest} to {your|the} rear axle$region?',
        'Which $thing has its middle {nearest|closest} to {your|the} rear axle$region?',
        'What $thing do you {find|see} with its middle {nearest|closest} to {your|the} rear axle$region?',
        'Which {visible $thing|$thing in sight} has the {least|shortest} distance from its middle to {your|the} rear '
        'axle$region?',
        '{Identify|Please identify} the visible $thing whose middle is {nearest|closest} to {your|the} rear '
        'axle$region.',
        'Going by the distance {from your rear axle to their middles|of their middles from your rear axle}, which '
        '{visible $thing|$thing in sight} comes first$region?',
        '{Sort the visible $things by|Look at} the distance of their middles from your rear axle: which is '
        '{nearest|closest}$region?',
    ),
    'order': (
        '{Sort|Order|Please sort|Please order} by the distance of their middles from your rear axle, nearest first: '
        '$list.',
        'In {what|which} order of distance from your rear axle{, nearest first,|} are the middles of $list?',
        'Whose middle is nearest to your rear axle, {whose comes next|whose is second} and whose is farthest: $list?',
        'From near to far{ from your rear axle|, seen from your rear axle}, {what is the order of|how do you sort|how '
        'would you order} the middles of $list?',
        '{Rank|Please rank} $list by the distance of their middles from your rear axle, {the nearest first|beginning '
        'with the nearest}.',
        '{Compare|Please compare} the distances of the middles of $list from {your|the} rear axle{, nearest first|}.',
        'What is the {order|ranking|sequence} of the middles of $list by distance from {your|the} rear axle?',
        '{Put|Please put|Arrange|Please arrange} $list in {order of|the order of} the distance of their middles from '
        '{your|the} rear axle.',
        'How do the middles of $list {rank|compare} in distance from {your|the} rear axle, {from near to far|the '
        'nearest first}?',
        'Beginning with the nearest to your rear axle, {list|name} these {by|in order of} the distance of their '
        'middles: $list.',
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
    """How far an object is: from the rear axle to its middle."""
    drafts = []
    for index in view.visible:
        phrase = refer(view, index, rng, without=('distance', 'position'))
        if phrase is None:
            continue
        distance_m = view[index].distance_m
        key = next(f'below {border:.0f}' for border in BINS_M if distance_m < border)
        answer = f'The middle of {phrase} is {off(distance_m)}.'
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
        slots = {'thing': KIND_OF_THING, 'things': KINDS_OF_THINGS, 'region': region}
        answer = f'{sentence(phrase)}, {off(view.distance_m[first])}.'
        drafts.append(Draft('nearest', view.word[first], answer, slots, ((phrase, first),)))
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

"""Properties of all candidates of random keyframes, checked against the facts by other means than they were made by."""

import re
from collections import Counter

import numpy as np
import pytest

from sparseoccvla_ros.world.bodies.thing import BUS, CAR, PEDESTRIAN
from sparseoccvla_ros.world.labels.facts import FUTURE_S, KeyframeFacts, SeenObject
from sparseoccvla_ros.world.questions.generate import KINDS, PER_KIND, candidates, split_of
from sparseoccvla_ros.world.questions.pair import Pair

SCENES = 30
POINT = re.compile(r'\((-?\d+\.\d), (-?\d+\.\d)\)')


@pytest.fixture(scope='module')
def asked(random_scene) -> list[tuple[KeyframeFacts, Pair]]:
    """All candidates of some scenes, with the facts they are about."""
    found = []
    for index in range(SCENES):
        facts = random_scene(5, index)
        found += [(facts[pair.keyframe], pair) for pair in candidates(facts, index, seed=11)]
    return found


def of_kind(asked, kind: str) -> list[tuple[KeyframeFacts, Pair]]:
    found = [(facts, pair) for facts, pair in asked if pair.kind == kind]
    assert len(found) > 20, kind
    return found


def distance_m(item: SeenObject) -> float:
    return float(np.linalg.norm(item.position_m))


def is_visible(item: SeenObject, range_m: float = 25.0) -> bool:
    return max(item.visible_px.values()) >= 10 and distance_m(item) <= range_m


def points_in(text: str) -> np.ndarray:
    return np.array([[float(x), float(y)] for x, y in POINT.findall(text)]).reshape(-1, 2)


def test_every_kind_is_asked(asked):
    assert {pair.kind for _, pair in asked} == set(KINDS)


def test_sentences(asked):
    for _, pair in asked:
        for text in (pair.question, pair.answer):
            assert text[0].isupper() or text[0].isdigit() or text[0] == '[', text
            assert text[-1] in '.?', text
            assert not re.search(r'\$|  | [?.,]|-0\.0\b|\d\.\d\d', text), text
            assert not re.search(r'\ba [aeio]|\ban [^aeio]', text.lower()), text


def test_only_what_is_visible_is_mentioned(asked):
    mentions = [(facts, pair, index) for facts, pair in asked for _, index in pair.mentions]
    assert len(mentions) > 1000
    for facts, pair, index in mentions:
        if index >= 0:
            assert is_visible(facts.objects[index]), pair
        else:
            assert max(facts.signals[-1 - index].visible_px.values()) >= 10, pair


def test_phrases_stand_in_the_text_and_fit_one_object(asked):
    for facts, pair in asked:
        for phrase, index in pair.mentions:
            assert phrase in pair.question or phrase.lower() in pair.answer.lower(), pair
            if index < 0:
                continue
            item = facts.objects[index]
            same = [
                other
                for other in facts.objects
                if other.label == item.label and max(other.visible_px.values()) >= 4 and other is not item
            ]
            colour = next((word for word in phrase.split() if word == item.paint), None)
            if colour:
                assert not [
                    other
                    for other in same
                    if other.paint == colour and np.allclose(other.position_m, item.position_m, atol=0.01)
                ]
            if phrase.split()[0:2] in (['the', 'nearest'], ['the', 'closest']):
                assert all(distance_m(other) > distance_m(item) + 1.4 for other in same), pair
            away = re.search(r'(\d+\.\d) m from your rear axle$', phrase)
            if away:
                assert abs(float(away[1]) - distance_m(item)) < 0.051
                assert all(abs(distance_m(other) - distance_m(item)) > 1.4 for other in same), pair
            if phrase in ('the car', 'the bus', 'the pedestrian', 'the truck', f'the {item.paint} car'):
                alike = [other for other in same if phrase.count(' ') == 1 or other.paint == item.paint]
                assert not alike, pair


def test_positions(asked):
    for facts, pair in of_kind(asked, 'locate'):
        item = facts.objects[pair.mentions[0][1]]
        assert np.abs(points_in(pair.answer)[-1] - item.position_m).max() < 0.0501
    for facts, pair in of_kind(asked, 'identify'):
        point = points_in(pair.question)[0]
        shown = [item for item in facts.objects if max(item.visible_px.values()) >= 4]
        near = [item for item in shown if np.linalg.norm(item.position_m - point) < 1.9]
        assert len(near) == 1, pair
        names = {CAR: 'car', BUS: 'bus', PEDESTRIAN: 'pedestrian'}
        assert names.get(near[0].label, '') in pair.answer
        assert pair.answer.count('parked') == (near[0].attribute in ('vehicle.parked', 'cycle.without_rider'))
    for facts, pair in of_kind(asked, 'distance'):
        item = facts.objects[pair.mentions[0][1]]
        assert abs(float(re.search(r'([\d.]+) m from your rear axle\.$', pair.answer)[1]) - distance_m(item)) < 0.051
    for facts, pair in of_kind(asked, 'future'):
        item = facts.objects[pair.mentions[0][1]]
        step = FUTURE_S.index(float(re.search(r'\b([123]) s\b', pair.question)[1]))
        assert np.abs(points_in(pair.answer)[-1] - item.future_m[step]).max() < 0.0501


def test_counts(asked):
    labels = {'cars': CAR, 'pedestrians': PEDESTRIAN, 'buses': BUS}
    values, compared = Counter(), 0
    for facts, pair in of_kind(asked, 'count'):
        number, things = int(pair.answer.split()[0]), ' '.join(pair.answer.rstrip('.').split()[1:])
        values[number] += 1
        assert pair.key == str(number)
        directed = re.search(r'left|right|ahead|front|behind|rear (?!axle)|back', pair.question)
        if things in labels and not directed:
            range_m = float(re.search(r'ithin (\d+) m', pair.question)[1])
            inside = [item for item in facts.objects if is_visible(item, range_m)]
            assert number == sum(item.label == labels[things] for item in inside), pair
            compared += 1
    assert set(values) == {0, 1, 2, 3, 4}
    assert compared > 10


def test_orders(asked):
    for facts, pair in of_kind(asked, 'order'):
        distances = [distance_m(facts.objects[index]) for _, index in pair.mentions]
        assert np.diff(distances).min() > 1.5, pair
        places = [pair.answer.lower().index(phrase.lower()) for phrase, _ in pair.mentions]
        assert places == sorted(places), pair


def test_relative_steps(asked):
    signs = {'forward': (0, 1), 'back': (0, -1), 'left': (1, 1), 'right': (1, -1)}
    for facts, pair in of_kind(asked, 'relative'):
        (_, index), (_, other) = pair.mentions
        steps = facts.objects[index].position_m - facts.objects[other].position_m
        for length, word in re.findall(r'([\d.]+) m farther (\w+)', pair.answer):
            axis, sign = signs[word]
            assert abs(sign * steps[axis] - float(length)) < 0.051, pair
            assert abs(steps[axis]) > 1.5


def test_motion_has_margins(asked):
    for facts, pair in of_kind(asked, 'motion'):
        item = facts.objects[pair.mentions[0][1]]
        speed_mps = np.linalg.norm(item.velocity_mps)
        still = pair.answer.endswith(('standing.', 'parked.'))
        assert speed_mps < 0.1 if still else speed_mps > 0.5, pair
        if 'opposite direction' in pair.answer:
            assert item.velocity_mps[0] < 0.0
        if 'in your direction' in pair.answer:
            assert item.velocity_mps[0] > 0.0
        if 'from right to left' in pair.answer:
            assert item.velocity_mps[1] > 0.0


def test_crossing_changes_the_side(asked):
    found = Counter()
    assert {pair.key.split(',')[0] for _, pair in of_kind(asked, 'path')} == {'yes', 'no'}
    for facts, pair in of_kind(asked, 'path'):
        item = facts.objects[pair.mentions[0][1]]
        straight = np.abs(facts.ego.future_m[:, 1]).max() < 0.1
        if 'cross your path' in pair.answer and straight:
            sides = np.sign([item.position_m[1], item.future_m[-1, 1]])
            assert list(sides) == ([1.0, -1.0] if 'left to right' in pair.answer else [-1.0, 1.0]), pair
            found['crosses'] += 1
        if 'stay to the left' in pair.answer and straight:
            assert item.future_m[:, 1].min() > 2.0
            found['left'] += 1
    assert found['left'] >= 3


def test_plans_do_not_contradict_their_reasons(asked):
    for facts, pair in of_kind(asked, 'plan'):
        if 'is red' in pair.answer or 'is amber' in pair.answer:
            assert pair.answer.startswith(('Keep standing', 'Slow down', 'Brake to a stop')), pair
        if pair.answer.startswith('Brake to a stop'):
            assert facts.ego.future_speed_mps[-1] < 0.2 < facts.ego.speed_mps


def test_at_most_a_few_of_a_kind_for_each_keyframe(asked):
    counts = Counter((pair.sample_token, pair.kind) for _, pair in asked)
    assert max(counts.values()) <= PER_KIND


def test_splits():
    assert [split_of(index) for index in range(6)] == ['train', 'train', 'train', 'train', 'val', 'train']


def test_candidates_are_a_function_of_seed_and_scene(random_scene):
    facts = random_scene(5, 4)
    first = candidates(facts, 4, seed=11)
    assert first == candidates(facts, 4, seed=11)
    assert first != candidates(facts, 4, seed=12)
    assert [Pair.from_json(pair.to_json()) for pair in first] == first

"""Queries are read: what is where, and the nearest of which class; on scenes of few queries and on whole ones."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from small_language import SMALL

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.training import reading_loss as module
from sparseoccvla_ros.training.answer_loss import answer_loss
from sparseoccvla_ros.training.question_batch import question_batch, tokenize_pair
from sparseoccvla_ros.training.reading_loss import (
    ReadingConfig,
    draw_pair,
    draw_pairs,
    draw_sets,
    reading_loss,
    said,
)
from sparseoccvla_ros.world.questions.speech import off, place

NAMES = ('car', 'bus', 'driveable surface')


@pytest.fixture
def language():
    return build_language(load_model_config('tiny', SMALL), weights=None, seed=0)


@pytest.fixture
def queries():
    """Features, positions and classes of two keyframes' queries: one car each among much driveable surface."""
    generator = torch.Generator().manual_seed(1)
    positions_m = 40.0 * (2.0 * torch.rand(2, 12, 3, generator=generator) - 1.0)
    classes = torch.full((2, 12), 2)
    classes[0, 3] = classes[1, 7] = 0
    return torch.randn(2, 12, 32, generator=generator), positions_m, classes


def sights_of(positions_m, classes, points=5):
    """Each query sees its class alone, at its position."""
    counts = points * torch.nn.functional.one_hot(classes, len(NAMES))
    return counts, positions_m[:, :, None] * (counts > 0)[..., None]


def test_positions_have_the_form_of_the_worlds():
    rng = np.random.default_rng(0)
    for position_m in [*rng.uniform(-40.0, 40.0, (200, 2)), *rng.uniform(-0.06, 0.06, (50, 2))]:
        assert said(*position_m.tolist()) == place(position_m)


def test_every_answer_is_true(queries):
    """Judged from the question's words alone, by looking at all queries."""
    _, positions_m, classes = (tensor[0] for tensor in queries)
    places = [said(*position_m[:2].tolist()) for position_m in positions_m]
    things = [NAMES[label] for label in classes]
    away_m = [float(np.hypot(x_m, y_m)) for x_m, y_m, _ in positions_m.tolist()]
    wanted = {'where': Counter(), 'what': Counter(), 'far': Counter()}
    torch.manual_seed(0)
    for _ in range(400):
        question, answer = draw_pair(positions_m, classes, torch.ones(12, dtype=torch.bool), NAMES)
        if thing := re.fullmatch(r'Where is the nearest (.*)\?', question):
            nearest = min((d, i) for i, d in enumerate(away_m) if things[i] == thing[1])[1]
            assert answer == f'The nearest {thing[1]} is at {places[nearest]}.'
            wanted['where'][thing[1]] += 1
        elif thing := re.fullmatch(r'How far is the nearest (.*)\?', question):
            nearest_m = min(d for i, d in enumerate(away_m) if things[i] == thing[1])
            assert answer == f'The nearest {thing[1]} is {off(nearest_m)}.'
            wanted['far'][thing[1]] += 1
        else:
            true = things[places.index(re.fullmatch(r'What is at (.*)\?', question)[1])]
            assert answer == f'A {true}.'
            wanted['what'][true] += 1
    # of all kinds, and of the one car as often as of the eleven pieces of road
    for kind in ('what', 'far'):
        assert wanted[kind].total() == pytest.approx(0.25 * 400, abs=30)
    for counts in wanted.values():
        assert counts['car'] / counts.total() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(('size', 'taken', 'with_car'), [(1, 1, 0.5), (4, 4, 0.8), (12, 12, 1.0), (40, 12, 1.0)])
def test_rare_classes_are_in_few_queries_too(queries, size, taken, with_car):
    """The car is half of all weight: one draw has it with 1/2, four with more than 1/2 and less than 1."""
    classes = queries[2]
    torch.manual_seed(0)
    keyframe, chosen = draw_sets(torch.nn.functional.one_hot(classes, 3) > 0, 1000, size)
    assert chosen.shape == (1000, taken)
    assert all(len(set(row)) == taken for row in chosen.tolist())
    found = (classes[keyframe[:, None], chosen] == 0).any(dim=1).float().mean().item()
    assert found == pytest.approx(with_car, abs=0.2 if size == 4 else 0.05)
    assert sorted(keyframe.unique().tolist()) == [0, 1]


def test_queries_that_see_nothing_are_taken_last():
    sees = torch.zeros(1, 12, 3, dtype=torch.bool)
    sees[0, 4, 0] = sees[0, 9, 2] = True
    chosen = draw_sets(sees, 50, 3)[1]
    assert all({4, 9} < set(row) for row in chosen.tolist())


def test_a_query_is_asked_for_every_class_it_sees_and_by_place_for_the_commonest():
    places_m = torch.zeros(2, 3, 3)
    places_m[0, 0], places_m[0, 2] = torch.tensor([5.0, 1.0, 0.0]), torch.tensor([5.2, 1.0, 0.0])
    counts = torch.tensor([[7, 0, 3], [0, 0, 0]])
    torch.manual_seed(0)
    asked = dict(draw_pairs(places_m, counts, NAMES, 60))
    assert asked == {
        'Where is the nearest car?': 'The nearest car is at (5.0, 1.0).',
        'How far is the nearest car?': 'The nearest car is 5.1 m from your rear axle.',
        'How far is the nearest driveable surface?': 'The nearest driveable surface is 5.3 m from your rear axle.',
        'Where is the nearest driveable surface?': 'The nearest driveable surface is at (5.2, 1.0).',
        'What is at (5.0, 1.0)?': 'A car.',
    }
    assert draw_pairs(places_m[1:], counts[1:], NAMES, 4) == []


def test_where_nothing_is_seen_nothing_is_asked(language, queries):
    features, positions_m, classes = queries
    prefix = language.read_scene(language.scene_prompt(features, positions_m))[1]
    config = ReadingConfig(sets=3, sizes=(5,), questions=2, least_points=6)
    loss, count = reading_loss(language, prefix, features, positions_m, sights_of(positions_m, classes), NAMES, config)
    assert (loss.item(), count) == (0.0, 0)
    loss.backward()


def test_a_half_in_which_nothing_is_asked_does_not_count(language, queries):
    """Only the second keyframe sees anything; a set of the first has no questions of its own."""
    features, positions_m, classes = queries
    counts, places_m = sights_of(positions_m, classes)
    counts[0] = 0
    prefix = language.read_scene(language.scene_prompt(features, positions_m))[1]
    config = ReadingConfig(sets=1, sizes=(12,), questions=2)
    found = set()
    for seed in range(8):
        torch.manual_seed(seed)
        loss, count = reading_loss(language, prefix, features, positions_m, (counts, places_m), NAMES, config)
        found.add(count)
        assert loss.item() == pytest.approx(math.log(1536), rel=0.1)  # of an untrained model, not half of it
    assert found == {2, 4}


def test_few_queries_are_read_as_a_scene_of_their_own_and_the_whole_one_as_it_is(language, queries, monkeypatch):
    features, positions_m, classes = queries
    sights = sights_of(positions_m, classes)
    asked = []
    monkeypatch.setattr(module, 'draw_pair', lambda *a: asked.append((a[0], draw_pair(*a))) or asked[-1][1])
    prefix = language.read_scene(language.scene_prompt(features, positions_m))[1]
    torch.manual_seed(4)
    config = ReadingConfig(sets=3, sizes=(5,), questions=2)
    loss, count = reading_loss(language, prefix, features, positions_m, sights, NAMES, config)
    assert count == len(asked) == (3 + 2) * 2
    means = []
    for part in (asked[:6], asked[6:]):
        total, tokens = 0.0, 0
        for places_m, pair in part:
            # whose queries these are is told by where they are
            ((keyframe, index),) = [
                (b, found) for b in range(2)
                if len(found := [int((positions_m[b] == p).all(dim=1).nonzero()[0]) for p in places_m
                                 if (positions_m[b] == p).all(dim=1).any()]) == len(places_m)
            ]  # fmt: skip
            few = language.scene_prompt(features[keyframe, index][None], positions_m[keyframe, index][None])
            rows = question_batch([[tokenize_pair(language, *pair)]], language.tokenizer.pad_token_id)
            number = int(rows.is_answer.sum())
            total += answer_loss(language, language.read_scene(few)[1], rows).item() * number
            tokens += number
        means.append(total / tokens)
    assert len(asked[0][0]) == 5
    assert len(asked[-1][0]) == 12
    assert loss.item() == pytest.approx(sum(means) / 2, abs=1e-4)


def test_the_way_from_position_to_digits_is_learnt(language):
    """A scene of one query whose features say nothing: only the position encoding tells the four apart."""
    positions_m = torch.tensor([[[-12.34, 5.0, 0.3]], [[0.02, -38.0, 0.0]], [[7.5, 7.5, 1.0]], [[31.0, -0.04, 2.0]]])
    features = torch.ones(4, 1, 32)
    config = ReadingConfig(sets=4, sizes=(1,), questions=1)

    def practise(places_m, told_m):
        prefix = language.read_scene(language.scene_prompt(features, places_m))[1]
        pairs = [[('Where is it?', said(*position_m[0, :2].tolist()))] for position_m in told_m]
        rows = [[tokenize_pair(language, *pair) for pair in row] for row in pairs]
        told = answer_loss(language, prefix, question_batch(rows, language.tokenizer.pad_token_id))
        sights = sights_of(places_m, torch.zeros(4, 1, dtype=torch.int64))
        return told, reading_loss(language, prefix, features, places_m, sights, NAMES, config)[0]

    optimizer = torch.optim.AdamW(language.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(120):
        told, practised = practise(positions_m, positions_m)
        optimizer.zero_grad()
        (told + practised).backward()
        optimizer.step()
    assert told < 0.1
    assert practised < 0.2
    with torch.no_grad():
        assert practise(positions_m.flip(0), positions_m)[0] > 4 * told


@pytest.mark.parametrize(('sets', 'sizes', 'questions'), [(0, (1,), 1), (8, (), 1), (8, (0, 2), 1), (8, (1,), 0)])
def test_impossible_practice_is_refused(sets, sizes, questions):
    with pytest.raises(ValueError, match='of 1 or more'):
        ReadingConfig(sets, sizes, questions)
    with pytest.raises(ValueError, match='of 1 or more, got 16, 4, 0'):
        ReadingConfig(least_points=0)


def test_an_impossible_threshold_of_what_is_seen_is_refused():
    with pytest.raises(ValueError, match=r'score_threshold of reading must be in 0\.\.1, got 1\.5'):
        ReadingConfig(score_threshold=1.5)

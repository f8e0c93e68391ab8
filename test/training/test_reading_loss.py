"""Sets of occupancy tokens are read: what is where, and the nearest of which class."""

import re
from collections import Counter

import numpy as np
import pytest
import torch

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import ScenePrompt
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.training import reading_loss as module
from sparseoccvla_ros.training.reading_loss import (
    WHERE_ALONE,
    Practice,
    ReadingConfig,
    draw_practice,
    practice_loss,
    reading_loss,
    said,
)
from sparseoccvla_ros.world.questions.speech import place

SMALL = {
    'encoder.queries': 12,
    'encoder.width': 32,
    'language.width': 64,
    'language.ffn_width': 96,
    'language.layers': 2,
    'language.context_length': 128,
}
NAMES = ('car', 'bus', 'driveable surface')


@pytest.fixture
def language():
    return build_language(load_model_config('tiny', SMALL), weights=None, seed=0)


@pytest.fixture
def seen():
    """Positions and classes of two keyframes' queries: one car each among much driveable surface."""
    generator = torch.Generator().manual_seed(1)
    positions_m = 40.0 * (2.0 * torch.rand(2, 12, 3, generator=generator) - 1.0)
    classes = torch.full((2, 12), 2)
    classes[0, 3] = classes[1, 7] = 0
    return positions_m, classes


@pytest.mark.parametrize(
    ('position_m', 'text'),
    [((1.26, -14.949), '(1.3, -14.9)'), ((-0.04, 0.04), '(0.0, 0.0)'), ((-0.06, 40.0), '(-0.1, 40.0)')],
)
def test_positions_are_said_as_in_answers(position_m, text):
    assert said(*position_m) == text


def test_positions_have_the_form_of_the_worlds():
    rng = np.random.default_rng(0)
    for position_m in [*rng.uniform(-40.0, 40.0, (200, 2)), *rng.uniform(-0.06, 0.06, (50, 2))]:
        assert said(*position_m.tolist()) == place(position_m)


@pytest.mark.parametrize('size', [1, 2, 5, 12, 40])
def test_every_answer_is_true_of_its_set(seen, size):
    """Judged from the question's words alone, by looking at all tokens of the set."""
    positions_m, classes = seen
    torch.manual_seed(size)
    practice = draw_practice(positions_m, classes, NAMES, 200, size)
    assert practice.queries.shape == (200, min(size, 12))
    wanted = {'where': Counter(), 'what': Counter()}
    for keyframe, queries, (question, answer) in zip(practice.keyframe, practice.queries, practice.pairs, strict=True):
        assert len(set(queries.tolist())) == len(queries)
        places = [said(*positions_m[keyframe, query, :2].tolist()) for query in queries]
        things = [NAMES[classes[keyframe, query]] for query in queries]
        away_m = [float(positions_m[keyframe, query, :2].norm()) for query in queries]
        if question == 'Where is it?':
            assert answer == f'It is at {places[0]}.'
            wanted['where'][things[0]] += 1
        elif thing := re.fullmatch(r'Where is the nearest (.*)\?', question):
            nearest = min((d, i) for i, d in enumerate(away_m) if things[i] == thing[1])[1]
            assert answer == f'The nearest {thing[1]} is at {places[nearest]}.'
            wanted['where'][thing[1]] += 1
        else:
            asked = re.fullmatch(r'What is (?:it|at (.*))\?', question)[1]
            true = things[places.index(asked) if asked else 0]
            assert (asked is None) == (size == 1)
            assert answer == f'A {true}.'
            wanted['what'][true] += 1
    # of both kinds, and of the one car as often as of the eleven tokens of road, where both are in the set
    assert sum(wanted['what'].values()) == pytest.approx(0.25 * 200, abs=20)
    for counts in wanted.values():
        assert counts['car'] / counts.total() == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize('attention', ['causal', 'bidirectional'])
def test_each_set_is_read_alone(seen, attention):
    """The mean is that of one prompt at a time: the tokens, the question as it is asked on the car, the answer."""
    changed = SMALL | {'language.prefix_attention': attention}
    language = build_language(load_model_config('tiny', changed), weights=None, seed=0)
    torch.manual_seed(2)
    practice = draw_practice(*seen, NAMES, 5, 3)
    tokens = language.connector(torch.randn(2, 12, 32), seen[0])[0]
    loss, count = practice_loss(language, tokens, practice)
    total, number = 0.0, 0
    for keyframe, queries, pair in zip(practice.keyframe, practice.queries, practice.pairs, strict=True):
        asked = language.question_tokens([(pair[0], None)])
        told = language.question_tokens([pair])
        text = language.embed_text(torch.tensor([told]))
        hidden, _ = language.read_scene(ScenePrompt(tokens[keyframe, queries][None], slice(0, 3), None), text)
        answer = torch.tensor(told[len(asked) :])
        logits = language.logits(hidden[0, 3 + len(asked) - 1 : -1])
        total += torch.nn.functional.cross_entropy(logits, answer, reduction='sum').item()
        number += len(answer)
    assert count == number
    assert loss.item() == pytest.approx(total / number, abs=1e-5)


def test_the_way_from_position_to_digits_is_learnt(language):
    """Four single tokens whose features are equal: only the position encoding can tell them apart."""
    positions_m = torch.tensor([[[-12.34, 5.0, 0.3], [0.02, -38.0, 0.0], [7.5, 7.5, 1.0], [31.0, -0.04, 2.0]]])
    features = torch.ones(1, 4, 32)
    pairs = tuple((WHERE_ALONE, f'{said(x_m, y_m)}.') for x_m, y_m, _ in positions_m[0].tolist())
    practice = Practice(torch.zeros(4, dtype=torch.int64), torch.arange(4)[:, None], pairs)
    optimizer = torch.optim.AdamW(language.parameters(), lr=3e-3)
    for _ in range(80):
        loss, _ = practice_loss(language, language.connector(features, positions_m)[0], practice)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    with torch.no_grad():
        elsewhere = language.connector(features, positions_m.flip(1))[0]
        assert practice_loss(language, elsewhere, practice)[0] > 4 * loss


def test_two_sizes_are_read_in_a_pass(language, seen, monkeypatch):
    tokens = language.connector(torch.randn(2, 12, 32), seen[0])[0]
    torch.manual_seed(0)
    drawn = []
    monkeypatch.setattr(module, 'draw_practice', lambda *a: drawn.append(draw_practice(*a)) or drawn[-1])
    loss, count = reading_loss(language, tokens, *seen, NAMES, ReadingConfig(sets=7, sizes=(2, 5)))
    assert [practice.queries.shape for practice in drawn] == [(3, 2), (4, 5)]
    parts = [practice_loss(language, tokens, practice) for practice in drawn]
    assert count == sum(number for _, number in parts)
    torch.testing.assert_close(loss, sum(value * number for value, number in parts) / count)


@pytest.mark.parametrize(('sets', 'sizes'), [(1, (1,)), (8, ()), (8, (0, 2))])
def test_impossible_practice_is_refused(sets, sizes):
    with pytest.raises(ValueError, match='reading needs 2 sets or more of 1 token or more'):
        ReadingConfig(sets=sets, sizes=sizes)

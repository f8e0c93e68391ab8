"""A single occupancy token is asked where it is."""

import pytest
import torch

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.training.position_loss import QUESTION, PositionLossConfig, position_loss, said

SMALL = {
    'encoder.queries': 12,
    'encoder.width': 32,
    'language.width': 64,
    'language.ffn_width': 96,
    'language.layers': 2,
    'language.context_length': 128,
}


@pytest.fixture
def language():
    return build_language(load_model_config('tiny', SMALL), weights=None, seed=0)


@pytest.fixture
def places():
    """Features and positions of queries that say nothing but where they are."""
    positions_m = torch.tensor([[[-12.34, 5.0, 0.3], [0.02, -38.0, 0.0], [7.5, 7.5, 1.0], [31.0, -0.04, 2.0]]])
    return torch.ones(1, 4, 32), positions_m


@pytest.mark.parametrize(
    ('position_m', 'text'),
    [((1.26, -14.949), '(1.3, -14.9).'), ((-0.04, 0.04), '(0.0, 0.0).'), ((-0.06, 40.0), '(-0.1, 40.0).')],
)
def test_positions_are_said_as_in_answers(position_m, text):
    assert said(*position_m) == text


def test_each_token_is_asked_alone(language, places):
    """The mean is that of one prompt at a time: the token, the question as it is asked on the car, the answer."""
    tokens = language.connector(*places)[0][0]
    loss, count = position_loss(language, tokens, places[1][0])
    total, number = 0.0, 0
    for token, (x_m, y_m, _) in zip(tokens, places[1][0].tolist(), strict=True):
        asked = language.question_tokens([(QUESTION, None)])
        told = language.question_tokens([(QUESTION, said(x_m, y_m))])
        text = language.embed_text(torch.tensor([told]))
        hidden, _ = language.forward_embeddings(torch.cat([token[None, None], text], dim=1), None)
        answer = torch.tensor(told[len(asked) :])
        logits = language.logits(hidden[0, len(asked) : -1])
        total += torch.nn.functional.cross_entropy(logits, answer, reduction='sum').item()
        number += len(answer)
    assert count == number
    assert loss.item() == pytest.approx(total / number, abs=1e-5)


def test_the_way_from_position_to_digits_is_learnt(language, places):
    """Features are equal, so that only the position encoding can tell the four apart."""
    optimizer = torch.optim.AdamW(language.parameters(), lr=3e-3)
    for _ in range(80):
        loss, _ = position_loss(language, language.connector(*places)[0][0], places[1][0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    with torch.no_grad():
        elsewhere = language.connector(places[0], places[1].flip(1))[0][0]
        assert position_loss(language, elsewhere, places[1][0])[0] > 4 * loss


def test_some_tokens_must_be_asked():
    with pytest.raises(ValueError, match='tokens_per_keyframe must be at least 1, got 0'):
        PositionLossConfig(tokens_per_keyframe=0)

"""A language model without pre-training learns to say where a single occupancy token is.

An answer with a position in it asks for two things at once: to find the token of the object, and to turn its position
into digits. Neither is of use without the other, so that for a long time neither is learnt. Here the second is
practised alone, on scenes of one token. No label is needed: the token's position is known.

Letters: n tokens, D language width, L tokens of text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.training.question_batch import question_batch, tokenize_pair

QUESTION = 'Where is it?'


@dataclass(frozen=True)
class PositionLossConfig:
    """How many of a keyframe's occupancy tokens are asked for their position in a step."""

    tokens_per_keyframe: int = 12

    def __post_init__(self) -> None:
        if self.tokens_per_keyframe < 1:
            raise ValueError(f'tokens_per_keyframe must be at least 1, got {self.tokens_per_keyframe}')


def said(x_m: float, y_m: float) -> str:
    """A position as the world's answers have it: metres in the ego frame, one decimal, no minus before zero."""
    x_m, y_m = (round(value, 1) + 0.0 for value in (x_m, y_m))
    return f'({x_m:.1f}, {y_m:.1f}).'


def position_loss(language: SceneLanguage, tokens: Tensor, positions_m: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token cross-entropy on positions, each behind its own token alone.

    Args:
        language: the model.
        tokens: occupancy tokens [n, D] as they stand in a prompt, of any scenes.
        positions_m: theirs [n, 3], metres, ego frame.

    Returns:
        the mean over all tokens of all answers, and their number.
    """
    pairs = [[tokenize_pair(language, QUESTION, said(x_m, y_m))] for x_m, y_m, _ in positions_m.tolist()]
    rows = question_batch(pairs, language.tokenizer.pad_token_id).to(tokens.device)
    text = language.embed_text(rows.token_ids)  # [n, L, D]
    hidden, _ = language.forward_embeddings(torch.cat([tokens[:, None].to(text.dtype), text], dim=1), None)
    # each place tells the next token: the row is one longer than its text
    logits = language.logits(hidden[:, :-1][rows.is_answer])
    return nn.functional.cross_entropy(logits, rows.token_ids[rows.is_answer]), rows.is_answer.sum()

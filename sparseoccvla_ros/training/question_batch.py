"""Questions with their answers as padded token rows, and which of these tokens are the answer.

Letters: B pairs, n tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseoccvla_ros.model.language import SceneLanguage


@dataclass(frozen=True)
class TokenizedPair:
    """Tokens behind the scene prefix: the question as it is asked on the car, then the answer with its end token."""

    tokens: tuple[int, ...]
    #: Number of tokens before the answer.
    question: int


@dataclass(frozen=True)
class QuestionBatch:
    """Rows [B, n], padded behind: causal attention keeps the padding from everything that counts."""

    #: int64.
    token_ids: Tensor
    #: Bool: tokens of the answer, the end token included.
    is_answer: Tensor


def tokenize_pair(language: SceneLanguage, question: str, answer: str) -> TokenizedPair:
    """A question and its reference answer, by the language model's own chat template.

    Raises:
        ValueError: the template puts other tokens before an answer than before a question that waits for one: the
            model would be trained on a prompt that it never gets.
    """
    asked = language.question_tokens([(question, None)])
    told = language.question_tokens([(question, answer)])
    if told[: len(asked)] != asked:
        raise ValueError(f'the chat template changes the prompt of {question!r} once it is answered')
    if len(told) == len(asked):
        raise ValueError(f'the answer to {question!r} has no tokens')
    return TokenizedPair(tuple(told), len(asked))


def question_batch(pairs: Sequence[TokenizedPair], pad_token: int) -> QuestionBatch:
    """Rows of equal length, on the CPU."""
    length = max(len(pair.tokens) for pair in pairs)
    token_ids = torch.full((len(pairs), length), pad_token)
    is_answer = torch.zeros(len(pairs), length, dtype=torch.bool)
    for row, pair in enumerate(pairs):
        token_ids[row, : len(pair.tokens)] = torch.tensor(pair.tokens)
        is_answer[row, pair.question : len(pair.tokens)] = True
    return QuestionBatch(token_ids, is_answer)

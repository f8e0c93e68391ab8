"""All questions about a scene, with their answers, packed into one row of tokens behind the scene's prefix.

Letters: S scenes, n tokens of the longest row.
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
    """Rows [S, n], padded behind; none of a row's questions sees the others or the padding."""

    #: int64.
    token_ids: Tensor
    #: Bool: tokens of an answer, the end token included.
    is_answer: Tensor
    #: int64: the number of the row's question that a token belongs to; -1: padding.
    question: Tensor

    def to(self, device: torch.device) -> QuestionBatch:
        """The same on another device."""
        return QuestionBatch(self.token_ids.to(device), self.is_answer.to(device), self.question.to(device))

    def scenes(self, order: Sequence[int]) -> QuestionBatch:
        """Rows in another order: questions about other scenes."""
        chosen = list(order)
        return QuestionBatch(self.token_ids[chosen], self.is_answer[chosen], self.question[chosen])


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


def question_batch(pairs: Sequence[Sequence[TokenizedPair]], pad_token: int) -> QuestionBatch:
    """Rows of equal length, on the CPU.

    Args:
        pairs: of each scene, any number of them; one question at least in all.
        pad_token: what fills a row.
    """
    rows = [[token for pair in of_scene for token in pair.tokens] for of_scene in pairs]
    shape = (len(rows), max(len(row) for row in rows))
    token_ids, is_answer = torch.full(shape, pad_token), torch.zeros(shape, dtype=torch.bool)
    question = torch.full(shape, -1)
    for row, of_scene in enumerate(pairs):
        token_ids[row, : len(rows[row])] = torch.tensor(rows[row], dtype=torch.int64)
        begin = 0
        for number, pair in enumerate(of_scene):
            end = begin + len(pair.tokens)
            is_answer[row, begin + pair.question : end] = True
            question[row, begin:end] = number
            begin = end
    return QuestionBatch(token_ids, is_answer, question)

"""All questions about a scene, with their answers, packed into a few rows of tokens behind the scene's prefix.

Letters: S scenes, R rows of each, n tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseoccvla_ros.model.language import SceneLanguage

#: Attention looks at a row's own tokens as often as it has some, though a question sees its own alone: short rows cost
#: less. Each repeats the scene's keys and values, which costs something, too.
QUESTIONS_PER_ROW = 4


@dataclass(frozen=True)
class TokenizedPair:
    """Tokens behind the scene prefix: the question as it is asked on the car, then the answer with its end token."""

    tokens: tuple[int, ...]
    #: Number of tokens before the answer.
    question: int


@dataclass(frozen=True)
class QuestionBatch:
    """Rows [S, R, n], padded behind; none of a row's questions sees the others or the padding."""

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
        """Scenes in another order: questions about other scenes."""
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
    per_scene = -(-max(len(of_scene) for of_scene in pairs) // QUESTIONS_PER_ROW)
    rows = [row for of_scene in pairs for row in dealt(of_scene, per_scene)]
    shape = (len(rows), max(sum(len(pair.tokens) for pair in row) for row in rows))
    token_ids, is_answer = torch.full(shape, pad_token), torch.zeros(shape, dtype=torch.bool)
    question = torch.full(shape, -1)
    for number, row in enumerate(rows):
        begin = 0
        for place, pair in enumerate(row):
            end = begin + len(pair.tokens)
            token_ids[number, begin:end] = torch.tensor(pair.tokens)
            is_answer[number, begin + pair.question : end] = True
            question[number, begin:end] = place
            begin = end
    return QuestionBatch(*(tensor.unflatten(0, (-1, per_scene)) for tensor in (token_ids, is_answer, question)))


def dealt(pairs: Sequence[TokenizedPair], rows: int) -> list[list[TokenizedPair]]:
    """Rows of about the same number of tokens: the longest first, each to the shortest row."""
    found: list[list[TokenizedPair]] = [[] for _ in range(rows)]
    for pair in sorted(pairs, key=lambda pair: -len(pair.tokens)):
        min(found, key=lambda row: sum(len(other.tokens) for other in row)).append(pair)
    return found

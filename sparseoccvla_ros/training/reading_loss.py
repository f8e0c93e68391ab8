"""A language model without pre-training learns to read occupancy tokens: which is of what class, and where.

An answer with a position in it asks for two things at once: to find the object's token among hundreds, and to turn its
position into digits. Neither is of use without the other, so that for a long time neither is learnt. Here both are
practised on small sets of a keyframe's tokens, from a single one upwards: what is learnt on few makes more of them
easier. No label is needed: a token's position is known, and its class is what the encoder says.

Letters: B keyframes, Q queries, D language width, n sets, k tokens of a set, L tokens of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.training.question_batch import question_batch, tokenize_pair

WHERE_ALONE, WHAT_ALONE = 'Where is it?', 'What is it?'
WHERE, WHAT = 'Where is the nearest {thing}?', 'What is at {place}?'
#: Share of the questions for a class; the others ask for a position.
WHAT_SHARE = 0.25


@dataclass(frozen=True)
class ReadingConfig:
    """How much is practised in a step of a process."""

    #: Sets of tokens, one question each.
    sets: int = 64
    #: Numbers of tokens in a set; two of them are drawn in each step, for half of the sets each.
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 64)

    def __post_init__(self) -> None:
        if self.sets < 2 or not self.sizes or min(self.sizes) < 1:
            raise ValueError(f'reading needs 2 sets or more of 1 token or more, got {self.sets} of {self.sizes}')


@dataclass(frozen=True)
class Practice:
    """Questions with their answers about n sets of tokens."""

    #: int64 [n], and [n, k]: whose and which tokens, in the order in which they are read.
    keyframe: Tensor
    queries: Tensor
    pairs: tuple[tuple[str, str], ...]


def said(x_m: float, y_m: float) -> str:
    """A position as the world's answers have it: metres in the ego frame, one decimal, no minus before zero."""
    x_m, y_m = (round(value, 1) + 0.0 for value in (x_m, y_m))
    return f'({x_m:.1f}, {y_m:.1f})'


def draw_practice(positions_m: Tensor, classes: Tensor, names: Sequence[str], sets: int, size: int) -> Practice:
    """Sets of tokens, and a question about each: by torch's own random numbers, on the CPU.

    Args:
        positions_m: of the queries [B, Q, 3], metres, ego frame.
        classes: theirs, int64 [B, Q].
        names: of the classes.
        sets: n. size: k, at most Q of it are taken.

    Returns:
        as often a rare class as a frequent one is in a set and is asked for. The nearest is that of the least distance
        from the ego's origin, in the plane.
    """
    keyframe = torch.randint(len(classes), (sets,))
    positions_m, classes = positions_m.cpu(), classes.cpu()
    counts = torch.stack([torch.bincount(row, minlength=len(names))[row] for row in classes])  # [B, Q]
    queries = torch.multinomial(1.0 / counts[keyframe], min(size, classes.shape[1]))  # [n, k]
    pairs = []
    for row, chosen in zip(keyframe.tolist(), queries, strict=True):
        labels, places_m = classes[row, chosen], positions_m[row, chosen, :2]
        what = bool(torch.rand(()) < WHAT_SHARE)
        if what:
            asked = int(torch.randint(len(chosen), ()))
            question = WHAT_ALONE if len(chosen) == 1 else WHAT.format(place=said(*places_m[asked].tolist()))
        else:
            present = labels.unique()
            wanted = present[torch.randint(len(present), ())]
            away_m = places_m.norm(dim=1).masked_fill(labels != wanted, torch.inf)
            asked = int(away_m.argmin())
            question = WHERE_ALONE if len(chosen) == 1 else WHERE.format(thing=names[wanted])
        answer = names[labels[asked]] if what else said(*places_m[asked].tolist())
        pairs.append((question, f'{answer}.'))
    return Practice(keyframe, queries, tuple(pairs))


def reading_loss(
    language: SceneLanguage,
    tokens: Tensor,
    positions_m: Tensor,
    classes: Tensor,
    names: Sequence[str],
    config: ReadingConfig,
) -> tuple[Tensor, Tensor]:
    """Next-token cross-entropy on the answers, each behind the tokens of its own set alone.

    Args:
        language: the model.
        tokens: occupancy tokens as they stand in a prompt [B, Q, D].
        positions_m: of their queries [B, Q, 3], metres, ego frame.
        classes: of their queries, int64 [B, Q].
        names: of the classes, as they are said.
        config: how much.

    Returns:
        the mean over all tokens of all answers, and their number.
    """
    sizes = torch.randint(len(config.sizes), (2,)).tolist()
    losses, counts = [], []
    for half, place in enumerate(sizes):
        sets = (config.sets + half) // 2
        practice = draw_practice(positions_m, classes, names, sets, config.sizes[place])
        loss, count = practice_loss(language, tokens, practice)
        losses.append(loss * count)
        counts.append(count)
    return sum(losses) / sum(counts), sum(counts)


def practice_loss(language: SceneLanguage, tokens: Tensor, practice: Practice) -> tuple[Tensor, Tensor]:
    """As :func:`reading_loss`, of questions that are given."""
    pairs = [[tokenize_pair(language, question, answer)] for question, answer in practice.pairs]
    rows = question_batch(pairs, language.tokenizer.pad_token_id).to(tokens.device)
    text = language.embed_text(rows.token_ids)  # [n, L, D]
    keyframe, queries = practice.keyframe.to(tokens.device), practice.queries.to(tokens.device)
    scene = tokens[keyframe[:, None], queries].to(text.dtype)  # [n, k, D]
    hidden, _ = language.forward_embeddings(torch.cat([scene, text], dim=1), None)
    # each place tells the next token: the first text token is told by the last of the scene
    told = hidden[:, scene.shape[1] - 1 : -1][rows.is_answer]
    return nn.functional.cross_entropy(language.logits(told), rows.token_ids[rows.is_answer]), rows.is_answer.sum()

"""A language model without pre-training learns to read occupancy tokens: which is of what class, and where.

An answer with a position in it asks for two things at once: to find the object's token among hundreds, and to turn its
position into digits. Neither is of use without the other, so that for a long time neither is learnt. Here both are
practised on small sets of a keyframe's tokens, from a single one upwards: what is learnt on few makes more of them
easier. No label is needed: a token's position is known, and its class is what the encoder says, however unsure it is.
Questions and answers have the form of the world's own (``world/questions/ground.py``).

Letters: B keyframes, Q queries, D language width, n sets, k tokens of a set, L tokens of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.language import SceneLanguage, ScenePrompt
from sparseoccvla_ros.training.question_batch import question_batch, tokenize_pair

WHERE, WHERE_ANSWER = 'Where is the nearest {thing}?', 'The nearest {thing} is at {place}.'
WHAT, WHAT_ANSWER = 'What is at {place}?', 'A {thing}.'
#: Of a set of one.
WHERE_ALONE, WHERE_ALONE_ANSWER, WHAT_ALONE = 'Where is it?', 'It is at {place}.', 'What is it?'
#: Share of the questions for a class; the others ask for a position.
WHAT_SHARE = 0.25


@dataclass(frozen=True)
class ReadingConfig:
    """How much is practised in one pass of a process."""

    #: Sets of tokens, one question each.
    sets: int = 64
    #: Numbers of tokens in a set; two of them are drawn for each pass, for half of the sets each.
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

    A rare class is as likely to be in a set as a frequent one, while its tokens last, and every class of a set is as
    likely to be asked for. The nearest is that of the least distance from the ego's origin, in the plane.
    """
    keyframe = torch.randint(len(classes), (sets,))
    positions_m, classes = positions_m.cpu(), classes.cpu()
    counts = torch.stack([torch.bincount(row, minlength=len(names))[row] for row in classes])  # [B, Q]
    queries = torch.multinomial(1.0 / counts[keyframe], min(size, classes.shape[1]))  # [n, k]
    pairs = []
    for row, chosen in zip(keyframe.tolist(), queries, strict=True):
        labels, places_m = classes[row, chosen], positions_m[row, chosen, :2]
        what, alone = bool(torch.rand(()) < WHAT_SHARE), len(chosen) == 1
        present = labels.unique()
        wanted = present[torch.randint(len(present), ())]
        away_m = places_m.norm(dim=1).masked_fill(labels != wanted, torch.inf)
        if what:
            question, answer = WHAT_ALONE if alone else WHAT, WHAT_ANSWER
            asked = int(torch.multinomial((labels == wanted).float(), 1))
        else:
            question, answer = (WHERE_ALONE, WHERE_ALONE_ANSWER) if alone else (WHERE, WHERE_ANSWER)
            asked = int(away_m.argmin())
        words = {'thing': names[wanted], 'place': said(*places_m[asked].tolist())}
        pairs.append((question.format(**words), answer.format(**words)))
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
    hidden, _ = language.read_scene(ScenePrompt(scene, slice(0, scene.shape[1]), None), text)
    # each place tells the next token: the first text token is told by the last of the scene
    told = hidden[:, scene.shape[1] - 1 : -1][rows.is_answer]
    return nn.functional.cross_entropy(language.logits(told), rows.token_ids[rows.is_answer]), rows.is_answer.sum()

"""A language model without pre-training learns to read occupancy tokens: which is of what class, where, how far.

An answer with a position in it asks for two things at once: to find the object's token among hundreds, and to turn its
position into digits. Neither is of use without the other, so that for a long time neither is learnt. Here both are
practised on scenes of few queries, from a single one upwards, and on the whole one: what is learnt on few makes more of
them easier. No label is needed: what a query sees, and where, is what the encoder's heads say of its points.
Questions and answers have the form of the world's own (``world/questions/ground.py``).

Letters: B keyframes, Q queries, C query width, K classes, k queries of a set, M sights: a query and a class of some of
its points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseoccvla_ros.model.language import KeyValues, SceneLanguage
from sparseoccvla_ros.training.answer_loss import answer_loss
from sparseoccvla_ros.training.question_batch import question_batch, tokenize_pair

WHERE, WHERE_ANSWER = 'Where is the nearest {thing}?', 'The nearest {thing} is at {place}.'
WHAT, WHAT_ANSWER = 'What is at {place}?', 'A {thing}.'
FAR, FAR_ANSWER = 'How far is the nearest {thing}?', 'The nearest {thing} is {far}.'
#: Shares of the questions for a class and for a distance; the others ask for a position.
WHAT_SHARE, FAR_SHARE = 0.25, 0.25


@dataclass(frozen=True)
class ReadingConfig:
    """How much is practised in one pass of a process."""

    #: Scenes of few queries.
    sets: int = 16
    #: Numbers of queries in them, one drawn for each pass.
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    #: Questions about each of them, and about each whole scene.
    questions: int = 4
    #: What a point's class must score more than, and least number of a query's points, to be told of.
    score_threshold: float = 0.5
    least_points: int = 2

    def __post_init__(self) -> None:
        if min(self.sets, self.questions, self.least_points) < 1 or not self.sizes or min(self.sizes) < 1:
            raise ValueError(
                'reading needs sets, questions, points and numbers of queries of 1 or more, got '
                f'{self.sets}, {self.questions}, {self.least_points}, {self.sizes}'
            )
        if not 0.0 <= self.score_threshold <= 1.0:
            raise ValueError(f'score_threshold of reading must be in 0..1, got {self.score_threshold}')


def said(x_m: float, y_m: float) -> str:
    """A position as the world's answers have it: metres in the ego frame, one decimal, no minus before zero."""
    x_m, y_m = (round(value, 1) + 0.0 for value in (x_m, y_m))
    return f'({x_m:.1f}, {y_m:.1f})'


def said_far(x_m: float, y_m: float) -> str:
    """How far it is from the ego frame's origin, in the plane, as the world's answers have it."""
    return f'{math.hypot(x_m, y_m):.1f} m from your rear axle'


def draw_sets(sees: Tensor, sets: int, size: int) -> tuple[Tensor, Tensor]:
    """Some of the queries of some keyframes: those that see what few see are likelier, those that see nothing are last.

    Args:
        sees: bool [B, Q, K], on the CPU.
        sets: n. size: k, at most Q of it are taken.

    Returns:
        int64 [n], whose; and int64 [n, k], which.
    """
    keyframe = torch.randint(len(sees), (sets,))
    rarity = (sees / sees.sum(dim=1, keepdim=True).clamp(min=1)).amax(dim=-1).clamp(min=1e-6)  # [B, Q]
    return keyframe, torch.multinomial(rarity[keyframe], min(size, sees.shape[1]))


def draw_pair(positions_m: Tensor, classes: Tensor, main: Tensor, names: Sequence[str]) -> tuple[str, str]:
    """A question about what is seen, and its answer; every class that is there is as likely to be asked for.

    Args:
        positions_m: [M, 3], metres, ego frame. classes: int64 [M].
        main: bool [M], what may be asked for by its place: a query's car and the road below it are at one place in
            words. All three on the CPU.
        names: of the classes, as they are said.

    The nearest is that of the least distance from the ego's origin, in the plane.
    """
    present = classes.unique()
    wanted = present[torch.randint(len(present), ())]
    by_place = (classes == wanted) & main
    luck = torch.rand(())
    if luck < WHAT_SHARE and by_place.any():
        question, answer = WHAT, WHAT_ANSWER
        asked = torch.multinomial(by_place.float(), 1)[0]
    else:
        question, answer = (FAR, FAR_ANSWER) if luck > 1.0 - FAR_SHARE else (WHERE, WHERE_ANSWER)
        asked = positions_m[:, :2].norm(dim=1).masked_fill(classes != wanted, torch.inf).argmin()
    place_m = positions_m[asked, :2].tolist()
    words = {'thing': names[wanted], 'place': said(*place_m), 'far': said_far(*place_m)}
    return question.format(**words), answer.format(**words)


def reading_loss(
    language: SceneLanguage,
    prefix: KeyValues,
    features: Tensor,
    positions_m: Tensor,
    sights: tuple[Tensor, Tensor],
    names: Sequence[str],
    config: ReadingConfig,
) -> tuple[Tensor, int]:
    """Next-token cross-entropy on the answers about scenes of few queries, and about the whole ones.

    Args:
        language: the model.
        prefix: of the B whole scenes (:meth:`SceneLanguage.read_scene`).
        features: of their queries [B, Q, C].
        positions_m: [B, Q, 3], metres, ego frame.
        sights: number [B, Q, K] and mean [B, Q, K, 3] of each query's points of each class
            (:meth:`~sparseoccvla_ros.model.occupancy_encoder.OccupancyEncoder.sights`).
        names: of the classes, as they are said.
        config: how much.

    Returns:
        the mean over both halves of their means over all tokens of all answers, and the number of answers. Nothing is
        asked about a scene in which nothing is seen, and a half in which nothing is asked does not count.
    """
    counts, places_m = (tensor.cpu() for tensor in sights)
    sees = counts >= config.least_points
    size = config.sizes[int(torch.randint(len(config.sizes), ()))]
    keyframe, queries = draw_sets(sees, config.sets, size)
    few = (keyframe[:, None], queries)
    few_on_device = tuple(index.to(features.device) for index in few)
    prompt = language.scene_prompt(features[few_on_device], positions_m[few_on_device])
    seen = counts * sees
    halves = (
        (language.read_scene(prompt)[1], zip(places_m[few], seen[few], strict=True)),
        (prefix, zip(places_m, seen, strict=True)),
    )
    losses, answers = [], 0
    for read, scenes in halves:
        pairs = [draw_pairs(*scene, names, config.questions) for scene in scenes]
        if not any(pairs):
            continue
        rows = question_batch(
            [[tokenize_pair(language, *pair) for pair in of_scene] for of_scene in pairs],
            language.padding_token,
        ).to(features.device)
        losses.append(answer_loss(language, read, rows))
        answers += sum(map(len, pairs))
    if not losses:  # the graph is kept, so that backward() works
        return 0.0 * sum(keys.sum() + values.sum() for keys, values in prefix.layers), 0
    return sum(losses) / len(losses), answers


def draw_pairs(places_m: Tensor, counts: Tensor, names: Sequence[str], questions: int) -> list[tuple[str, str]]:
    """Questions about k queries; none if they see nothing.

    Args:
        places_m: where each of them sees each class, [k, K, 3], and counts: by how many points, int64 [k, K]; on the
            CPU.
        names: of the classes. questions: how many.
    """
    sees = counts > 0
    main = sees & (counts == counts.amax(dim=1, keepdim=True))
    classes = sees.nonzero()[:, 1]
    return [draw_pair(places_m[sees], classes, main[sees], names) for _ in range(questions)] if len(classes) else []

"""All questions that can be asked about the keyframes of a scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sparseoccvla_ros.world.labels.facts import KeyframeFacts
from sparseoccvla_ros.world.questions import count, counterfactual, describe, distance, ground, motion, plan, predict
from sparseoccvla_ros.world.questions.pair import Draft, Pair
from sparseoccvla_ros.world.questions.view import View
from sparseoccvla_ros.world.questions.wording import choose, fill

#: Of one kind at most so many candidates per keyframe, of different answers where there are.
PER_KIND = 4
SPLIT_EVERY = 5
#: Tells this stream of random numbers from those of other purposes.
STREAM = 105

#: Every kind's wordings, in a fixed order: random streams are counted by it.
WORDINGS: dict[str, tuple[str, ...]] = {
    **describe.WORDINGS,
    **ground.WORDINGS,
    **count.WORDINGS,
    **distance.WORDINGS,
    **motion.WORDINGS,
    **predict.WORDINGS,
    **counterfactual.WORDINGS,
    **plan.WORDINGS,
}
_DRAFTERS: dict[str, Callable[[View, np.random.Generator], list[Draft]]] = {
    'scene': describe.scene_drafts,
    'look': describe.look_drafts,
    'road': describe.road_drafts,
    'surroundings': describe.surroundings_drafts,
    'identify': ground.identify_drafts,
    'locate': ground.locate_drafts,
    'camera': ground.camera_drafts,
    'colour': ground.colour_drafts,
    'surface': ground.surface_drafts,
    'count': count.count_drafts,
    'distance': distance.distance_drafts,
    'nearest': distance.nearest_drafts,
    'order': distance.order_drafts,
    'relative': distance.relative_drafts,
    'motion': motion.motion_drafts,
    'lamps': motion.lamps_drafts,
    'light': motion.light_drafts,
    'light_or_none': motion.light_or_none_drafts,
    'future': predict.future_drafts,
    'path': predict.path_drafts,
    'counterfactual': counterfactual.counterfactual_drafts,
    'plan': plan.plan_drafts,
    'attention': plan.attention_drafts,
    'behaviour': plan.behaviour_drafts,
    'trajectory': plan.trajectory_drafts,
}
KINDS = tuple(_DRAFTERS)


def split_of(scene_index: int) -> str:
    """'val' for every fifth scene, 'train' for the others."""
    return 'val' if scene_index % SPLIT_EVERY == SPLIT_EVERY - 1 else 'train'


def candidates(facts: Sequence[KeyframeFacts], scene_index: int, seed: int) -> list[Pair]:
    """All pairs about a scene, before balancing: a pure function of the arguments.

    Args:
        facts: of the scene's keyframes in order of time.
        scene_index: number of the scene in the data set; it decides the split and with it the wordings.
        seed: of the data set.

    Returns:
        Pairs by keyframe, then by kind; at most ``PER_KIND`` of a kind for each keyframe.
    """
    split = split_of(scene_index)
    pairs = []
    for keyframe, item in enumerate(facts):
        view = View(item)
        for number, kind in enumerate(KINDS):
            rng = np.random.default_rng([STREAM, seed, scene_index, keyframe, number])
            for draft in _varied(_DRAFTERS[kind](view, rng), rng):
                template, wording = choose(WORDINGS[kind], split, rng)
                pairs.append(
                    Pair(
                        scene_index=scene_index,
                        scene_token=item.scene_token,
                        sample_token=item.sample_token,
                        keyframe=keyframe,
                        split=split,
                        kind=kind,
                        key=draft.key,
                        question=fill(wording, dict(draft.slots)),
                        answer=draft.answer,
                        template=template,
                        wording=wording,
                        mentions=draft.mentions,
                    )
                )
    return pairs


def _varied(drafts: Sequence[Draft], rng: np.random.Generator) -> list[Draft]:
    """At most ``PER_KIND`` drafts: in a random order, first one of each key, then the others."""
    shuffled = [drafts[number] for number in rng.permutation(len(drafts))]
    seen: set[str] = set()
    firsts, others = [], []
    for draft in shuffled:
        (others if draft.key in seen else firsts).append(draft)
        seen.add(draft.key)
    return [*firsts, *others][:PER_KIND]

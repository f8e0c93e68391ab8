"""A selection of pairs in which no answer of a kind is frequent enough to be guessed.

It looks at all candidates of a data set at once, in the order of scenes, so that it does not depend on how many
processes made them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from sparseoccvla_ros.world.questions.generate import KINDS
from sparseoccvla_ros.world.questions.pair import Pair

GREATEST_SHARE = 0.25
#: Of 'yes' or 'no', in kinds whose keys begin with one of them.
GREATEST_VERDICT_SHARE = 2.0 / 3.0
#: Tells this stream of random numbers from those of other purposes.
STREAM = 104


def select(
    candidates_by_scene: Iterable[Sequence[Pair]],
    seed: int,
    per_keyframe: int,
    greatest_share: float = GREATEST_SHARE,
) -> list[Pair]:
    """Pairs of all scenes such that, in each split and kind, no answer and no key has more than ``greatest_share``,
    nor 'yes' or 'no' at the beginning of keys more than ``GREATEST_VERDICT_SHARE``.

    Args:
        candidates_by_scene: what ``candidates`` gave, in the order of scenes.
        seed: of the data set; decides which of equally good pairs stay.
        per_keyframe: most pairs about one keyframe, of as many different kinds as there are.
        greatest_share: of one key or one answer among the pairs of a kind; a kind with too few different keys gets no
            pairs at all.

    Returns:
        A part of the candidates, in their order.

    Raises:
        ValueError: a share outside (0, 1] or a limit below 1.
    """
    if not 0.0 < greatest_share <= 1.0 or per_keyframe < 1:
        raise ValueError(f'greatest_share ({greatest_share}) must be in (0, 1], per_keyframe ({per_keyframe}) >= 1')
    pairs = [pair for scene in candidates_by_scene for pair in scene]
    # Candidates first in a random order, so that what is dropped comes from anywhere in the data set.
    luck = np.random.default_rng([STREAM, seed]).permutation(len(pairs))
    chosen = _balanced(pairs, [int(number) for number in luck], greatest_share)
    chosen = _limited(pairs, chosen, per_keyframe)
    return [pairs[number] for number in sorted(_balanced(pairs, chosen, greatest_share))]


def capped_count(counts: Iterable[int], greatest_share: float) -> int:
    """The most that may stay of each key so that none has more than ``greatest_share`` of what stays: the greatest c
    with c <= share * sum(min(count, c)); 0 if there is none.
    """
    values = sorted(counts)
    for cap in range(values[-1] if values else 0, 0, -1):
        if cap <= greatest_share * sum(min(value, cap) for value in values) + 1e-9:
            return cap
    return 0


def _balanced(pairs: Sequence[Pair], order: Sequence[int], greatest_share: float) -> list[int]:
    """The part of ``order`` that stays; the first of each key stay."""
    by_kind: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number in order:
        by_kind[pairs[number].split, pairs[number].kind].append(number)
    chosen = []
    for group in by_kind.values():
        while True:
            before = len(group)
            verdicts = [pairs[number].key.partition(',')[0] for number in group]
            if set(verdicts) <= {'yes', 'no'}:
                group = _capped(group, verdicts, GREATEST_VERDICT_SHARE)
            group = _capped(group, [pairs[number].key for number in group], greatest_share)
            group = _capped(group, [pairs[number].answer for number in group], greatest_share)
            if len(group) == before:
                break
        chosen += group
    return chosen


def _capped(group: list[int], names: Sequence[str], greatest_share: float) -> list[int]:
    cap = capped_count(Counter(names).values(), greatest_share)
    seen: Counter[str] = Counter()
    stays = []
    for number, name in zip(group, names, strict=True):
        seen[name] += 1
        if seen[name] <= cap:
            stays.append(number)
    return stays


def _limited(pairs: Sequence[Pair], order: Sequence[int], per_keyframe: int) -> list[int]:
    """At most ``per_keyframe`` of each keyframe: one of each kind before the second of any, and always what has been
    chosen least so far, of the kinds and then of the keys.
    """
    by_keyframe: dict[tuple[int, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number in order:
        pair = pairs[number]
        by_keyframe[pair.scene_index, pair.keyframe][pair.kind].append(number)
    of_kind: Counter[tuple[str, str]] = Counter()
    of_key: Counter[tuple[str, str, str]] = Counter()
    chosen: list[int] = []
    for by_kind in by_keyframe.values():
        room = per_keyframe
        while room > 0 and any(by_kind.values()):
            split = pairs[next(number for group in by_kind.values() for number in group)].split
            kinds = sorted((kind for kind in KINDS if by_kind.get(kind)), key=lambda kind: of_kind[split, kind])
            for kind in kinds[:room]:
                group = by_kind[kind]
                number = min(group, key=lambda number: of_key[split, pairs[number].kind, pairs[number].key])
                group.remove(number)
                of_kind[split, kind] += 1
                of_key[split, kind, pairs[number].key] += 1
                chosen.append(number)
            room -= len(kinds)
    return chosen

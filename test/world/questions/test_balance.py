"""No answer can be guessed, whatever the candidates."""

from collections import Counter

import pytest

from sparseoccvla_ros.world.questions.balance import capped_count, select
from sparseoccvla_ros.world.questions.generate import KINDS, candidates
from sparseoccvla_ros.world.questions.pair import Pair

SCENES = 100


def by_kind(pairs):
    groups = {}
    for pair in pairs:
        groups.setdefault(pair.kind, []).append(pair)
    return groups


def top_share(values):
    return Counter(values).most_common(1)[0][1] / len(values)


@pytest.fixture(scope='module')
def by_scene(random_scene) -> list[list[Pair]]:
    return [candidates(random_scene(3, index, keyframes=3), index, seed=2) for index in range(SCENES)]


@pytest.fixture(scope='module')
def selected(by_scene) -> list[Pair]:
    return select(by_scene, seed=2, per_keyframe=16)


def one(key: str, number: int) -> Pair:
    return Pair(0, 'scene', f'sample{number}', number, 'train', 'look', key, 'What?', key, 0, 'What?')


@pytest.mark.parametrize(
    ('counts', 'cap'),
    [
        ([10, 10, 10, 10], 10),
        ([100, 100, 100, 3], 3),  # four keys: all as rare as the rarest
        ([100, 100, 100, 100, 3], 100),
        ([100, 100, 100, 4, 5], 9),  # 3 * 9 + 4 + 5 = 36
        ([7, 7, 7], 0),
        ([], 0),
    ],
)
def test_caps_by_hand(counts, cap):
    assert capped_count(counts, 0.25) == cap


def test_selection_by_hand():
    pairs = [one(key, number) for number, key in enumerate('aaaaaaaabbbccd')]
    assert Counter(pair.key for pair in select([pairs], 0, 16)) == {'a': 1, 'b': 1, 'c': 1, 'd': 1}
    assert select([pairs[:11]], 0, 16) == []
    assert select([], 0, 16) == []


def test_no_is_not_always_the_answer():
    keys = ['yes, 1', 'yes, 2', 'yes, 3'] * 4 + [f'no, {number % 10}' for number in range(100)]
    verdicts = Counter(pair.key.split(',')[0] for pair in select([[one(key, n) for n, key in enumerate(keys)]], 0, 16))
    assert verdicts == {'yes': 12, 'no': 24}


@pytest.mark.parametrize('split', ['train', 'val'])
def test_no_answer_is_frequent(selected, split):
    groups = by_kind([pair for pair in selected if pair.split == split])
    assert len(groups) >= (len(KINDS) if split == 'train' else 15)
    for kind, pairs in groups.items():
        assert top_share([pair.answer for pair in pairs]) <= 0.25, kind
        assert top_share([pair.key for pair in pairs]) <= 0.25, kind
        assert len({pair.key for pair in pairs}) >= 4


def test_without_balancing_some_answers_are_frequent(by_scene):
    groups = by_kind([pair for scene in by_scene for pair in scene])
    assert max(top_share([pair.key for pair in pairs]) for pairs in groups.values()) > 0.4


def test_kinds_are_spread(selected):
    counts = Counter(pair.kind for pair in selected)
    assert max(counts.values()) < 0.1 * len(selected)
    assert max(Counter(pair.sample_token for pair in selected).values()) <= 16


def test_few_pairs_of_a_keyframe_are_of_different_kinds(by_scene):
    few = select(by_scene, seed=2, per_keyframe=5)
    counts = Counter(pair.sample_token for pair in few)
    assert max(counts.values()) <= 5
    repeated = [count for count in Counter((pair.sample_token, pair.kind) for pair in few).values() if count > 1]
    # Only where balancing leaves fewer than five kinds of a keyframe is one asked twice.
    assert len(repeated) < 0.01 * len(few)


def test_selection_keeps_the_order_and_depends_on_the_seed_alone(by_scene, selected):
    places = {id(pair): number for number, pair in enumerate(pair for scene in by_scene for pair in scene)}
    numbers = [places[id(pair)] for pair in selected]
    assert numbers == sorted(numbers)
    assert len(numbers) == len(set(numbers))
    assert select(iter(by_scene), seed=2, per_keyframe=16) == selected
    assert select(by_scene, seed=3, per_keyframe=16) != selected


def test_train_and_val_share_no_wording(selected):
    train = [pair for pair in selected if pair.split == 'train']
    val = [pair for pair in selected if pair.split == 'val']
    assert {pair.scene_index % 5 == 4 for pair in val} == {True}
    assert {pair.scene_index % 5 == 4 for pair in train} == {False}
    templates = [{(pair.kind, pair.template) for pair in pairs} for pairs in (train, val)]
    assert len(templates[1]) >= 35
    assert not templates[0] & templates[1]
    assert not {pair.wording for pair in train} & {pair.wording for pair in val}
    assert not {pair.question for pair in train} & {pair.question for pair in val}


@pytest.mark.parametrize('limits', [{'greatest_share': 0.0}, {'greatest_share': 1.1}, {'per_keyframe': 0}])
def test_impossible_limits_are_refused(limits):
    with pytest.raises(ValueError, match='per_keyframe'):
        select([], 0, **({'per_keyframe': 16} | limits))

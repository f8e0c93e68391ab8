"""Questions that need the scene, scenes given to others, and the answers of someone who does not look."""

import pytest
import torch
from language_overfit.asking import exact, exact_by_kind, right_for_shown
from language_overfit.choice import AskedQuestion, asked_questions, choose, couples, prior_answers, reworded
from language_overfit.keyframes import Keyframes, deranged
from language_overfit.train import TrainRequest, places_of_step

from sparseoccvla_ros.world.questions.pair import Pair


def pair(kind: str, wording: str, question: str, answer: str, token: str = 'k1', scene: str = 's1') -> Pair:
    return Pair(0, scene, token, 0, 'train', kind, '', question, answer, 0, wording)


def asked(text: str, answer: str, scene: str, kind: str = 'look', token: str | None = None) -> AskedQuestion:
    return AskedQuestion(token or f'{scene}-{text}-{answer}', scene, kind, text, answer)


def test_questions_of_one_kind_get_one_wording():
    first = pair('count', 'Say how many $things you see $region.', 'Say how many red cars you see within 10 m.', '2')
    second = pair('count', 'Count the $things in sight $region.', 'Count the red cars in sight within 10 m.', '2')
    assert reworded(first) == reworded(second) == 'How many red cars are visible within 10 m?'
    assert (
        reworded(pair('count', '$Region, how many $things do you see?', 'Ahead, how many cars do you see?', '1'))
        is None
    )
    assert reworded(pair('count', 'Count the $things.', 'Something else', '1')) is None


def test_a_question_asked_twice_about_a_keyframe_counts_once_and_not_with_two_answers():
    wording = 'How many $things are visible $region?'
    pairs = [
        pair('count', wording, 'How many cars are visible ahead?', '2 cars.'),
        pair('count', wording, 'How many cars are visible ahead?', '2 cars.'),
        pair('count', wording, 'How many buses are visible ahead?', '1 bus.'),
        pair('count', wording, 'How many buses are visible ahead?', '2 buses.'),
        pair('count', wording, 'How many cars are visible ahead?', '3 cars.', token='elsewhere'),
    ]
    assert [question.answer for question in asked_questions(pairs, {'k1'})] == ['2 cars.']


def test_couples_have_the_same_words_other_scenes_and_other_answers():
    questions = [asked('Light?', 'red', 'a'), asked('Light?', 'red', 'b'), asked('Light?', 'red', 'c')]
    questions += [asked('Light?', 'green', 'a'), asked('Rain?', 'yes', 'a'), asked('Rain?', 'no', 'a')]
    found = couples(questions)
    assert len(found) == 1
    assert {question.answer for question in found[0]} == {'red', 'green'}
    assert found[0][0].scene_token != found[0][1].scene_token


def test_chosen_questions_cannot_be_answered_blind_more_than_half_of_the_time():
    questions = [
        asked(f'{kind} {word}?', answer, scene, kind)
        for kind in ('look', 'count')
        for word in 'xyz'
        for scene, answer in (('a', '1'), ('b', '1'), ('c', '2'), ('d', '3'))
    ]
    chosen = choose(questions, 12)
    assert {question.kind for question in chosen} == {'look', 'count'}
    assert exact(chosen, prior_answers(chosen, by_text=True)) == 0.5
    with pytest.raises(ValueError, match='odd'):
        choose(questions, 3)
    with pytest.raises(ValueError, match='26 questions asked for, 24 found'):
        choose(questions, 26)


def test_prior_is_the_commonest_answer():
    questions = [asked('A?', 'x', 'a'), asked('A?', 'x', 'b'), asked('B?', 'y', 'c'), asked('N?', '2', 'a', 'count')]
    assert prior_answers(questions, by_text=False) == ['x', 'x', 'x', '2']
    assert prior_answers(questions, by_text=True) == ['x', 'x', 'y', '2']
    assert exact(questions, ['x', 'y', 'y', '2']) == 0.75
    assert exact_by_kind(questions, ['x', 'y', 'y', '2']) == {'look': pytest.approx(2 / 3), 'count': 1.0}


@pytest.mark.parametrize('scenes', ['aabb', 'abcabcab', 'aaabc' + 'ddd', 'ab'])
def test_no_keyframe_keeps_a_scene_of_its_own(scenes):
    taken = deranged(list(scenes))
    assert sorted(taken) == list(range(len(scenes)))
    assert all(scenes[place] != scenes[other] for place, other in enumerate(taken))


def test_one_scene_with_most_keyframes_cannot_be_given_away():
    with pytest.raises(ValueError, match='a scene has 2 of 3 keyframes'):
        deranged(['a', 'a', 'b'])


def test_an_epoch_has_every_keyframe_once():
    request = TrainRequest(steps=9, lr=1.0, keyframes=4, seed=1)
    epochs = [[places_of_step(range(10), 3 * epoch + number, request) for number in range(3)] for epoch in range(2)]
    for epoch in epochs:
        assert sorted(place for places in epoch for place in places) == list(range(10))
        assert all(len(places) <= 4 for places in epoch)
    assert epochs[0] != epochs[1]
    assert epochs[0][0] == places_of_step(range(10), 0, request)


def test_what_is_right_for_the_keyframe_that_is_shown():
    nothing = torch.zeros(2, 1, 1)
    keyframes = Keyframes(('k1', 'k2'), ('a', 'b'), (1, 2), nothing, nothing, nothing)
    questions = [
        asked('A?', 'x', 'a', token='k1'),
        asked('A?', 'y', 'b', token='k2'),
        asked('B?', 'z', 'a', token='k1'),
    ]
    assert right_for_shown(keyframes, questions, [1, 0]) == ['y', 'x', None]
    assert right_for_shown(keyframes, questions, [0, 1]) == ['x', 'y', 'z']


def test_keyframes_come_back_from_their_file(tmp_path):
    kept = Keyframes(('k1',), ('a',), (1,), torch.rand(1, 3, 2), torch.rand(1, 3, 3), torch.rand(1, 3))
    kept.save(tmp_path / 'keyframes.pt')
    found = Keyframes.load(tmp_path / 'keyframes.pt')
    assert (found.sample_tokens, found.scenes, found.stamps_ns) == (('k1',), ('a',), (1,))
    assert torch.equal(found.queries(0, 7).features, kept.features[0])
    assert found.queries(0, 7).stamp_ns == 7

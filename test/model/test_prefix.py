"""The shared prefix is exact in every order of tokens and with both kinds of attention inside it."""

import dataclasses
import itertools

import pytest
import torch

from sparseoccvla_ros.model.language import prefix_mask
from sparseoccvla_ros.model.vla import build_language

ORDERS = ('as_produced', 'space_filling', 'distance')
ATTENTIONS = ('causal', 'bidirectional')
CASES = list(itertools.product(ORDERS, ATTENTIONS))
QUESTIONS = ('What do you see?', 'Is it safe to turn left in 12.5 s?', 'x', 'How many cars are within 20 m of the ego?')


@pytest.fixture(scope='module')
def build(small):
    def build_with(**changes):
        config = dataclasses.replace(small, language=dataclasses.replace(small.language, **changes))
        language = build_language(config, weights=None, seed=0)
        language.causal_lm.lm_head.weight.data *= 20  # clear greedy choices
        return language

    return build_with


@pytest.fixture(scope='module')
def scene():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(3, 30, 32, generator=generator), 20 * torch.randn(3, 30, 3, generator=generator)


@pytest.mark.parametrize(('order', 'attention'), CASES)
@torch.no_grad()
def test_questions_on_the_shared_prefix_equal_the_full_prompt(build, scene, order, attention):
    language = build(token_order=order, prefix_attention=attention)
    prompt = language.scene_prompt(scene[0][:1], scene[1][:1])
    _, shared = language.read_scene(prompt)
    for question in QUESTIONS:
        tokens = language.question_tokens([(question, None)])
        new, cached = tokens, shared
        for _ in range(6):
            hidden, cached = language.forward_embeddings(language.embed_text(torch.tensor([new])), cached)
            cold, _ = language.read_scene(prompt, language.embed_text(torch.tensor([tokens])))
            ours, theirs = language.logits(hidden[:, -1]), language.logits(cold[:, -1])
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
            assert ours.argmax() == theirs.argmax()
            new = [int(ours.argmax())]
            tokens = tokens + new


@pytest.mark.parametrize(('order', 'attention'), CASES)
@torch.no_grad()
def test_a_batch_of_scenes_equals_single_scenes(build, scene, order, attention):
    language = build(token_order=order, prefix_attention=attention)
    prompt = language.scene_prompt(*scene)
    together = prompt.at_queries(language.read_scene(prompt)[0])
    for sample in range(3):
        single = language.scene_prompt(*(part[sample : sample + 1] for part in scene))
        alone = single.at_queries(language.read_scene(single)[0])
        torch.testing.assert_close(together[sample : sample + 1], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize('order', ['space_filling', 'distance'])
@torch.no_grad()
def test_outputs_come_back_in_the_queries_order(build, scene, order):
    """Whichever way the encoder numbers its queries, each gets the same output: only places in space count."""
    language = build(token_order=order)
    features, positions_m = scene
    shuffle = torch.randperm(30, generator=torch.Generator().manual_seed(1))

    def outputs(features, positions_m):
        prompt = language.scene_prompt(features, positions_m)
        return prompt.at_queries(language.read_scene(prompt)[0])

    expected = outputs(features, positions_m)
    torch.testing.assert_close(
        outputs(features[:, shuffle], positions_m[:, shuffle]), expected[:, shuffle], rtol=0, atol=1e-4
    )
    # against the outputs at the tokens themselves
    prompt = language.scene_prompt(features, positions_m)
    hidden = language.read_scene(prompt)[0][:, prompt.occupancy]
    assert torch.equal(expected[1, prompt.order[1, 4]], hidden[1, 4])
    assert not torch.equal(expected, hidden)


@torch.no_grad()
def test_bidirectional_tokens_see_later_ones_and_text_does_not(build, scene):
    """A change of the last query reaches all visual tokens with bidirectional attention, only later ones without."""
    features, positions_m = scene[0][:1], scene[1][:1]
    changed_features = features.clone()
    changed_features[:, -1] += 1.0
    for attention in ATTENTIONS:
        language = build(prefix_attention=attention)
        prompts = [language.scene_prompt(f, positions_m) for f in (features, changed_features)]
        before, after = (language.read_scene(prompt)[0] for prompt in prompts)
        changed = (before - after).abs().amax(-1)[0] > 1e-6
        first, last = prompts[0].occupancy.start, prompts[0].occupancy.stop - 1
        assert not changed[:first].any()  # system text
        assert changed[last:].all()
        assert changed[first:last].all() == (attention == 'bidirectional')
        assert changed[first:last].any() == (attention == 'bidirectional')


@torch.no_grad()
def test_the_last_visual_token_sees_all_of_them_either_way(build, scene):
    """In one layer, where what it sees does not depend on what the others saw."""
    causal, both = (build(prefix_attention=attention, layers=1) for attention in ATTENTIONS)
    features, positions_m = scene[0][:1], scene[1][:1]
    prompt = both.scene_prompt(features, positions_m)
    torch.testing.assert_close(
        causal.read_scene(prompt)[0][:, -1], both.read_scene(prompt)[0][:, -1], rtol=0, atol=1e-5
    )
    assert (causal.read_scene(prompt)[0] - both.read_scene(prompt)[0]).abs().max() > 1e-4


def test_mask_by_hand():
    nothing = -torch.inf
    expected = torch.tensor(
        [
            [0.0, nothing, nothing, nothing, nothing],
            [0.0, 0.0, 0.0, 0.0, nothing],
            [0.0, 0.0, 0.0, 0.0, nothing],
            [0.0, 0.0, 0.0, 0.0, nothing],
            [0.0, 0.0, 0.0, 0.0, 0.0],
        ]
    )
    assert torch.equal(prefix_mask(slice(1, 4), 5, torch.device('cpu')), expected[None, None])


@torch.no_grad()
def test_eager_attention_gives_the_same(build, scene):
    language = build(prefix_attention='bidirectional')
    prompt = language.scene_prompt(*scene)
    expected, _ = language.read_scene(prompt)
    language.causal_lm.set_attn_implementation('eager')
    torch.testing.assert_close(language.read_scene(prompt)[0], expected, rtol=0, atol=1e-5)


def test_scene_tokens_are_never_cut(build, scene):
    language = build(context_length=40)
    prompt = language.scene_prompt(scene[0][:1], scene[1][:1])
    assert prompt.length > 40
    with pytest.raises(ValueError, match=f'{prompt.length} tokens exceed the context of 40'):
        language.read_scene(prompt)

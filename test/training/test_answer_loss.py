"""Answers alone are learned, through the tokens of their own scene."""

import numpy as np
import pytest
import torch
from small_language import SMALL

from sparseoccvla_ros.evaluation.replay_summary import revision
from sparseoccvla_ros.model.chat import ChatFormat
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.training.answer_loss import answer_loss
from sparseoccvla_ros.training.question_batch import QuestionBatch, TokenizedPair, question_batch, tokenize_pair
from sparseoccvla_ros.training.run_state import resume_run, save_run
from sparseoccvla_ros.training.schedule import warmed_cosine

PAIRS = [('How many cars are there?', '2 cars.'), ('Stop?', 'No, the light is green.'), ('What is ahead?', 'A bus.')]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def language() -> SceneLanguage:
    return build_language(load_model_config('tiny', SMALL), weights=None, seed=0)


@pytest.fixture
def scenes():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 12, 32, generator=generator), 20 * torch.randn(2, 12, 3, generator=generator)


#: Of two scenes: one row, and two, of three questions and two.
PAIRS_OF_SCENES = (
    [PAIRS[1]],
    [PAIRS[0], PAIRS[2], ('Where is it?', 'At (1.0, -2.5).'), ('Go?', 'No.'), ('Go?', 'Now.')],
)


def batch_of(language: SceneLanguage, pairs=PAIRS_OF_SCENES) -> QuestionBatch:
    tokenized = [[tokenize_pair(language, *pair) for pair in of_scene] for of_scene in pairs]
    return question_batch(tokenized, language.tokenizer.pad_token_id)


def loss_of(language: SceneLanguage, scenes, batch: QuestionBatch) -> torch.Tensor:
    return answer_loss(language, language.read_scene(language.scene_prompt(*scenes))[1], batch)


def test_the_mask_marks_each_answer_and_its_end(language):
    batch = batch_of(language)
    assert batch.token_ids.shape[:2] == (2, 2)
    for scene, pairs in enumerate(PAIRS_OF_SCENES):
        found = []
        for token_ids, is_answer, question in zip(
            batch.token_ids[scene], batch.is_answer[scene], batch.question[scene], strict=True
        ):
            for number in range(int(question.max()) + 1):
                told, mask = token_ids[question == number], is_answer[question == number]
                before = told[: int(mask.nonzero()[0])]
                assert bool(mask[len(before) :].all())
                words = language.tokenizer.decode(before).removeprefix('<|user|>').removesuffix('<|assistant|>')
                assert before.tolist() == language.question_tokens([(words, None)])
                found.append((words, language.tokenizer.decode(told[mask]).removesuffix('</s>')))
                assert language.tokenizer.decode(told[-1]) == '</s>'
            padding = question == -1
            assert bool((token_ids[padding] == language.tokenizer.pad_token_id).all())
            assert not bool(is_answer[padding].any())
        assert sorted(found) == sorted(pairs)


def test_rows_of_a_scene_are_about_as_long():
    rng = np.random.default_rng(0)
    pairs = [TokenizedPair(tuple(range(length)), 1) for length in rng.integers(10, 80, 14)]
    batch = question_batch([pairs, pairs[:1], []], pad_token=0)
    assert batch.question.shape[:2] == (3, 4)  # four at most on the average
    lengths = (batch.question[0] >= 0).sum(dim=-1)
    assert lengths.sum() == sum(len(pair.tokens) for pair in pairs)
    assert int(lengths.max() - lengths.min()) < 40
    assert bool((batch.question[2] == -1).all())


def test_a_template_that_prompts_otherwise_than_it_teaches_is_refused(language):
    template = "{% for m in messages %}{{ m.content }}{% if loop.last and m.role == 'user' %}?{% endif %}{% endfor %}"
    language._chat = ChatFormat(language.tokenizer, template, language.config.system_prompt)
    with pytest.raises(ValueError, match='changes the prompt'):
        tokenize_pair(language, 'Go', 'Yes')


@pytest.mark.parametrize('prefix_attention', ['causal', 'bidirectional'])
def test_loss_is_the_cross_entropy_of_each_answer_read_alone(scenes, prefix_attention):
    """Packing, padding and the shared prefix against one whole prompt at a time."""
    config = load_model_config('tiny', SMALL | {'language.prefix_attention': prefix_attention})
    language = build_language(config, weights=None, seed=0)
    language.causal_lm.lm_head.weight.data *= 20
    with torch.no_grad():
        found = loss_of(language, scenes, batch_of(language))
        terms = []
        for scene, pairs in enumerate(PAIRS_OF_SCENES):
            prompt = language.scene_prompt(scenes[0][scene][None], scenes[1][scene][None])
            for question, answer in pairs:
                asked = language.question_tokens([(question, None)])
                told = language.question_tokens([(question, answer)])
                hidden, _ = language.read_scene(prompt, language.embed_text(torch.tensor([told])))
                scores = language.logits(hidden[0, prompt.length :]).log_softmax(dim=-1)
                terms += [-scores[place - 1, told[place]] for place in range(len(asked), len(told))]
    torch.testing.assert_close(found, torch.stack(terms).mean(), atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_the_questions_one_after_the_other(language, scenes):
    loss_of(language, scenes, batch_of(language)).backward()
    packed = {
        name: parameter.grad.clone() for name, parameter in language.named_parameters() if parameter.grad is not None
    }
    language.zero_grad()
    whole = batch_of(language)
    for scene, pairs in enumerate(PAIRS_OF_SCENES):
        for pair in pairs:
            alone = batch_of(language, [[pair] if place == scene else [] for place in range(2)])
            share = alone.is_answer.sum() / whole.is_answer.sum()
            (share * loss_of(language, scenes, alone)).backward()
    assert 'connector.project.weight' in packed
    for name, parameter in language.named_parameters():
        if name in packed:
            torch.testing.assert_close(packed[name], parameter.grad, atol=1e-6, rtol=1e-4)


def test_the_context_holds_a_scene_and_one_question_not_all_of_them(scenes):
    config = load_model_config('tiny', SMALL | {'language.context_length': 48})
    language = build_language(config, weights=None, seed=0)
    many = batch_of(language, [PAIRS * 4, []])
    prefix = language.read_scene(language.scene_prompt(*scenes))[1]
    assert prefix.length + many.token_ids.shape[-1] > 48
    assert bool(answer_loss(language, prefix, many).isfinite())
    with pytest.raises(ValueError, match='exceed the context of 48'):
        answer_loss(language, prefix, batch_of(language, [[('Why? ' * 30, 'Yes.')], []]))


def test_loss_falls_and_reaches_the_connector(language, scenes):
    """Two scenes, the same question, other answers: only through the scene can the loss go below ln 2 a choice."""
    pairs = [[('What is ahead?', 'A bus.')], [('What is ahead?', 'A tree.')]]
    batch = batch_of(language, pairs)
    optimizer = torch.optim.AdamW(language.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = loss_of(language, scenes, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert bool(language.connector.project.weight.grad.abs().sum() > 0)
    assert losses[-1] < 0.05 < losses[0]
    with torch.no_grad():
        assert loss_of(language, scenes, batch.scenes([1, 0])) > 1.0


def test_resumed_equals_uninterrupted(language, scenes, tmp_path):
    def steps(model, optimizer, count):
        for _ in range(count):
            loss = loss_of(model, scenes, batch_of(model))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    path, run = tmp_path / 'state.pt', {'lr': 1e-3}
    optimizer = torch.optim.AdamW(language.parameters(), lr=1e-3)
    assert resume_run(path, run, language, optimizer) == (0, '')
    steps(language, optimizer, 2)
    save_run(path, run, language, optimizer, 2)
    whole = steps(language, optimizer, 2)
    again = build_language(load_model_config('tiny', SMALL), weights=None, seed=1)
    optimizer = torch.optim.AdamW(again.parameters(), lr=1e-3)
    assert resume_run(path, run, again, optimizer) == (2, revision())
    assert steps(again, optimizer, 2) == whole
    with pytest.raises(ValueError, match='run with another lr'):
        resume_run(path, {'lr': 2e-3}, again, optimizer)
    again.connector.requires_grad_(False)
    with pytest.raises(ValueError, match='tensors'):
        resume_run(path, run, again, optimizer)


def test_learning_rate_by_hand():
    rates = [warmed_cosine(step, 110, 2.0, 10) for step in (0, 9, 10, 60, 110)]
    assert rates == pytest.approx([0.2, 2.0, 2.0, 2.0 * (0.01 + 0.99 / 2), 0.02])

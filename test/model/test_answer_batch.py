"""Answers decoded together are what each is alone, whatever joins, leaves or fails beside it."""

import dataclasses

import pytest
import torch
from peft import LoraConfig, get_peft_model

from sparseoccvla_ros.model.answer_batch import AnswerBatch
from sparseoccvla_ros.model.language import KeyValues
from sparseoccvla_ros.model.vla import build_language

QUESTIONS = ('What do you see?', 'x', 'Is it safe to turn left in 12.5 s, and how many cars are there?', 'Go?', 'Stop?')


@pytest.fixture(scope='module', params=['causal', 'bidirectional', 'grouped'])
def language(small, request):
    """Every way that keys and values come about; 'grouped': query heads share key-value heads."""
    change = {'key_value_heads': 2} if request.param == 'grouped' else {'prefix_attention': request.param}
    language = build_language(
        dataclasses.replace(small, language=dataclasses.replace(small.language, **change)), weights=None, seed=0
    )
    language.causal_lm.lm_head.weight.data *= 20  # clear greedy choices
    return language


class Answer:
    """A greedy answer in a batch, and what the full prompt gives at each of its steps."""

    @torch.inference_mode()
    def __init__(self, language, batch, question, queries, seed, tokens=8, scale=1.0):
        generator = torch.Generator().manual_seed(seed)
        self.language = language
        self.prompt = language.scene_prompt(
            torch.randn(1, queries, 32, generator=generator), 20 * torch.randn(1, queries, 3, generator=generator)
        )
        self.text = language.question_tokens([(question, None)])
        _, self.prefix = language.read_scene(self.prompt)
        self.join(batch, tokens, scale)

    @torch.inference_mode()
    def join(self, batch, tokens, scale=1.0):
        """``scale``: of the keys and values, to spoil them."""
        text = self.language.embed_text(torch.tensor([self.text]))
        hidden, read = self.language.forward_embeddings(text, self.prefix)
        self.text = [*self.text, int(self.language.logits(hidden[0, -1]).argmax())]
        read = KeyValues(tuple((scale * keys, scale * values) for keys, values in read.layers))
        self.member = batch.add(self.prefix, read, tokens)
        return self

    @torch.inference_mode()
    def check(self, hidden):
        """Take the next token; its scores must be those of the full prompt."""
        cold, _ = self.language.read_scene(self.prompt, self.language.embed_text(torch.tensor([self.text])))
        ours, theirs = self.language.logits(hidden), self.language.logits(cold[0, -1])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
        assert ours.argmax() == theirs.argmax()
        self.text.append(int(ours.argmax()))


def go_on(batch, answers, steps):
    for _ in range(steps):
        hidden = batch.step({answer.member: answer.text[-1] for answer in answers})
        for answer in answers:
            answer.check(hidden[answer.member])


def shared(answer, batch, question):
    """Another question about the same scene."""
    other = object.__new__(Answer)
    other.language, other.prompt, other.prefix = answer.language, answer.prompt, answer.prefix
    other.text = answer.language.question_tokens([(question, None)])
    return other.join(batch, 8)


def test_answers_of_one_and_of_several_scenes_equal_the_full_prompts(language):
    """Lengths of prefix and question differ; two share a scene."""
    batch = AnswerBatch(language)
    first = Answer(language, batch, QUESTIONS[0], queries=30, seed=1)
    go_on(batch, [first], 2)
    second = shared(first, batch, QUESTIONS[2])
    third = Answer(language, batch, QUESTIONS[1], queries=17, seed=2)
    go_on(batch, [first, second, third], 3)
    batch.remove(first.member)  # the others move and go on
    go_on(batch, [third, second], 2)
    fourth = Answer(language, batch, QUESTIONS[3], queries=30, seed=3)
    go_on(batch, [second, third, fourth], 2)
    for answer in (second, third, fourth):
        batch.remove(answer.member)
    assert (len(batch), batch.nbytes) == (0, 0)
    batch.remove(first.member)  # again is no harm


def test_prefixes_stay_as_they_are(language):
    batch = AnswerBatch(language)
    answer = Answer(language, batch, QUESTIONS[0], queries=30, seed=1)
    before = [tensor.clone() for layer in answer.prefix.layers for tensor in layer]
    go_on(batch, [answer], 5)
    after = [tensor for layer in answer.prefix.layers for tensor in layer]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_an_answer_that_broke_leaves_nothing_to_the_next_in_its_row(language):
    batch = AnswerBatch(language)
    good = Answer(language, batch, QUESTIONS[0], queries=30, seed=1)
    bad = Answer(language, batch, QUESTIONS[2], queries=30, seed=2, scale=torch.nan)
    hidden = batch.step({answer.member: answer.text[-1] for answer in (good, bad)})
    good.check(hidden[good.member])
    assert hidden[bad.member].isnan().any()
    batch.remove(bad.member)
    after = Answer(language, batch, QUESTIONS[1], queries=30, seed=3)
    go_on(batch, [good, after], 2)


def test_memory_is_that_of_the_tails(language, small):
    batch = AnswerBatch(language)
    answers = [Answer(language, batch, 'x', queries=30, seed=1, tokens=40) for _ in range(4)]
    llm = language.config
    per_token = 2 * llm.layers * llm.key_value_heads * (llm.width // llm.attention_heads) * 4
    assert batch.nbytes == 4 * 64 * per_token
    assert answers[0].prefix.nbytes == answers[0].prompt.length * per_token
    for answer in answers[1:]:
        batch.remove(answer.member)
    again = Answer(language, batch, 'x', queries=30, seed=1, tokens=40)
    assert batch.nbytes == 4 * 64 * per_token  # kept for the next, never more than the most at once
    go_on(batch, [answers[0], again], 1)


def test_what_does_not_fit_is_refused(language):
    batch = AnswerBatch(language)
    with pytest.raises(ValueError, match='exceed the context of 256'):
        Answer(language, batch, QUESTIONS[0], queries=30, seed=1, tokens=250)
    assert len(batch) == 0
    answer = Answer(language, batch, QUESTIONS[0], queries=30, seed=1, tokens=2)
    with pytest.raises(ValueError, match='0 tokens for the 1 answers'):
        batch.step({})
    go_on(batch, [answer], 2)
    with pytest.raises(ValueError, match='has room for'):
        batch.step({answer.member: 5})


def test_adapters_count_in_the_batch_too(small):
    language = build_language(small, weights=None, seed=0)
    batch = AnswerBatch(language)
    torch.manual_seed(0)
    language.llm = get_peft_model(
        language.llm, LoraConfig(r=4, target_modules=['q_proj', 'down_proj'], task_type='CAUSAL_LM')
    )
    with torch.no_grad():
        for name, parameter in language.llm.named_parameters():
            if 'lora_B' in name:
                parameter.normal_(0.0, 0.5)
    language.eval()
    go_on(batch, [Answer(language, batch, QUESTIONS[0], queries=30, seed=1)], 3)


def test_bf16(small):
    language = build_language(dataclasses.replace(small, precision='bf16'), weights=None)
    batch = AnswerBatch(language)
    answers = [Answer(language, batch, question, queries=30, seed=1) for question in QUESTIONS[:2]]
    hidden = batch.step({answer.member: answer.text[-1] for answer in answers})
    with torch.inference_mode():
        for answer in answers:
            cold, _ = language.read_scene(answer.prompt, language.embed_text(torch.tensor([answer.text])))
            assert (hidden[answer.member] - cold[0, -1]).norm() < 0.03 * cold[0, -1].norm()
            assert hidden[answer.member].dtype == torch.float32

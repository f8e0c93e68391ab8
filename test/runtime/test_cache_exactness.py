"""Scores on the kept scene equal those of the whole prompt, token by token, whatever happened to the cache before."""

import threading

import pytest
import torch
from made_scenes import scene
from peft import LoraConfig, get_peft_model

from sparseoccvla_ros.model.language import new_llm
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.runtime.decoding import AllowedTokens
from sparseoccvla_ros.runtime.questions import Question, QuestionLimits
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine

WAIT_S = 60.0
TOKENS = 4
PROMPTS = (
    'What is ahead?',
    'How many cars are within 20 m of the ego vehicle?',
    'Is it safe to turn left in 12.5 s?',
    'x',
    'Где пешеход? 🚗',
)


class Asked:
    """The engine over a model of its own, and every score that it has picked from."""

    def __init__(self, config, cpu):
        self.model = build_language(config, weights=None, seed=0)
        self.allowed = AllowedTokens(self.model.tokenizer, config.language.vocabulary)
        self.scenes = [scene(stamp_ns, config) for stamp_ns in (1_000, 2_000, 3_000)]
        self.picked_from = []
        logits = self.model.logits

        def keep(hidden):
            self.picked_from.append(logits(hidden).reshape(-1))
            return logits(hidden)

        self.cold_logits, self.model.logits = logits, keep
        self.engine = ReasoningEngine(self.model, config, cpu, QuestionLimits(default_max_tokens=TOKENS))
        for queries in self.scenes:
            self.read(queries)

    def read(self, queries):
        done = threading.Event()
        self.engine.submit_scene(queries, lambda result: done.set())
        assert done.wait(WAIT_S)

    def switch(self, name, folder):
        done, told = threading.Event(), []
        self.engine.set_adapter(name, folder, lambda refusal: (told.append(refusal), done.set()))
        assert done.wait(WAIT_S)
        assert told == ['']

    def check(self, text, queries, turns=(), **fields):
        """Ask, and compare every score and the answer with the whole prompt's; the answer's text."""
        self.picked_from.clear()
        answer = self.engine.ask(Question(text, stamp_ns=queries.stamp_ns, **fields)).wait(WAIT_S)
        assert answer.success, answer.message
        assert answer.cached_tokens == self.engine.prefix_tokens
        tokens = self.model.question_tokens([*turns, (text, None)])
        asked = len(tokens)
        for scores in self.picked_from:
            cold = self.cold(queries, tokens)
            torch.testing.assert_close(scores, cold, rtol=0, atol=1e-4)
            token = int(self.allowed.mask(cold, first=len(tokens) == asked).argmax())
            tokens = [*tokens, token]
        told = self.model.tokenizer.decode(tokens[asked:], skip_special_tokens=True)
        assert answer.answer == told.rstrip('\ufffd')
        assert len(self.picked_from) == TOKENS
        return answer.answer

    @torch.inference_mode()
    def cold(self, queries, tokens):
        prompt = self.model.scene_prompt(queries.features[None], queries.positions_ego[None])
        hidden, _ = self.model.read_scene(prompt, self.model.embed_text(torch.tensor([tokens])))
        return self.cold_logits(hidden[0, -1])


@pytest.fixture
def asked(config, cpu):
    asked = Asked(config, cpu)
    yield asked
    asked.engine.close()


@pytest.fixture
def adapters(config, tmp_path):
    """Two that are heard."""
    for seed, name in enumerate(('night', 'rain')):
        torch.manual_seed(seed)
        lora = LoraConfig(r=4, target_modules=['q_proj', 'k_proj', 'down_proj'], task_type='CAUSAL_LM')
        adapted = get_peft_model(new_llm(config.language), lora)
        with torch.no_grad():
            for weight_name, parameter in adapted.named_parameters():
                if 'lora_' in weight_name:
                    parameter.normal_(0.0, 0.2)
        adapted.save_pretrained(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize('text', PROMPTS)
def test_over_a_set_of_prompts(asked, text):
    asked.check(text, asked.scenes[-1])


def test_of_past_scenes_in_any_order(asked):
    scores = []
    for place in (0, 2, 1, 0):
        asked.check(PROMPTS[0], asked.scenes[place])
        scores.append(asked.picked_from[0])
    # a model that has learnt nothing may give two scenes one answer; its scores tell them apart
    assert min((scores[0] - scores[1]).abs().max(), (scores[1] - scores[2]).abs().max()) > 1e-2
    torch.testing.assert_close(scores[3], scores[0], rtol=0, atol=1e-4)


def test_in_the_turns_of_a_conversation_about_several_scenes(asked):
    turns = []
    for text, place in zip(PROMPTS, (2, 2, 0, 1, 2), strict=True):
        answer = asked.check(text, asked.scenes[place], turns, conversation_id='talk')
        turns.append((text, answer))


def test_after_adapters_were_switched(asked, adapters):
    """Nothing read with another adapter is used again: not for old scenes, not for the newest, not for turns."""
    newest = asked.scenes[-1]
    plain = asked.check(PROMPTS[0], newest, conversation_id='talk')
    turns, answers = [(PROMPTS[0], plain)], [plain]
    for name in ('night', 'rain', 'night', ''):
        asked.switch(name, adapters / name if name else None)
        assert asked.engine.kept_scenes == (newest.stamp_ns,)
        answer = asked.check(PROMPTS[1], newest, turns, conversation_id='talk')
        turns.append((PROMPTS[1], answer))
        answers.append(asked.check(PROMPTS[0], newest))
        if name == 'rain':  # scenes go on meanwhile
            asked.read(asked.scenes[0])
            asked.check(PROMPTS[0], asked.scenes[0])
            asked.read(newest)
    assert answers[4] == answers[0]
    assert answers[1] == answers[3]
    assert len(set(answers)) == 3

"""What questions and the planning prompt cost: a cached scene beside a cold prompt, answers together beside in turn.

Everything runs in one process with one model, untrained (the time does not depend on the weights). What is compared is
measured in turn, so that a busy machine slows both sides. Nothing is reported unless both sides gave the same result.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.runtime.questions import Answer, PendingAnswer, Question, QuestionLimits
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine, SceneResult
from sparseoccvla_ros.runtime.scene import SceneQueries

Size = Literal['tiny', 'middle']
#: Changes to the tiny configuration: the shipped stack; a made-up Llama of 26 M parameters with the paper's queries.
SIZES: Mapping[Size, Mapping[str, Any]] = {
    'tiny': {},
    'middle': {
        'encoder.queries': 600,
        'language.width': 512,
        'language.ffn_width': 1408,
        'language.layers': 8,
        'language.attention_heads': 8,
        'language.key_value_heads': 8,
    },
}
#: Asked together, one per running answer.
QUESTIONS = (
    'How many cars are ahead?',
    'Is it safe to turn left?',
    'What is the nearest pedestrian doing, and how far away is it?',
    'Describe the scene.',
)
ANSWER_TOKENS = 32
#: Largest difference of scores, and of planning tokens, that counts as the same result, of values about 1.
TOLERANCE = 1e-4
#: Scenes with answers streaming and without are measured in this many blocks of each, in turn.
BLOCKS = 4
TIME_LIMIT_S = 600.0


@dataclass(frozen=True)
class LanguageCost:
    """The figures of one size; times in milliseconds, medians where nothing else is said."""

    size: Size
    queries: int
    #: Tokens of a scene's prefix.
    prefix_tokens: int
    #: From the question to the first token of its answer: full prompt, and on the scene's keys and values.
    cold_first_token_ms: float
    cached_first_token_ms: float
    #: Four answers, tokens a second: one after the other, at once about one scene, at once about four scenes.
    in_turn_tokens_per_s: float
    together_tokens_per_s: float
    apart_tokens_per_s: float
    #: One token of each of four answers about one scene, with its share of the time that reading the questions took.
    round_ms: float
    #: From handing a scene over to its planning tokens, nothing else running, and with four answers streaming.
    idle_p50_ms: float
    idle_p99_ms: float
    streaming_p50_ms: float
    streaming_p99_ms: float
    #: Memory of a kept scene, MiB.
    scene_mib: float

    @property
    def first_token_ratio(self) -> float:
        """How much earlier the first token comes on a cached scene."""
        return self.cold_first_token_ms / self.cached_first_token_ms

    @property
    def together_ratio(self) -> float:
        """How much faster four answers about one scene are at once than in turn."""
        return self.together_tokens_per_s / self.in_turn_tokens_per_s

    @property
    def p99_ratio(self) -> float:
        """The p99 of a scene with answers streaming, less one round, over that without."""
        return (self.streaming_p99_ms - self.round_ms) / self.idle_p99_ms


class LanguageBench:
    """One model with the engine that nodes use, four scenes read. :meth:`close` must be called."""

    def __init__(self, size: Size) -> None:
        self.config: VLAConfig = load_model_config('tiny', SIZES[size])
        self.language: SceneLanguage = build_language(self.config, weights=None, seed=0)
        limits = QuestionLimits(kept_scenes=len(QUESTIONS), max_running=len(QUESTIONS), time_limit_s=TIME_LIMIT_S)
        self.engine = ReasoningEngine(self.language, self.config, torch.device('cpu'), limits)
        self.scenes = [self._scene(stamp_ns) for stamp_ns in range(1, 1 + len(QUESTIONS))]
        for scene in self.scenes:
            self.read(scene)

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()

    def _scene(self, stamp_ns: int) -> SceneQueries:
        generator = torch.Generator().manual_seed(stamp_ns)
        Q, C = self.config.encoder.queries, self.config.encoder.width
        return SceneQueries(
            stamp_ns=stamp_ns,
            features=torch.randn(Q, C, generator=generator),
            positions_ego=torch.randn(Q, 3, generator=generator) * torch.tensor([15.0, 15.0, 1.0]),
            scores=torch.rand(Q, generator=generator),
            cameras_used=('CAM_FRONT',),
            cameras_missing={},
            temporal=False,
        )

    def read(self, scene: SceneQueries) -> tuple[SceneResult, float]:
        """A scene's result, and how long it took, milliseconds.

        Raises:
            RuntimeError: the scene failed.
        """
        results: list[SceneResult] = []
        done = threading.Event()

        def keep(result: SceneResult) -> None:
            results.append(result)
            done.set()

        begin_s = time.perf_counter()
        self.engine.submit_scene(scene, keep)
        done.wait()
        took_ms = 1e3 * (time.perf_counter() - begin_s)
        if results[0].failure:
            raise RuntimeError(f'reading a scene: {results[0].failure}')
        return results[0], took_ms

    def ask(self, text: str, tokens: int, stamp_ns: int) -> PendingAnswer:
        """Begin an answer."""
        return self.engine.ask(Question(text, max_tokens=tokens, stamp_ns=stamp_ns))

    def answered(self, pending: PendingAnswer) -> Answer:
        """Wait for an answer. One without visible text took as long as any: random weights may give such tokens.

        Raises:
            RuntimeError: there is none.
        """
        answer = pending.wait()
        if answer is None or not (answer.success or 'no visible text' in answer.message):
            raise RuntimeError(f'asking: {answer.message if answer else "no answer"}')
        return answer

    @torch.inference_mode()
    def cold(self, text: str, scene: SceneQueries) -> torch.Tensor:
        """Scores of the first token from the full prompt, as :meth:`cached` gives them."""
        tokens = torch.tensor([self.language.question_tokens([(text, None)])])
        prompt = self.language.scene_prompt(scene.features[None], scene.positions_ego[None])
        hidden, _ = self.language.read_scene(prompt, self.language.embed_text(tokens))
        return self.language.logits(hidden[0, -1])

    @torch.inference_mode()
    def cached(self, text: str, scene: SceneQueries) -> torch.Tensor:
        """Scores of the first token on top of the scene's keys and values."""
        prompt = self.language.scene_prompt(scene.features[None], scene.positions_ego[None])
        _, key_values = self.language.read_scene(prompt)
        tokens = torch.tensor([self.language.question_tokens([(text, None)])])
        hidden, _ = self.language.forward_embeddings(self.language.embed_text(tokens), key_values)
        return self.language.logits(hidden[0, -1])

    def first_token_ms(self, repeats: int) -> tuple[float, float]:
        """Cold, cached; the cached one as the engine's answers tell it, queue and tokenizer included.

        Raises:
            ArithmeticError: the scores of the first token differ.
        """
        scene = self.scenes[0]
        cold_ms, cached_ms = [], []
        for text in QUESTIONS:
            _require_same('first token', self.cold(text, scene), self.cached(text, scene))
        for text in QUESTIONS * repeats:
            begin_s = time.perf_counter()
            int(self.cold(text, scene).argmax())
            cold_ms.append(1e3 * (time.perf_counter() - begin_s))
            cached_ms.append(self.answered(self.ask(text, 1, scene.stamp_ns)).first_token_ms)
        return statistics.median(cold_ms), statistics.median(cached_ms)

    def tokens_per_s(self, repeats: int) -> tuple[float, float, float, float]:
        """Four answers: in turn, at once about one scene, at once about four scenes; and a round's milliseconds.

        Raises:
            ArithmeticError: an answer is not the same in turn and at once.
        """
        one = [self.scenes[0].stamp_ns] * len(QUESTIONS)
        four = [scene.stamp_ns for scene in self.scenes]
        in_turn, together, apart, round_ms = [], [], [], []
        for _ in range(repeats):
            alone, seconds = self._answers(one, at_once=False)
            in_turn.append(_tokens(alone) / seconds)
            for stamps, rates in ((one, together), (four, apart)):
                answers, seconds = self._answers(stamps, at_once=True)
                rates.append(_tokens(answers) / seconds)
                expected = alone if stamps is one else self._answers(four, at_once=False)[0]
                if [answer.answer for answer in answers] != [answer.answer for answer in expected]:
                    raise ArithmeticError('answers given at once are not those given in turn')
                if stamps is one:
                    round_ms.append(1e3 * seconds / max(answer.generated_tokens for answer in answers))
        return tuple(statistics.median(values) for values in (in_turn, together, apart, round_ms))

    def _answers(self, stamps_ns: Sequence[int], *, at_once: bool) -> tuple[list[Answer], float]:
        """The answers to all questions, and how long they took, seconds."""
        begin_s = time.perf_counter()
        if at_once:
            pending = [
                self.ask(text, ANSWER_TOKENS, stamp_ns) for text, stamp_ns in zip(QUESTIONS, stamps_ns, strict=True)
            ]
            answers = [self.answered(one) for one in pending]
        else:
            answers = [
                self.answered(self.ask(text, ANSWER_TOKENS, stamp_ns))
                for text, stamp_ns in zip(QUESTIONS, stamps_ns, strict=True)
            ]
        return answers, time.perf_counter() - begin_s

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Four answers run all the time; each that ends is asked again."""
        stopping = threading.Event()
        running: dict[str, PendingAnswer] = {}

        def ask(text: str) -> None:
            question = Question(text, max_tokens=self.engine.limits.max_answer_tokens)
            running[text] = self.engine.ask(question, lambda answer: None if stopping.is_set() else ask(text))

        for text in QUESTIONS:
            ask(text)
        yield
        stopping.set()
        for pending in running.values():
            pending.cancel()
        for pending in running.values():
            pending.wait()

    def scene_ms(self, scenes: int, round_ms: float) -> tuple[list[float], list[float]]:
        """Durations of ``scenes`` scenes each: nothing else running, and with four answers streaming.

        Raises:
            ArithmeticError: the planning tokens are not the same.
        """
        idle_ms: list[float] = []
        streaming_ms: list[float] = []
        pause = random.Random(0)
        scene = self.scenes[-1]
        expected = self.read(scene)[0].reasoning.tokens
        for _ in range(BLOCKS):
            for _ in range(-(-scenes // BLOCKS)):
                idle_ms.append(self.read(scene)[1])
                time.sleep(pause.uniform(0.0, 2e-3 * round_ms))
            with self.streaming():
                time.sleep(20e-3 * round_ms)  # until all have begun
                for _ in range(-(-scenes // BLOCKS)):
                    result, took_ms = self.read(scene)
                    _require_same('planning tokens', result.reasoning.tokens, expected)
                    streaming_ms.append(took_ms)
                    time.sleep(pause.uniform(0.0, 2e-3 * round_ms))  # so that a scene comes in the middle of a round
        return idle_ms, streaming_ms


def measure(size: Size, *, repeats: int, scenes: int, threads: int) -> LanguageCost:
    """All figures of one size.

    Args:
        repeats: runs of what is reported as a median.
        scenes: scenes read for each percentile.
        threads: of torch, on the CPU.

    Raises:
        ArithmeticError: two sides of a comparison do not give the same result.
    """
    torch.set_num_threads(threads)
    bench = LanguageBench(size)
    try:
        bench.first_token_ms(1)  # warms up
        cold_ms, cached_ms = bench.first_token_ms(repeats)
        in_turn, together, apart, round_ms = bench.tokens_per_s(repeats)
        idle_ms, streaming_ms = bench.scene_ms(scenes, round_ms)
        with torch.inference_mode():
            scene = bench.scenes[0]
            _, key_values = bench.language.read_scene(
                bench.language.scene_prompt(scene.features[None], scene.positions_ego[None])
            )
    finally:
        bench.close()
    percentiles = [float(np.percentile(values, rank)) for values in (idle_ms, streaming_ms) for rank in (50, 99)]
    return LanguageCost(
        size,
        bench.config.encoder.queries,
        key_values.length,
        cold_ms,
        cached_ms,
        in_turn,
        together,
        apart,
        round_ms,
        *percentiles,
        scene_mib=key_values.nbytes / 2**20,
    )


def table(costs: Sequence[LanguageCost]) -> str:
    """The figures as Markdown."""
    rows = [
        ('first token, cold prompt, ms', [f'{cost.cold_first_token_ms:.1f}' for cost in costs]),
        ('first token, cached scene, ms', [f'{cost.cached_first_token_ms:.1f}' for cost in costs]),
        ('earlier by', [f'{cost.first_token_ratio:.1f}x' for cost in costs]),
        ('four answers in turn, tokens/s', [f'{cost.in_turn_tokens_per_s:.0f}' for cost in costs]),
        ('four at once, one scene, tokens/s', [f'{cost.together_tokens_per_s:.0f}' for cost in costs]),
        ('four at once, four scenes, tokens/s', [f'{cost.apart_tokens_per_s:.0f}' for cost in costs]),
        ('faster at once (one scene) by', [f'{cost.together_ratio:.1f}x' for cost in costs]),
        ('one token of each of four, ms', [f'{cost.round_ms:.1f}' for cost in costs]),
        ('scene, p50 / p99, ms', [f'{cost.idle_p50_ms:.1f} / {cost.idle_p99_ms:.1f}' for cost in costs]),
        (
            'scene with four answers streaming, p50 / p99, ms',
            [f'{cost.streaming_p50_ms:.1f} / {cost.streaming_p99_ms:.1f}' for cost in costs],
        ),
        ('p99 less one round, over the p99 alone', [f'{cost.p99_ratio:.2f}' for cost in costs]),
        ('memory of a kept scene, MiB', [f'{cost.scene_mib:.1f}' for cost in costs]),
    ]
    sizes = ' | '.join(f'{cost.size}: {cost.queries} queries, {cost.prefix_tokens} tokens' for cost in costs)
    lines = [f'| what | {sizes} |', '|---' * (1 + len(costs)) + '|']
    return '\n'.join(lines + [f'| {what} | {" | ".join(values)} |' for what, values in rows])


def _tokens(answers: Sequence[Answer]) -> int:
    return sum(answer.generated_tokens for answer in answers)


def _require_same(what: str, ours: torch.Tensor, expected: torch.Tensor) -> None:
    difference = (ours - expected).abs().max().item()
    if not difference <= TOLERANCE:
        raise ArithmeticError(f'{what}: the results differ by {difference}, more than {TOLERANCE}')

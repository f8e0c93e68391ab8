"""Scenes into language: one prefill per scene, used by the forecast, the planning prompt and every question."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from sparseoccvla_ros.model.adapters import activate, active_adapter, adapter_version
from sparseoccvla_ros.model.answer_batch import AnswerBatch
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.runtime.answering import AnswerContext, AnswerJob, decode_together
from sparseoccvla_ros.runtime.conversation import Conversations
from sparseoccvla_ros.runtime.decoding import AllowedTokens, turn_end
from sparseoccvla_ros.runtime.finite import require_finite
from sparseoccvla_ros.runtime.occupancy import scene_points
from sparseoccvla_ros.runtime.prefix import PrefixCache, ScenePrefix
from sparseoccvla_ros.runtime.questions import Answer, PendingAnswer, Question, QuestionLimits, QuestionRefused, checked
from sparseoccvla_ros.runtime.scene import Forecast, SceneQueries, SceneReasoning
from sparseoccvla_ros.runtime.scheduler import Scheduler
from sparseoccvla_ros.runtime.timing import StageTimer


@dataclass(frozen=True)
class SceneResult:
    """What became of a submitted scene. Exactly one result comes for each.

    ``failure`` is '' if all went well; else 'superseded' (a newer scene came before this one was begun), 'reset',
    'stopped', or the name and text of an error, and then ``reasoning`` is None.
    """

    stamp_ns: int
    reasoning: SceneReasoning | None = None
    failure: str = ''

    @property
    def forecast(self) -> Forecast:
        """Empty where there is no reasoning."""
        return () if self.reasoning is None else self.reasoning.forecast


SceneCallback = Callable[[SceneResult], None]


class ReasoningEngine:
    """Owns the language part and the one thread that runs it. All methods may be called from any thread.

    Callbacks run on that thread (or on the calling one, where a job is refused at once): they must be short, and must
    not wait for the engine. :meth:`close` must be called.

    Args:
        model: the language part, in eval mode, on ``device``.
        config: its configuration.
        device: where it computes.
        limits: of questions and memories.
        score_threshold: least class probability of an occupied point of the forecast.
        clock: steady seconds, for time limits and durations of answers.

    Raises:
        ValueError: model and tokenizer do not fit together, or a threshold outside 0..1.
    """

    def __init__(
        self,
        model: SceneLanguage,
        config: VLAConfig,
        device: torch.device,
        limits: QuestionLimits | None = None,
        *,
        score_threshold: float = 0.5,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not 0.0 <= score_threshold <= 1.0:
            raise ValueError(f'score_threshold ({score_threshold}) must be in 0..1')
        self.limits = limits or QuestionLimits()
        self.context_length = config.language.context_length
        self._model = model
        self._config = config
        self._device = device
        self._score_threshold = score_threshold
        self._clock = clock
        self._planning_tokens = model.planning_tokens()
        self._newest: SceneQueries | None = None  # of the worker thread
        self._switching = threading.Lock()  # held from the acceptance of a switch until its end is told
        self._adapter: tuple[str, tuple] = ('', ())  # name, and version of the files that were read
        self._switches = 0  # of the worker thread
        self._scenes = PrefixCache(self.limits.kept_scenes)
        self._conversations = Conversations(self.limits.max_conversations, self.limits.max_turns)
        self._answers = AnswerContext(
            model=model,
            batch=AnswerBatch(model),
            device=device,
            allowed=AllowedTokens(model.tokenizer, config.language.vocabulary, turn_end(model)),
            context_length=self.context_length,
            conversations=self._conversations,
            adapter=lambda: self._switches,
            clock=clock,
        )
        self._scheduler = Scheduler(
            'language',
            partial(decode_together, self._answers),
            max_running=self.limits.max_running,
            max_waiting=self.limits.max_waiting,
        )

    @property
    def kept_scenes(self) -> tuple[int, ...]:
        """Stamps of the scenes that can be asked about, in the order they came."""
        return self._scenes.stamps

    @property
    def prefix_tokens(self) -> int:
        """Length of the newest scene's prefix, 0 before any scene."""
        prefix = self._scenes.get(0)
        return prefix.length if prefix else 0

    @property
    def counts(self) -> Counter[str]:
        """Counters since the start: 'superseded', 'busy', 'error: <type>' (a copy)."""
        return self._scheduler.counts

    @property
    def stopped(self) -> bool:
        """Whether nothing is accepted any more: closed, or a defect has ended the thread."""
        return self._scheduler.stopped

    @property
    def adapter(self) -> str:
        """Name of the active LoRA adapter, '' for none."""
        return self._adapter[0]

    def set_adapter(self, name: str, folder: Path | None, on_done: Callable[[str], None]) -> None:
        """Switch the language model to a LoRA adapter, or back to none, once every earlier question is answered.

        Questions and further switches that come meanwhile are refused as busy. Scenes read with the old adapter are
        forgotten, except the newest, which is read again. Where the adapter is the active one already, and its files
        are still those that were read, nothing is done.

        Args:
            name: what :attr:`adapter` will say; '' with ``folder`` None switches adapters off.
            folder: peft's form, see :meth:`SceneLanguage.switch_adapter`.
            on_done: gets '' or why nothing has changed, on the engine's thread or at once.
        """
        if not self._switching.acquire(blocking=False):
            on_done('busy: another switch waits')
            return
        job = _AdapterJob(self, name, folder, on_done)
        if self._scheduler.submit_idle(job):  # never 'busy': the lock lets one switch in at a time
            job.fail('the reasoning engine is stopped')

    def submit_scene(self, queries: SceneQueries, callback: SceneCallback) -> None:
        """Read a scene as soon as the thread is free. A scene that still waits is replaced by this one and told so."""
        self._scheduler.submit_urgent(_SceneJob(self, queries, callback, self._scenes.epoch))

    def ask(
        self,
        question: Question,
        on_done: Callable[[Answer], None] | None = None,
        on_text: Callable[[str, int], None] | None = None,
    ) -> PendingAnswer:
        """Ask about a scene. Never blocks: what cannot be answered is refused at once, with ``on_done`` called before
        this returns.

        Args:
            question: see :class:`Question`.
            on_done: gets the answer, once.
            on_text: gets each added piece of text and the number of tokens so far.

        Returns:
            A handle to wait for the answer or to cancel it.
        """
        arrival_s = self._clock()
        pending = PendingAnswer(on_done, on_text)
        try:
            if self._scheduler.stopped:
                raise QuestionRefused('the reasoning engine is stopped')
            if self._switching.locked():
                raise QuestionRefused('busy: the adapter is being switched')
            question = checked(question, self.limits)
            job = AnswerJob(self._answers, question, self._scene_of(question), pending, arrival_s)
            refusal = self._scheduler.submit(job)
            if refusal:
                waiting = f'busy: {self.limits.max_waiting} questions wait already'
                raise QuestionRefused(waiting if refusal == 'busy' else 'the reasoning engine is stopped')
        except QuestionRefused as refused:
            total_ms = (self._clock() - arrival_s) * 1e3
            pending.finish(Answer(success=False, message=str(refused), total_ms=total_ms))
        return pending

    def reset(self) -> None:
        """Forget scenes and conversations (clock jump). A scene that waits or is being read fails with 'reset'; answers
        that run go on, as they carry their scene and its stamp with them.
        """
        self._scenes.clear()
        self._conversations.clear()
        self._scheduler.drop_urgent('reset')

    def close(self) -> None:
        """Stop: whatever waits or runs is told so. Returns when the thread has ended."""
        self._scheduler.close()

    def _scene_of(self, question: Question) -> ScenePrefix:
        prefix = self._scenes.get(question.stamp_ns)
        if prefix is not None:
            return prefix
        kept = self._scenes.stamps
        if not kept:
            raise QuestionRefused('no scene has been seen yet')
        raise QuestionRefused(
            f'scene {question.stamp_ns} is not kept (any longer); {len(kept)} scenes are, from {kept[0]} to {kept[-1]}'
        )

    def _read(self, queries: SceneQueries, epoch: int) -> SceneResult:
        """Prefix, forecast and planning prompt of one scene (on the worker thread)."""
        timer = StageTimer(self._device)
        features, positions_m = self._batch_of_one(queries)
        with torch.inference_mode():
            with timer.stage('prefill'):
                prefix, hidden = self._prefill(queries)
            with timer.stage('forecast'):
                forecast = self._forecast(hidden, features, positions_m)
            with timer.stage('planning_prompt'):
                token_ids = torch.tensor([self._planning_tokens], dtype=torch.long, device=self._device)
                planning, _ = self._model.forward_embeddings(self._model.embed_text(token_ids), prefix.key_values)
                tokens = planning[0].float()
        require_finite('language model', tokens)
        if not self._scenes.put(prefix, epoch):
            return SceneResult(queries.stamp_ns, failure='reset')
        self._newest = queries
        reasoning = SceneReasoning(
            stamp_ns=queries.stamp_ns,
            tokens=tokens,
            prefix_tokens=prefix.length,
            prompt_tokens=len(self._planning_tokens),
            stage_ms=timer.stage_ms,
            forecast=forecast,
        )
        return SceneResult(queries.stamp_ns, reasoning)

    def _batch_of_one(self, queries: SceneQueries) -> tuple[torch.Tensor, torch.Tensor]:
        return queries.features.to(self._device)[None], queries.positions_ego.to(self._device)[None]

    def _prefill(self, queries: SceneQueries) -> tuple[ScenePrefix, torch.Tensor]:
        """The scene's prefix, and the outputs at its occupancy tokens [1, Q, D] in the queries' order."""
        prompt = self._model.scene_prompt(*self._batch_of_one(queries))
        hidden, key_values = self._model.read_scene(prompt)
        require_finite('language model', hidden)
        prefix = ScenePrefix(queries.stamp_ns, key_values, prompt.length, self._switches)
        return prefix, prompt.at_queries(hidden)

    def _switch(self, name: str, folder: Path | None) -> None:
        """On the worker thread, with no answer running. An error leaves everything as it was."""
        adapter = (name, adapter_version(folder))
        if adapter == self._adapter:
            return
        epoch = self._scenes.epoch
        newest = self._newest if self._scenes.stamps else None
        before = active_adapter(self._model.llm)
        self._model.switch_adapter(name, folder)
        self._switches += 1
        try:
            with torch.inference_mode():
                prefix = None if newest is None else self._prefill(newest)[0]
        except BaseException:
            activate(self._model.llm, before)
            self._switches -= 1
            raise
        self._adapter = adapter
        self._scenes.forget()
        if prefix is not None:
            self._scenes.put(prefix, epoch)

    def _forecast(self, hidden: torch.Tensor, features: torch.Tensor, positions_m: torch.Tensor) -> Forecast:
        horizons = self._model.forecast(hidden, features, positions_m)
        for points_m, logits in horizons:
            require_finite('forecaster', points_m, logits)
        return tuple(
            (horizon_s, scene_points(points_m, logits, self._config.space, self._score_threshold))
            for horizon_s, (points_m, logits) in zip(self._config.forecaster.horizons_s, horizons, strict=True)
        )


class _SceneJob:
    """An urgent job; the epoch tells whether the engine was reset meanwhile."""

    def __init__(self, engine: ReasoningEngine, queries: SceneQueries, callback: SceneCallback, epoch: int) -> None:
        self._engine = engine
        self._queries = queries
        self._callback = callback
        self._epoch = epoch
        self._told = False

    def run(self) -> None:
        self._tell(self._engine._read(self._queries, self._epoch))

    def fail(self, reason: str) -> None:
        self._tell(SceneResult(self._queries.stamp_ns, failure=reason))

    def _tell(self, result: SceneResult) -> None:
        # Once: an error that the callback itself raised must not call it again.
        if not self._told:
            self._told = True
            self._callback(result)


class _AdapterJob:
    """Waits until the language model is idle. Its end, told once, lets questions and the next switch in again."""

    def __init__(self, engine: ReasoningEngine, name: str, folder: Path | None, on_done: Callable[[str], None]) -> None:
        self._engine = engine
        self._name = name
        self._folder = folder
        self._on_done = on_done
        self._told = False

    def run(self) -> None:
        self._engine._switch(self._name, self._folder)
        self._tell('')

    def fail(self, reason: str) -> None:
        self._tell(reason)

    def _tell(self, refusal: str) -> None:
        # Once: an error that on_done itself raised must not call it again, nor let in a second switch.
        if not self._told:
            self._told = True
            self._engine._switching.release()
            self._on_done(refusal)

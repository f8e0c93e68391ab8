"""Questions about keyframes, asked through the engines that run on the car.

Keyframes of a scene go in time order, so that each uses the features of earlier frames and never of later ones; each is
read once by the language model and its questions share that prefix. A question that gets no answer is a failure with
its reason; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from sparseoccvla_ros.data.keyframes import keyframe_view
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables, Sample
from sparseoccvla_ros.data.qa.pairs import QAPair
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.runtime.finite import NonFiniteOutput
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.questions import Question
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine, SceneResult


@dataclass(frozen=True)
class AnswerFailure:
    """A question without answer, and why."""

    sample: str
    question: str
    reason: str


@dataclass
class LanguageRun:
    """Answers by sample token and question, one each. ``degraded`` counts keyframes read without some camera,
    ``temporal`` those that used earlier frames.
    """

    answers: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    failures: list[AnswerFailure] = field(default_factory=list)
    keyframes: int = 0
    degraded: int = 0
    temporal: int = 0


@dataclass(frozen=True)
class Engines:
    """The stages that answer: perception, its configuration, and reasoning, open."""

    perception: PerceptionEngine
    config: VLAConfig
    reasoning: ReasoningEngine


def answer_questions(
    tables: NuScenesTables,
    scenes: Sequence[str],
    pairs: Sequence[QAPair],
    engines: Engines,
    progress: Callable[[], None] = lambda: None,
) -> LanguageRun:
    """Ask all questions, one at a time; one that a set holds twice about a keyframe is asked once.

    Args:
        tables: of the data set.
        scenes: names; they hold the keyframes of all pairs. One without questions is not read.
        pairs: what to ask; the answers in them are not looked at.
        engines: perception's memory is cleared between scenes.
        progress: called after each question.

    Raises:
        NuScenesError: a scene is unknown or its tables are broken.
    """
    questions: dict[str, dict[str, None]] = {}  # in order, each once
    for pair in pairs:
        questions.setdefault(pair.sample_token, {})[pair.question] = None
    run = LanguageRun()
    for name in scenes:
        samples = tables.scene(name).samples
        last = max((number for number, sample in enumerate(samples) if sample.token in questions), default=-1)
        engines.perception.memory.clear()
        for sample in samples[: last + 1]:
            run.keyframes += 1
            reason = _read(sample, engines, run)
            for question in questions.get(sample.token, ()):
                _ask(sample, question, reason, engines, run)
                progress()
    return run


def _read(sample: Sample, engines: Engines, run: LanguageRun) -> str:
    """Let the engines see a keyframe; '' or why they could not."""
    image, results = engines.config.image, SimpleQueue[SceneResult]()
    try:
        view = keyframe_view(sample, engines.perception.cameras, image.width_px, image.height_px)
        queries = engines.perception.process(view)
    except (NuScenesError, NonFiniteOutput, ValueError) as error:
        return f'perception: {error}'
    run.degraded += bool(view.missing)
    run.temporal += queries.temporal
    engines.reasoning.submit_scene(queries, results.put)
    failure = results.get().failure
    return f'reasoning: {failure}' if failure else ''


def _ask(sample: Sample, question: str, reason: str, engines: Engines, run: LanguageRun) -> None:
    if not reason:
        answer = engines.reasoning.ask(Question(question, stamp_ns=sample.stamp_ns)).wait()
        assert answer is not None  # it waits without limit
        if answer.success:
            run.answers[sample.token, question] = [answer.answer]
            return
        reason = answer.message
    run.failures.append(AnswerFailure(sample.token, question, reason))

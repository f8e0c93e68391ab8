"""Questions and answers as values, and what is refused before any language model runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

REPLACEMENT_CHARACTER = '\N{REPLACEMENT CHARACTER}'


@dataclass(frozen=True)
class QuestionLimits:
    """What the reasoning engine accepts and keeps."""

    #: Scenes whose prefix stays in memory: past scenes that a question may name.
    kept_scenes: int = 20
    #: Questions that wait; one more is answered 'busy' at once.
    max_waiting: int = 8
    #: Answers that are decoded together, token by token.
    max_running: int = 4
    max_question_chars: int = 2000
    max_conversation_id_chars: int = 128
    #: Conversations kept, and turns of each; the one used longest ago, and the oldest turn, go first.
    max_conversations: int = 32
    max_turns: int = 8
    #: Tokens of an answer where the question names no number, and the most it may name.
    default_max_tokens: int = 128
    max_answer_tokens: int = 512
    #: From the question's arrival to its answer, where the question names no limit, seconds.
    time_limit_s: float = 10.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) > 0:
                raise ValueError(f'{item.name} ({getattr(self, item.name)}) must be positive')
        if self.default_max_tokens > self.max_answer_tokens:
            raise ValueError(
                f'default_max_tokens ({self.default_max_tokens}) exceeds max_answer_tokens ({self.max_answer_tokens})'
            )


@dataclass(frozen=True)
class Question:
    """One question. ``stamp_ns`` 0: about the newest scene; ``max_tokens`` 0: the default; ``temperature`` 0: greedy.

    ``conversation_id`` '' : on its own; else the earlier turns of this id are part of the prompt.
    ``time_limit_s`` None: the engine's.
    """

    text: str
    conversation_id: str = ''
    stamp_ns: int = 0
    max_tokens: int = 0
    temperature: float = 0.0
    seed: int = 0
    time_limit_s: float | None = None


@dataclass(frozen=True)
class Answer:
    """The outcome of a question; ``message`` is the reason where ``success`` is False.

    ``prompt_tokens`` counts the whole prompt, scene prefix included; ``cached_tokens`` those of it that came from the
    scene's cache. Times run from the question's arrival. An answer that was cut off (cancel, time limit) carries the
    text so far, with ``success`` False. ``scene_stamp_ns`` is 0 where no scene was found.
    """

    success: bool
    message: str
    answer: str = ''
    scene_stamp_ns: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    first_token_ms: float = 0.0
    total_ms: float = 0.0


@dataclass
class PendingAnswer:
    """A question on its way. ``on_done`` is called exactly once, by the engine's worker (or by the asking thread where
    the question is refused at once), and must not block; so is ``on_text(added_text, generated_tokens)`` per token.
    """

    on_done: Callable[[Answer], None] | None = None
    on_text: Callable[[str, int], None] | None = None
    _done: threading.Event = field(default_factory=threading.Event)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _answer: Answer | None = None

    def cancel(self) -> None:
        """Stop within one token; the answer then says 'cancelled'. Without effect once it is done."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled.is_set()

    @property
    def done(self) -> bool:
        """Whether there is an answer."""
        return self._done.is_set()

    def wait(self, timeout_s: float | None = None) -> Answer | None:
        """The answer, or None if there is none within ``timeout_s``. Not for the worker's own callbacks."""
        self._done.wait(timeout_s)
        return self._answer

    def finish(self, answer: Answer) -> None:
        """Hand the answer over (for the engine); a second answer is ignored."""
        if self._done.is_set():
            return
        self._answer = answer
        self._done.set()
        if self.on_done is not None:
            self.on_done(answer)


class QuestionRefused(ValueError):  # noqa: N818  (an outcome of asking, not a defect)
    """The question cannot be answered; the text is the reason told to the one who asked."""


def checked(question: Question, limits: QuestionLimits) -> Question:
    """The question with its text stripped and its defaults filled in.

    Raises:
        QuestionRefused: with the reason.
    """
    text = question.text.strip()
    if not text:
        raise QuestionRefused('the question is empty')
    if len(text) > limits.max_question_chars:
        raise QuestionRefused(f'the question is too long: {len(text)} characters, at most {limits.max_question_chars}')
    if REPLACEMENT_CHARACTER in text or REPLACEMENT_CHARACTER in question.conversation_id:
        # ROS decodes strings with replacement, so this is how bytes that are not UTF-8 arrive.
        raise QuestionRefused('the question holds U+FFFD: it was not valid UTF-8 or was damaged on the way')
    if '\0' in text or '\0' in question.conversation_id:
        raise QuestionRefused('the question holds a NUL character')
    if len(question.conversation_id) > limits.max_conversation_id_chars:
        raise QuestionRefused(f'the conversation id is longer than {limits.max_conversation_id_chars} characters')
    if not 0 <= question.max_tokens <= limits.max_answer_tokens:
        raise QuestionRefused(f'max_tokens ({question.max_tokens}) must be in 0..{limits.max_answer_tokens}')
    if not (math.isfinite(question.temperature) and question.temperature >= 0.0):
        raise QuestionRefused(f'temperature ({question.temperature}) must be a finite number, at least 0')
    time_limit_s = limits.time_limit_s if question.time_limit_s is None else question.time_limit_s
    if not time_limit_s > 0.0:
        raise QuestionRefused(f'time_limit_s ({time_limit_s}) must be positive')
    return replace(
        question, text=text, max_tokens=question.max_tokens or limits.default_max_tokens, time_limit_s=time_limit_s
    )

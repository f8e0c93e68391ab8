"""One answer as a job in single-token steps, which all answers that run take together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sparseoccvla_ros.model.answer_batch import AnswerBatch, Member
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.runtime.conversation import Conversations
from sparseoccvla_ros.runtime.decoding import AllowedTokens, TextStream, TokenSampler, visible
from sparseoccvla_ros.runtime.prefix import ScenePrefix
from sparseoccvla_ros.runtime.questions import Answer, PendingAnswer, Question, QuestionRefused


@dataclass(frozen=True)
class AnswerContext:
    """What all answers of an engine share. ``adapter`` counts adapter switches, ``clock`` gives steady seconds."""

    model: SceneLanguage
    batch: AnswerBatch
    device: torch.device
    allowed: AllowedTokens
    context_length: int
    conversations: Conversations
    adapter: Callable[[], int]
    clock: Callable[[], float]


class AnswerJob:
    """Answers one checked question about one scene; a :class:`~.scheduler.SteppedJob`.

    The beginning reads the question on top of the scene's prefix and gives the first token. Each round after it, see
    :func:`decode_together`, gives one token.
    """

    def __init__(
        self, context: AnswerContext, question: Question, prefix: ScenePrefix, pending: PendingAnswer, arrival_s: float
    ) -> None:
        self._context = context
        self._question = question
        self._prefix = prefix
        self._pending = pending
        self._arrival_s = arrival_s
        self._conversation_epoch = context.conversations.epoch
        self._sampler = TokenSampler(question.temperature, question.seed)
        self._stream = TextStream(context.model.tokenizer)
        self._member: Member | None = None
        self._scores: torch.Tensor | None = None
        self._question_tokens: list[int] = []
        self._tokens: list[int] = []
        self._first_token_ms = 0.0

    def overdue(self) -> str:
        """Cancelled, or out of time."""
        if self._pending.cancelled:
            return 'cancelled'
        limit_s = self._question.time_limit_s
        if limit_s is not None and self._context.clock() - self._arrival_s > limit_s:
            return f'time limit of {limit_s:g} s reached after {len(self._tokens)} tokens'
        return ''

    def begin(self) -> bool:
        """Give the first token; True when the answer is complete and handed over."""
        try:
            if self._prefix.adapter != self._context.adapter():
                raise QuestionRefused('busy: the adapter was switched while the question came in')
            question = self._read_conversation()
        except QuestionRefused as refused:  # told to the one who asked; no error of the engine
            self.fail(str(refused))
            return True
        model, prefix = self._context.model, self._prefix.key_values
        with torch.inference_mode():
            token_ids = torch.tensor([question], dtype=torch.long, device=self._context.device)
            hidden, read = model.forward_embeddings(model.embed_text(token_ids), prefix)
            self._scores = model.logits(hidden[0, -1])
        complete = self.step()
        if not complete:
            self._member = self._context.batch.add(prefix, read, self._question.max_tokens)
        return complete

    def step(self) -> bool:
        """Pick the token whose scores are there; True when the answer is complete and handed over."""
        scores, self._scores = self._scores, None
        token = self._sampler.pick(self._context.allowed.mask(scores, first=not self._tokens))
        if not self._tokens:
            self._first_token_ms = self._elapsed_ms()
        if token in self._context.allowed.end_tokens:
            return self._complete()
        self._tokens.append(token)
        self._tell(self._stream.add(token))
        return len(self._tokens) >= self._question.max_tokens and self._complete()

    def fail(self, reason: str) -> None:
        """End the answer with a reason, keeping the text so far."""
        self._leave()
        self._tell(self._stream.finish())
        self._pending.finish(self._answer(success=False, message=reason))

    def _read_conversation(self) -> list[int]:
        """Tokens of the question, behind as many of the conversation's latest turns as the context holds."""
        turns = self._context.conversations.turns(self._question.conversation_id)
        room = self._context.context_length - self._prefix.length - self._question.max_tokens
        for oldest in range(len(turns) + 1):
            tokens = self._context.model.question_tokens([*turns[oldest:], (self._question.text, None)])
            if len(tokens) <= room:
                self._question_tokens = tokens
                return tokens
        raise QuestionRefused(
            f'the question is too long: {self._prefix.length} tokens of the scene, {len(tokens)} of the question and '
            f'{self._question.max_tokens} for the answer exceed the context of {self._context.context_length} tokens'
        )

    def _leave(self) -> None:
        if self._member is not None:
            self._context.batch.remove(self._member)
            self._member = None

    def _complete(self) -> bool:
        self._leave()
        self._tell(self._stream.finish())
        if visible(self._stream.text):
            self._context.conversations.record(
                self._question.conversation_id, self._question.text, self._stream.text, self._conversation_epoch
            )
            self._pending.finish(self._answer(success=True, message=''))
        else:
            reason = f'the language model gave no visible text in {len(self._tokens)} tokens'
            self._pending.finish(self._answer(success=False, message=reason))
        return True

    def _tell(self, added_text: str) -> None:
        if self._pending.on_text is not None and added_text:
            self._pending.on_text(added_text, len(self._tokens))

    def _elapsed_ms(self) -> float:
        return (self._context.clock() - self._arrival_s) * 1e3

    def _answer(self, *, success: bool, message: str) -> Answer:
        cached = self._prefix.length if self._question_tokens else 0
        return Answer(
            success=success,
            message=message,
            answer=self._stream.text,
            scene_stamp_ns=self._prefix.stamp_ns,
            prompt_tokens=cached + len(self._question_tokens),
            cached_tokens=cached,
            generated_tokens=len(self._tokens),
            first_token_ms=self._first_token_ms,
            total_ms=self._elapsed_ms(),
        )


def decode_together(context: AnswerContext, jobs: Sequence[AnswerJob]) -> None:
    """Read each answer's last token, all in one go; their :meth:`AnswerJob.step` then picks the next.

    Args:
        jobs: all that have begun and go on.
    """
    with torch.inference_mode():
        hidden = context.batch.step({job._member: job._tokens[-1] for job in jobs})
        scores = context.model.logits(torch.stack([hidden[job._member] for job in jobs])).cpu()
    for job, row in zip(jobs, scores, strict=True):
        job._scores = row

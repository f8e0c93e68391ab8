"""One thread for all language-model work: scenes first, answers one token at a time, together.

Nothing here knows what a scene or an answer is; the order of work can be read and tested alone.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

logger = logging.getLogger(__name__)

# What a job may raise: torch and tokenizers report nearly everything as RuntimeError or ValueError. Anything else is a
# defect of the program: it ends the thread, loudly, after every job has been told.
JOB_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError)


class Job(Protocol):
    """Work that can be refused: ``fail`` is called at most once, instead of or during the work."""

    def fail(self, reason: str) -> None:
        """Tell whoever waits that this job will not be finished."""


class UrgentJob(Job, Protocol):
    """Done in one go."""

    def run(self) -> None:
        """Do it and tell the result."""


class SteppedJob(Job, Protocol):
    """Begun alone, then done in rounds that all jobs that have begun take together, other work in between."""

    def begin(self) -> bool:
        """Do the first step. True when the job is finished and its result told."""

    def step(self) -> bool:
        """Take this job's part of a round, after the common work. True when it is finished and its result told."""

    def overdue(self) -> str:
        """Why the job must not go on (cancelled, time limit), else ''. Asked before each step and while it waits."""


class Scheduler:
    """Runs jobs on one thread of its own.

    Order: the urgent job, if one waits; else one step; else the idle job. A step is the beginning of one job or a round
    of all that have begun. They alternate, so that new jobs begin soon and, however many come, the others go on. After
    an urgent job one step is done before the next urgent one, so that scenes that come faster than they can be read do
    not starve the answers; an urgent job therefore waits for one step at most.

    Args:
        name: of the thread.
        together: the common work of a round, given all jobs that take it. An error in it ends all of them.
        max_running: jobs begun, or to begin next.
        max_waiting: jobs beyond those; one more is refused.
    """

    def __init__(
        self, name: str, together: Callable[[Sequence[Any]], None], *, max_running: int, max_waiting: int
    ) -> None:
        self._together = together
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._condition = threading.Condition()
        self._urgent: UrgentJob | None = None
        self._idle: UrgentJob | None = None
        self._at_work: UrgentJob | None = None
        self._waiting: deque[SteppedJob] = deque()
        self._starting: deque[SteppedJob] = deque()
        self._running: deque[SteppedJob] = deque()
        self._owed_step = self._owed_round = False
        self._stopping = False
        self._counts: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Counter[str]:
        """Counters: 'superseded', 'busy', and 'error: <type>' per exception type (a copy)."""
        with self._condition:
            return Counter(self._counts)

    @property
    def stopped(self) -> bool:
        """Whether no job is accepted any more."""
        with self._condition:
            return self._stopping

    def submit_urgent(self, job: UrgentJob) -> None:
        """Offer the newest urgent job. One that waits is replaced and fails with 'superseded'."""
        with self._condition:
            replaced = None
            if not self._stopping:
                replaced, self._urgent = self._urgent, job
                if replaced is not None:
                    self._counts['superseded'] += 1
                self._condition.notify()
            stopping = self._stopping
        if stopping:
            self._fail(job, 'stopped')
        elif replaced is not None:
            self._fail(replaced, 'superseded')

    def submit(self, job: SteppedJob) -> str:
        """Queue a job. Returns '' or why it was refused ('busy', 'stopped'); ``fail`` is not called then."""
        with self._condition:
            if self._stopping:
                return 'stopped'
            if len(self._waiting) >= self._max_waiting:
                self._counts['busy'] += 1
                return 'busy'
            self._waiting.append(job)
            self._condition.notify()
            return ''

    def submit_idle(self, job: UrgentJob) -> str:
        """Queue a job that is done once no stepped job waits or runs. Returns '' or why it was refused."""
        with self._condition:
            if self._stopping:
                return 'stopped'
            if self._idle is not None:
                return 'busy'
            self._idle = job
            self._condition.notify()
            return ''

    def drop_urgent(self, reason: str) -> None:
        """Fail the urgent job that waits, if there is one."""
        with self._condition:
            dropped, self._urgent = self._urgent, None
        if dropped is not None:
            self._fail(dropped, reason)

    def close(self) -> None:
        """End after the step at work; all other jobs fail with 'stopped'. Returns when the thread has ended."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            with self._condition:
                self._stopping = True
                whole = [job for job in (self._at_work, self._urgent, self._idle) if job is not None]
                left: list[Job] = [*whole, *self._running, *self._starting, *self._waiting]
                self._at_work = self._urgent = self._idle = None
                self._running.clear()
                self._starting.clear()
                self._waiting.clear()
            for job in left:
                self._fail(job, 'stopped')

    def _turn(self) -> bool:
        """One piece of work; False when the thread shall end."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._stopping or self._urgent or self._waiting or self._starting or self._running or self._idle
            )
            if self._stopping:
                return False
            overdue = self._take_overdue()
            while self._waiting and len(self._starting) + len(self._running) < self._max_running:
                self._starting.append(self._waiting.popleft())
            stepped = bool(self._starting or self._running)
            whole = None
            if not (self._owed_step and stepped):
                whole, self._urgent = self._urgent, None
            if whole is None and not stepped:
                whole, self._idle = self._idle, None
            self._at_work = whole
        for job, reason in overdue:
            self._fail(job, reason)
        if whole is not None:
            self._attempt(whole.run, whole)
            self._at_work = None
            self._owed_step = True
        elif stepped:
            self._step()
            self._owed_step = False
        return True

    def _step(self) -> None:
        if self._starting and not (self._owed_round and self._running):
            self._owed_round = True
            job = self._starting[0]
            finished = self._attempt(job.begin, job)
            with self._condition:
                self._starting.popleft()
                if not finished:
                    self._running.append(job)
            return
        self._owed_round = False
        jobs = list(self._running)
        try:
            self._together(jobs)
        except JOB_ERRORS as error:
            finished = jobs
            self._count_error(error)
            for job in jobs:
                self._fail(job, f'{type(error).__name__}: {error}')
        else:
            finished = [job for job in jobs if self._attempt(job.step, job)]
        with self._condition:
            for job in finished:
                self._running.remove(job)

    def _take_overdue(self) -> list[tuple[SteppedJob, str]]:
        overdue = []
        for queue in (self._running, self._starting, self._waiting):
            for job in list(queue):
                reason = job.overdue()
                if reason:
                    queue.remove(job)
                    overdue.append((job, reason))
        return overdue

    def _attempt(self, work: Callable[[], bool | None], job: Job) -> bool:
        """Run a piece of work; an error ends its job, not the thread. True when the job is over."""
        try:
            return bool(work())
        except JOB_ERRORS as error:
            self._count_error(error)
            self._fail(job, f'{type(error).__name__}: {error}')
            return True

    def _fail(self, job: Job, reason: str) -> None:
        try:
            job.fail(reason)
        except JOB_ERRORS as error:  # the callback of whoever waits for the job
            self._count_error(error)

    def _count_error(self, error: BaseException) -> None:
        logger.error('a job of the language worker failed', exc_info=error)
        with self._condition:
            self._counts[f'error: {type(error).__name__}'] += 1

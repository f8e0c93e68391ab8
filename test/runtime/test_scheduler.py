"""The order of language work, proven by recording jobs. Threads meet at events, never at sleeps."""

import threading

import pytest

from sparseoccvla_ros.runtime.scheduler import Scheduler

WAIT_S = 20.0


class Log:
    """What happened, in order, and a way to wait for it."""

    def __init__(self):
        self.events = []
        self._changed = threading.Condition()

    def add(self, event):
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, event):
        with self._changed:
            assert self._changed.wait_for(lambda: event in self.events, WAIT_S), (event, self.events)


class Scene:
    """An urgent job."""

    def __init__(self, log, name, error=None):
        self.log, self.name, self.error = log, name, error

    def run(self):
        if self.error:
            raise self.error
        self.log.add(self.name)

    def fail(self, reason):
        self.log.add(f'{self.name} failed: {reason}')


class Answer:
    """A job of some steps, the beginning included; ``at``: a step to what is done in it, on the worker's thread."""

    def __init__(self, log, name, steps, at=None):
        self.log, self.name, self.steps, self.at = log, name, steps, at or {}
        self.taken = 0
        self.why_not = ''

    def begin(self):
        return self.step()

    def step(self):
        self.taken += 1
        self.log.add(f'{self.name}{self.taken}')
        if self.taken in self.at:
            self.at[self.taken]()
        return self.taken >= self.steps

    def overdue(self):
        return self.why_not

    def fail(self, reason):
        self.log.add(f'{self.name} failed: {reason}')


class Gate:
    """Holds the worker inside a step until it is opened."""

    def __init__(self):
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self):
        self.reached.set()
        assert self.open.wait(WAIT_S)


@pytest.fixture
def log():
    return Log()


def no_common_work(jobs):
    pass


@pytest.fixture
def scheduler():
    scheduler = Scheduler('test', no_common_work, max_running=2, max_waiting=2)
    yield scheduler
    scheduler.close()


def test_a_scene_comes_next_after_the_token_at_work(log, scheduler):
    gate = Gate()
    scheduler.submit(Answer(log, 'a', 4, {2: gate}))
    assert gate.reached.wait(WAIT_S)
    scheduler.submit_urgent(Scene(log, 'scene'))
    gate.open.set()
    log.wait_for('a4')
    assert log.events == ['a1', 'a2', 'scene', 'a3', 'a4']


def test_answers_that_have_begun_go_on_together_and_new_ones_begin_between_their_rounds(log):
    rounds = []
    scheduler = Scheduler(
        'test', lambda jobs: rounds.append(''.join(job.name for job in jobs)), max_running=3, max_waiting=3
    )
    gate = Gate()
    scheduler.submit(Answer(log, 'a', 4, {1: gate}))
    assert gate.reached.wait(WAIT_S)
    for name, steps in (('b', 3), ('c', 2)):
        scheduler.submit(Answer(log, name, steps))
    scheduler.submit(Answer(log, 'd', 1))  # waits: three run at once
    gate.open.set()
    log.wait_for('d1')
    scheduler.close()
    # a round of a after its beginning, then b begins ...
    assert log.events == ['a1', 'a2', 'b1', 'a3', 'b2', 'c1', 'a4', 'b3', 'c2', 'd1']
    assert rounds == ['a', 'ab', 'abc']


def test_short_answers_without_end_do_not_starve_a_long_one(log):
    """Answers of one token, each of which asks the next question."""
    scheduler = Scheduler('test', no_common_work, max_running=2, max_waiting=2)

    def next_question():
        if 'a5' not in log.events:
            scheduler.submit(Answer(log, 'b', 1, {1: next_question}))

    scheduler.submit(Answer(log, 'a', 5, {1: next_question}))
    log.wait_for('a5')
    scheduler.close()
    assert log.events[:8] == ['a1', 'a2', 'b1', 'a3', 'b1', 'a4', 'b1', 'a5']


def test_an_error_of_the_common_work_ends_those_who_took_part(log):
    failing = [True]

    def together(jobs):
        if failing and len(jobs) == 2:
            failing.clear()
            raise RuntimeError('out of memory')

    scheduler = Scheduler('test', together, max_running=2, max_waiting=2)
    gate = Gate()
    scheduler.submit(Answer(log, 'a', 9, {1: gate}))
    assert gate.reached.wait(WAIT_S)
    scheduler.submit(Answer(log, 'b', 9))
    scheduler.submit(Answer(log, 'c', 2))
    gate.open.set()
    log.wait_for('c2')
    assert log.events == [
        'a1', 'a2', 'b1', 'a failed: RuntimeError: out of memory', 'b failed: RuntimeError: out of memory', 'c1', 'c2',
    ]  # fmt: skip
    assert scheduler.counts == {'error: RuntimeError': 1}
    scheduler.close()


def test_an_error_of_one_in_a_round_leaves_the_others_alone(log, scheduler):
    def explode():
        raise ValueError('x')

    gate = Gate()
    scheduler.submit(Answer(log, 'a', 9, {1: gate, 3: explode}))
    assert gate.reached.wait(WAIT_S)
    scheduler.submit(Answer(log, 'b', 3))
    gate.open.set()
    log.wait_for('b3')
    assert log.events == ['a1', 'a2', 'b1', 'a3', 'a failed: ValueError: x', 'b2', 'b3']


def test_scenes_without_end_do_not_starve_an_answer(log, scheduler):
    """Each scene submits the next, as cameras faster than the model do: one token still comes between two scenes."""

    class Endless(Scene):
        def run(self):
            super().run()
            if 'a5' not in log.events:
                scheduler.submit_urgent(Endless(log, 's'))

    gate = Gate()
    scheduler.submit(Answer(log, 'a', 5, {1: gate}))
    assert gate.reached.wait(WAIT_S)
    scheduler.submit_urgent(Endless(log, 's'))
    gate.open.set()
    log.wait_for('a5')
    assert log.events[:9] == ['a1', 's', 'a2', 's', 'a3', 's', 'a4', 's', 'a5']


def test_a_waiting_scene_is_replaced_and_told(log, scheduler):
    gate = Gate()
    scheduler.submit(Answer(log, 'a', 1, {1: gate}))
    assert gate.reached.wait(WAIT_S)
    for name in ('s1', 's2', 's3'):
        scheduler.submit_urgent(Scene(log, name))
    assert log.events == [
        'a1',
        's1 failed: superseded',
        's2 failed: superseded',
    ]  # at once, not when the worker is free
    gate.open.set()
    log.wait_for('s3')
    assert scheduler.counts == {'superseded': 2}


def test_beyond_the_queue_it_is_busy_at_once(log, scheduler):
    gate = Gate()
    scheduler.submit(Answer(log, 'a', 1, {1: gate}))
    assert gate.reached.wait(WAIT_S)
    assert [scheduler.submit(Answer(log, name, 1)) for name in 'bcd'] == ['', '', 'busy']
    gate.open.set()
    log.wait_for('c1')
    assert scheduler.counts == {'busy': 1}
    assert scheduler.submit(Answer(log, 'e', 1)) == ''
    log.wait_for('e1')


@pytest.mark.parametrize('error', [RuntimeError('out of memory'), ValueError('x'), KeyError('y'), ZeroDivisionError()])
def test_an_error_ends_its_job_and_not_the_thread(log, scheduler, error):
    scheduler.submit_urgent(Scene(log, 's', error))
    log.wait_for(f's failed: {type(error).__name__}: {error}')

    def explode():
        raise error

    scheduler.submit(Answer(log, 'a', 3, {2: explode}))
    log.wait_for(f'a failed: {type(error).__name__}: {error}')
    scheduler.submit_urgent(Scene(log, 'next'))
    log.wait_for('next')
    assert scheduler.counts == {f'error: {type(error).__name__}': 2}


def test_an_error_in_the_callback_of_a_failure_does_not_end_the_thread(log, scheduler):
    class Rude(Scene):
        def fail(self, reason):
            raise RuntimeError('callback')

    scheduler.submit_urgent(Rude(log, 's', ValueError('x')))
    scheduler.submit(Answer(log, 'a', 1))
    log.wait_for('a1')
    scheduler.submit_urgent(Scene(log, 'next'))
    log.wait_for('next')
    assert scheduler.counts['error: RuntimeError'] == 1


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_an_unforeseen_exception_is_loud_and_leaves_nobody_waiting(log):
    class Unforeseen(BaseException):
        pass

    scheduler = Scheduler('test', no_common_work, max_running=1, max_waiting=2)
    gate = Gate()

    def explode():
        gate()
        raise Unforeseen

    scheduler.submit(Answer(log, 'a', 2, {1: explode}))
    assert gate.reached.wait(WAIT_S)
    scheduler.submit(Answer(log, 'b', 1))
    scheduler.submit_urgent(Scene(log, 's'))
    gate.open.set()
    for name in ('a', 'b', 's'):
        log.wait_for(f'{name} failed: stopped')
    scheduler.close()
    assert scheduler.submit(Answer(log, 'c', 1)) == 'stopped'


def test_overdue_jobs_end_within_one_step_wherever_they_are(log, scheduler):
    gate = Gate()
    jobs = [Answer(log, 'a', 9, {1: gate}), Answer(log, 'b', 9), Answer(log, 'c', 9)]
    scheduler.submit(jobs[0])
    assert gate.reached.wait(WAIT_S)
    scheduler.submit(jobs[1])
    scheduler.submit(jobs[2])
    for job in jobs:
        job.why_not = 'cancelled'
    gate.open.set()
    for name in 'abc':
        log.wait_for(f'{name} failed: cancelled')
    assert [job.taken for job in jobs] == [1, 0, 0]


def test_close_tells_everybody(log):
    scheduler = Scheduler('test', no_common_work, max_running=1, max_waiting=2)
    gate = Gate()
    scheduler.submit(Answer(log, 'a', 9, {1: gate}))
    assert gate.reached.wait(WAIT_S)
    scheduler.submit(Answer(log, 'b', 1))
    scheduler.submit_urgent(Scene(log, 's'))
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    while not scheduler.stopped:
        pass
    gate.open.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert sorted(log.events) == ['a failed: stopped', 'a1', 'b failed: stopped', 's failed: stopped']
    scheduler.submit_urgent(Scene(log, 'late'))
    assert 'late failed: stopped' in log.events
    scheduler.close()  # twice is no harm


def test_drop_urgent(log, scheduler):
    gate = Gate()
    scheduler.submit(Answer(log, 'a', 1, {1: gate}))
    assert gate.reached.wait(WAIT_S)
    scheduler.submit_urgent(Scene(log, 's'))
    scheduler.drop_urgent('reset')
    scheduler.drop_urgent('reset')
    assert log.events == ['a1', 's failed: reset']
    gate.open.set()


def test_an_idle_job_waits_for_every_answer_but_not_for_a_scene_to_come(log, scheduler):
    gate = Gate()
    scheduler.submit(Answer(log, 'a', 2, {1: gate}))
    assert gate.reached.wait(WAIT_S)
    assert scheduler.submit_idle(Scene(log, 'switch')) == ''
    assert scheduler.submit_idle(Scene(log, 'second')) == 'busy'
    scheduler.submit(Answer(log, 'b', 1))
    scheduler.submit_urgent(Scene(log, 's'))
    gate.open.set()
    log.wait_for('switch')
    assert log.events[-1] == 'switch'
    assert sorted(log.events[:-1]) == ['a1', 'a2', 'b1', 's']


def test_every_job_ends_exactly_once_under_load(log):
    """Eight threads at once: each question is finished, failed or refused, none lost, none twice."""
    scheduler = Scheduler('test', no_common_work, max_running=3, max_waiting=4)
    refused = []

    def client(number):
        for i in range(50):
            name = f'{number}.{i}.'
            if scheduler.submit(Answer(log, name, 2)) == 'busy':
                refused.append(name)
            scheduler.submit_urgent(Scene(log, f'scene {name}'))

    clients = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(WAIT_S)
    scheduler.submit_urgent(Scene(log, 'last'))
    log.wait_for('last')
    scheduler.close()
    for number in range(8):
        for i in range(50):
            name = f'{number}.{i}.'
            ends = [name in refused, f'{name}2' in log.events, f'{name} failed: stopped' in log.events]
            assert sum(ends) == 1, (name, ends)
            scene = f'scene {name}'
            assert log.events.count(scene) + log.events.count(f'{scene} failed: superseded') == 1
    assert scheduler.counts['busy'] == len(refused)

"""Streamed answers over the action: whole, in order, cancelled within one token, nothing left behind."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from action_msgs.msg import GoalStatus
from asker import TIMEOUT_S, asker_of

from sparseoccvla_ros.action import StreamAnswer
from sparseoccvla_ros.runtime.questions import PendingAnswer


@pytest.fixture
def stack(start_stack):
    return start_stack()


@pytest.fixture
def asked(stack):
    return asker_of(stack)


def wait_until(condition):
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def nothing_left(stack):
    """No answer runs, and none of its memory is kept."""
    node = stack.nodes['reasoning']
    return not node._streams and len(node._engine._answers.batch) == node._engine._answers.batch.nbytes == 0


def test_a_streamed_answer_is_the_service_answer_piece_by_piece(asked):
    whole = asked.ask('Describe the scene.', max_tokens=10)
    pieces = []
    wrapped = asked.result(asked.stream('Describe the scene.', pieces.append, max_tokens=10).get_result_async())
    assert wrapped.status == GoalStatus.STATUS_SUCCEEDED
    assert wrapped.result.answer == whole.answer
    asked.rig.wait(lambda: True)
    assert ''.join(piece.text for piece in pieces).strip() == whole.answer.strip()
    assert [piece.generated_tokens for piece in pieces] == sorted(piece.generated_tokens for piece in pieces)


def test_a_stream_is_whole_and_in_order_however_busy_the_executor_is(stack, asked):
    busy = stack.nodes['planner'].create_steady_timer(0.1, lambda: time.sleep(0.15))
    pieces = []
    wrapped = asked.result(asked.stream('Describe the scene.', pieces.append, max_tokens=30).get_result_async())
    stack.nodes['planner'].destroy_timer(busy)
    assert wrapped.status == GoalStatus.STATUS_SUCCEEDED
    assert ''.join(piece.text for piece in pieces).strip() == wrapped.result.answer.strip()
    assert [piece.generated_tokens for piece in pieces] == sorted(piece.generated_tokens for piece in pieces)


@pytest.mark.parametrize('after_tokens', [1, 7, 40])
def test_a_cancel_stops_the_stream_within_one_token(stack, asked, monkeypatch, after_tokens):
    """Counted where the tokens are made, so that what is on its way over DDS does not count."""
    first_turn = asked.ask('And the cyclist?', max_tokens=4).prompt_tokens
    engine = stack.nodes['reasoning']._engine
    made, made_at_cancel = [], []
    logits, cancel = engine._model.logits, PendingAnswer.cancel
    monkeypatch.setattr(engine._model, 'logits', lambda hidden: (made.append(1), logits(hidden))[1], raising=False)
    monkeypatch.setattr(PendingAnswer, 'cancel', lambda self: (made_at_cancel.append(len(made)), cancel(self))[1])
    enough, pieces = threading.Event(), []

    def on_feedback(piece):
        pieces.append(piece)
        if piece.generated_tokens >= after_tokens:
            enough.set()

    handle = asked.stream('Describe the scene.', on_feedback, max_tokens=500, conversation_id='talk')
    assert enough.wait(TIMEOUT_S)
    assert asked.result(handle.cancel_goal_async()).goals_canceling
    wrapped = asked.result(handle.get_result_async())
    assert wrapped.status == GoalStatus.STATUS_CANCELED
    assert (wrapped.result.success, wrapped.result.message) == (False, 'cancelled')
    assert after_tokens <= wrapped.result.generated_tokens <= made_at_cancel[0] + 1 < 500
    assert len(made) == wrapped.result.generated_tokens
    assert wrapped.result.answer.startswith(''.join(piece.text for piece in pieces))
    assert nothing_left(stack)
    # the turn was not finished, so it is none
    assert asked.ask('And the cyclist?', max_tokens=4, conversation_id='talk').prompt_tokens == first_turn


def test_a_stream_has_a_time_limit_of_its_own(start_stack):
    asked = asker_of(start_stack(reasoning={'answer_timeout_s': 0.1, 'stream_timeout_s': 0.5}))
    wrapped = asked.result(asked.stream('Describe the scene.', max_tokens=500).get_result_async())
    assert wrapped.status == GoalStatus.STATUS_ABORTED
    assert wrapped.result.message == f'time limit of 0.5 s reached after {wrapped.result.generated_tokens} tokens'


def test_a_burst_of_streams_gets_every_result(stack, asked):
    """More at once than rclpy's default depth of 10: requests that wait for a busy executor are not lost."""
    count = 60
    goal = StreamAnswer.Goal(question='What is ahead?', max_tokens=2)

    def at_once(calls):
        busy = stack.nodes['planner'].create_steady_timer(0.01, lambda: (busy.cancel(), time.sleep(1.0)))
        time.sleep(0.1)
        results = [asked.result(future) for future in [call() for call in calls]]
        stack.nodes['planner'].destroy_timer(busy)
        return results

    handles = at_once([lambda: asked.action_client.send_goal_async(goal)] * count)
    wrapped = at_once([handle.get_result_async for handle in handles])
    assert {answer.status for answer in wrapped} == {GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_ABORTED}
    assert len(at_once([handle.cancel_goal_async for handle in handles])) == count


def test_a_refused_stream_is_aborted_with_the_reason(stack, asked):
    wrapped = asked.result(asked.stream(' ').get_result_async())
    assert wrapped.status == GoalStatus.STATUS_ABORTED
    assert 'empty' in wrapped.result.message
    assert nothing_left(stack)


def test_a_client_that_is_killed_leaves_nothing_behind(stack, asked):
    """Nobody cancels for it: its answer goes on to its end, beside those of others, and is gone then."""
    program = Path(__file__).with_name('stream_client.py')
    client = subprocess.Popen([sys.executable, program, '400'], stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout.readline() == 'begun\n'
    finally:
        client.send_signal(signal.SIGKILL)
        client.wait()
    assert stack.nodes['reasoning']._streams
    assert asked.ask('What is ahead?', max_tokens=4).success
    asked.rig.run_cycle(2)
    wait_until(lambda: nothing_left(stack))
    assert asked.ask('What is ahead?', max_tokens=4).success


def test_a_clock_that_jumps_back_leaves_a_stream_its_scene_and_ends_the_conversation(stack, asked):
    first_turn = asked.ask('And the cyclist?', max_tokens=4, conversation_id='talk').prompt_tokens
    asked.rig.run_cycle(20)
    old = asked.rig.trajectories[-1].input_stamp
    begun = threading.Event()
    handle = asked.stream('Describe the scene.', lambda piece: begun.set(), max_tokens=300, conversation_id='talk')
    assert begun.wait(TIMEOUT_S)
    asked.rig.restart()
    asked.rig.run_cycle(2)
    wrapped = asked.result(handle.get_result_async())
    assert wrapped.status == GoalStatus.STATUS_SUCCEEDED
    assert wrapped.result.scene_stamp == old
    assert wrapped.result.scene_age_s == 0.0  # it is of a time that is still to come
    refused = asked.ask('Is the road free?', stamp=old)
    assert 'not kept' in refused.message
    again = asked.ask('And the cyclist?', max_tokens=4, conversation_id='talk')
    assert again.prompt_tokens == first_turn
    assert again.scene_stamp == asked.rig.trajectories[-1].input_stamp


def test_the_language_model_runs_on_its_own_thread_alone(stack, asked):
    """Never on the executor's: scenes, questions, tokens and the re-reading after a switch."""
    threads = set()
    language_model = stack.nodes['reasoning']._engine._model.causal_lm
    hooks = [
        module.register_forward_pre_hook(lambda *_: threads.add(threading.current_thread().name))
        for module in (language_model.model.embed_tokens, language_model.model.norm, language_model.lm_head)
    ]
    asked.rig.run_cycle(2)
    assert asked.ask('What is ahead?', max_tokens=5, conversation_id='a').success
    wrapped = asked.result(asked.stream('What is ahead?', max_tokens=5, conversation_id='a').get_result_async())
    assert wrapped.result.success
    assert asked.set_adapter('').success
    for hook in hooks:
        hook.remove()
    assert threads == {'language'}

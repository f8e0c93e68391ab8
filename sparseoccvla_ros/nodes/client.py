"""Talks to a running stack: a node that spins in its own thread, and the calls of the stack's services."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from sparseoccvla_ros.action import StreamAnswer
from sparseoccvla_ros.evaluation.replay_summary import AnswerRecord
from sparseoccvla_ros.nodes.conversions.basic import stamp_ns_from, time_from
from sparseoccvla_ros.nodes.qos import ACTION_SERVICES, FEEDBACK, REQUESTS
from sparseoccvla_ros.srv import AskScene, DescribeModel

#: How often a waiting main thread looks around: for signals, dead processes, errors of the executor's thread.
LOOK_AROUND_S = 0.05
NS_PER_S = 1_000_000_000
#: The stack's own limits are its parameters answer_timeout_s and stream_timeout_s, at most an hour.
ANSWER_TIMEOUT_S = 3700.0
CANCEL_TIMEOUT_S = 10.0
#: A server that is out of sight this long is gone. Not sooner: what it sent last may still be on its way.
GONE_S = 2.0
CLIENT_NAME = 'sparseoccvla_ask'


class StackUnreachableError(RuntimeError):
    """A service of the stack is not there, went away before its answer came, or did not answer in time."""


class SpinningNode:
    """Context manager: a node in a context of its own, spun by a thread, so that the main thread may wait.

    Create publishers, subscriptions and clients on ``node``, then call :meth:`start`. Ctrl-C stays with
    the main thread (rclpy's signal handlers are not installed). An exception of a callback ends the thread and is
    raised again by :meth:`wait_until`.
    """

    def __init__(self, name: str, *, domain_id: int | None = None) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(name, context=self._context, enable_rosout=False, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._spinning: concurrent.futures.Future[None] | None = None
        self._changed = threading.Condition()

    def __enter__(self) -> SpinningNode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._threads.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def start(self) -> None:
        """Start spinning."""
        self._spinning = self._threads.submit(self._executor.spin)

    def notify(self) -> None:
        """Called by callbacks: what a waiting thread looks at has changed."""
        with self._changed:
            self._changed.notify_all()

    def wait_until(
        self, condition: Callable[[], bool], timeout_s: float, check: Callable[[], None] = lambda: None
    ) -> bool:
        """Wait on the steady clock until ``condition`` holds.

        ``check`` is called at every look around and may raise (a process that died). Returns False after the
        time-out; raises what a callback has raised.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                if self._spinning is not None and self._spinning.done():
                    self._spinning.result()
                    raise RuntimeError(f'node {self.node.get_name()} no longer spins')
                check()
                if time.monotonic() >= deadline_s:
                    return False
                self._changed.wait(LOOK_AROUND_S)
        return True

    def result_of(self, future: Future, timeout_s: float, check: Callable[[], None] = lambda: None) -> Any:
        """The result of a call's future; raises TimeoutError. Never from a callback: it would wait for itself."""
        future.add_done_callback(lambda _: self.notify())
        if not self.wait_until(future.done, timeout_s, check):
            raise TimeoutError(f'no response within {timeout_s:g} s')
        return future.result()


class StackClient:
    """The services of one stack in the domain of ``session``."""

    def __init__(self, session: SpinningNode) -> None:
        self._session = session
        node = session.node
        self._ask = node.create_client(AskScene, 'ask', qos_profile=REQUESTS)
        self._describe = node.create_client(DescribeModel, 'describe')

    def wait_until_active(self, names: tuple[str, ...], timeout_s: float, check: Callable[[], None]) -> None:
        """Wait until the lifecycle nodes ``names`` are active.

        Raises:
            StackUnreachableError: not within ``timeout_s``; names each node's last known state.
        """
        states = dict.fromkeys(names, 'not there')
        clients = {name: self._session.node.create_client(GetState, f'{name}/get_state') for name in names}
        deadline_s = time.monotonic() + timeout_s
        try:
            while waiting := [name for name in names if states[name] != 'active']:
                if time.monotonic() >= deadline_s:
                    text = ', '.join(f'{name}: {states[name]}' for name in waiting)
                    raise StackUnreachableError(f'the stack is not active after {timeout_s:g} s ({text})')
                check()
                for name in waiting:
                    states[name] = self._state(clients[name], states[name], check)
        finally:
            for client in clients.values():
                self._session.node.destroy_client(client)

    def describe(self, timeout_s: float, check: Callable[[], None] = lambda: None) -> DescribeModel.Response:
        """What runs there."""
        return self._call(self._describe, DescribeModel.Request(), timeout_s, check)

    def ask(
        self, question: str, find_timeout_s: float, check: Callable[[], None] = lambda: None, **fields: Any
    ) -> AnswerRecord:
        """Ask and wait for the answer; ``fields`` are the request's other fields.

        Raises:
            StackUnreachableError: no such service within ``find_timeout_s``, or no response (the stack has a time
                limit of its own and answers then; it has ended if it does not).
        """
        response = self._call(self._ask, AskScene.Request(question=question, **fields), find_timeout_s, check)
        return answer_record(question, response)

    def ask_async(self, question: str) -> Future:
        """Ask without waiting; the future's result is an AskScene response."""
        return self._ask.call_async(AskScene.Request(question=question))

    def _state(self, client: Client, known: str, check: Callable[[], None]) -> str:
        if not self._session.wait_until(client.service_is_ready, LOOK_AROUND_S, check):
            return known
        future = client.call_async(GetState.Request())
        try:
            state = self._session.result_of(future, 1.0, check).current_state
        except TimeoutError:
            # a node that is just building its model answers later; ask again
            client.remove_pending_request(future)
            return 'busy'
        return 'active' if state.id == State.PRIMARY_STATE_ACTIVE else state.label

    def _call(self, client: Client, request: Any, find_timeout_s: float, check: Callable[[], None]) -> Any:
        if not self._session.wait_until(client.service_is_ready, find_timeout_s, check):
            raise StackUnreachableError(_nobody(f'service {client.srv_name}', find_timeout_s))
        still_there = _still_there(f'service {client.srv_name}', client.service_is_ready, check)
        future = client.call_async(request)
        try:
            return self._session.result_of(future, ANSWER_TIMEOUT_S, still_there)
        except TimeoutError as error:
            client.remove_pending_request(future)
            raise StackUnreachableError(f'service {client.srv_name}: {error}') from error


def answer_record(question: str, response: Any) -> AnswerRecord:
    """The fixed fields of an AskScene response or StreamAnswer result."""
    return AnswerRecord(
        question=question,
        answer=response.answer,
        success=response.success,
        message=response.message,
        scene_stamp_ns=stamp_ns_from(response.scene_stamp),
        prompt_tokens=response.prompt_tokens,
        generated_tokens=response.generated_tokens,
        first_token_ms=response.first_token_ms,
        total_ms=response.total_ms,
    )


def ask_once(question: str, stamp_ns: int, conversation_id: str, find_timeout_s: float) -> AnswerRecord:
    """Ask the stack of this process's ROS domain by the service; ``stamp_ns`` 0 is the newest scene.

    Raises:
        StackUnreachableError: no stack found within ``find_timeout_s``, or no response.
    """
    with SpinningNode(CLIENT_NAME) as session:
        client = StackClient(session)
        session.start()
        return client.ask(
            question,
            find_timeout_s,
            stamp=time_from(stamp_ns),
            conversation_id=conversation_id,
        )


def ask_streaming(
    question: str, stamp_ns: int, conversation_id: str, find_timeout_s: float, on_text: Callable[[str], None]
) -> AnswerRecord:
    """As :func:`ask_once`, by the action; ``on_text`` gets the answer as it grows, and all of it in the end."""
    goal = StreamAnswer.Goal(question=question, stamp=time_from(stamp_ns), conversation_id=conversation_id)
    shown = ''

    def show(text: str) -> None:
        nonlocal shown
        shown += text
        on_text(text)

    with SpinningNode(CLIENT_NAME) as session:
        answer = answer_record(question, stream_answer(session, goal, show, find_timeout_s))
    # rclpy takes one piece per wake-up, so the result may overtake the last ones; none comes now that nothing spins
    on_text(_not_shown(answer.answer, shown))
    return answer


def stream_answer(
    session: SpinningNode, goal: StreamAnswer.Goal, on_text: Callable[[str], None], find_timeout_s: float
) -> StreamAnswer.Result:
    """Ask by the action; ``on_text`` gets the text as it grows, on the executor's thread.

    The result may come before the last pieces of text, which are then not waited for; its ``answer`` is whole.
    An interrupt (Ctrl-C, SystemExit) of the waiting thread cancels the goal, once it is accepted, waits for the stack
    to confirm, and goes on to the caller.

    Raises:
        StackUnreachableError: no such action in this domain, the goal was rejected, or the stack ended or fell silent.
    """
    client = ActionClient(
        session.node, StreamAnswer, 'stream_answer', feedback_sub_qos_profile=FEEDBACK, **ACTION_SERVICES
    )
    heard_s = time.monotonic()

    def on_feedback(message: Any) -> None:
        nonlocal heard_s
        heard_s = time.monotonic()
        on_text(message.feedback.text)

    def check_silence() -> None:
        if time.monotonic() - heard_s > ANSWER_TIMEOUT_S:
            raise StackUnreachableError(f'action stream_answer: silent for {ANSWER_TIMEOUT_S:g} s')

    session.start()
    try:
        if not session.wait_until(client.server_is_ready, find_timeout_s):
            raise StackUnreachableError(_nobody('action stream_answer', find_timeout_s))
        still_there = _still_there('action stream_answer', client.server_is_ready, check_silence)
        sent = client.send_goal_async(goal, feedback_callback=on_feedback)
        try:
            handle = session.result_of(sent, ANSWER_TIMEOUT_S, still_there)
            if not handle.accepted:
                raise StackUnreachableError('the stack rejected the question')
            return session.result_of(handle.get_result_async(), float('inf'), still_there).result
        except (KeyboardInterrupt, SystemExit):
            handle = session.result_of(sent, CANCEL_TIMEOUT_S, still_there)
            if handle.accepted:
                session.result_of(handle.cancel_goal_async(), CANCEL_TIMEOUT_S, still_there)
            raise
    except TimeoutError as error:
        raise StackUnreachableError(f'action stream_answer: {error}') from error
    finally:
        client.destroy()


def _not_shown(answer: str, shown: str) -> str:
    """What is still to be shown of an answer: all of it, on a new line, where a piece in its middle was lost."""
    return answer.removeprefix(shown) if answer.startswith(shown) else f'\n{answer}'


def _still_there(what: str, is_ready: Callable[[], bool], check: Callable[[], None]) -> Callable[[], None]:
    """``check``, and StackUnreachableError once the server, which is there now, has been out of sight for GONE_S."""
    seen_s = time.monotonic()

    def look() -> None:
        nonlocal seen_s
        check()
        if is_ready():
            seen_s = time.monotonic()
        elif time.monotonic() - seen_s > GONE_S:
            raise StackUnreachableError(f'{what} is gone: the stack ended before its answer came')

    return look


def _nobody(what: str, timeout_s: float) -> str:
    domain = os.environ.get('ROS_DOMAIN_ID', '0')
    return f'no {what} after {timeout_s:g} s: no stack seems to run in ROS domain {domain} (start one: sparseoccvla up)'

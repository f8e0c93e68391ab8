"""What the three nodes share: parameters, lifecycle with autostart, gating, counters, diagnostics."""

from __future__ import annotations

import threading
import traceback
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    NameValidationException,
)
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher

from sparseoccvla_ros.nodes.handover import HandOver
from sparseoccvla_ros.nodes.parameters import ModelParameters, declare_parameters
from sparseoccvla_ros.nodes.qos import RESULT
from sparseoccvla_ros.runtime.clock import InputClock

DIAGNOSTICS_PERIOD_S = 1.0
LOG_PERIOD_S = 5.0
#: Concern of the diagnostic status that tells how many subscribers each output has.
SUBSCRIBERS = 'subscribers'
#: Concern of the diagnostic status that tells how many publishers each input knows.
PUBLISHERS = 'publishers'
#: What a wrong parameter, a missing file or a checkpoint that does not fit raises at start-up.
STARTUP_ERRORS = (ValueError, OSError, RuntimeError, ImportError, NameValidationException)
PARAMETER_ERRORS = (ValueError, InvalidParameterTypeException, InvalidParameterValueException)


class ManagedNode(LifecycleNode):
    """A lifecycle node whose inputs and services are gated by its state.

    rclpy gates lifecycle publishers only; subscriptions and services of an inactive node run on, so each
    callback here looks at ``active``. Subclasses implement :meth:`configure` (build everything),
    :meth:`release` (give everything back; also called for a half-built node) and :meth:`status` (diagnostics).

    Raises:
        ValueError and rclpy's parameter exceptions: a parameter is wrong; names value and expectation.
    """

    parameters: Any

    def __init__(
        self, name: str, kind: type[ModelParameters], handover: HandOver | None, **node_arguments: Any
    ) -> None:
        super().__init__(name, **node_arguments)
        try:
            self.parameters = declare_parameters(self, kind)
        except PARAMETER_ERRORS:
            super().destroy_node()  # not the subclass's: it has nothing of its own yet
            raise
        self.handover = handover
        self.active = False
        self._forget_due = False
        self._counters: Counter[str] = Counter()
        self._counters_lock = threading.Lock()
        self.clock = handover.clock if handover is not None else InputClock()
        self.clock.on_jump(self._on_jump)
        self._heard_s: dict[str, float] = {}
        self._logged_s: dict[str, float] = {}
        self._outputs: list[Publisher] = []
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', RESULT)
        self.create_steady_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)

    @abstractmethod
    def configure(self) -> None:
        """Build the engine, publishers, subscriptions and services; raises one of STARTUP_ERRORS."""

    @abstractmethod
    def forget(self) -> None:
        """Clear the memories: data time jumped back. On an input's thread, or at activation if it did so before."""

    @abstractmethod
    def release(self) -> None:
        """Stop workers and give up what :meth:`configure` built; safe to call twice."""

    @abstractmethod
    def status(self) -> list[DiagnosticStatus]:
        """One diagnostic status per concern."""

    def output(self, kind: type, topic: str) -> Publisher:
        """A lifecycle publisher of a result on a relative topic; :meth:`destroy_outputs` takes all of them back."""
        publisher = self.create_lifecycle_publisher(kind, topic, RESULT)
        self._outputs.append(publisher)
        return publisher

    def destroy_outputs(self) -> None:
        """Destroy what :meth:`output` made."""
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = []

    def heard(self, source: str, stamp_ns: int | None = None) -> None:
        """An input has arrived: for the diagnostics of silent inputs and, with its stamp, for ages and clock jumps."""
        self._heard_s[source] = self.steady_s()
        if stamp_ns is not None:
            self.clock.observe(source, stamp_ns)

    def silence(self, source: str, topic: str) -> str:
        """What is wrong with an input: nothing yet, or nothing for longer than silence_warning_s; else empty."""
        heard_s = self._heard_s.get(source)
        if heard_s is None:
            return f'nothing on {topic} yet'
        silent_s = self.steady_s() - heard_s
        return f'{topic} has been silent for {silent_s:.0f} s' if silent_s > self.parameters.silence_warning_s else ''

    def steady_s(self) -> float:
        """Steady clock in seconds: for deadlines and time-outs only."""
        return self._steady_clock.now().nanoseconds * 1e-9

    def create_steady_timer(self, period_s: float, callback: Callable[[], None]) -> Any:
        """A timer that runs whether or not /clock does."""
        return self.create_timer(period_s, callback, clock=self._steady_clock)

    def start(self) -> bool:
        """Configure and activate; False if one of them failed."""
        done = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == done and self.trigger_activate() == done

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: build; on a start-up error say why and stay unconfigured."""
        if self.parameters.num_threads:
            torch.set_num_threads(self.parameters.num_threads)
        try:
            self.configure()
        except STARTUP_ERRORS as error:
            self.get_logger().fatal(f'cannot configure: {error}')
            self.release()
            return TransitionCallbackReturn.FAILURE
        except Exception:
            # rclpy turns it into a failed transition without a word
            self.get_logger().fatal(f'cannot configure:\n{traceback.format_exc()}')
            self.release()
            raise
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: open the gates; what happened before does not count, and a jump back has cleared the memories."""
        with self._counters_lock:
            self._counters.clear()
        self._heard_s.clear()
        self.active = True
        if self._forget_due:
            self._forget_jump()
        self.get_logger().info('active')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: close the gates; memories are kept, unless the clock jumps back before the next activation."""
        self.active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: give everything back."""
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle: the same, for good."""
        self.active = False
        self.release()
        return super().on_shutdown(state)

    @property
    def counters(self) -> dict[str, int]:
        """What :meth:`count` has counted since activation (a copy)."""
        with self._counters_lock:
            return dict(self._counters)

    def count(self, reason: str, detail: str = '') -> None:
        """Count a drop or a fault under a fixed name; shown in diagnostics, and each logged at most every 5 s."""
        with self._counters_lock:
            self._counters[reason] += 1
            times = self._counters[reason]
        now_s = self.steady_s()
        if now_s - self._logged_s.get(reason, -LOG_PERIOD_S) >= LOG_PERIOD_S:  # rclpy throttles per line of code only
            self._logged_s[reason] = now_s
            text = f'{reason} (no. {times})'
            self.get_logger().warning(f'{text}: {detail}' if detail else text)

    def diagnostic(
        self, concern: str, problem: str, values: dict[str, Any], level: bytes = DiagnosticStatus.WARN
    ) -> DiagnosticStatus:
        """A DiagnosticStatus: ``level`` with ``problem`` if there is one, else OK."""
        return DiagnosticStatus(
            name=f'{self.get_fully_qualified_name().lstrip("/")}: {concern}',
            hardware_id='',
            level=level if problem else DiagnosticStatus.OK,
            message=problem or 'ok',
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def _on_jump(self) -> None:
        """On any input's thread; in a composed process also for a node that is inactive, or has nothing built yet."""
        self._forget_due = True  # first, so that an activation that goes on at the same time sees it
        if self.active:
            self._forget_jump()

    def _forget_jump(self) -> None:
        self._forget_due = False
        self.count('clock_jump_back')
        self.forget()

    def _publish_diagnostics(self) -> None:
        state = 'active' if self.active else 'inactive'
        lifecycle = self.diagnostic('lifecycle', '' if self.active else state, {'state': state})
        # discovery is not symmetric: a message arrives once its publisher knows the reader and the reader the publisher
        heard = {publisher.topic_name: publisher.get_subscription_count() for publisher in self._outputs}
        known = {reader.topic_name: reader.get_publisher_count() for reader in self.subscriptions}
        matches = [self.diagnostic(SUBSCRIBERS, '', heard), self.diagnostic(PUBLISHERS, '', known)]
        message = DiagnosticArray(status=[lifecycle, *matches, *(self.status() if self.active else [])])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def publish_if_heard(publisher: Publisher, build: Callable[[], Any]) -> None:
    """Build and publish a message, unless nobody subscribes."""
    try:
        if publisher.get_subscription_count():
            publisher.publish(build())
    except RuntimeError:
        # rclpy's signal handler invalidates the context while workers still finish what they have begun
        if rclpy.ok():
            raise


def run_nodes(build: Callable[[], Sequence[ManagedNode]], args: Sequence[str] | None = None) -> int:
    """Build the nodes, start those with ``autostart``, spin them in one executor until shut down.

    Returns:
        a process exit code: 0 after a clean shutdown, 1 if a node could not be configured, 2 for a wrong parameter.
    """
    rclpy.init(args=args)
    nodes: Sequence[ManagedNode] = ()
    executor = SingleThreadedExecutor()
    try:
        try:
            nodes = build()
        except PARAMETER_ERRORS as error:
            rclpy.logging.get_logger('sparseoccvla_ros').fatal(str(error))
            return 2
        for node in nodes:
            executor.add_node(node)
            if node.parameters.autostart and not node.start():
                return 1
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for node in nodes:
            node.release()
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0

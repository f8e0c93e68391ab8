"""The synchronizer as a message filter: camera messages in, one set a cycle out.

The classes have message_filters' interface on both sides (``connectInput`` takes anything with ``registerCallback``,
and they have ``registerCallback`` themselves), so they stand anywhere in a message_filters chain; the package itself
is only needed for :class:`ApproximateTimeCameraFilter`.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Header

from sparseoccvla_ros.nodes.conversions.basic import header_from, stamp_ns_from
from sparseoccvla_ros.sensors.synchronizer import CameraSet, CycleSynchronizer

T = TypeVar('T')

POLLS_PER_TIMEOUT = 5  # a set is late by this part of the time-out at most
APPROXIMATE_QUEUE_SIZE = 10


@dataclass(frozen=True)
class CameraMessageSet(CameraSet[T]):
    """A camera set that is a message to other filters (Cache, TimeSynchronizer): they ask for its header."""

    @property
    def header(self) -> Header:
        """The set's stamp; no frame."""
        return header_from(self.stamp_ns, '')


class _CameraSetFilter:
    """Inputs, callbacks and hand-over; subclasses turn one message into the sets that it makes due.

    Any thread may add. Sets reach the callbacks one after another and in order, and no lock is held meanwhile: a
    thread that adds while another is in a callback leaves its sets to that one. An exception in a callback reaches the
    thread that delivers; the sets behind it go out with the next message.
    """

    def __init__(self, cameras: Sequence[str]):
        self.cameras = tuple(cameras)
        self._lock = threading.Lock()
        self._callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._outbox: deque[CameraMessageSet[Any]] = deque()
        self._delivering = False
        self.input_connections: dict[str, Any] = {}

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> int:  # noqa: N802 (message_filters' name)
        """Call ``callback(camera_set, *args)`` with each set; returns a handle as message_filters does."""
        with self._lock:
            handle = len(self._callbacks)
            self._callbacks[handle] = (callback, args)
        return handle

    def connectInput(self, filters: Mapping[str, Any] | Sequence[Any]) -> None:  # noqa: N802
        """Take the cameras' messages from other filters.

        Args:
            filters: one filter (anything with ``registerCallback``) a camera, by name or in the order of ``cameras``.

        Raises:
            ValueError: the filters are not one for each camera.
        """
        by_camera = filters if isinstance(filters, Mapping) else dict(zip(self.cameras, filters, strict=False))
        if set(by_camera) != set(self.cameras) or len(filters) != len(self.cameras):
            raise ValueError(f'{len(filters)} filters for the cameras {", ".join(self.cameras)}; expected one for each')
        for camera, upstream in by_camera.items():
            self.input_connections[camera] = upstream.registerCallback(self._receive, camera)

    @abstractmethod
    def add(self, camera: str, message: Any) -> None:
        """Take one message (with a header) of a camera.

        Raises:
            ValueError: the camera is not in the rig.
        """

    def destroy(self) -> None:
        """Stop: no callback is called any more, what waits is dropped."""
        with self._lock:
            self._callbacks = {}
            self._outbox.clear()

    def _receive(self, message: Any, camera: str) -> None:
        self.add(camera, message)

    def _file(self, camera_set: CameraSet[Any]) -> None:
        """Put a set into the outbox; the caller holds the lock."""
        self._outbox.append(
            CameraMessageSet(camera_set.stamp_ns, camera_set.items, camera_set.stamps_ns, camera_set.missing)
        )

    def _deliver(self) -> None:
        with self._lock:
            if self._delivering or not self._outbox:
                return
            self._delivering = True
        try:
            while (due := self._next_due()) is not None:
                camera_set, callbacks = due
                for callback, args in callbacks:
                    callback(camera_set, *args)
        except BaseException:
            with self._lock:
                self._delivering = False
            raise

    def _next_due(self) -> tuple[CameraMessageSet[Any], list[tuple[Callable[..., Any], tuple[Any, ...]]]] | None:
        """Take the next set and who is to have it; ends the delivery, under the same lock, if there is none."""
        with self._lock:
            if not self._outbox:
                self._delivering = False
                return None
            return self._outbox.popleft(), list(self._callbacks.values())


class CameraFilter(_CameraSetFilter):
    """The cycle-aware synchronizer (:class:`~sparseoccvla_ros.sensors.synchronizer.CycleSynchronizer`) on a node.

    Partial sets go out too (``missing`` names who is not there). Time-outs run on the steady clock by a timer of the
    node, so they work while simulated time stands still.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[str],
        reference_camera: str,
        *,
        timeout_s: float = 0.15,
        max_spread_s: float = 0.06,
        now_s: Callable[[], float] = time.monotonic,
    ):
        """See :class:`CycleSynchronizer` for the arguments and the errors; ``now_s`` is the steady clock."""
        super().__init__(cameras)
        self._synchronizer: CycleSynchronizer[Any] = CycleSynchronizer(
            cameras, reference_camera, timeout_s=timeout_s, max_spread_s=max_spread_s
        )
        self._now_s = now_s
        self._node = node
        self._timer = node.create_timer(
            timeout_s / POLLS_PER_TIMEOUT, self.poll, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    @property
    def drops(self) -> Counter[str]:
        """Messages that went into no set, by reason, and clock jumps (a copy)."""
        with self._lock:
            return self._synchronizer.drops.copy()

    def add(self, camera: str, message: Any) -> None:
        """Take one message (with a header) of a camera; calls the callbacks with the sets that are due.

        Raises:
            ValueError: the camera is not in the rig.
        """
        with self._lock:
            stamp_ns = stamp_ns_from(message.header.stamp)
            for camera_set in self._synchronizer.add(camera, stamp_ns, message, self._now_s()):
                self._file(camera_set)
        self._deliver()

    def poll(self) -> None:
        """Hand out the sets whose time is up; the timer calls it."""
        with self._lock:
            for camera_set in self._synchronizer.poll(self._now_s()):
                self._file(camera_set)
        self._deliver()

    def destroy(self) -> None:
        """Stop the timer and the callbacks."""
        self._node.destroy_timer(self._timer)
        super().destroy()


class _Source:
    """One input of the ApproximateTimeSynchronizer: remembers whom to call."""

    def __init__(self) -> None:
        self.signal: Callable[[Any], None] = lambda message: None

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> int:  # noqa: N802
        self.signal = lambda message: callback(message, *args)
        return 0


class ApproximateTimeCameraFilter(_CameraSetFilter):
    """message_filters' ApproximateTimeSynchronizer behind the same interface: complete sets only, none if one is dead.

    That class calls back while holding its lock, and keeps it after an exception; here its callback only files the
    set, and ours are called when it has returned.
    """

    def __init__(self, cameras: Sequence[str], reference_camera: str, *, max_spread_s: float = 0.06):
        """Take the rig's cameras; ``max_spread_s`` is the slop.

        Raises:
            ImportError: message_filters is not installed.
            ValueError: ``reference_camera`` is not one of ``cameras``.
        """
        super().__init__(cameras)
        if reference_camera not in self.cameras:
            raise ValueError(f'reference_camera {reference_camera!r} is not one of {self.cameras}')
        try:
            from message_filters import ApproximateTimeSynchronizer
        except ImportError as error:
            raise ImportError(
                'sync: approximate_time needs message_filters, which is not installed here (it comes with a ROS '
                'installation: package ros-<distro>-message-filters); sync: cycle needs nothing'
            ) from error
        self._reference_camera = reference_camera
        self._sources = {camera: _Source() for camera in self.cameras}
        self._synchronizer = ApproximateTimeSynchronizer(
            list(self._sources.values()), APPROXIMATE_QUEUE_SIZE, max_spread_s
        )
        self._synchronizer.registerCallback(self._collect)

    @property
    def drops(self) -> Counter[str]:
        """Empty: the ApproximateTimeSynchronizer does not tell what it drops."""
        return Counter()

    def add(self, camera: str, message: Any) -> None:
        """Take one message (with a header) of a camera; calls the callbacks with the sets that are due.

        Raises:
            ValueError: the camera is not in the rig.
        """
        if camera not in self._sources:
            raise ValueError(f'camera {camera!r} is not one of {self.cameras}')
        self._sources[camera].signal(message)
        self._deliver()

    def _collect(self, *messages: Any) -> None:
        items = dict(zip(self.cameras, messages, strict=True))
        stamps_ns = {camera: stamp_ns_from(message.header.stamp) for camera, message in items.items()}
        with self._lock:
            self._file(CameraSet(stamps_ns[self._reference_camera], items, stamps_ns, ()))

"""Data time of all inputs: the newest stamp, which ages are measured against, and backward jumps."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: A stamp this far before its source's last one: the clock was set back (bag loop, simulator reset). Less is disorder.
MAX_BACKWARD_S = 1.0


class InputClock:
    """Keeps the newest stamp of every input and tells when data time jumps back. Thread safe.

    Inputs lag behind each other by the time their messages take, so a jump is seen within one source: a camera's or the
    odometry's own stamps. Ages compare with the newest stamp of all, so that a bag from 2018 is not too old.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest_ns: dict[str, int] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_jump(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` at every jump back, on the thread that observes it; it must not block."""
        with self._lock:
            self._listeners.append(listener)

    def observe(self, source: str, stamp_ns: int) -> None:
        """Take a stamp of an input; at a jump back, time starts again for all inputs."""
        with self._lock:
            newest_ns = self._newest_ns.get(source)
            jumped = newest_ns is not None and (newest_ns - stamp_ns) * 1e-9 > MAX_BACKWARD_S
            if jumped:
                self._newest_ns.clear()
            if jumped or newest_ns is None or stamp_ns > newest_ns:
                self._newest_ns[source] = stamp_ns
            listeners = list(self._listeners) if jumped else []
        for listener in listeners:
            listener()

    def age_s(self, stamp_ns: int) -> float:
        """Newest stamp of any input minus this stamp, seconds; never negative. 0 if nothing has been seen."""
        with self._lock:
            return max(0, max(self._newest_ns.values(), default=stamp_ns) - stamp_ns) * 1e-9

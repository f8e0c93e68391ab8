"""The newest data time seen on any input: what ages are measured against, so that a bag from 2018 is not too old."""

from __future__ import annotations

import threading


class NewestStamp:
    """Keeps the newest stamp and notices when data time jumps back. Thread safe.

    Args:
        max_backward_s: inputs reach a node in any order, so stamps fall back a little all the time; a stamp older than
            the newest by more than this means that the clock was set back (bag loop, simulator reset).

    Raises:
        ValueError: ``max_backward_s`` is not positive.
    """

    def __init__(self, *, max_backward_s: float = 2.0) -> None:
        if not max_backward_s > 0.0:
            raise ValueError(f'max_backward_s ({max_backward_s}) must be positive')
        self._max_backward_ns = round(max_backward_s * 1e9)
        self._lock = threading.Lock()
        self._newest_ns: int | None = None
        self._jumps = 0

    def observe(self, stamp_ns: int) -> bool:
        """Take a stamp. True if the clock jumped back: clear every memory; time starts again at this stamp."""
        with self._lock:
            jumped = self._newest_ns is not None and self._newest_ns - stamp_ns > self._max_backward_ns
            if jumped:
                self._jumps += 1
            if jumped or self._newest_ns is None or stamp_ns > self._newest_ns:
                self._newest_ns = stamp_ns
            return jumped

    def age_s(self, stamp_ns: int) -> float:
        """Newest stamp seen minus this stamp, seconds; never negative. 0 if nothing has been seen."""
        with self._lock:
            return 0.0 if self._newest_ns is None else max(0, self._newest_ns - stamp_ns) * 1e-9

    @property
    def newest_ns(self) -> int | None:
        """Newest stamp seen since the last jump."""
        with self._lock:
            return self._newest_ns

    @property
    def jumps(self) -> int:
        """Backward clock jumps seen."""
        with self._lock:
            return self._jumps

"""Queries and reasoning of the same scene, brought together whatever order they arrive in."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from sparseoccvla_ros.runtime.scene import SceneQueries, SceneReasoning

#: Failures are told once; a part of the scene that arrives after it is recognised this many scenes long.
REMEMBERED_FAILURES = 256


@dataclass(frozen=True)
class ScenePair:
    """A scene with its reasoning. ``arrival_s`` (steady clock) is when the first of the two came."""

    scene: SceneQueries
    reasoning: SceneReasoning
    arrival_s: float


class ScenePairing:
    """Waits for both halves of a scene. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._halves: dict[int, tuple[SceneQueries | SceneReasoning, float]] = {}
        self._failed: deque[int] = deque(maxlen=REMEMBERED_FAILURES)

    def add(self, half: SceneQueries | SceneReasoning, now_s: float) -> ScenePair | None:
        """Take one half; the pair if the other was there. A half of a scene that has failed is dropped."""
        with self._lock:
            if half.stamp_ns in self._failed:
                return None
            other, arrival_s = self._halves.pop(half.stamp_ns, (None, now_s))
            if other is None or type(other) is type(half):
                self._halves[half.stamp_ns] = (half, arrival_s)
                return None
        scene, reasoning = (half, other) if isinstance(half, SceneQueries) else (other, half)
        return ScenePair(scene, reasoning, arrival_s)

    def fail(self, stamp_ns: int) -> None:
        """Forget a scene for good."""
        with self._lock:
            self._halves.pop(stamp_ns, None)
            self._failed.append(stamp_ns)

    def take_overdue(self, now_s: float, limit_s: float) -> list[int]:
        """Stamps of the scenes that have waited longer than ``limit_s``; each is forgotten for good."""
        with self._lock:
            overdue = [stamp_ns for stamp_ns, (_, arrival_s) in self._halves.items() if now_s - arrival_s > limit_s]
            for stamp_ns in overdue:
                del self._halves[stamp_ns]
                self._failed.append(stamp_ns)
        return overdue

    def clear(self) -> None:
        """Forget everything (clock jump): the same stamps may come again."""
        with self._lock:
            self._halves.clear()
            self._failed.clear()

"""Queries, reasoning and occupancy of the same scene, brought together whatever order they arrive in."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace

from sparseoccvla_ros.runtime.scene import SceneForecast, SceneOccupancy, SceneQueries, SceneReasoning

#: Failures are told once; a part of the scene that arrives after it is recognised this many scenes long.
REMEMBERED_FAILURES = 256

ScenePart = SceneQueries | SceneReasoning | SceneOccupancy | SceneForecast
#: In one process queries and reasoning carry the occupancy; through messages it comes by itself.
CARRIED: tuple[type[ScenePart], ...] = (SceneQueries, SceneReasoning)
SEPARATE: tuple[type[ScenePart], ...] = (SceneQueries, SceneReasoning, SceneOccupancy, SceneForecast)


@dataclass(frozen=True)
class ScenePair:
    """A scene with its reasoning, and its occupancy. ``arrival_s`` (steady clock) is when the first part came."""

    scene: SceneQueries
    reasoning: SceneReasoning
    arrival_s: float


class ScenePairing:
    """Waits for all parts of a scene. Thread safe.

    Args:
        parts: the types that make a scene whole.
    """

    def __init__(self, parts: tuple[type[ScenePart], ...] = CARRIED) -> None:
        self._wanted = set(parts)
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[dict[type, ScenePart], float]] = {}
        self._failed: deque[int] = deque(maxlen=REMEMBERED_FAILURES)

    def add(self, part: ScenePart, now_s: float) -> ScenePair | None:
        """Take one part; the pair if it was the last. A part of a scene that has failed is dropped."""
        with self._lock:
            if part.stamp_ns in self._failed:
                return None
            parts, arrival_s = self._waiting.setdefault(part.stamp_ns, ({}, now_s))
            parts[type(part)] = part
            if parts.keys() != self._wanted:
                return None
            del self._waiting[part.stamp_ns]
        scene, reasoning = parts[SceneQueries], parts[SceneReasoning]
        if SceneOccupancy in parts:
            scene = replace(scene, occupancy=parts[SceneOccupancy].occupancy)
        if SceneForecast in parts:
            reasoning = replace(reasoning, forecast=parts[SceneForecast].forecast)
        return ScenePair(scene, reasoning, arrival_s)

    def fail(self, stamp_ns: int) -> None:
        """Forget a scene for good."""
        with self._lock:
            self._waiting.pop(stamp_ns, None)
            self._failed.append(stamp_ns)

    def take_overdue(self, now_s: float, limit_s: float) -> dict[int, tuple[str, ...]]:
        """Scenes that have waited longer than ``limit_s``, by stamp, with the types they lack; forgotten for good."""
        with self._lock:
            overdue = {
                stamp_ns: tuple(sorted(kind.__name__ for kind in self._wanted - parts.keys()))
                for stamp_ns, (parts, arrival_s) in self._waiting.items()
                if now_s - arrival_s > limit_s
            }
            for stamp_ns in overdue:
                del self._waiting[stamp_ns]
                self._failed.append(stamp_ns)
        return overdue

    def clear(self) -> None:
        """Forget everything (clock jump): the same stamps may come again."""
        with self._lock:
            self._waiting.clear()
            self._failed.clear()

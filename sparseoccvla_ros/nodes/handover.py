"""Results handed from node to node inside one process: by reference, nothing copied, nothing serialized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sparseoccvla_ros.runtime.clock import InputClock
from sparseoccvla_ros.runtime.scene import SceneQueries, SceneReasoning

SceneConsumer = Callable[[SceneQueries], None]
ReasoningConsumer = Callable[[SceneReasoning], None]
FailureConsumer = Callable[[int, str], None]


@dataclass
class HandOver:
    """Who gets what. Consumers are called on the producer's worker thread, so they only put the object away.

    All consumers are added before the nodes are activated; nothing is added or removed afterwards. ``clock`` is
    shared: whichever node sees the data time jump back, all clear their memories.
    """

    scene_consumers: list[SceneConsumer] = field(default_factory=list)
    reasoning_consumers: list[ReasoningConsumer] = field(default_factory=list)
    failure_consumers: list[FailureConsumer] = field(default_factory=list)
    clock: InputClock = field(default_factory=InputClock)

    def scene(self, scene: SceneQueries) -> None:
        """Perception has a scene."""
        for consume in self.scene_consumers:
            consume(scene)

    def reasoning(self, reasoning: SceneReasoning) -> None:
        """Reasoning has read the planning prompt of a scene."""
        for consume in self.reasoning_consumers:
            consume(reasoning)

    def failure(self, stamp_ns: int, reason: str) -> None:
        """Perception or reasoning gave up on a scene; nobody shall wait for it any longer."""
        for consume in self.failure_consumers:
            consume(stamp_ns, reason)

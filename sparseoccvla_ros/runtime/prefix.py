"""The language prefixes of the last scenes, prefilled once each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from sparseoccvla_ros.model.language import KeyValues


@dataclass(frozen=True)
class ScenePrefix:
    """System text, occupancy tokens and global tokens of one scene as keys and values; ``length`` tokens.

    The key-values are never changed: whoever appends to them gets new ones. ``adapter`` counts the engine's switches of
    the adapter up to the one they were made with; with another one they cannot be read on.
    """

    stamp_ns: int
    key_values: KeyValues
    length: int
    adapter: int


class PrefixCache:
    """The newest ``capacity`` scenes' prefixes by stamp. Thread safe.

    A question that is on its way holds its own prefix, so that a scene may leave the cache meanwhile.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._prefixes: OrderedDict[int, ScenePrefix] = OrderedDict()
        self._epoch = 0
        self._lock = threading.Lock()

    @property
    def epoch(self) -> int:
        """Changes with every :meth:`clear`."""
        with self._lock:
            return self._epoch

    @property
    def stamps(self) -> tuple[int, ...]:
        """Stamps of the scenes kept, in the order they came."""
        with self._lock:
            return tuple(self._prefixes)

    def put(self, prefix: ScenePrefix, epoch: int) -> bool:
        """Keep a scene, forgetting the oldest beyond the capacity. False, and not kept, if :meth:`clear` came after
        ``epoch`` was read: the scene belongs to a time that is over.
        """
        with self._lock:
            if epoch != self._epoch:
                return False
            self._prefixes.pop(prefix.stamp_ns, None)
            self._prefixes[prefix.stamp_ns] = prefix
            while len(self._prefixes) > self._capacity:
                self._prefixes.popitem(last=False)
            return True

    def get(self, stamp_ns: int) -> ScenePrefix | None:
        """The scene of exactly this stamp; the newest for 0."""
        with self._lock:
            if stamp_ns == 0:
                return next(reversed(self._prefixes.values()), None)
            return self._prefixes.get(stamp_ns)

    def forget(self) -> None:
        """Forget all scenes, but not the time they belong to: a scene that is on its way will still be kept."""
        with self._lock:
            self._prefixes.clear()

    def clear(self) -> None:
        """Forget all scenes."""
        with self._lock:
            self._prefixes.clear()
            self._epoch += 1

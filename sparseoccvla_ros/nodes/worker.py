"""One worker thread with one slot: the newest input waits, an older one that was not begun is replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')


class LatestWorker(Generic[T]):
    """Runs ``work(item)`` off the executor's thread, one item at a time.

    ``on_replaced`` gets an item that a newer one pushed out before it was begun. An exception in ``work`` is a
    defect of the node: ``on_error`` gets it with the item, and the worker goes on with the next item.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[T], None],
        on_replaced: Callable[[T], None],
        on_error: Callable[[T, BaseException], None],
    ) -> None:
        self._work = work
        self._on_replaced = on_replaced
        self._on_error = on_error
        self._condition = threading.Condition()
        self._item: T | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Offer the newest item."""
        with self._condition:
            replaced, self._item = self._item, item
            self._condition.notify()
        if replaced is not None:
            self._on_replaced(replaced)

    def close(self) -> None:
        """Finish the item at work and stop."""
        with self._condition:
            self._stopping = True
            self._item = None
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._item is not None)
                if self._stopping:
                    return
                item, self._item = self._item, None
            try:
                self._work(item)
            except Exception as error:  # noqa: BLE001 - the thread outlives any item; the node tells and counts it
                self._on_error(item, error)

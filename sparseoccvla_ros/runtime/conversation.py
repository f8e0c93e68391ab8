"""Earlier turns of conversations, bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque


class Conversations:
    """Turns (question, answer) by conversation id. Thread safe.

    Args:
        max_conversations: the one used longest ago is forgotten beyond this.
        max_turns: the oldest turn of a conversation is forgotten beyond this.
    """

    def __init__(self, max_conversations: int, max_turns: int) -> None:
        self._max_conversations = max_conversations
        self._max_turns = max_turns
        self._turns: OrderedDict[str, deque[tuple[str, str]]] = OrderedDict()
        self._epoch = 0
        self._lock = threading.Lock()

    @property
    def epoch(self) -> int:
        """Changes with every :meth:`clear`."""
        with self._lock:
            return self._epoch

    def turns(self, conversation_id: str) -> tuple[tuple[str, str], ...]:
        """Earlier turns, oldest first; none for the empty id."""
        with self._lock:
            if conversation_id in self._turns:
                self._turns.move_to_end(conversation_id)
            return tuple(self._turns.get(conversation_id, ()))

    def record(self, conversation_id: str, question: str, answer: str, epoch: int) -> None:
        """Keep a finished turn, unless the id is empty or :meth:`clear` came after ``epoch`` was read."""
        with self._lock:
            if not conversation_id or epoch != self._epoch:
                return
            self._turns.setdefault(conversation_id, deque(maxlen=self._max_turns)).append((question, answer))
            self._turns.move_to_end(conversation_id)
            while len(self._turns) > self._max_conversations:
                self._turns.popitem(last=False)

    def clear(self) -> None:
        """Forget all; answers that are still running are not recorded either."""
        with self._lock:
            self._turns.clear()
            self._epoch += 1

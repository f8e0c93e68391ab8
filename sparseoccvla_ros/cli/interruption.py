"""Ctrl-C that stays Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def lasting_interruption() -> Iterator[Callable[[], None]]:
    """Within it a Ctrl-C always ends in a KeyboardInterrupt.

    Python raises one wherever the program happens to be, and libraries may answer it with an error of their own, or
    with nothing: numpy takes it for a failed comparison when it comes while objects are compared.

    Yields:
        A function that raises the KeyboardInterrupt again if a Ctrl-C came and was lost; to be called now and then.

    Raises:
        KeyboardInterrupt: Ctrl-C, whatever became of it.
    """
    came = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    else:
        check()
    finally:
        signal.signal(signal.SIGINT, before)

"""Several processes that make one scene each at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait as wait_for
from multiprocessing.sharedctypes import Synchronized
from types import ModuleType

#: Makes the scene of this index and calls the function after each keyframe.
MakeScene = Callable[[int, Callable[[], None]], None]

POLL_S = 0.25


def make_scenes(make: MakeScene, indices: list[int], workers: int, on_keyframes: Callable[[int], None]) -> None:
    """Call ``make`` for each scene.

    Args:
        make: a function of a module or a ``functools.partial`` of one, so that it reaches the workers.
        indices: of the scenes, in the order in which they are begun.
        workers: processes; 1 stays in this one.
        on_keyframes: told the number of keyframes made so far.

    Raises:
        ChildProcessError: a worker was killed, for example for lack of memory.
        Exception: whatever ``make`` raises; the other scenes that are being made are then given up.
    """
    if workers == 1 or len(indices) < 2:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            on_keyframes(done)

        for index in indices:
            make(index, count)
        return
    # Forking would copy the locks of this process's threads (progress bar, BLAS) in whatever state they are.
    context = multiprocessing.get_context('spawn')
    counter = context.Value('q', 0)
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(workers, len(indices)), context, _prepare, (counter,)) as pool:
        try:
            with _main_hidden():
                pending = {pool.submit(partial(_make, make), index) for index in indices}
            while pending:
                done_now, pending = wait(pending, POLL_S, FIRST_COMPLETED)
                on_keyframes(counter.value)
                for future in done_now:
                    future.result()
        except BaseException as error:
            # Scenes take long: do not wait for those that are being drawn.
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise ChildProcessError('a worker process was killed, perhaps for lack of memory') from error
            raise


_counter: Synchronized | None = None


def _prepare(counter: Synchronized) -> None:
    global _counter
    _counter = counter
    # Ctrl-C reaches all processes of a terminal: the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end its workers, which would go on writing beside a later run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _make(make: MakeScene, index: int) -> None:
    make(index, _count_one)


def _count_one() -> None:
    assert _counter is not None
    with _counter.get_lock():
        _counter.value += 1


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep spawned workers from importing the calling program.

    They need nothing of it, and a program without ``if __name__ == '__main__'`` (some installers write the command's
    script so) would start all over in each worker. A main module without a file is not imported.
    """
    main = sys.modules['__main__']
    sys.modules['__main__'] = ModuleType('__main__')
    try:
        yield
    finally:
        sys.modules['__main__'] = main

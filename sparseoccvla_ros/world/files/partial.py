"""The folder in which a data set grows, and what of it is finished: an interrupted run goes on where it stopped.

``<out>.partial`` holds ``lock``, which belongs to the process that writes, ``request.json``, ``rows/<index>.json`` of
each finished scene, and the growing data set itself, which takes its name when it is complete. A scene is finished when
its rows are there; they are written last, under another name first, so that a killed process leaves all of them or
none.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparseoccvla_ros.world.files.generator import generator_version
from sparseoccvla_ros.world.files.request import WorldRequest

REQUEST, LOCK = 'request.json', 'lock'
#: What a run that was killed at once may have left.
BEFORE_REQUEST = {LOCK, f'{REQUEST}.unfinished'}


class Partial:
    """The unfinished data set beside ``out``."""

    def __init__(self, out: Path) -> None:
        self.out = Path(out).absolute()
        self.folder = self.out.with_name(self.out.name + '.partial')
        self.data = self.folder / 'data'
        self._rows = self.folder / 'rows'

    @contextmanager
    def opened(self, request: WorldRequest) -> Iterator[None]:
        """Make the folder, or go on with the one of an interrupted run, which nobody else may use meanwhile.

        Raises:
            FileExistsError: ``out`` exists; the folder belongs to another request or another generator (names what
                differs), to none, or to a run that is still going on. Nothing was changed then.
            OSError: it cannot be written.
        """
        self._refuse_unless_ours(request)
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileExistsError(f'{self.folder} is being written by another process') from None
            # Another process may have come first.
            self._refuse_unless_ours(request)
            if not (self.folder / REQUEST).exists():
                write_whole(self.folder / REQUEST, json.dumps(_record(request), indent=2))
            self.data.mkdir(exist_ok=True)
            self._rows.mkdir(exist_ok=True)
            yield
        finally:
            os.close(handle)

    def _refuse_unless_ours(self, request: WorldRequest) -> None:
        """Only looks."""
        if self.out.exists() or self.out.is_symlink():
            raise FileExistsError(f'{self.out} exists; nothing is overwritten: remove it or choose another folder')
        if not self.folder.is_dir():
            return
        if not (self.folder / REQUEST).exists():
            if {path.name for path in self.folder.iterdir()} <= BEFORE_REQUEST:
                return
            raise FileExistsError(
                f'{self.folder} exists and is no unfinished data set (it holds no {REQUEST}); nothing is overwritten: '
                'move it away or choose another folder'
            )
        difference = _difference(self.folder, request)
        if difference is not None:
            raise FileExistsError(
                f'{self.folder} exists and {difference}; nothing is overwritten: ask for the same again to '
                'complete it, or remove it'
            )

    def rows_path(self, index: int) -> Path:
        """Rows of scene ``index``, there when the scene is finished."""
        return self._rows / f'{index:05d}.json'

    def questions_path(self, index: int) -> Path:
        """What may be asked about scene ``index``, written before its rows."""
        return self._rows / f'{index:05d}.questions.json'

    def finished(self, scenes: int) -> list[int]:
        """Scenes below ``scenes`` that need not be made again, in order."""
        return [index for index in range(scenes) if self.rows_path(index).is_file()]

    def complete(self) -> None:
        """Give the data set its name, and remove the rest."""
        self.data.rename(self.out)
        shutil.rmtree(self.folder)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, also if the process is killed."""
    unfinished = path.with_name(path.name + '.unfinished')
    unfinished.write_text(text)
    unfinished.replace(path)


def _record(request: WorldRequest) -> dict[str, object]:
    return {'generator': generator_version(), **request.options()}


def _difference(folder: Path, request: WorldRequest) -> str | None:
    """What about the request of an unfinished data set is not as asked for; None if nothing."""
    path = folder / REQUEST
    try:
        there = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return f'its {REQUEST} cannot be read ({error})'
    asked = _record(request)
    if not isinstance(there, dict):
        return f'its {REQUEST} holds no options'
    differing = [
        f'{key} is {there.get(key, "absent")!r} there and {asked.get(key, "absent")!r} here'
        for key in dict.fromkeys([*asked, *there])
        if there.get(key, 'absent') != asked.get(key, 'absent')
    ]
    if not differing:
        return None
    begun = 'by another generator' if there.get('generator') != asked['generator'] else 'with other options'
    return f'was begun {begun}: {", ".join(differing)}'

"""A small data set that several tests look at; making it takes a few seconds."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

SMALL = WorldRequest(scenes=3, seed=7, width_px=96, height_px=32, sweep_hz=4, seconds=1.5, depth=True, semantics=True)


@pytest.fixture(scope='session')
def digests() -> Callable[[Path], dict[str, str]]:
    """SHA-256 of every file below a folder."""

    def of(root: Path) -> dict[str, str]:
        files = sorted(path for path in root.rglob('*') if path.is_file())
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return of


@pytest.fixture(scope='session')
def small() -> WorldRequest:
    """What ``world`` was asked to be."""
    return SMALL


@pytest.fixture(scope='session')
def world(tmp_path_factory) -> Path:
    """Written by one process without interruption."""
    out = tmp_path_factory.mktemp('world') / 'data'
    done = []
    summary = write_world(out, SMALL, workers=1, on_keyframes=done.append)
    assert done == list(range(10))
    assert (summary.scenes, summary.keyframes, summary.kept_keyframes) == (3, 9, 0)
    # Three keyframes and two sweeps between them, six cameras, three scenes.
    assert summary.images == 5 * 6 * 3
    return out

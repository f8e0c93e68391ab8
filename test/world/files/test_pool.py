import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HELPER = """
import os, signal, time
from pathlib import Path

def slow(folder, index, on_keyframe):
    for number in range(1000):
        Path(folder, f'{index}-{number}').touch()
        time.sleep(0.01)

def quick(folder, index, on_keyframe):
    Path(folder, f'scene-{index}').touch()
    on_keyframe()
    on_keyframe()

def broken(folder, index, on_keyframe):
    if index == 1:
        raise OSError(28, 'No space left on device')
    slow(folder, index, on_keyframe)

def killed(folder, index, on_keyframe):
    os.kill(os.getpid(), signal.SIGKILL)
"""
# Without a guard: workers must not run it again.
PROGRAM = """
import sys
from functools import partial
import helper
from sparseoccvla_ros.world.files.pool import make_scenes
seen = []
try:
    make_scenes(partial(getattr(helper, sys.argv[1]), sys.argv[2]), [0, 1, 2], int(sys.argv[3]), seen.append)
except OSError as error:
    print(type(error).__name__, error)
print('keyframes', seen[-1:])
"""


@pytest.fixture
def start(tmp_path):
    def run(name: str, workers: int) -> subprocess.Popen:
        (tmp_path / 'helper.py').write_text(HELPER)
        (tmp_path / 'program.py').write_text(PROGRAM)
        (tmp_path / 'out').mkdir()
        command = [sys.executable, str(tmp_path / 'program.py'), name, str(tmp_path / 'out'), str(workers)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return run


def made(folder: Path) -> set[str]:
    return {path.name for path in (folder / 'out').iterdir()}


@pytest.mark.parametrize('workers', [1, 2])
def test_every_scene_is_made_and_every_keyframe_counted(start, tmp_path, workers):
    output, _ = start('quick', workers).communicate(timeout=60)
    assert output == 'keyframes [6]\n'
    assert made(tmp_path) == {'scene-0', 'scene-1', 'scene-2'}


@pytest.mark.parametrize(
    ('name', 'message'),
    [('broken', 'OSError [Errno 28] No space left on device'), ('killed', 'ChildProcessError a worker process was')],
)
def test_an_error_in_a_worker_ends_all(start, name, message):
    begin_s = time.monotonic()
    output, _ = start(name, 2).communicate(timeout=60)
    assert output.startswith(message)
    assert time.monotonic() - begin_s < 8.0  # the scene beside it would take ten seconds


def test_workers_of_a_killed_program_end_too(start, tmp_path):
    process = start('slow', 2)
    end_s = time.monotonic() + 60.0
    while not {'0-0', '1-0'} <= made(tmp_path):
        assert time.monotonic() < end_s
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.3)
    before = made(tmp_path)
    time.sleep(0.3)
    assert made(tmp_path) == before

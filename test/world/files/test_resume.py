"""An interrupted run goes on, and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sparseoccvla_ros.world.files import partial, writer
from sparseoccvla_ros.world.files.partial import Partial
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

PROGRAM = """
import sys
from pathlib import Path
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world
write_world(Path(sys.argv[1]), WorldRequest(**eval(sys.argv[2])), workers=1)
"""


def test_a_killed_run_goes_on_with_other_workers_and_gives_the_same_bytes(tmp_path, world, small, digests):
    out = tmp_path / 'data'
    unfinished = Partial(out)
    process = subprocess.Popen([sys.executable, '-c', PROGRAM, str(out), repr(small.options())])
    end_s = time.monotonic() + 60.0
    while not unfinished.finished(small.scenes):
        assert process.poll() is None
        assert time.monotonic() < end_s
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert unfinished.finished(small.scenes) == [0]
    assert not out.exists()
    before = unfinished.rows_path(0).stat().st_mtime_ns
    # What a killed process may leave besides: files that end in the middle.
    (unfinished.data / 'can_bus' / 'scene-0002_pose.json').write_text('[{"accel": [0.')
    unfinished.rows_path(1).with_suffix('.json.unfinished').write_text('{"log": [{"tok')
    seen = []

    def watch(done: int) -> None:
        assert unfinished.rows_path(0).stat().st_mtime_ns == before
        seen.append(done)

    summary = write_world(out, small, 2, watch)
    assert summary.kept_keyframes == 3
    assert (seen[0], seen[-1]) == (3, 9)
    assert seen == sorted(seen)
    assert digests(out) == digests(world)
    assert [path.name for path in tmp_path.iterdir()] == ['data']


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_an_error_or_interruption_leaves_what_is_finished(tmp_path, monkeypatch, error):
    request = WorldRequest(2, 0, 64, 32, 2, 1.0)

    def write(unfinished, _request, index, _on_keyframe) -> None:
        if index == 1:
            raise error
        unfinished.rows_path(index).write_text('{}')

    monkeypatch.setattr(writer, '_write_scene', write)
    with pytest.raises(type(error)):
        write_world(tmp_path / 'data', request, workers=1)
    assert Partial(tmp_path / 'data').finished(2) == [0]
    assert not (tmp_path / 'data').exists()


def test_only_the_same_request_goes_on(tmp_path, small, digests):
    unfinished = Partial(tmp_path / 'data')
    with unfinished.opened(small):
        pass
    with unfinished.opened(small):
        pass
    before = digests(tmp_path)
    other = WorldRequest(**(small.options() | {'seed': 8, 'seconds': 2.0}))
    with pytest.raises(FileExistsError, match=r'seed is 7 there and 8 here, seconds is 1.5 there and 2.0 here;'):
        write_world(tmp_path / 'data', other)
    assert digests(tmp_path) == before
    record = unfinished.folder / 'request.json'
    record.write_text('{"generator": ')
    with pytest.raises(FileExistsError, match='cannot be read'):
        write_world(tmp_path / 'data', small)


def test_another_generator_does_not_go_on(tmp_path, small, monkeypatch, digests):
    with Partial(tmp_path / 'data').opened(small):
        pass
    before = digests(tmp_path)
    version = partial.generator_version()
    monkeypatch.setattr(partial, 'generator_version', lambda: 'edited')
    message = f"was begun by another generator: generator is '{version}' there and 'edited' here"
    with pytest.raises(FileExistsError, match=message):
        write_world(tmp_path / 'data', small)
    assert digests(tmp_path) == before


def test_every_option_counts(tmp_path):
    first = WorldRequest(2, 0, 64, 32, 2, 1.0, 'suburb')
    with Partial(tmp_path / 'data').opened(first):
        pass
    changes = {'scenes': 3, 'seed': 1, 'width_px': 96, 'height_px': 16, 'sweep_hz': 4, 'seconds': 2.0, 'city': None,
               'depth': True, 'semantics': True, 'lens': False, 'questions_per_keyframe': 8}  # fmt: skip
    assert set(changes) == set(first.options())
    for name, value in changes.items():
        other = WorldRequest(**(first.options() | {name: value}))
        with (
            pytest.raises(FileExistsError, match=f'options: {name} is .* there and {value!r} here;'),
            Partial(tmp_path / 'data').opened(other),
        ):
            pass


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, small):
    mine = tmp_path / 'data.partial' / 'mine'
    mine.parent.mkdir()
    mine.write_text('text')
    with pytest.raises(FileExistsError, match=r'is no unfinished data set \(it holds no request.json\)'):
        write_world(tmp_path / 'data', small)
    assert mine.read_text() == 'text'
    assert list(mine.parent.iterdir()) == [mine]


def test_a_run_killed_at_once_leaves_nothing_in_the_way(tmp_path, small):
    unfinished = Partial(tmp_path / 'data')
    unfinished.folder.mkdir()
    (unfinished.folder / 'request.json.unfinished').write_text('{"form')
    with unfinished.opened(small):
        assert unfinished.finished(small.scenes) == []


def test_two_runs_do_not_write_at_once(tmp_path, small):
    with (
        Partial(tmp_path / 'data').opened(small),
        pytest.raises(FileExistsError, match='is being written by another process'),
        Partial(tmp_path / 'data').opened(small),
    ):
        pass


def test_a_run_that_has_only_begun_is_alone_already(tmp_path, small, monkeypatch):
    unfinished, write, there = Partial(tmp_path / 'data'), partial.write_whole, []

    def write_late(path, text) -> None:
        monkeypatch.setattr(partial, 'write_whole', write)
        # Before anything is written another process comes.
        with (
            pytest.raises(FileExistsError, match='is being written by another process'),
            Partial(tmp_path / 'data').opened(small),
        ):
            pass
        there.extend(item.name for item in unfinished.folder.iterdir())
        write(path, text)

    monkeypatch.setattr(partial, 'write_whole', write_late)
    with unfinished.opened(small):
        pass
    assert there == ['lock']

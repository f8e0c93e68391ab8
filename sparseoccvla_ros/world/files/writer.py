"""A synthetic data set in the nuScenes v1.0 layout, written by several processes."""

from __future__ import annotations

import json
import math
import multiprocessing
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2

from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.world.city import city_named
from sparseoccvla_ros.world.files.scene_writer import KEYFRAME_HZ, SceneRows, SceneWriter
from sparseoccvla_ros.world.files.tables import TABLES, VERSION, Row, shared_rows
from sparseoccvla_ros.world.rig import load_rig
from sparseoccvla_ros.world.scene import build_scene

RIG = 'config/rig/nuscenes.yaml'
SWEEP_RATES_HZ = (2, 4, 6, 8, 10, 12)
LONGEST_S = 300.0
FLEET = 3


@dataclass(frozen=True)
class WorldRequest:
    """What to generate. Scene ``i`` depends on the seed, ``i``, length, city and size, not on the number of scenes."""

    scenes: int
    seed: int
    width_px: int = 352
    height_px: int = 128
    sweep_hz: int = 2
    seconds: float = 20.0
    city: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.scenes <= 10_000:
            raise ValueError(f'scenes is {self.scenes}; 1 to 10000 expected')
        if not 0 <= self.seed < 2**32:
            raise ValueError(f'seed is {self.seed}; 0 to {2**32 - 1} expected')
        if self.sweep_hz not in SWEEP_RATES_HZ:
            raise ValueError(f'sweep_hz is {self.sweep_hz}; one of {", ".join(map(str, SWEEP_RATES_HZ))} expected')
        if not (math.isfinite(self.seconds) and 1.0 <= self.seconds <= LONGEST_S):
            raise ValueError(f'seconds is {self.seconds}; 1 to {LONGEST_S:g} expected')
        if not (32 <= self.width_px <= 3200 and self.height_px >= 16):
            size = f'{self.width_px}x{self.height_px}'
            raise ValueError(f'size is {size}; a width of 32 to 3200 px and a height of at least 16 px expected')
        if self.city is not None:
            city_named(self.city)
        # Refuses a height that the full image does not have.
        load_rig(share_path(RIG), self.width_px, self.height_px, vehicle=0, seed=self.seed)


@dataclass(frozen=True)
class WorldSummary:
    """What was written."""

    root: Path
    scenes: int
    keyframes: int
    images: int
    annotations: int


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in pixels from ``352x128``.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if match is None:
        raise ValueError(f'size is {text!r}; WIDTHxHEIGHT in pixels expected, for example 352x128')
    return int(match[1]), int(match[2])


def write_world(
    out: Path, request: WorldRequest, workers: int = 2, on_scene: Callable[[int], None] | None = None
) -> WorldSummary:
    """Generate a data set into a new folder.

    It grows beside the target as ``<out>.partial`` and takes its name when complete, so a folder of that name is always
    a whole data set; after an error or an interruption nothing is left.

    Args:
        out: folder to make; must not exist.
        request: what to generate.
        workers: processes; 1 stays in this one.
        on_scene: called with the number of finished scenes.

    Raises:
        FileExistsError: the folder, or one left by a killed run, exists.
        OSError: it cannot be written, for example because the disk is full.
    """
    out = Path(out).absolute()
    partial = out.with_name(out.name + '.partial')
    for path in (out, partial):
        if path.exists() or path.is_symlink():
            raise FileExistsError(f'{path} exists; nothing is overwritten: remove it or choose another folder')
    partial.mkdir(parents=True)
    try:
        summary = _write(partial, out, request, workers, on_scene)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return summary


def _write(
    root: Path, out: Path, request: WorldRequest, workers: int, on_scene: Callable[[int], None] | None
) -> WorldSummary:
    rig = load_rig(share_path(RIG), request.width_px, request.height_px, vehicle=0, seed=request.seed)
    channels = [item.camera.name for item in rig.cameras]
    kinds = ['samples'] if request.sweep_hz == KEYFRAME_HZ else ['samples', 'sweeps']
    for folder in [f'{kind}/{channel}' for kind in kinds for channel in channels] + ['maps', 'gts', VERSION]:
        (root / folder).mkdir(parents=True)
    results: dict[int, SceneRows] = {}
    if workers == 1 or request.scenes == 1:
        for index in range(request.scenes):
            results[index] = write_scene(root, request, index)
            if on_scene is not None:
                on_scene(len(results))
    else:
        # Forking would copy the locks of this process's threads (progress bar, BLAS) in whatever state they are.
        context = multiprocessing.get_context('spawn')
        others = set(multiprocessing.active_children())
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            with _main_hidden():
                pending = {pool.submit(write_scene, root, request, index): index for index in range(request.scenes)}
            try:
                for future in as_completed(pending):
                    results[pending[future]] = future.result()
                    if on_scene is not None:
                        on_scene(len(results))
            except BaseException:
                # Scenes take long: do not wait for those that are being drawn.
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    tables: dict[str, list[Row]] = {name: [] for name in TABLES} | shared_rows(channels)
    for index in range(request.scenes):
        for name, rows in results[index].rows.items():
            tables[name] += rows
    for name, rows in tables.items():
        (root / VERSION / f'{name}.json').write_text(json.dumps(rows, indent=0))
    return WorldSummary(
        root=out,
        scenes=request.scenes,
        keyframes=sum(result.keyframes for result in results.values()),
        images=sum(result.images for result in results.values()),
        annotations=len(tables['sample_annotation']),
    )


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


def write_scene(root: Path, request: WorldRequest, index: int) -> SceneRows:
    """Generate one scene into a data set's folder and return its rows; runs in a worker."""
    # Scenes are the unit of parallel work: threads inside one would only compete.
    cv2.setNumThreads(1)
    scene = build_scene(request.seed, index, request.seconds, request.city)
    rig = load_rig(share_path(RIG), request.width_px, request.height_px, index % FLEET, request.seed)
    return SceneWriter(root, scene, rig, request.seed, index).write(request.sweep_hz)

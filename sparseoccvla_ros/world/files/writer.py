"""A synthetic data set in the nuScenes v1.0 layout, written by several processes; an interrupted run can go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import cv2

from sparseoccvla_ros.data.nuscenes import LIDAR
from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.world.files.names import SceneNames
from sparseoccvla_ros.world.files.partial import Partial, write_whole
from sparseoccvla_ros.world.files.pool import make_scenes
from sparseoccvla_ros.world.files.question_files import write_questions, write_splits
from sparseoccvla_ros.world.files.request import KEYFRAME_HZ, RIG, WorldRequest, parse_city, parse_size
from sparseoccvla_ros.world.files.scene_writer import SceneWriter
from sparseoccvla_ros.world.files.tables import TABLES, VERSION, Row, shared_rows
from sparseoccvla_ros.world.rig import load_rig
from sparseoccvla_ros.world.scene import build_scene

__all__ = ['WorldRequest', 'WorldSummary', 'parse_city', 'parse_size', 'write_world']

FLEET = 3


@dataclass(frozen=True)
class WorldSummary:
    """What the data set holds; ``kept_keyframes`` of its keyframes were there from an interrupted run."""

    root: Path
    scenes: int
    keyframes: int
    images: int
    annotations: int
    questions: int
    kept_keyframes: int


def write_world(
    out: Path, request: WorldRequest, workers: int = 2, on_keyframes: Callable[[int], None] | None = None
) -> WorldSummary:
    """Generate a data set into a new folder.

    It grows in ``<out>.partial`` and takes its name when complete, so a folder of that name is always a whole data set.
    After an error, an interruption or a kill, the same call goes on with the scenes that are not finished; the result
    has the same bytes however often that happens.

    Args:
        out: folder to make; must not exist.
        request: what to generate.
        workers: processes; 1 stays in this one.
        on_keyframes: called with the number of finished keyframes, those of an interrupted run included.

    Raises:
        FileExistsError: the folder exists, or an unfinished one of another request.
        OSError: it cannot be written, for example because the disk is full.
    """
    unfinished = Partial(out)
    with unfinished.opened(request):
        cameras = _make_folders(unfinished.data, request)
        kept = unfinished.finished(request.scenes)
        kept_keyframes = len(kept) * request.keyframes_per_scene
        report = on_keyframes or (lambda _: None)
        report(kept_keyframes)
        left = sorted(set(range(request.scenes)) - set(kept))
        make_scenes(
            partial(_write_scene, unfinished, request), left, workers, lambda made: report(kept_keyframes + made)
        )
        images, annotations, names = _write_tables(unfinished, request, cameras)
        questions = write_questions(
            unfinished.data,
            request.scenes,
            request.seed,
            request.questions_per_keyframe,
            lambda index: unfinished.questions_path(index).read_text(),
        )
        write_splits(unfinished.data, names)
        unfinished.complete()
    return WorldSummary(
        unfinished.out, request.scenes, request.keyframes, images, annotations, questions, kept_keyframes
    )


def _make_folders(root: Path, request: WorldRequest) -> list[str]:
    """Make the folders; returns the cameras' names."""
    rig = load_rig(share_path(RIG), request.width_px, request.height_px, vehicle=0, seed=request.seed)
    cameras = [item.camera.name for item in rig.cameras]
    per_camera = {
        'samples': True,
        'sweeps': request.sweep_hz > KEYFRAME_HZ,
        'depth': request.depth,
        'semantics': request.semantics,
    }
    folders = [f'{kind}/{camera}' for kind, wanted in per_camera.items() if wanted for camera in cameras]
    for folder in [*folders, f'samples/{LIDAR}', 'maps', 'gts', 'can_bus', 'ego', VERSION]:
        (root / folder).mkdir(parents=True, exist_ok=True)
    return cameras


def _write_scene(unfinished: Partial, request: WorldRequest, index: int, on_keyframe: Callable[[], None]) -> None:
    """Generate one scene; runs in a worker."""
    # Scenes are the unit of parallel work: threads inside one would only compete.
    cv2.setNumThreads(1)
    scene = build_scene(request.seed, index, request.seconds, request.city)
    rig = load_rig(share_path(RIG), request.width_px, request.height_px, index % FLEET, request.seed)
    names = SceneNames(request.seed, index, scene.city.name, scene.duration_s, rig.vehicle)
    tables, questions = SceneWriter(unfinished.data, scene, rig, names, request).write(on_keyframe)
    write_whole(unfinished.questions_path(index), questions.to_json())
    write_whole(unfinished.rows_path(index), json.dumps(tables))


def _write_tables(unfinished: Partial, request: WorldRequest, cameras: list[str]) -> tuple[int, int, list[str]]:
    """Put the scenes' rows together, one in memory at a time; returns counts of images and boxes, and scene names."""
    images = boxes = 0
    names: list[str] = []
    with ExitStack() as stack:
        files = {name: stack.enter_context((unfinished.data / VERSION / f'{name}.json').open('w')) for name in TABLES}
        separators = dict.fromkeys(TABLES, '[\n')
        for rows_of in chain([shared_rows(cameras)], _rows_of_scenes(unfinished, request)):
            for name, rows in rows_of.items():
                for row in rows:
                    files[name].write(separators[name] + json.dumps(row))
                    separators[name] = ',\n'
            images += sum(row['fileformat'] == 'jpg' for row in rows_of.get('sample_data', ()))
            boxes += len(rows_of.get('sample_annotation', ()))
            names += [row['name'] for row in rows_of.get('scene', ())]
        for name, file in files.items():
            file.write('[]\n' if separators[name] == '[\n' else '\n]\n')
    return images, boxes, names


def _rows_of_scenes(unfinished: Partial, request: WorldRequest) -> Iterator[dict[str, list[Row]]]:
    for index in range(request.scenes):
        yield json.loads(unfinished.rows_path(index).read_text())

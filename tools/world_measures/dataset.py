"""One pass over a data set: everything that the tables are made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from sparseoccvla_ros.data.keyframes import label_frame
from sparseoccvla_ros.data.nuscenes import LIDAR, LIDAR_COLUMNS, Annotation, NuScenesTables, Scene, SensorFrame
from world_measures.boxes import Contact, class_of, contacts, ego_contacts_between
from world_measures.ego import (
    STEP_S,
    Manoeuvres,
    Motion,
    Track,
    manoeuvres_of,
    motion_of,
    read_can_bus_pose,
    track_from_poses,
)
from world_measures.occupancy import SceneVoxels, scene_voxels

CAMERA = 'CAM_FRONT'


@dataclass(frozen=True)
class Recording:
    """What the poses of one scene say. ``can_bus`` and ``camera`` are motions by the two sources of poses;
    ``apart_m`` is the greatest distance between the sources; ``stated_apart`` greatest differences of stated speed
    (m/s) and acceleration (m/s^2) from those of the positions; ``future_apart_m`` the same of the targets in ``ego/``.
    """

    can_bus: Motion
    camera: Motion
    manoeuvres: Manoeuvres
    apart_m: float
    stated_apart: tuple[float, float]
    future_apart_m: float
    future_end_m: np.ndarray
    commands: Counter[str]


@dataclass(frozen=True)
class SceneMeasures:
    """Of one scene: ``boxes`` by class; ``lidar_in_boxes``, ``lidar_points``: points of each box and each sweep."""

    name: str
    description: str
    keyframes: int
    boxes_per_keyframe: list[int]
    boxes: Counter[str]
    lidar_in_boxes: list[int]
    lidar_points: list[int]
    contacts: list[Contact]
    recording: Recording
    voxels: SceneVoxels


@dataclass(frozen=True)
class Measures:
    """Of the data set; ``attributes`` counts boxes by attribute."""

    scenes: list[SceneMeasures]
    attributes: Counter[str] = field(default_factory=Counter)


def measure(
    dataroot: Path,
    version: str,
    ego_box_m: tuple[float, float, float],
    workers: int,
    on_scene: Callable[[str], None] = lambda name: None,
) -> Measures:
    """Read a whole data set.

    Args:
        dataroot: folder that holds ``version``, ``gts``, ``can_bus`` and ``ego``.
        version: folder of the tables.
        ego_box_m: length, width, and the distance of the middle before the ego frame's origin.
        workers: processes that read label files.
        on_scene: called with each scene's name when it is done.

    Raises:
        NuScenesError, Occ3DError, OSError: something is missing or broken.
    """
    tables = NuScenesTables(dataroot, version)
    scenes = [tables.scene(name) for name in tables.scene_names]
    tokens = [tuple(sample.token for sample in scene.samples) for scene in scenes]
    read = partial(scene_voxels, dataroot / 'gts', ego_box_m=ego_box_m)
    measured = []
    with ProcessPoolExecutor(workers, get_context('spawn')) as pool:
        for scene, voxels in zip(scenes, pool.map(read, tables.scene_names, tokens), strict=True):
            measured.append(_scene(tables, scene, voxels, ego_box_m))
            on_scene(scene.name)
    return Measures(measured, _attributes(dataroot / version))


def _scene(
    tables: NuScenesTables, scene: Scene, voxels: SceneVoxels, ego_box_m: tuple[float, float, float]
) -> SceneMeasures:
    boxes = [tables.annotations(sample) for sample in scene.samples]
    frames = [label_frame(sample) for sample in scene.samples]
    track, *stated = read_can_bus_pose(tables.dataroot, scene.name)
    sweeps = [frame.path for frame in tables.frames(scene.name) if frame.channel == LIDAR]
    return SceneMeasures(
        name=scene.name,
        description=scene.description,
        keyframes=len(scene.samples),
        boxes_per_keyframe=[len(items) for items in boxes],
        boxes=Counter(class_of(box.category) for items in boxes for box in items),
        lidar_in_boxes=[box.lidar_points for items in boxes for box in items],
        lidar_points=[path.stat().st_size // (4 * len(LIDAR_COLUMNS)) for path in sweeps],
        contacts=_contacts(scene, boxes, frames, track, ego_box_m),
        recording=_recording(tables, scene, track, stated),
        voxels=voxels,
    )


def _contacts(
    scene: Scene,
    boxes: list[list[Annotation]],
    frames: list[SensorFrame],
    track: Track,
    ego_box_m: tuple[float, float, float],
) -> list[Contact]:
    """At the keyframes between any two; between keyframes with the ego."""
    start_ns = frames[0].stamp_ns
    found = []
    for number, (items, frame) in enumerate(zip(boxes, frames, strict=True)):
        time_s = (frame.stamp_ns - start_ns) * 1e-9
        found += [Contact(scene.name, time_s, *names) for names in contacts(items, frame.global_from_ego, ego_box_m)]
        if number + 1 == len(frames):
            break
        span_s = (frames[number + 1].stamp_ns - frame.stamp_ns) * 1e-9
        fractions = np.arange(STEP_S, span_s - 1e-6, STEP_S) / span_s
        poses = [(fraction, track.pose_at(frame.stamp_ns * 1e-9 + fraction * span_s)) for fraction in fractions]
        between = ego_contacts_between(items, boxes[number + 1], poses, ego_box_m)
        found += [Contact(scene.name, time_s + fraction * span_s, 'ego', name) for fraction, name in between]
    return found


def _recording(tables: NuScenesTables, scene: Scene, track: Track, stated: list[np.ndarray]) -> Recording:
    frames = tables.camera_frames(scene.name)
    camera = [frame for frame in frames if frame.channel == CAMERA]
    within = [frame for frame in frames if track.time_s[0] <= frame.stamp_ns * 1e-9 <= track.time_s[-1]]
    apart_m = [np.abs(track.pose_at(f.stamp_ns * 1e-9)[:2, 3] - f.global_from_ego[:2, 3]).max() for f in within]
    coarse = track.every(round(STEP_S / float(np.median(np.diff(track.time_s)))))
    motion = motion_of(coarse)
    by_position = np.interp(motion.time_s, track.time_s, stated[0]) - motion.speed_mps
    mean_time_s = 0.5 * (motion.time_s[1:] + motion.time_s[:-1])
    accelerations = np.interp(mean_time_s, track.time_s, stated[1]) - motion.acceleration_mps2
    states = json.loads((tables.dataroot / 'ego' / f'{scene.name}.json').read_text())
    samples = [states['samples'][sample.token] for sample in scene.samples]
    ends_m = [item['future']['position_m'][-1] for item in samples if item['future']['valid'][-1]]
    return Recording(
        can_bus=motion,
        camera=motion_of(
            track_from_poses([frame.stamp_ns for frame in camera], [frame.global_from_ego for frame in camera])
        ),
        manoeuvres=manoeuvres_of(coarse, motion),
        apart_m=float(max(apart_m)),
        stated_apart=(float(np.abs(by_position).max()), float(np.abs(accelerations).max())),
        future_apart_m=_future_apart_m(states['future_s'], samples, track),
        future_end_m=np.array(ends_m).reshape(-1, 2),
        commands=Counter(item['command'] for item in samples),
    )


def _future_apart_m(future_s: list[float], samples: list[dict], track: Track) -> float:
    """Greatest distance of a target from where the ego later is by its CAN bus."""
    greatest_m = 0.0
    for item in samples:
        now_s = item['stamp_us'] * 1e-6
        ego_from_global = np.linalg.inv(track.pose_at(now_s))
        for later_s, place_m, valid in zip(
            future_s, item['future']['position_m'], item['future']['valid'], strict=True
        ):
            if valid and now_s + later_s <= track.time_s[-1]:
                there_m = (ego_from_global @ track.pose_at(now_s + later_s))[:2, 3]
                greatest_m = max(greatest_m, float(np.abs(there_m - place_m).max()))
    return greatest_m


def _attributes(folder: Path) -> Counter[str]:
    names = {row['token']: row['name'] for row in json.loads((folder / 'attribute.json').read_text())}
    rows = json.loads((folder / 'sample_annotation.json').read_text())
    return Counter(names[row['attribute_tokens'][0]] if row['attribute_tokens'] else 'none' for row in rows)

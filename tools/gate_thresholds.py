#!/usr/bin/env python3
"""How likely must an occupied point be to stop a plan? What a threshold refuses that is free, and passes that is not.

    .venv/bin/python tools/gate_thresholds.py --data out/train/world_8s --weights tiny

Two kinds of paths are held against the occupancy that the model sees and forecasts: those that were driven, which are
free, and all candidates of its planner, which are free if they touch no occupied voxel of the present labels.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sparseoccvla_ros.cli.eval_planning import planning_model
from sparseoccvla_ros.data.keyframes import keyframe_view
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.data.occ3d import FREE, RANGE_M, VOXEL_M, load_labels
from sparseoccvla_ros.data.splits import split_scenes
from sparseoccvla_ros.evaluation.planning_run import planner_input, read_scene
from sparseoccvla_ros.evaluation.planning_samples import PlanningSample, planning_samples
from sparseoccvla_ros.planning.gate import SafetyGate
from sparseoccvla_ros.planning.obstacles import Obstacles
from sparseoccvla_ros.planning.vehicle import load_vehicle_limits
from sparseoccvla_ros.runtime.scene import OccupancyPoints

THRESHOLDS = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8)


@dataclass
class Counts:
    """Of one threshold: refused of the driven paths and of the free candidates; passed of the other candidates."""

    driven_refused: int = 0
    free_refused: int = 0
    touching_passed: int = 0


def main() -> None:
    """Look at the scenes, print a table."""
    arguments = parse()
    torch.set_num_threads(1)
    tables = NuScenesTables(arguments.data, arguments.version)
    scenes = split_scenes(tables, arguments.split) if arguments.split else list(tables.scene_names)
    chosen = [
        scenes[number] for number in np.linspace(0, len(scenes) - 1, min(arguments.scenes, len(scenes))).astype(int)
    ]
    found = {threshold: Counts() for threshold in THRESHOLDS}
    gate = SafetyGate(load_vehicle_limits('default'))
    driven = free = touching = 0
    with planning_model('tiny', arguments.weights, list(CAMERAS), 'cpu', 'default', 0) as model:
        image = model.config.image
        for scene in chosen:
            judged = {sample.number: sample for sample in planning_samples(tables, scene)[0]}
            model.perception.memory.clear()
            for number, keyframe in enumerate(tables.scene(scene).samples):
                queries = model.perception.process(keyframe_view(keyframe, CAMERAS, image.width_px, image.height_px))
                if (sample := judged.get(number)) is None:
                    continue
                result = read_scene(model, queries)
                if (reasoning := result.reasoning) is None:
                    raise SystemExit(f'{scene}, {keyframe.token}: {result.failure}')
                candidates = model.planning.plan(planner_input(sample, queries, reasoning)).candidates
                paths = [one.trajectory.positions_m[1:] for one in candidates if one.trajectory is not None]
                truth = gate.obstacles(labelled(arguments.data / 'gts', scene, keyframe.token))
                touches = [stopped(gate, truth, path, sample) for path in paths]
                driven, touching, free = driven + 1, touching + sum(touches), free + touches.count(False)
                for threshold, counts in found.items():
                    later = [(time_s, points.at_least(threshold)) for time_s, points in reasoning.forecast]
                    obstacles = gate.obstacles(queries.occupancy.at_least(threshold), later)
                    counts.driven_refused += stopped(gate, obstacles, sample.path_ego_m, sample)
                    for path, touched in zip(paths, touches, strict=True):
                        refused = stopped(gate, obstacles, path, sample)
                        counts.free_refused += refused and not touched
                        counts.touching_passed += touched and not refused
    show(found, driven, free, touching)


def stopped(gate: SafetyGate, obstacles: Obstacles, path_ego_m: np.ndarray, sample: PlanningSample) -> bool:
    """Whether the path meets an obstacle, whatever its motion."""
    checks = gate.check_against(obstacles, path_ego_m, sample.state.speed_mps).checks
    return not all(check.passed for check in checks if check.name.startswith('collision'))


def labelled(gts: Path, scene: str, token: str) -> OccupancyPoints:
    """The occupied voxels' middles."""
    semantics = load_labels(gts, scene, token).semantics
    index = np.argwhere(semantics != FREE)
    points = (VOXEL_M * (index + 0.5) + np.array(RANGE_M[:3])).astype(np.float32)
    return OccupancyPoints(points, semantics[tuple(index.T)], np.ones(len(index), np.float32))


def show(found: dict[float, Counts], driven: int, free: int, touching: int) -> None:
    """A row a threshold."""
    table = Table(
        'score', f'driven refused, % of {driven}', f'free refused, % of {free}', f'others passed, % of {touching}'
    )
    for threshold, counts in found.items():
        shares = (counts.driven_refused / driven, counts.free_refused / free, counts.touching_passed / max(touching, 1))
        table.add_row(f'{threshold:g}', *(f'{100.0 * share:.1f}' for share in shares))
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='synthetic data set with labels')
    parser.add_argument('--version', default='v1.0-world')
    parser.add_argument('--split', default='val', help="scenes of the data set's splits.json; '' for all")
    parser.add_argument('--weights', default='tiny', help='checkpoint folder, or weights that come along')
    parser.add_argument('--scenes', type=int, default=12, help='so many, evenly spread')
    return parser.parse_args()


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""How much of a collision rate is the protocol's grid? The driven path itself, some millimetres beside where it was.

    .venv/bin/python tools/collision_jitter.py --data out/held_out

A driven path collides nowhere by definition. What it collides with 3 mm to the side, and what constant velocity, which
keeps to the middle of a straight lane to the last digit, gains or loses by the same 3 mm, is the grid's doing.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.evaluation.planning_baselines import constant_velocity
from sparseoccvla_ros.evaluation.planning_metrics import PlanningTruth
from sparseoccvla_ros.evaluation.planning_samples import planning_samples

PROTOCOLS = ('stp3', 'vad', 'uniad', 'omnidrive')


def main() -> None:
    """Measure all keyframes, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='synthetic data set')
    parser.add_argument('--version', default='v1.0-world')
    parser.add_argument('--offset-m', type=float, default=0.003, help='to either side')
    arguments = parser.parse_args()
    tables = NuScenesTables(arguments.data, arguments.version)
    sides = {'': 0.0, 'left': arguments.offset_m, 'right': -arguments.offset_m}
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for scene in tables.scene_names:
        for sample in planning_samples(tables, scene)[0]:
            truth = PlanningTruth(sample.path_ego_m, sample.objects, None)
            paths = {'driven': sample.path_ego_m, 'constant velocity': constant_velocity(sample.state)}
            for name, path_ego_m in paths.items():
                for side, offset_m in sides.items():
                    hits = truth.measure(path_ego_m + np.array([0.0, offset_m])).collisions
                    found[name, side].append([float(hits[f'{protocol}/collision'].mean()) for protocol in PROTOCOLS])
    keyframes = len(found['driven', ''])
    table = Table(f'{keyframes} keyframes', f'{1e3 * arguments.offset_m:g} mm to the', *(f'{p}, %' for p in PROTOCOLS))
    for (name, side), shares in found.items():
        table.add_row(name, side, *(f'{100.0 * share:.2f}' for share in np.mean(shares, axis=0)))
    Console().print(table)


if __name__ == '__main__':
    main()

"""``sparseoccvla anchors``: the planner's anchors from a data set's driven futures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from sparseoccvla_ros.cli.eval_common import Data, Scenes, ScenesFile, refusal, require_writable, scene_names
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.data.splits import SPLITS_FILE, split_scenes

if TYPE_CHECKING:
    from sparseoccvla_ros.planning.anchors import Anchors
    from sparseoccvla_ros.runtime.scene import Command


def anchors(
    data: Data,
    out: Annotated[Path, typer.Option(metavar='FILE', help='The anchor file to write (.json).')],
    version: Annotated[str, typer.Option(metavar='V', help='Folder of the tables.')] = 'v1.0-world',
    modes: Annotated[
        int, typer.Option(min=1, help='Anchors of each of the three commands: 3, 6 or 12 in the paper.')
    ] = 6,
    seed: Annotated[int, typer.Option(min=0, help='Of the clustering.')] = 0,
    scene: Scenes = None,
    scenes_file: ScenesFile = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(metavar='FILE', help="Other anchors to compare with: .json, or SparseDrive's .npy; repeatable."),
    ] = None,
) -> None:
    """Cluster the driven futures of each command (K-means) into the anchors that the planner scores and refines.

    Scenes: those of --scene and --scenes-file; else the training split where the data set has a splits.json; else all.
    """
    from sparseoccvla_ros.data.anchor_futures import driven_futures
    from sparseoccvla_ros.planning.anchor_clustering import cluster_anchors
    from sparseoccvla_ros.planning.anchors import save_anchors

    console = Console()
    try:
        require_writable(out)
        tables = NuScenesTables(data, version)
        names, split = _scenes(tables, scene, scenes_file)
        futures = driven_futures(tables, names)
        made = cluster_anchors(futures.by_command, modes, seed)
        others = _others(compare or [], console)
    except (NuScenesError, ValueError, OSError) as error:
        raise refusal(error, console) from error
    source = {
        'data_set': data.resolve().name,
        'version': version,
        'split': split,
        'scenes': names,
        'futures': {command.name: len(paths) for command, paths in futures.by_command.items()},
        'command_source': futures.source.value,
        'method': 'k-means',
        'modes': modes,
        'seed': seed,
    }
    save_anchors(made, out, source)
    console.print(_table(futures.by_command, {str(out): made, **others}))
    console.print(
        f'{len(names)} scenes ({split}), commands of the {futures.source.value}: {out}', highlight=False, soft_wrap=True
    )


def _scenes(tables: NuScenesTables, names: list[str] | None, file: Path | None) -> tuple[list[str], str]:
    """Names of the scenes, and what they are: 'chosen', 'train' or 'all'."""
    if names or file is not None:
        return scene_names(tables, names, file), 'chosen'
    if not (tables.dataroot / SPLITS_FILE).is_file():
        return scene_names(tables, None, None), 'all'
    return scene_names(tables, split_scenes(tables, 'train'), None), 'train'


def _others(paths: list[Path], console: Console) -> dict[str, Anchors]:
    """Anchors to compare with, by path; one that is absent is told and left out."""
    from sparseoccvla_ros.planning.anchors import load_anchors, read_kmeans_anchors

    found = {}
    for path in paths:
        if not path.is_file():
            console.print(f'{path} is absent: not compared', style='yellow', highlight=False, soft_wrap=True)
            continue
        found[str(path)] = read_kmeans_anchors(path) if path.suffix == '.npy' else load_anchors(path)
    return found


def _table(futures: Mapping[Command, np.ndarray], sets: Mapping[str, Anchors]) -> Table:
    """Distance from the futures to the nearest anchor of their command: what is left for the decoder to refine."""
    from sparseoccvla_ros.planning.anchor_clustering import nearest_anchor_m

    table = Table(title='mean distance of a future to the nearest anchor of its command, m')
    table.add_column('anchors', overflow='fold')
    for command, paths in futures.items():
        table.add_column(f'{command.name} ({len(paths)})', justify='right')
    table.add_column('all', justify='right')
    for name, item in sets.items():
        distances = [nearest_anchor_m(paths, item.waypoints_ego_m[command]) for command, paths in futures.items()]
        means = [f'{found.mean():.3f}' if len(found) else '-' for found in distances]
        together = np.concatenate(distances)
        table.add_row(f'{name} (3 x {item.waypoints_ego_m.shape[1]})', *means, f'{together.mean():.3f}')
    return table

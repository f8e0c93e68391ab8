"""``sparseoccvla bag``: a nuScenes-layout scene as a rosbag2 bag."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sparseoccvla_ros.data.bag_reader import BagError
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.data.topics import PresetError, load_preset

if TYPE_CHECKING:
    from sparseoccvla_ros.data.bag_writer import BagSummary

USER_ERROR = 2


def bag(
    data: Annotated[Path, typer.Option('--data', metavar='DIR', help='Folder with samples/, sweeps/ and the version.')],
    version: Annotated[str, typer.Option('--version', metavar='V', help='Folder of the tables, e.g. v1.0-mini.')],
    scene: Annotated[str, typer.Option('--scene', metavar='NAME', help='Scene, e.g. scene-0061.')],
    out: Annotated[Path, typer.Option('--out', metavar='BAG', help='Bag folder to create; it must not exist.')],
    topics: Annotated[
        str, typer.Option('--topics', metavar='PRESET', help='Topics and frames: a preset, or your own .yaml file.')
    ] = 'default',
) -> None:
    """Write a nuScenes-layout scene as a rosbag2 bag (MCAP) for `ros2 bag play` and `sparseoccvla replay`.

    Presets: see config/topics/ and docs/data.md. Exit code 2 means that the request or the data is wrong.
    """
    from sparseoccvla_ros.data.bag_writer import write_scene_bag  # here: other commands need not wait for torch

    try:
        preset = load_preset(topics)
        summary = write_scene_bag(NuScenesTables(data, version), scene, out, preset)
    except (NuScenesError, PresetError, BagError) as error:
        # soft_wrap: one line, whatever the terminal's width
        Console(stderr=True).print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USER_ERROR) from error
    _show(summary)


def _show(summary: BagSummary) -> None:
    table = Table('topic', 'messages')
    table.columns[1].justify = 'right'
    for topic, messages in sorted(summary.counts.items()):
        table.add_row(topic, str(messages))
    console = Console()
    console.print(table)
    console.print(
        f'{summary.path}: {summary.scene}, {summary.duration_s:.3f} s, {sum(summary.counts.values())} messages, '
        f'preset {summary.preset}',
        markup=False,
        highlight=False,
        soft_wrap=True,
    )

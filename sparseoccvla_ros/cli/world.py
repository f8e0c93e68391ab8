"""``sparseoccvla world``: write a synthetic data set."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, parse_size, write_world


def world(
    out: Annotated[Path, typer.Option(help='Folder to make; it must not exist.')],
    scenes: Annotated[int, typer.Option(help='Number of scenes.')],
    seed: Annotated[int, typer.Option(help='The same seed gives the same files, byte for byte.')],
    size: Annotated[str, typer.Option(help='Image size, WIDTHxHEIGHT in pixels.')] = '352x128',
    sweep_hz: Annotated[int, typer.Option(help='Camera rate: 2 (keyframes only), 4, 6, 8, 10 or 12.')] = 2,
    seconds: Annotated[float, typer.Option(help='Length of each scene.')] = 20.0,
    city: Annotated[str | None, typer.Option(help='harbour, oldtown or suburb; all in turn if not given.')] = None,
    workers: Annotated[int, typer.Option(min=1, help='Processes.')] = 2,
) -> None:
    """Write a synthetic street data set in the nuScenes v1.0 layout, with Occ3D labels."""
    console = Console(stderr=True)
    start_s = time.perf_counter()
    try:
        width_px, height_px = parse_size(size)
        request = WorldRequest(scenes, seed, width_px, height_px, sweep_hz, seconds, city)
        columns = (TextColumn('scenes'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task('scenes', total=scenes)
            summary = write_world(out, request, workers, lambda done: progress.update(task, completed=done))
    except (ValueError, OSError) as error:
        console.print(f'world: {error}', style='red', markup=False, highlight=False)
        raise typer.Exit(2) from error
    taken_s = time.perf_counter() - start_s
    typer.echo(
        f'{summary.root} (version {VERSION}): {summary.scenes} scenes, {summary.keyframes} keyframes, '
        f'{summary.images} images, {summary.annotations} boxes in {taken_s:.1f} s '
        f'({summary.images / 6.0 / taken_s:.1f} six-camera frames a second)'
    )

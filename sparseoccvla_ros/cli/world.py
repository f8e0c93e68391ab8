"""``sparseoccvla world``: write a synthetic data set."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sparseoccvla_ros.cli.interruption import lasting_interruption
from sparseoccvla_ros.world.files.partial import Partial
from sparseoccvla_ros.world.files.request import QUESTIONS_PER_KEYFRAME
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, parse_city, parse_size, write_world

INTERRUPTED = 130


def world(
    out: Annotated[Path, typer.Option(help='Folder to make; it must not exist.')],
    scenes: Annotated[int, typer.Option(help='Number of scenes.')],
    seed: Annotated[int, typer.Option(help='The same seed gives the same files, byte for byte.')],
    size: Annotated[str, typer.Option(help='Image size, WIDTHxHEIGHT in pixels.')] = '352x128',
    sweep_hz: Annotated[int, typer.Option(help='Camera rate: 2 (keyframes only), 4, 6, 8, 10 or 12.')] = 2,
    seconds: Annotated[float, typer.Option(help='Length of each scene.')] = 20.0,
    city: Annotated[
        str | None, typer.Option(help='Town by name or number (1, 2, ...), or several with commas; else all.')
    ] = None,
    depth: Annotated[bool, typer.Option('--depth', help='Also depth images of the keyframes.')] = False,
    semantics: Annotated[bool, typer.Option('--semantics', help='Also class images of the keyframes.')] = False,
    lens: Annotated[bool, typer.Option(help='Blur, noise and exposure of a real camera.')] = True,
    questions_per_keyframe: Annotated[
        int, typer.Option(help='The most that are asked about one keyframe.')
    ] = QUESTIONS_PER_KEYFRAME,
    workers: Annotated[int, typer.Option(min=1, help='Processes.')] = 2,
) -> None:
    """Write a synthetic street data set in the nuScenes v1.0 layout, with Occ3D labels and questions.

    An interrupted run goes on when the same is asked for again.
    """
    console = Console(stderr=True)
    start_s = time.perf_counter()
    try:
        width_px, height_px = parse_size(size)
        town = None if city is None else parse_city(city)
        request = WorldRequest(
            scenes, seed, width_px, height_px, sweep_hz, seconds, town, depth, semantics, lens, questions_per_keyframe
        )
        with ExitStack() as stack:
            check_interruption = stack.enter_context(lasting_interruption())
            progress = _progress(console)
            task = progress.add_task('keyframes', total=request.keyframes, speed='')
            kept: int | None = None

            def show(done: int) -> None:
                nonlocal kept
                check_interruption()
                if kept is None:
                    # Only now: what is refused gets no progress bar.
                    stack.enter_context(progress)
                    kept = done
                speed = (done - kept) / (time.perf_counter() - start_s)
                progress.update(task, completed=done, speed=f'{speed:.1f}/s' if speed else '')

            summary = write_world(out, request, workers, show)
    except KeyboardInterrupt as interruption:
        _tell(console, f'world: interrupted; {_how_to_go_on(out)}', 'red')
        raise typer.Exit(INTERRUPTED) from interruption
    except (ValueError, FileExistsError) as error:
        _tell(console, f'world: {error}', 'red')
        raise typer.Exit(2) from error
    except OSError as error:
        _tell(console, f'world: {error}; {_how_to_go_on(out)}', 'red')
        raise typer.Exit(2) from error
    taken_s = time.perf_counter() - start_s
    made = summary.keyframes - summary.kept_keyframes
    from_before = f'; {summary.kept_keyframes} were there from an earlier run' if summary.kept_keyframes else ''
    typer.echo(
        f'{summary.root} (version {VERSION}): {summary.scenes} scenes, {summary.keyframes} keyframes, '
        f'{summary.images} images, {summary.annotations} boxes, {summary.questions} questions in {taken_s:.1f} s '
        f'({made / taken_s:.1f} keyframes a second with {workers} worker{"s" * (workers > 1)}{from_before})'
    )
    if not summary.questions:
        few = 'world: no questions: so few keyframes have no balanced selection of answers; ask for more scenes'
        _tell(console, few, 'yellow')


def _progress(console: Console) -> Progress:
    columns = (TextColumn('keyframes'), BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[speed]}'))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


def _tell(console: Console, text: str, style: str) -> None:
    """One line, however narrow the terminal: what is told may hold paths, which people copy."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _how_to_go_on(out: Path) -> str:
    folder = Partial(out).folder
    if not folder.is_dir():
        return 'nothing was written'
    return f'finished scenes stay in {folder}: the same command goes on from there'

"""``sparseoccvla drive``: closed-loop drives in the synthetic street world."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sparseoccvla_ros.world.files.request import LONGEST_S

FAILED, USER_ERROR = 1, 2
STACK = 'stack'


def drive(
    driver: Annotated[
        str,
        typer.Option('--driver', metavar='NAME', help='stack, rules (knows all) or keep-going (knows nothing).'),
    ] = STACK,
    seed: Annotated[int, typer.Option('--seed', min=0, help='Of the world.')] = 0,
    first: Annotated[int, typer.Option('--first', min=0, help='First scene.')] = 0,
    scenes: Annotated[int, typer.Option('--scenes', min=1, max=10000, help='How many in a row.')] = 1,
    seconds: Annotated[float, typer.Option('--seconds', min=1.0, max=LONGEST_S, help='Length of each drive.')] = 20.0,
    city: Annotated[
        str | None, typer.Option('--city', help='harbour, oldtown or suburb; all in turn if not given.')
    ] = None,
    params: Annotated[
        Path | None, typer.Option('--params', metavar='FILE', help='ROS parameter file over config/stack.yaml.')
    ] = None,
    logs: Annotated[Path, typer.Option('--logs', metavar='DIR', help='For logs of the stack.')] = Path('out/drive'),
    out: Annotated[Path | None, typer.Option('--json', metavar='FILE', help='Write all figures there.')] = None,
) -> None:
    """Drive through scenes of the synthetic world, other road users reacting, and tell how it went.

    With --driver stack, the simulator and the composed stack run in a ROS domain of their own, in lockstep. The other
    drivers need no ROS. Exit code 1: the stack failed; 2: an option is wrong.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    results = []
    try:
        if out is not None:
            _check_writable(out)
        for scene in range(first, first + scenes):
            results.append(_drive(driver, seed, scene, seconds, city, params, logs))
            console.print(_line(results[-1]))
        console.print(_table(results))
        if out is not None:
            out.write_text(json.dumps(results, indent=2) + '\n', encoding='utf-8')
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USER_ERROR) from error


def _check_writable(out: Path) -> None:
    """Whether the figures can be written, before hours of driving are spent on them.

    Raises:
        OSError: they cannot.
    """
    if not out.parent.is_dir():
        raise FileNotFoundError(f'--json {out}: there is no folder {out.parent}')
    if out.is_dir():
        raise IsADirectoryError(f'--json {out}: this is a folder')
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise PermissionError(f'--json {out}: not writable')


def _drive(
    driver: str, seed: int, scene: int, seconds: float, city: str | None, params: Path | None, logs: Path
) -> dict[str, Any]:
    # imported here: the other commands do without the world, and `sparseoccvla --help` without ROS
    from sparseoccvla_ros.world.driving import drivers
    from sparseoccvla_ros.world.driving.closed_loop import ClosedLoop

    simple = {'rules': drivers.follow_route, 'keep-going': drivers.keep_going}
    if driver in simple:
        summary = drivers.drive(ClosedLoop.of(seed, scene, seconds, city), simple[driver])
        return dataclasses.asdict(summary)
    if driver != STACK:
        raise ValueError(f'no driver {driver!r}; there are {", ".join([STACK, *simple])}')
    from sparseoccvla_ros.nodes.drive import DriveError, drive_with_stack
    from sparseoccvla_ros.nodes.processes import ProcessDiedError, exit_on_sigterm

    values = {'seed': seed, 'scene': scene, 'duration_s': seconds, 'city': city or ''}
    try:
        with exit_on_sigterm():
            return drive_with_stack(values, logs / f'scene-{scene + 1:04d}', params)
    except (DriveError, ProcessDiedError) as error:
        Console(stderr=True).print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED) from error


def _line(result: dict[str, Any]) -> str:
    hit = ''.join(f', hit {what} at {time_s:.1f} s' for time_s, what in result['collisions'])
    return (
        f'{result["scene"]} ({result["description"]}): {result["ended"]} after {result["driven_s"]:.1f} s and '
        f'{result["distance_m"]:.0f} m{hit}'
    )


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table('figure', 'value')
    driven_s = sum(result['driven_s'] for result in results)
    progress_m = sum(result['progress_m'] for result in results)
    nearest = [result['time_to_collision_s'] for result in results if result['time_to_collision_s'] is not None]
    for name, value in {
        'scenes': f'{len(results)}',
        'with a collision': f'{sum(bool(result["collisions"]) for result in results)}',
        'red lights run': f'{sum(result["red_lights"] for result in results)}',
        'off the road': f'{sum(result["off_road_s"] for result in results):.1f} of {driven_s:.1f} s',
        'along the route': f'{progress_m:.0f} m',
        'without a fresh plan': f'{sum(result["stale_s"] for result in results):.1f} s',
        'most braking': f'{max(result["brake_mps2"] for result in results):.1f} m/s^2',
        'most lateral acceleration': f'{max(result["lateral_accel_mps2"] for result in results):.1f} m/s^2',
        'least time to collision': f'{min(nearest):.1f} s' if nearest else '-',
    }.items():
        table.add_row(name, value)
    return table

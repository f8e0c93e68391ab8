"""``sparseoccvla replay``: a bag through the stack."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

FAILED, USER_ERROR = 1, 2


def replay(
    bag: Annotated[Path, typer.Argument(metavar='BAG', help='rosbag2 folder, or a single .mcap or .db3 file.')],
    out: Annotated[Path, typer.Option('--out', metavar='DIR', help='Folder for outputs/, report and summary.')],
    rate: Annotated[
        float, typer.Option('--rate', metavar='R', min=0.0, help='Bag seconds per second; 0: lockstep, deterministic.')
    ] = 1.0,
    ask: Annotated[list[str] | None, typer.Option('--ask', metavar='TEXT', help='A question; repeatable.')] = None,
    separate: Annotated[bool, typer.Option('--separate', help='Three processes instead of one.')] = False,
    topics: Annotated[
        str, typer.Option('--topics', metavar='PRESET', help='Topics and frames: a preset, or your own .yaml file.')
    ] = 'default',
    params: Annotated[
        Path | None, typer.Option('--params', metavar='FILE', help='ROS parameter file over config/stack.yaml.')
    ] = None,
) -> None:
    """Replay a bag through the stack, ask questions, record what comes out, write report.html and summary.json.

    Runs in a ROS domain of its own on the local host. DIR may hold an earlier replay, which is replaced; anything else
    in it is refused. Exit code 1: the stack failed; 2: bag, preset, parameters or DIR are wrong.
    """
    run_and_show(bag, out, rate=rate, questions=tuple(ask or ()), separate=separate, topics=topics, params=params)


def run_and_show(bag: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Run a replay with progress on the terminal; ``options`` are those of ReplayOptions. Returns the summary."""
    # imported here: `sparseoccvla --help` and the commands for training machines must work without ROS
    from sparseoccvla_ros.nodes.client import StackUnreachableError
    from sparseoccvla_ros.nodes.processes import ProcessDiedError, exit_on_sigterm
    from sparseoccvla_ros.nodes.replay import ReplayError, ReplayOptions, replay_bag

    console = Console(soft_wrap=True, markup=False, highlight=False)
    try:
        with exit_on_sigterm():
            summary = replay_bag(ReplayOptions(bag=bag, out=out, **options), console.print)
    except (ValueError, OSError) as error:
        _complain(error)
        raise typer.Exit(USER_ERROR) from error
    except (ProcessDiedError, StackUnreachableError, ReplayError) as error:
        _complain(error)
        raise typer.Exit(FAILED) from error
    _show(console, summary)
    console.print(f'{out / "report.html"}\n{out / "summary.json"}')
    return summary


def _complain(error: Exception) -> None:
    Console(stderr=True).print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)


def _show(console: Console, summary: dict[str, Any]) -> None:
    table = Table('stage', *(f'{name} ms' for name in ('p50', 'p90', 'p99', 'max')))
    for column in table.columns[1:]:
        column.justify = 'right'
    for stage, row in summary['latency_ms'].items():
        table.add_row(stage, *(f'{value:.1f}' for value in row.values()))
    console.print(table)
    answered = sum(answer['success'] for answer in summary['answers'])
    dropped = ', '.join(f'{reason} {count}' for reason, count in summary['drops'].items())
    console.print(
        f'{summary["scenes"]} scenes, {summary["trajectories"]} trajectories ({summary["valid_trajectories"]} valid), '
        f'{answered} of {len(summary["answers"])} questions answered, dropped: {dropped or "nothing"}'
    )

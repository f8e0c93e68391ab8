"""``sparseoccvla up``: the stack in the foreground, where ``ros2 launch`` is not installed."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

FAILED, USER_ERROR = 1, 2


def up(
    separate: Annotated[bool, typer.Option('--separate', help='Three processes instead of one.')] = False,
    params: Annotated[
        Path | None, typer.Option('--params', metavar='FILE', help='ROS parameter file over config/stack.yaml.')
    ] = None,
) -> None:
    """Start perception, reasoning and planner and show their logs until Ctrl-C.

    They live in the ROS domain of this shell (ROS_DOMAIN_ID). If one of the processes ends, the others are stopped and
    the exit code is 1; after Ctrl-C or SIGTERM it is 0. An unreadable file or an unknown parameter gives 2.
    """
    # imported here: `sparseoccvla --help` and the commands for training machines must work without ROS
    from sparseoccvla_ros.nodes.processes import overlay_parameters, run_in_foreground, stack_commands, write_parameters

    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    with tempfile.TemporaryDirectory(prefix='sparseoccvla_up_') as folder:
        file = Path(folder, 'params.yaml')
        try:
            write_parameters(overlay_parameters([params] if params is not None else []), file)
        except (ValueError, OSError) as error:
            console.print(f'error: {error}', style='red')
            raise typer.Exit(USER_ERROR) from error
        died = run_in_foreground(stack_commands(file, separate=separate))
    if died is not None:
        console.print(f'error: {died}; the others were stopped', style='red')
        raise typer.Exit(FAILED)

"""``sparseoccvla train``: one stage of a training, from its recipe to its checkpoint."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.console import Console

from sparseoccvla_ros.cli.eval_common import refusal

NOT_DONE, FAILED = 3, 1


def train(
    stage: Annotated[
        str, typer.Argument(metavar='STAGE.yaml', help='Recipe: a file, or one of the package, e.g. tiny/stage1.')
    ],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar='[key=value]...', help='E.g. data.root=/data optimization.steps=100')
    ] = None,
    stop_after_min: Annotated[
        float, typer.Option(min=0.0, metavar='MIN', help='Save and leave after so many minutes; 0: at the end.')
    ] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help='Threads on the CPU, of each process.')] = 2,
) -> None:
    """Train one stage; the same command again goes on where an interrupted run was saved last.

    Runs alone or under `torchrun` and `accelerate launch`. Exit code 0: the checkpoint is written. 1: the training had
    to stop (a loss that is not finite, memory, disk). 2: the recipe, the data or the saved state does not fit. 3: the
    time was up; run it again (torchrun ends with 1 then, and lists 3 as its processes' exit code).
    """
    # imported here: the other commands need not wait seconds for torch
    import torch

    from sparseoccvla_ros.training.recipe import load_recipe
    from sparseoccvla_ros.training.run_state import RunWriteError
    from sparseoccvla_ros.training.trainer import TrainingError
    from sparseoccvla_ros.training.trainer import train as run

    console = Console(stderr=True)
    # gradients and their squares become subnormal, with which a CPU is many times slower; threads inherit the setting
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    try:
        folder = run(
            load_recipe(stage, changes or ()), stop_after_s=60.0 * stop_after_min if stop_after_min else math.inf
        )
    except (TrainingError, RunWriteError) as error:
        console.print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED) from error
    except (ValueError, OSError) as error:
        raise refusal(error, console) from error
    if folder is None:
        console.print('time is up; the state is saved, the same command goes on', highlight=False)
        raise typer.Exit(NOT_DONE)
    console.print(f'checkpoint: {folder}', highlight=False, soft_wrap=True)

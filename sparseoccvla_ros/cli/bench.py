"""``sparseoccvla bench``: what things cost on this machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

USER_ERROR = 2

bench = typer.Typer(name='bench', help='Measure what things cost on this machine.', no_args_is_help=True)


@bench.command()
def encoder(
    frames: Annotated[list[int], typer.Option(min=1, help='Frames fused; may be given several times.')] = [1, 8],  # noqa: B006
    queries: Annotated[int, typer.Option(min=1, help='Queries.')] = 600,
    cameras: Annotated[int, typer.Option(min=1, help='Cameras.')] = 6,
    device: Annotated[str, typer.Option(help='cpu or cuda:N.')] = 'cpu',
    threads: Annotated[int, typer.Option(min=1, help='Threads on the CPU.')] = 2,
    repeats: Annotated[int, typer.Option(min=1, help='Runs of each version; the median counts.')] = 9,
) -> None:
    """One layer of the occupancy encoder (OPUS-T's sizes) and its sampling, beside the straightforward version.

    Exit code 2: there is no such device.
    """
    # imported here: the other commands need not wait seconds for torch
    import torch

    from sparseoccvla_ros.evaluation.encoder_cost import Workload, measure, table
    from sparseoccvla_ros.model.placement import torch_device

    console = Console(stderr=True)
    try:
        torch_device(device)
    except ValueError as error:
        console.print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USER_ERROR) from error
    cells = []
    for count in frames:
        console.print(f'{queries} queries, {cameras} cameras, {count} frames on {device} ...', highlight=False)
        cells += measure(Workload(count, cameras, queries, device), repeats, threads)
    typer.echo(f'torch {torch.__version__}, {threads} threads, median of {repeats}\n\n{table(cells)}')


@bench.command()
def loss(threads: Annotated[int, typer.Option(min=1, help='Threads.')] = 2) -> None:
    """Supervision of the occupancy encoder at OPUS-T's size, on the CPU: time and memory."""
    import torch

    from sparseoccvla_ros.evaluation.loss_cost import REPEATS, loss_table, measure_loss

    typer.echo(
        f'torch {torch.__version__}, {threads} threads, median of {REPEATS}\n\n{loss_table(measure_loss(threads))}'
    )


@bench.command()
def language(
    size: Annotated[
        list[str], typer.Option(help='tiny: the shipped stack; middle: 600 queries, 8 layers of 512. May be repeated.')
    ] = ['tiny', 'middle'],  # noqa: B006
    repeats: Annotated[int, typer.Option(min=1, help='Runs of each version; the median counts.')] = 5,
    scenes: Annotated[int, typer.Option(min=1, help='Scenes read for each percentile.')] = 100,
    threads: Annotated[int, typer.Option(min=1, help='Threads on the CPU.')] = 1,
    json_file: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file too.')] = None,
) -> None:
    """Questions and planning prompt: cached scene beside cold prompt, answers at once beside in turn.

    Exit code 2: there is no such size.
    """
    import torch

    from sparseoccvla_ros.evaluation.language_cost import SIZES, measure, table

    console = Console(stderr=True)
    unknown = [name for name in size if name not in SIZES]
    if unknown:
        console.print(f'error: size is {unknown[0]!r}; expected {" or ".join(SIZES)}', style='red', highlight=False)
        raise typer.Exit(USER_ERROR)
    costs = []
    for name in size:
        console.print(f'{name} ...', highlight=False)
        costs.append(measure(name, repeats=repeats, scenes=scenes, threads=threads))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + '\n', encoding='utf-8')
    typer.echo(f'torch {torch.__version__}, {threads} threads, medians of {repeats}, {scenes} scenes\n\n{table(costs)}')


@bench.command()
def planner(
    steps: Annotated[list[int], typer.Option(min=1, help='Denoising steps; may be repeated.')] = [1, 2, 4, 8],  # noqa: B006
    model: Annotated[str, typer.Option(help='Model configuration: tiny, full or a .yaml file.')] = 'tiny',
    repeats: Annotated[int, typer.Option(min=1, help='Plans of each; the median counts.')] = 50,
    threads: Annotated[int, typer.Option(min=1, help='Threads on the CPU.')] = 2,
    json_file: Annotated[Path | None, typer.Option('--json', help='Write the figures to this file too.')] = None,
) -> None:
    """The planner network with 1, 2, 4 and 8 steps of denoising, side by side.

    Exit code 2: no such model, or more steps than its schedule holds.
    """
    import torch

    from sparseoccvla_ros.evaluation.planner_cost import measure, table

    try:
        costs = measure(steps, model=model, repeats=repeats, threads=threads)
    except (ValueError, FileNotFoundError) as error:
        Console(stderr=True).print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USER_ERROR) from error
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + '\n', encoding='utf-8')
    typer.echo(f'torch {torch.__version__}, {threads} threads, {model}, {repeats} plans of each\n\n{table(costs)}')

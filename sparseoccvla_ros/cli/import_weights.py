"""``sparseoccvla import``: weights that others have published, as checkpoints of ours."""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

USER_ERROR = 2

import_app = typer.Typer(help='Import published weights.', no_args_is_help=True)


@import_app.command()
def opus(
    checkpoint: Annotated[Path, typer.Argument(metavar='CKPT', help='A .pth file of jbwang1997/OPUS.')],
    out: Annotated[Path, typer.Option('--out', metavar='DIR', help='Folder for model.safetensors and config.yaml.')],
    config: Annotated[
        str, typer.Option('--config', metavar='NAME', help='Base: a name in config/model, or your own .yaml file.')
    ] = 'full',
) -> None:
    """Write the perception of a released OPUS checkpoint (T, S, M or L) as a checkpoint for the perception node.

    Every name and shape is checked, and the labelled space; nothing is written if anything does not fit, and nothing is
    overwritten. Exit code 2: the checkpoint, the configuration or DIR is wrong.
    """
    # imported here: the other commands need not wait seconds for torch
    from safetensors import SafetensorError

    from sparseoccvla_ros.model.opus_import import OPUS_CAMERAS, import_opus

    try:
        done = import_opus(checkpoint, out, config)
    except yaml.YAMLError as error:
        raise _refusal(f'{config}: {error}') from error
    except (ValueError, OSError, SafetensorError) as error:
        raise _refusal(str(error)) from error
    encoder = done.config.encoder
    typer.echo(
        f'{out}: {done.tensors} tensors, {done.parameters:,} parameters; {encoder.queries} queries, '
        f'{len(encoder.points_per_layer)} layers with {", ".join(map(str, encoder.points_per_layer))} points, '
        f'{done.config.image.frames} frames'
    )
    typer.echo(f'not imported: {", ".join(done.left_out) or "nothing"}')
    for note in done.notes:
        typer.echo(f'note: {note}')
    folder = out.resolve()
    typer.echo(f'perception node: weights: {folder}, model_config: {folder / "config.yaml"},')
    typer.echo(f'    cameras: [{", ".join(OPUS_CAMERAS)}]')
    typer.echo('reasoning and planner: the same model_config, empty weights (the checkpoint has none for them)')


def _refusal(message: str) -> typer.Exit:
    text = ' '.join(message.split())
    Console(stderr=True).print(f'error: {text}', style='red', markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(USER_ERROR)

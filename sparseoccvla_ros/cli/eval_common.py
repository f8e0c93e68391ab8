"""What the `eval` commands share: which scenes and cameras are asked for, and how a wrong request ends."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesError, NuScenesTables
from sparseoccvla_ros.evaluation.bootstrap import LEVEL, SceneBootstrap
from sparseoccvla_ros.evaluation.paired import Paired
from sparseoccvla_ros.resources import share_path

USER_ERROR, FAILED_SAMPLES = 2, 1
ALL_CAMERAS = ','.join(CAMERAS)

Data = Annotated[Path, typer.Option('--data', metavar='DIR', help='Folder with samples/ and the version.')]
Version = Annotated[str, typer.Option('--version', metavar='V', help='Folder of the tables, e.g. v1.0-mini.')]
JsonFile = Annotated[Path | None, typer.Option('--json', metavar='FILE', help='Write all figures there.')]
Scenes = Annotated[list[str] | None, typer.Option('--scene', help='Scene; repeatable. All if not given.')]
ScenesFile = Annotated[Path | None, typer.Option(help='File with one scene name a line, e.g. a split.')]
Gts = Annotated[Path | None, typer.Option(metavar='GTS', help="Occ3D's labels; gts in --data if not given.")]
Model = Annotated[str, typer.Option(help='Model configuration: a name or a .yaml path.')]
Weights = Annotated[
    str | None, typer.Option(help="Checkpoint folder or name; '': untrained. The model's shipped ones if not given.")
]
CameraNames = Annotated[
    str, typer.Option(help="Names in the order of the model's slots; imported OPUS weights have their own.")
]
Device = Annotated[str, typer.Option(help='cpu or cuda:N.')]
Threads = Annotated[int, typer.Option(min=1, help='Threads on the CPU.')]
Closing = Annotated[bool, typer.Option(help='Fill holes between points.')]
AllowFailures = Annotated[bool, typer.Option(help='Exit with 0 although keyframes failed.')]
Bootstrap = Annotated[
    int, typer.Option(min=0, metavar='R', help='Resamples of the scenes for 95 % intervals; 0: no intervals.')
]
#: Of a table with intervals that goes to a file: as wide as it needs to be.
FILE_WIDTH = 200


def weights_asked(model: str, weights: str | None) -> str:
    """Checkpoint folder or name, empty for none: without a wish the weights that come along under the model's name."""
    if weights is not None:
        return weights
    try:
        share_path(Path('weights', model, 'model.safetensors'))
    except (ValueError, FileNotFoundError):  # a configuration by its path, or one that nothing is shipped for
        return ''
    return model


def scene_names(tables: NuScenesTables, names: list[str] | None, file: Path | None) -> list[str]:
    """Names asked for, each once; all by default.

    Raises:
        NuScenesError: the data set does not have one of them, or none is asked for.
    """
    wanted = list(names or ())
    if file is not None:
        wanted += file.read_text(encoding='utf-8').split()
    unknown = sorted(set(wanted) - set(tables.scene_names))
    if unknown:
        raise NuScenesError(f'{len(unknown)} scenes are not in {tables.version}, for example {unknown[0]}')
    if file is not None and not wanted:
        raise NuScenesError(f'{file} names no scene')
    return list(dict.fromkeys(wanted)) or list(tables.scene_names)


def survey(tables: NuScenesTables, names: Sequence[str]) -> tuple[int, list[str]]:
    """Number of keyframes of the scenes, and the cameras that any of them has, sorted.

    Raises:
        NuScenesError: the tables of a scene are broken.
    """
    keyframes, cameras = 0, set()
    for name in names:
        samples = tables.scene(name).samples
        keyframes += len(samples)
        for sample in samples:
            cameras.update(frame.channel for frame in sample.sensors.values() if frame.modality == 'camera')
    return keyframes, sorted(cameras)


def rig_cameras(text: str, known: Sequence[str]) -> list[str]:
    """Names of the cameras in the order of the model's slots.

    Raises:
        NuScenesError: the scenes have no such camera.
    """
    names = [name.strip() for name in text.split(',')]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise NuScenesError(
            f'cameras: no keyframe has {", ".join(map(repr, unknown))}; the scenes have {", ".join(known) or "none"}'
        )
    return names


def require_writable(file: Path) -> None:
    """Make the folder of a file that is written hours later.

    Raises:
        OSError: the folder cannot be made, or the file cannot be written into it.
    """
    if file.is_dir():
        raise IsADirectoryError(f'{file} is a folder; --json wants a file')
    file.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise PermissionError(f'{file} cannot be written')


def table_console() -> Console:
    """Where tables go: a terminal of its own width, or a file or pipe that does not break cells."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def cell(value: float | None, ends: Sequence[float] | None, factor: float = 100.0, decimals: int = 2) -> str:
    """A figure times ``factor`` and its interval ``[low, high]`` where there is one; '-' for None."""
    if value is None:
        return '-'
    numbers = [f'{factor * number:.{decimals}f}' for number in (value, *(ends or ()))]
    return numbers[0] if len(numbers) == 1 else f'{numbers[0]} [{numbers[1]}, {numbers[2]}]'


def comparison(found: Paired, factor: float = 100.0, decimals: int = 2) -> str:
    """What two predictors differ by on the same samples, in words and with intervals."""
    numbers = [f'{factor * number:+.{decimals}f}' for number in (found.difference, *(found.difference_interval or ()))]
    told = numbers[0] if len(numbers) == 1 else f'{numbers[0]} [{numbers[1]}, {numbers[2]}]'
    return told if found.ratio is None else f'{told}, {cell(found.ratio, found.ratio_interval, 1.0)} times'


def interval_note(bootstrap: SceneBootstrap) -> str:
    """How the intervals were made, or why there are none."""
    if bootstrap.off:
        return bootstrap.off
    how = f'{bootstrap.resamples} resamples of {len(bootstrap.scenes)} scenes'
    return f'[low, high]: {100.0 * LEVEL:g} % interval by bootstrap over scenes, {how}'


def refusal(error: Exception, console: Console) -> typer.Exit:
    """Print why the request cannot be served; the exit to raise."""
    console.print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(USER_ERROR)

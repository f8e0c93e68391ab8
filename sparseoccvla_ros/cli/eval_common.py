"""What the `eval` commands share: which scenes and cameras are asked for, and how a wrong request ends."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables

USER_ERROR, FAILED_SAMPLES = 2, 1


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


def refusal(error: Exception, console: Console) -> typer.Exit:
    """Print why the request cannot be served; the exit to raise."""
    console.print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(USER_ERROR)

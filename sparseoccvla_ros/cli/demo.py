"""``make demo``: a scene to a bag, the bag through the stack, a report. ``python -m sparseoccvla_ros.cli.demo``."""

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sparseoccvla_ros.cli.replay import run_and_show
from sparseoccvla_ros.data.bag_reader import BagError
from sparseoccvla_ros.data.bag_writer import write_scene_bag
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.data.topics import load_preset
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

FAILED, USER_ERROR = 1, 2
#: Not an option: what is in it is removed.
OUT = Path('out/demo')
WORLD, BAG = 'world', 'bag'
#: 20 s: 40 keyframes of six cameras and, so that odometry has a history early, as many sweeps between them.
REQUEST = WorldRequest(scenes=1, seed=1, sweep_hz=4, seconds=20.0)
#: In the words of the training questions: the shipped model knows no others.
QUESTIONS = (
    'Can you describe this scene?',
    'What road users and movable objects can you see straight ahead within 25 m of your rear axle?',
    'What should you do next, and why?',
)


def demo(
    data: Annotated[
        Path | None, typer.Option('--data', metavar='DIR', help='nuScenes folder; else a made-up one.')
    ] = None,
    version: Annotated[str, typer.Option('--version', metavar='V', help='Folder of the tables.')] = 'v1.0-mini',
    scene: Annotated[str, typer.Option('--scene', metavar='NAME', help='Scene of the data set.')] = 'scene-0061',
    ask: Annotated[
        list[str] | None, typer.Option('--ask', metavar='TEXT', help='Instead of the three questions.')
    ] = None,
) -> None:
    """Replay one scene through the composed stack with the shipped configuration, in lockstep, and ask about it.

    Exit code 1: the stack failed, or there is no trajectory or no successful answer; 2: the data is wrong.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    begin_s = time.monotonic()
    try:
        bag = _bag(console, data, version, scene)
    except (NuScenesError, BagError, ValueError, OSError) as error:
        Console(stderr=True).print(f'error: {error}', style='red', markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USER_ERROR) from error
    summary = run_and_show(bag, OUT, rate=0.0, questions=tuple(ask or QUESTIONS), kept=frozenset({WORLD, BAG}))
    answered = sum(answer['success'] for answer in summary['answers'])
    console.print(f'demo done in {time.monotonic() - begin_s:.0f} s')
    if not summary['trajectories'] or not answered:
        Console(stderr=True).print(
            f'error: {summary["trajectories"]} trajectories and {answered} answers; expected at least one of each',
            style='red',
        )
        raise typer.Exit(FAILED)


def _bag(console: Console, data: Path | None, version: str, scene: str) -> Path:
    """The scene's bag, made anew: what an earlier demo left may be of other data or of an older world."""
    for name in (WORLD, BAG):
        shutil.rmtree(OUT / name, ignore_errors=True)
    if data is None:
        begin_s = time.monotonic()
        data, version = OUT / WORLD, VERSION
        made = write_world(data, REQUEST)
        scene = NuScenesTables(data, version).scene_names[0]
        console.print(
            f'synthetic street, seed {REQUEST.seed}: {made.keyframes} keyframes of six cameras in '
            f'{time.monotonic() - begin_s:.1f} s'
        )
    written = write_scene_bag(NuScenesTables(data, version), scene, OUT / BAG, load_preset('default'))
    console.print(f'{written.path}: scene {scene}, {written.duration_s:.1f} s, {sum(written.counts.values())} messages')
    return written.path


if __name__ == '__main__':
    typer.run(demo)

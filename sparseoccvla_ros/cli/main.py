"""The ``sparseoccvla`` command: one sub-command per file in this folder."""

import typer

from sparseoccvla_ros.cli.ask import ask
from sparseoccvla_ros.cli.bag import bag
from sparseoccvla_ros.cli.replay import replay
from sparseoccvla_ros.cli.up import up
from sparseoccvla_ros.cli.world import world

app = typer.Typer(
    name='sparseoccvla',
    help='Sparse occupancy, questions and trajectories from surround cameras.',
    no_args_is_help=True,
    add_completion=False,
)

for command in (world, bag, replay, up, ask):
    app.command()(command)


if __name__ == '__main__':
    app()

"""The ``sparseoccvla`` command: one sub-command per file in this folder."""

import typer

from sparseoccvla_ros.cli.anchors import anchors
from sparseoccvla_ros.cli.ask import ask
from sparseoccvla_ros.cli.bag import bag
from sparseoccvla_ros.cli.bench import bench
from sparseoccvla_ros.cli.drive import drive
from sparseoccvla_ros.cli.eval import eval_app
from sparseoccvla_ros.cli.import_weights import import_app
from sparseoccvla_ros.cli.replay import replay
from sparseoccvla_ros.cli.train import train
from sparseoccvla_ros.cli.up import up
from sparseoccvla_ros.cli.world import world

app = typer.Typer(
    name='sparseoccvla',
    help='Sparse occupancy, questions and trajectories from surround cameras.',
    no_args_is_help=True,
    add_completion=False,
)

for command in (world, bag, replay, up, ask, drive, anchors, train):
    app.command()(command)
app.add_typer(bench)
app.add_typer(eval_app)
app.add_typer(import_app, name='import')


if __name__ == '__main__':
    app()

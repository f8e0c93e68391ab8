"""The ``sparseoccvla`` command: one sub-command per file in this folder."""

import typer

app = typer.Typer(
    name='sparseoccvla',
    help='Sparse occupancy, questions and trajectories from surround cameras.',
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def sparseoccvla() -> None:
    """Keeps the sub-command names even while there is only one of them."""


if __name__ == '__main__':
    app()

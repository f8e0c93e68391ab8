"""Several processes learn what one does that sees their batches together."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from one_step import gradients_of

from sparseoccvla_ros.training.recipe import load_recipe
from sparseoccvla_ros.training.trainer import train


def run_two(script: str, *arguments: object, expected: int = 0) -> None:
    """A script of this folder in two processes."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    done = subprocess.run(
        [*command, str(Path(__file__).parent / script), *map(str, arguments)],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.returncode == expected, done.stderr[-3000:]


def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(recipe_of, write_recipe, tmp_path):
    """Terms are means over samples, points and tokens, of which the two have different numbers. Without the planner:
    each process draws noise of its own for it.
    """
    teacher = train(
        recipe_of('terms=[occupancy]', 'train=[perception]', 'optimization.steps=1', f'out={tmp_path / "teacher"}')
    )
    recipe = write_recipe()
    changes = [
        'terms=[occupancy, distillation, forecast, answers]',
        'train=[perception, distillation, language]',
        f'losses.distillation.teacher={teacher}',
        'optimization.steps=1',
    ]
    one = gradients_of(load_recipe(str(recipe), [*changes, f'out={tmp_path / "one"}', 'optimization.batch_size=4']))
    run_two(
        'one_step.py', recipe, tmp_path / 'two.pt', *changes, f'out={tmp_path / "two"}', 'optimization.batch_size=2'
    )
    two = torch.load(tmp_path / 'two.pt', weights_only=True)
    assert len(one) == len(two)
    size = torch.stack([gradient.norm() for gradient in one]).norm()
    for expected, found in zip(one, two, strict=True):
        assert (expected - found).norm() <= 1e-3 * expected.norm() + 1e-5 * size


def test_nobody_leaves_before_the_state_is_written(write_recipe, tmp_path):
    """torchrun ends all processes as soon as one has left with another code than 0."""
    recipe = write_recipe(terms=['occupancy'], train=['perception'])
    run_two('stopped_run.py', recipe, f'out={tmp_path / "run"}', expected=1)
    assert torch.load(tmp_path / 'run/state.pt', weights_only=True)['step'] == 1
    assert not list(tmp_path.glob('run/*.partial'))


def test_weights_in_shares_are_averaged_saved_and_resumed(tmp_path):
    run_two('sharded_run.py', tmp_path / 'state.pt')

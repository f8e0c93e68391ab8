"""One step of a recipe, and the gradients that it was made from; test_processes.py also runs it under torchrun."""

import sys
from pathlib import Path
from unittest.mock import patch

import torch

from sparseoccvla_ros.training.recipe import Recipe, load_recipe
from sparseoccvla_ros.training.trainer import train


class Recorded(torch.optim.AdamW):
    """Keeps the gradients of its last step."""

    gradients: list[torch.Tensor] = []  # noqa: RUF012

    def step(self, closure=None):
        parameters = [parameter for group in self.param_groups for parameter in group['params']]
        Recorded.gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        return super().step(closure)


def gradients_of(recipe: Recipe) -> list[torch.Tensor]:
    """Of a recipe of one step."""
    with patch('torch.optim.AdamW', Recorded):
        train(recipe)
    return Recorded.gradients


if __name__ == '__main__':
    torch.set_num_threads(1)
    torch.save(gradients_of(load_recipe(sys.argv[1], sys.argv[3:])), Path(sys.argv[2]))

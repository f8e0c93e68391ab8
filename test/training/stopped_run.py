"""A run whose time is up after its first step, with a disk so slow that one process could leave before the other has
written the state; test_processes.py runs it under torchrun.
"""

import os
import sys
import time

import torch

from sparseoccvla_ros.training.recipe import load_recipe
from sparseoccvla_ros.training.trainer import train

SAVE_S = 5.0
real_save = torch.save


def slow_save(*arguments: object) -> None:
    """As slow as of a large model on a network disk."""
    time.sleep(SAVE_S)
    real_save(*arguments)


if __name__ == '__main__':
    torch.set_num_threads(1)
    torch.save = slow_save
    folder = train(load_recipe(sys.argv[1], sys.argv[2:]), stop_after_s=0.0)
    sys.stdout.flush()
    os._exit(3 if folder is None else 0)  # as the command's; torchrun ends the other processes at once

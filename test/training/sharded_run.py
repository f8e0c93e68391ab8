"""A resumed run whose weights are shared among processes as by FSDP; test_processes.py runs it under torchrun.

accelerate shards on GPUs alone, so the sharding here is torch's own, on CPUs.
"""

import os
import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed import barrier, destroy_process_group, get_rank, init_process_group
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from sparseoccvla_ros.training.averaging import WeightAverage
from sparseoccvla_ros.training.run_state import resume_run, save_run


def sharded(seed: int) -> nn.Module:
    """Parameters in shares, a batch norm's statistics whole."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    fully_shard(model[0])
    fully_shard(model)
    return model


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage, numbers: range) -> None:
    """Each with a batch that depends on its number and the process."""
    for number in numbers:
        generator = torch.Generator().manual_seed(10 * number + get_rank())
        model(torch.randn(5, 6, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(number)


def whole(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without shares."""
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}


def main(path: Path) -> None:
    """Two steps, a saved state, a third step; and the third again from the state, by a model of other weights."""
    first, again = (sharded(seed) for seed in (0, 1))
    averages = [WeightAverage(model, 0.9) for model in (first, again)]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-2) for model in (first, again)]
    steps(first, optimizers[0], averages[0], range(1, 3))
    save_run(path, {'run': 1}, first, optimizers[0], 2, averages[0].state(), writes=get_rank() == 0)
    barrier()
    steps(first, optimizers[0], averages[0], range(3, 4))
    assert resume_run(path, {'run': 1}, again, optimizers[1], averages[1].state())[0] == 2
    steps(again, optimizers[1], averages[1], range(3, 4))
    expected, found = whole(averages[0].state()), whole(averages[1].state())
    for name, tensor in expected.items():
        if get_rank() == 0 or not name.startswith('1.running'):  # statistics are the first process'
            torch.testing.assert_close(found[name], tensor, rtol=0.0, atol=0.0)
    stored = torch.load(path, weights_only=True)
    assert stored['weights']['0.weight'].shape == stored['averages']['0.weight'].shape == (8, 6)


if __name__ == '__main__':
    torch.set_num_threads(1)
    init_process_group('gloo')
    main(Path(sys.argv[1]))
    destroy_process_group()
    # One in some 40 runs was aborted in the interpreter's last moments, by a thread of gloo that still held a Python
    # object of the shares; all that this script is for has been checked by now.
    os._exit(0)

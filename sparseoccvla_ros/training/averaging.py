"""The exponential moving average of the weights that learn, and of batch norms' statistics: what a stage hands on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class WeightAverage:
    """Averages of a module's trainable parameters and of the statistics of its batch norms, on their device.

    The decay rises with the number of steps, (1 + n) / (10 + n) at most, so that the random start is soon forgotten.

    Args:
        module: with the parameters.
        decay: share of the old average that is kept in a step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._own = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        for name, child in module.named_modules():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                start = f'{name}.' if name else ''
                self._own |= {f'{start}running_mean': child.running_mean, f'{start}running_var': child.running_var}
        self._averages = {name: tensor.clone() for name, tensor in self._own.items()}
        # under FSDP parameters are shared among processes, statistics are not: one call takes but one kind
        shared = {name for name, tensor in self._own.items() if isinstance(tensor, DTensor)}
        self._alike = [names for names in (shared, self._own.keys() - shared) if names]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step; ``step`` counts from one."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for names in self._alike:
            torch._foreach_lerp_([self._averages[n] for n in names], [self._own[n] for n in names], 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """The averages by name, sharing memory: writing into them sets them."""
        return self._averages

    @torch.no_grad()
    def apply(self) -> None:
        """Give the module the averages as its weights."""
        for name, tensor in self._own.items():
            tensor.copy_(self._averages[name])

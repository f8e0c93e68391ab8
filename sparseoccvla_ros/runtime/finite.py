"""Networks are checked where their outputs leave them."""

from __future__ import annotations

import torch


class NonFiniteOutput(ArithmeticError):  # noqa: N818  (said as what it is about, like StopIteration)
    """A network gave NaN or infinity: its output must not be used."""


def require_finite(name: str, *tensors: torch.Tensor) -> None:
    """Check a stage's outputs.

    Raises:
        NonFiniteOutput: a value is NaN or infinite; names the stage and how many values are.
    """
    # Nearly always all are finite: that takes one wait for the device, and counting would take one per tensor.
    if bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all()):
        return
    bad = sum(int((~torch.isfinite(tensor)).sum()) for tensor in tensors)
    raise NonFiniteOutput(f'{name}: {bad} of {sum(tensor.numel() for tensor in tensors)} values are not finite')

"""A loss over a batch with the number of things it is a mean of, so that processes with different numbers agree."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Term(NamedTuple):
    """``value``: scalar, the mean over ``count`` samples, tokens or points (a scalar; zero: nothing to learn from)."""

    value: Tensor
    count: Tensor


def term(value: Tensor, count: int | Tensor, weight: float = 1.0) -> Term:
    """A weighted term."""
    return Term(weight * value, torch.as_tensor(count, dtype=torch.float32, device=value.device))

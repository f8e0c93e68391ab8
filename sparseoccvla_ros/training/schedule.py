"""Learning rates by step."""

from __future__ import annotations

import math


def warmed_cosine(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear up to the peak over ``warmup`` steps, then a cosine down to a hundredth of it at ``steps``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share)))

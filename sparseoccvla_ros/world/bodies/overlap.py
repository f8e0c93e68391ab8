"""Do bodies touch? Footprints are rectangles on the ground."""

from __future__ import annotations

import numpy as np


def overlapping_pairs(
    world_from_object: np.ndarray, sizes_m: np.ndarray, clearance_m: float = 0.0
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of footprints that overlap; exact, by separating axes.

    Args:
        world_from_object: [N, 4, 4], the middle of each footprint.
        sizes_m: [N, 2] length and width.
        clearance_m: distance along each axis below which bodies count as touching.
    """
    centres, axes = world_from_object[:, :2, 3], world_from_object[:, :2, :2]
    half = 0.5 * np.asarray(sizes_m)
    radius = np.hypot(half[:, 0], half[:, 1])
    offset = centres[None] - centres[:, None]
    near = np.hypot(offset[..., 0], offset[..., 1]) < radius[:, None] + radius[None] + clearance_m
    first, second = np.nonzero(np.triu(near, 1))
    apart = np.zeros(len(first), dtype=bool)
    for owner in (first, second):
        for column in range(2):
            axis = axes[owner, :, column]
            reach = sum(
                half[body, side] * np.abs((axes[body, :, side] * axis).sum(axis=1))
                for body in (first, second)
                for side in range(2)
            )
            apart |= np.abs((offset[first, second] * axis).sum(axis=1)) >= reach + clearance_m
    return list(zip(first[~apart].tolist(), second[~apart].tolist(), strict=True))

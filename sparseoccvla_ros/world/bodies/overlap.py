"""Do bodies touch? Footprints are rectangles on the ground."""

from __future__ import annotations

import numpy as np


def overlapping_pairs(
    world_from_object: np.ndarray,
    sizes_m: np.ndarray,
    clearance_m: float = 0.0,
    rows: np.ndarray | None = None,
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of footprints that overlap; exact, by separating axes.

    Args:
        world_from_object: [N, 4, 4], the middle of each footprint.
        sizes_m: [N, 2] length and width.
        clearance_m: distance along each axis below which bodies count as touching.
        rows: numbers of the bodies that are checked against all; None: all of them.
    """
    rows = np.arange(len(sizes_m)) if rows is None else rows
    centres, axes = world_from_object[:, :2, 3], world_from_object[:, :2, :2]
    half = 0.5 * np.asarray(sizes_m)
    radius = np.hypot(half[:, 0], half[:, 1])
    reach = radius[rows, None] + radius[None] + clearance_m
    near = np.abs(centres[None, :, 0] - centres[rows, None, 0]) < reach
    near &= np.abs(centres[None, :, 1] - centres[rows, None, 1]) < reach
    row, second = np.nonzero(near)
    first = rows[row]
    # Each pair once: of two that are both checked, only the lesser number comes first.
    checked = np.zeros(len(sizes_m), dtype=bool)
    checked[rows] = True
    once = (first != second) & (~checked[second] | (first < second))
    first, second = np.minimum(first, second)[once], np.maximum(first, second)[once]
    offset = centres[second] - centres[first]
    apart = np.zeros(len(first), dtype=bool)
    for owner in (first, second):
        for column in range(2):
            axis = axes[owner, :, column]
            reach = sum(
                half[body, side] * np.abs((axes[body, :, side] * axis).sum(axis=1))
                for body in (first, second)
                for side in range(2)
            )
            apart |= np.abs((offset * axis).sum(axis=1)) >= reach + clearance_m
    return list(zip(first[~apart].tolist(), second[~apart].tolist(), strict=True))

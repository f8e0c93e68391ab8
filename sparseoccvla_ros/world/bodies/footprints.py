"""What of a shape a car can touch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.thing import Shape, Thing

#: Parts of buildings, trees and poles that a car can touch: those from a kerb's height to its bonnet's.
TOUCHABLE_M = (0.25, 1.4)


@dataclass(frozen=True, eq=False)
class StillFootprints:
    """Footprints of all that never moves: ``owner`` [N] index of the thing, ``world_from_middle`` [N, 4, 4], ``size_m``
    [N, 2] length and width.
    """

    owner: np.ndarray
    world_from_middle: np.ndarray
    size_m: np.ndarray


def still_footprints(things: Iterable[Thing]) -> StillFootprints:
    """Those of the things that are ``still``."""
    parts = [
        (index, thing.state_at(0.0).world_from_object @ object_from_middle, size_m)
        for index, thing in enumerate(things)
        if thing.still
        for object_from_middle, size_m in footprints(thing.shape)
    ]
    return StillFootprints(
        np.array([index for index, _, _ in parts], dtype=np.int64),
        np.array([world_from_middle for _, world_from_middle, _ in parts]).reshape(-1, 4, 4),
        np.array([size_m for _, _, size_m in parts]).reshape(-1, 2),
    )


def footprints(shape: Shape) -> list[tuple[np.ndarray, tuple[float, float]]]:
    """Rectangles on the ground, as ``object_from_middle`` [4, 4] with length and width: the box of what has one, of
    others the parts that a car can touch.
    """
    if shape.category:
        return [(np.eye(4), shape.size_m[:2])]
    lowest_m, highest_m = TOUCHABLE_M
    parts = []
    for solid in shape.solids:
        low, high = solid.vertices_m.min(axis=0), solid.vertices_m.max(axis=0)
        if low[2] < highest_m and high[2] > lowest_m:
            middle = 0.5 * (low + high)
            size_m = (float(high[0] - low[0]), float(high[1] - low[1]))
            parts.append((transform_from_planar(float(middle[0]), float(middle[1]), 0.0), size_m))
    return parts

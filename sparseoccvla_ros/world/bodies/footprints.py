"""What of a shape a car can touch."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.thing import Shape

#: Parts of buildings, trees and poles that a car can touch: those from a kerb's height to its bonnet's.
TOUCHABLE_M = (0.25, 1.4)


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

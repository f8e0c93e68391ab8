"""From solids to a shape: the box that encloses them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparseoccvla_ros.world.bodies.solids import Solid, moved
from sparseoccvla_ros.world.bodies.thing import Shape


def fitted(label: int, solids: Sequence[Solid], category: str = '', paint: str = '') -> Shape:
    """A shape whose box is the least one over the origin that encloses the solids, which stand on z = 0."""
    low = np.min([solid.low_m for solid in solids], axis=0)
    high = np.max([solid.high_m for solid in solids], axis=0)
    length, width = 2.0 * np.maximum(-low, high)[:2]
    return Shape(label, (float(length), float(width), float(high[2])), tuple(solids), category, paint)


def centred(solids: Sequence[Solid]) -> list[Solid]:
    """The solids moved so that the middle of their footprint lies over the origin."""
    low = np.min([solid.low_m for solid in solids], axis=0)
    high = np.max([solid.high_m for solid in solids], axis=0)
    x, y = -0.5 * (low + high)[:2]
    return [moved(solid, (float(x), float(y), 0.0)) for solid in solids]

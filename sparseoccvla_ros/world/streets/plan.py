"""The streets of a scene together: where they meet, and what the ground is made of anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.world.streets.street import Ground, Street


@dataclass(frozen=True)
class Plan:
    """All streets of a scene."""

    streets: tuple[Street, ...]

    def ground_at(self, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """:class:`Ground` of world points [N], uint8."""
        ground = np.full(x_m.shape, Ground.GRASS, dtype=np.uint8)
        for street in self.streets:
            _, d_m = street.centreline.project(x_m, y_m)
            ground = np.minimum(ground, street.ground_at(d_m))
        return ground

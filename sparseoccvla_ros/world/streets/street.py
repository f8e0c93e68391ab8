"""A street: a centreline and what lies beside it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sparseoccvla_ros.world.streets.centreline import Centreline


class Ground(IntEnum):
    """What the ground is made of."""

    ASPHALT = 0
    PARKING = 1
    PAVEMENT = 2
    GRASS = 3
    ISLAND = 4


#: Occ3D class of each kind of ground (driveable_surface, driveable_surface, sidewalk, terrain, other_flat).
GROUND_LABELS = np.array([11, 11, 13, 14, 12], dtype=np.uint8)


@dataclass(frozen=True)
class Street:
    """A two-way street with right-hand traffic: widths in metres, the same on both sides of the centreline."""

    centreline: Centreline
    lanes: int
    lane_width_m: float
    parking_width_m: float
    sidewalk_width_m: float
    crossing_s_m: float

    CROSSING_LENGTH_M = 3.2

    @property
    def carriageway_m(self) -> float:
        """Half the width of the driving lanes."""
        return self.lanes * self.lane_width_m

    @property
    def kerb_m(self) -> float:
        """Distance of the kerb from the centreline."""
        return self.carriageway_m + self.parking_width_m

    @property
    def frontage_m(self) -> float:
        """Distance of the sidewalk's far edge from the centreline."""
        return self.kerb_m + self.sidewalk_width_m

    def lane_offset_m(self, lane: int) -> float:
        """Left distance of the middle of our lane ``lane``, 0 nearest the centre; negative: on the right."""
        return -(lane + 0.5) * self.lane_width_m

    def ground_at(self, d_m: np.ndarray) -> np.ndarray:
        """:class:`Ground` of points by their left distance, uint8, same shape."""
        distance = np.abs(d_m)
        ground = np.full(distance.shape, Ground.GRASS, dtype=np.uint8)
        ground[distance <= self.frontage_m] = Ground.PAVEMENT
        ground[distance <= self.kerb_m] = Ground.PARKING
        ground[distance <= self.carriageway_m] = Ground.ASPHALT
        return ground

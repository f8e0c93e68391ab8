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
#: Where streets meet, the kind with the lesser rank wins.
GROUND_RANKS = np.array([0, 1, 3, 4, 2], dtype=np.uint8)


@dataclass(frozen=True)
class StopLine:
    """Where traffic that drives in ``direction`` (+1: along the centreline) waits, and for which junction's signal."""

    s_m: float
    direction: int
    junction: int


@dataclass(frozen=True)
class Street:
    """A two-way street with right-hand traffic: widths in metres, the same on both sides of the centreline.

    From the middle outwards: a raised island (``island_m`` wide in all, 0: none), lanes, a cycle lane, a parking lane,
    the sidewalk. ``junctions_s_m`` are the stretches without markings and islands, ``crossings_s_m`` the middles of
    pedestrian crossings, ``stop_lines`` those of signals.
    """

    centreline: Centreline
    lanes: int
    lane_width_m: float
    island_m: float
    cycle_m: float
    parking_width_m: float
    sidewalk_width_m: float
    crossings_s_m: tuple[float, ...] = ()
    junctions_s_m: tuple[tuple[float, float], ...] = ()
    stop_lines: tuple[StopLine, ...] = ()

    CROSSING_LENGTH_M = 3.2
    ISLAND_GAP_M = 0.6

    @property
    def lanes_m(self) -> float:
        """Distance of the outer edge of the lanes from the centreline."""
        return 0.5 * self.island_m + self.lanes * self.lane_width_m

    @property
    def carriageway_m(self) -> float:
        """Half the width of what is driven on: lanes and cycle lanes."""
        return self.lanes_m + self.cycle_m

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
        return -0.5 * self.island_m - (lane + 0.5) * self.lane_width_m

    def is_open(self, s_m: np.ndarray, margin_m: float = 0.0) -> np.ndarray:
        """Whether places [N] lie in a junction or on a pedestrian crossing, or at most a margin from one."""
        within = np.zeros(np.shape(s_m), dtype=bool)
        for first, last in self.junctions_s_m:
            within |= (s_m > first - margin_m) & (s_m < last + margin_m)
        half_m = 0.5 * self.CROSSING_LENGTH_M + self.ISLAND_GAP_M + margin_m
        for crossing in self.crossings_s_m:
            within |= np.abs(s_m - crossing) < half_m
        return within

    def ground_at(self, s_m: np.ndarray, d_m: np.ndarray) -> np.ndarray:
        """:class:`Ground` of places by arc length and left distance, uint8, same shape; grass beyond the ends."""
        distance = np.abs(d_m)
        ground = np.full(distance.shape, Ground.GRASS, dtype=np.uint8)
        ground[distance <= self.frontage_m] = Ground.PAVEMENT
        ground[distance <= self.kerb_m] = Ground.PARKING
        ground[distance <= self.carriageway_m] = Ground.ASPHALT
        if self.island_m > 0.0:
            middle = np.nonzero(distance <= 0.5 * self.island_m)[0]
            ground[middle[~self.is_open(s_m[middle])]] = Ground.ISLAND
        ground[(s_m < 0.0) | (s_m > self.centreline.length_m)] = Ground.GRASS
        return ground

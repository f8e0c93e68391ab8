"""The streets of a scene together: where they meet, and what the ground is made of anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from sparseoccvla_ros.world.streets.junction import Junction
from sparseoccvla_ros.world.streets.street import GROUND_RANKS, Ground, Street

CELL_M = 1.0
#: Beyond a sidewalk's edge, places are still told by street coordinates this far.
VERGE_M = 2.0


@dataclass(frozen=True)
class _Reach:
    """Cells of ``CELL_M`` that a street passes through or near: ``cells`` [rows, columns], corner at ``origin_m``."""

    origin_m: np.ndarray
    cells: np.ndarray

    @staticmethod
    def of(street: Street) -> _Reach:
        line = street.centreline
        reach_m = street.frontage_m + VERGE_M
        points = np.column_stack([line.x_m, line.y_m])[:: int(2.0 / line.STEP_M)]
        points = np.concatenate([points, [[line.x_m[-1], line.y_m[-1]]]])
        origin = np.floor(points.min(axis=0) - reach_m - 2.0 * CELL_M)
        columns, rows = np.ceil((points.max(axis=0) + reach_m + 2.0 * CELL_M - origin) / CELL_M).astype(int)
        cells = np.zeros((rows, columns), dtype=np.uint8)
        drawn = np.round((points - origin) / CELL_M).astype(np.int32)
        cv2.polylines(cells, [drawn], False, 1, thickness=int(np.ceil(2.0 * reach_m / CELL_M)) + 2)
        return _Reach(origin, cells.astype(bool))

    def holds(self, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """Indices of the points [N] that lie in such a cell."""
        column = np.floor((x_m - self.origin_m[0]) / CELL_M).astype(np.int64)
        row = np.floor((y_m - self.origin_m[1]) / CELL_M).astype(np.int64)
        rows, columns = self.cells.shape
        inside = np.nonzero((column >= 0) & (column < columns) & (row >= 0) & (row < rows))[0]
        return inside[self.cells[row[inside], column[inside]]]


@dataclass(frozen=True)
class Nearby:
    """Points on or near a street: their ``index`` [M] in what was asked, arc length and left distance [M], metres."""

    street: Street
    index: np.ndarray
    s_m: np.ndarray
    d_m: np.ndarray


@dataclass(frozen=True)
class WorkZone:
    """A fenced stretch at one side of a street: ``side`` +1 left of the centreline, -1 right.

    It reaches from ``edge_m`` of the centreline outwards; ``intrusion_m`` is how much of the outer lane it takes.
    """

    street: int
    side: int
    first_m: float
    last_m: float
    edge_m: float
    intrusion_m: float


@dataclass(frozen=True)
class Plan:
    """All streets of a scene and the junctions where they meet. World coordinates are positive, the ground is z = 0."""

    streets: tuple[Street, ...]
    junctions: tuple[Junction, ...] = ()
    work_zones: tuple[WorkZone, ...] = ()
    _reaches: tuple[_Reach, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, '_reaches', tuple(_Reach.of(street) for street in self.streets))

    def near(self, x_m: np.ndarray, y_m: np.ndarray) -> list[Nearby]:
        """For each street with world points [N] on or near it, which they are and where."""
        found: list[Nearby] = []
        if len(x_m) == 0:
            return found
        low, high = np.array([x_m.min(), y_m.min()]), np.array([x_m.max(), y_m.max()])
        for street, reach in zip(self.streets, self._reaches, strict=True):
            far = reach.origin_m + np.array(reach.cells.shape[::-1]) * CELL_M
            if (low > far).any() or (high < reach.origin_m).any():
                continue
            index = reach.holds(x_m, y_m)
            if len(index):
                found.append(Nearby(street, index, *street.centreline.project(x_m[index], y_m[index])))
        return found

    def ground_at(self, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """:class:`Ground` of world points [N], uint8."""
        return self.ground_of(self.near(x_m, y_m), x_m, y_m)

    def ground_of(self, nearby: Sequence[Nearby], x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """:meth:`ground_at` for who has asked :meth:`near` already."""
        ground = np.full(len(x_m), Ground.GRASS, dtype=np.uint8)
        for part in nearby:
            kind = part.street.ground_at(part.s_m, part.d_m)
            better = GROUND_RANKS[kind] < GROUND_RANKS[ground[part.index]]
            ground[part.index[better]] = kind[better]
        for junction in self.junctions:
            away = np.maximum(np.abs(x_m - junction.centre_m[0]), np.abs(y_m - junction.centre_m[1]))
            index = np.nonzero(away < 1.5 * (max(junction.kerb_m) + junction.corner_m))[0]
            ground[index[junction.in_corner(x_m[index], y_m[index])]] = Ground.ASPHALT
        return ground

"""Occupied voxels, now and as forecast, against the footprint that a plan sweeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, GROUND_CLASSES, VOXEL_M
from sparseoccvla_ros.planning.trajectory import Trajectory
from sparseoccvla_ros.runtime.scene import OccupancyPoints

Array = np.ndarray

MOVABLE_CLASSES = (2, 3, 4, 5, 6, 7, 9, 10)
"""Cycles, vehicles and people: what stands there now may be gone when the vehicle comes. Everything else that is no
ground stays where it is seen, ``others`` too, whatever the forecast says."""

GROUND_CLEARANCE_M = 0.15
"""A voxel that does not reach higher lies below the vehicle's floor."""

HALF_VOXEL_M = 0.5 * VOXEL_M
PATH_MARGIN_M = 0.1
"""Kept from every voxel besides: how the vehicle gets from waypoint to waypoint is not told, and a bumper 3.4 m ahead
of the axle swings by some of that."""

REACH_M = HALF_VOXEL_M + PATH_MARGIN_M

NEARER_M = 0.03
"""How much nearer a plan may come to a voxel that is near already where the vehicle stands."""

_SNAP_M = 0.1
"""Points are moved to this grid, which holds all voxel centres, and equal ones merged: a network gives tens of
thousands of points, a hundred for each voxel."""


@dataclass(frozen=True)
class Footprint:
    """The vehicle's rectangle, metres: its middle lies ``center_offset_m`` ahead of the ego's origin."""

    length_m: float
    width_m: float
    center_offset_m: float


@dataclass(frozen=True)
class Contact:
    """Voxel columns that a plan drives through; the first one's time (seconds after the stamp) and class."""

    count: int = 0
    first_s: float = math.nan
    first_class: str = ''


@dataclass(frozen=True)
class _Columns:
    """Middles [M, 2] of the voxel columns with an obstacle in them, ego frame, and their classes [M]."""

    middles_m: Array
    labels: Array


class Obstacles:
    """What stands in the way of a vehicle ``height_m`` high, over the time of its plans.

    At each time of a plan the occupancy nearest in time counts: the present one until half the first horizon, then each
    forecast until half way to the next. What cannot move is taken from the present occupancy at all times, so that a
    forecaster which forgets a wall opens no way through it. Without a forecast the present occupancy holds throughout.

    Args:
        occupancy: at the stamp, ego frame; a point stands for a voxel of 0.4 m around it, whether it lies on the
            voxel grid or not.
        forecast: (seconds after the stamp, occupancy then), ego frame at the stamp.
        height_m: of the vehicle.

    Raises:
        ValueError: the forecast's times are not positive and rising.
    """

    def __init__(
        self, occupancy: OccupancyPoints, forecast: Sequence[tuple[float, OccupancyPoints]], height_m: float
    ) -> None:
        horizons_s = [horizon_s for horizon_s, _ in forecast]
        if horizons_s and not (np.diff([0.0, *horizons_s]) > 0.0).all():
            raise ValueError(f"the forecast's times must be positive and rise, found {horizons_s}")
        self._times_s = np.array([0.0, *horizons_s])
        points, labels = _in_the_way(occupancy, height_m)
        still = ~np.isin(labels, MOVABLE_CLASSES)
        self._columns = [_columns(points, labels)]
        for _, later in forecast:
            later_points, later_labels = _in_the_way(later, height_m)
            self._columns.append(
                _columns(np.concatenate([points[still], later_points]), np.concatenate([labels[still], later_labels]))
            )

    def contacts(self, footprint: Footprint, plan: Trajectory) -> tuple[Contact, Contact | None]:
        """What ``plan`` (dense in time) drives through: now, and as forecast (None without a forecast).

        A voxel counts as soon as the footprint comes within 0.1 m of its square. Where the vehicle stands some may be
        as near already, if only because voxels are coarse: such a one, unless its middle is inside, counts once the
        vehicle comes 3 cm, or half the way to its middle, nearer. So a car parked at a wall may drive off along it, but
        not into it.
        """
        nearest = np.abs(plan.times_s[:, None] - self._times_s).argmin(axis=1)
        found = [self._contact(k, footprint, plan, np.flatnonzero(nearest == k)) for k in range(len(self._times_s))]
        if len(found) == 1:
            return found[0], None
        later = [contact for contact in found[1:] if contact.count]
        first = min(later, key=lambda contact: contact.first_s, default=Contact())
        return found[0], Contact(sum(contact.count for contact in later), first.first_s, first.first_class)

    def _contact(self, k: int, footprint: Footprint, plan: Trajectory, index: Array) -> Contact:
        middles_m, labels = self._columns[k].middles_m, self._columns[k].labels
        if not len(index) or not len(labels):
            return Contact()
        positions_m, headings_rad = plan.positions_m[index], plan.heading_rad[index]
        reach_m = abs(footprint.center_offset_m) + 0.5 * math.hypot(footprint.length_m, footprint.width_m) + VOXEL_M
        low, high = positions_m.min(axis=0) - reach_m, positions_m.max(axis=0) + reach_m
        near = ((middles_m > low) & (middles_m < high)).all(axis=1)
        if not near.any():
            return Contact()
        middles_m, labels = middles_m[near], labels[near]
        start_m = _gaps(footprint, plan.positions_m[:1], plan.heading_rad[:1], middles_m)[0]
        touched = (start_m > 0.0) & (start_m <= REACH_M)
        allowed_m = np.where(touched, np.maximum(start_m - NEARER_M, 0.5 * start_m), REACH_M)
        hit = _gaps(footprint, positions_m, headings_rad, middles_m) <= allowed_m  # [times, columns]
        struck = hit.any(axis=0)
        if not struck.any():
            return Contact()
        first = int(hit.any(axis=1).argmax())
        label = int(labels[hit[first].argmax()])
        return Contact(int(struck.sum()), float(plan.times_s[index[first]]), CLASS_NAMES[label])


def _in_the_way(occupancy: OccupancyPoints, height_m: float) -> tuple[Array, Array]:
    """Points [M, 2] and labels [M] of the voxels, no ground, that reach into the vehicle's height."""
    height = occupancy.points_ego[:, 2].astype(np.float64)
    keep = ~np.isin(occupancy.labels, GROUND_CLASSES)
    keep &= (height + HALF_VOXEL_M > GROUND_CLEARANCE_M) & (height - HALF_VOXEL_M < height_m)
    return occupancy.points_ego[keep, :2].astype(np.float64), occupancy.labels[keep]


def _columns(points_m: Array, labels: Array) -> _Columns:
    cells = np.round(points_m / _SNAP_M).astype(np.int64)
    _, first = np.unique(cells[:, 0] * 2**32 + cells[:, 1], return_index=True)
    return _Columns(cells[first] * _SNAP_M, labels[first])


def _gaps(footprint: Footprint, positions_m: Array, headings_rad: Array, middles_m: Array) -> Array:
    """Half the side of the smallest square about each of M middles that the footprint at each of T poses touches.

    [T, M], metres, zero or less where the middle is inside. Squares lie along x and y; two rectangles are apart exactly
    if they are along an axis of one of them.
    """
    cos, sin = np.cos(headings_rad)[:, None], np.sin(headings_rad)[:, None]
    half_length, half_width = 0.5 * footprint.length_m, 0.5 * footprint.width_m
    x = middles_m[:, 0] - positions_m[:, :1] - footprint.center_offset_m * cos
    y = middles_m[:, 1] - positions_m[:, 1:] - footprint.center_offset_m * sin
    cos_size, sin_size = np.abs(cos), np.abs(sin)
    gaps = np.maximum(np.abs(x * cos + y * sin) - half_length, np.abs(y * cos - x * sin) - half_width)
    gaps /= cos_size + sin_size
    np.maximum(gaps, np.abs(x) - half_length * cos_size - half_width * sin_size, out=gaps)
    return np.maximum(gaps, np.abs(y) - half_length * sin_size - half_width * cos_size, out=gaps)

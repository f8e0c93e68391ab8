"""A thing in the street: a shape built of convex solids, and how it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES
from sparseoccvla_ros.world.bodies.solids import Solid

CAR, TRUCK, BUS, PEDESTRIAN, MANMADE, VEGETATION = (
    CLASS_NAMES.index(name) for name in ('car', 'truck', 'bus', 'pedestrian', 'manmade', 'vegetation')
)
#: nuScenes category of each Occ3D class that is annotated with boxes.
CATEGORIES = {
    CAR: 'vehicle.car',
    TRUCK: 'vehicle.truck',
    BUS: 'vehicle.bus.rigid',
    PEDESTRIAN: 'human.pedestrian.adult',
}


@dataclass(frozen=True)
class Shape:
    """A kind of body: Occ3D class, enclosing box (length, width, height), metres, standing on z = 0, and its solids."""

    label: int
    size_m: tuple[float, float, float]
    solids: tuple[Solid, ...]


@dataclass(frozen=True)
class State:
    """Where a thing is at one time: ``world_from_object`` [4, 4] and its speed along its x axis."""

    world_from_object: np.ndarray
    speed_mps: float


@dataclass(frozen=True)
class Thing:
    """A body and its motion. ``state_at`` is a pure function of the time in seconds since the scene's start.

    ``still`` marks what never moves, ``annotated`` what gets a box in the data set, ``parked`` a driverless vehicle.
    """

    shape: Shape
    state_at: Callable[[float], State]
    still: bool
    annotated: bool
    parked: bool = False

"""A thing in the street: a shape built of convex solids, and how it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES
from sparseoccvla_ros.world.bodies.solids import Solid

(
    OTHERS,
    BARRIER,
    BICYCLE,
    BUS,
    CAR,
    CONSTRUCTION_VEHICLE,
    MOTORCYCLE,
    PEDESTRIAN,
    TRAFFIC_CONE,
    TRAILER,
    TRUCK,
    DRIVEABLE_SURFACE,
    OTHER_FLAT,
    SIDEWALK,
    TERRAIN,
    MANMADE,
    VEGETATION,
) = range(len(CLASS_NAMES))


class Lamps(IntFlag):
    """What is lit: of a vehicle the first three, of a traffic light the others."""

    NONE = 0
    BRAKE = 1
    LEFT = 2
    RIGHT = 4
    RED = 8
    AMBER = 16
    GREEN = 32


@dataclass(frozen=True)
class Shape:
    """A kind of body: Occ3D class, enclosing box (length, width, height), metres, standing on z = 0, and its solids.

    ``category`` is the nuScenes category of what gets a box, '' otherwise; ``paint`` the word for its main colour, ''
    if it has none that anybody would name. The box's middle lies over the object's origin.
    """

    label: int
    size_m: tuple[float, float, float]
    solids: tuple[Solid, ...]
    category: str = ''
    paint: str = ''


@dataclass(frozen=True)
class State:
    """Where a thing is at one time: ``world_from_object`` [4, 4], its speed along its x axis, and what it shows."""

    world_from_object: np.ndarray
    speed_mps: float
    lamps: Lamps = Lamps.NONE


@dataclass(frozen=True)
class Thing:
    """A body and its motion. ``state_at`` is a pure function of the time in seconds since the scene's start.

    ``still`` marks what never moves, ``annotated`` what gets a box in the data set (its shape has a category),
    ``parked`` a driverless vehicle.
    """

    shape: Shape
    state_at: Callable[[float], State]
    still: bool
    annotated: bool
    parked: bool = False

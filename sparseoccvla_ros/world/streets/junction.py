"""Where two streets cross at a right angle, and who may drive when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sparseoccvla_ros.geometry import wrap_angle
from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.streets.street import Street


class Movement(Enum):
    """What traffic does at a junction."""

    STRAIGHT = 'straight on'
    LEFT = 'left'
    RIGHT = 'right'


#: How far each movement turns, radians to the left.
TURNS_RAD = {Movement.STRAIGHT: 0.0, Movement.LEFT: 0.5 * math.pi, Movement.RIGHT: -0.5 * math.pi}


@dataclass(frozen=True)
class Way:
    """A side of a street: its number in the plan and the direction of driving, +1 along the centreline."""

    street: int
    direction: int


@dataclass(frozen=True)
class Signal:
    """A cycle of green phases, one approach after the other and then all pedestrians together.

    ``order`` lists the approaches; the first turns green at ``start_s`` and every ``cycle_s`` from there.
    """

    order: tuple[Way, ...]
    start_s: float

    GREEN_S = 7.0
    AMBER_S = 2.0
    ALL_RED_S = 2.5
    WALK_S = 9.0
    CLEAR_S = 8.0

    @property
    def cycle_s(self) -> float:
        """Seconds until everything repeats."""
        return len(self.order) * (self.GREEN_S + self.AMBER_S + self.ALL_RED_S) + self.WALK_S + self.CLEAR_S

    def lamp(self, approach: Way, time_s: float) -> Lamps:
        """What drivers on an approach are shown."""
        slot_s = self.GREEN_S + self.AMBER_S + self.ALL_RED_S
        into_s = (time_s - self.start_s) % self.cycle_s - self.order.index(approach) * slot_s
        if 0.0 <= into_s < self.GREEN_S:
            return Lamps.GREEN
        if self.GREEN_S <= into_s < self.GREEN_S + self.AMBER_S:
            return Lamps.AMBER
        return Lamps.RED

    def walk_left_s(self, time_s: float) -> float:
        """Time that pedestrians have for any of the crossings; 0 while they may not step onto the road."""
        slot_s = self.GREEN_S + self.AMBER_S + self.ALL_RED_S
        into_s = (time_s - self.start_s) % self.cycle_s - len(self.order) * slot_s
        return self.WALK_S + self.CLEAR_S - into_s if 0.0 <= into_s < self.WALK_S else 0.0


@dataclass(frozen=True)
class Junction:
    """Two streets of a plan that cross; both are straight there. A street that ends in the middle makes it a T.

    ``streets`` numbers, ``at_s_m`` the middle on each, ``setback_m`` from the middle to the crossings' middles on each,
    ``corner_m`` radius of the kerb's corners, ``ways_in`` and ``ways_out`` that exist.
    """

    streets: tuple[int, int]
    at_s_m: tuple[float, float]
    centre_m: tuple[float, float]
    heading_rad: tuple[float, float]
    kerb_m: tuple[float, float]
    setback_m: tuple[float, float]
    corner_m: float
    ways_in: tuple[Way, ...]
    ways_out: tuple[Way, ...]
    signal: Signal

    STOP_BEFORE_M = 0.5 * Street.CROSSING_LENGTH_M + 1.0

    def heading_of(self, way: Way) -> float:
        """Direction of driving at the junction, radians."""
        heading = self.heading_rad[self.streets.index(way.street)]
        return heading if way.direction > 0 else heading + math.pi

    def exit_of(self, approach: Way, movement: Movement) -> Way | None:
        """Where a movement leads; None if there is no street."""
        wanted = self.heading_of(approach) + TURNS_RAD[movement]
        for way in self.ways_out:
            if abs(wrap_angle(self.heading_of(way) - wanted)) < 0.2:
                return way
        return None

    def place_on(self, street: int) -> float:
        """Arc length of the middle on one of the two streets."""
        return self.at_s_m[self.streets.index(street)]

    def setback_on(self, street: int) -> float:
        """Distance of the crossing's middle from the junction's on one of the two streets."""
        return self.setback_m[self.streets.index(street)]

    def in_corner(self, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """Whether points [N] lie between the kerbs' lines and their rounding: asphalt, though beside both roads."""
        dx, dy = x_m - self.centre_m[0], y_m - self.centre_m[1]
        across = []
        for heading, kerb in zip(self.heading_rad, self.kerb_m, strict=True):
            across.append((dy * math.cos(heading) - dx * math.sin(heading), kerb))
        (d_a, kerb_a), (d_b, kerb_b) = across
        gap_a, gap_b = np.abs(d_a) - kerb_a, np.abs(d_b) - kerb_b
        r = self.corner_m
        rounded = (gap_a >= 0.0) & (gap_b >= 0.0) & (gap_a < r) & (gap_b < r)
        rounded &= (r - gap_a) ** 2 + (r - gap_b) ** 2 > r * r
        # Along street a lies whatever is across street b, and the other way round; the sign tells which arm.
        turn = math.sin(self.heading_rad[1] - self.heading_rad[0])
        arm_a, arm_b = -np.sign(d_b) * turn, np.sign(d_a) * turn
        arms = {(way.street, way.direction) for way in self.ways_out}
        for number, arm in zip(self.streets, (arm_a, arm_b), strict=True):
            for direction in (-1, 1):
                if (number, direction) not in arms:
                    rounded &= arm * direction <= 0.0
        return rounded

"""Draws the streets of a scene along the route that the ego is to take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.streets.centreline import Centreline
from sparseoccvla_ros.world.streets.junction import TURNS_RAD, Junction, Movement, Signal, Way
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import StopLine, Street

#: The ego starts here on the first street, so that what lies behind it is a street too.
EGO_START_S_M = 110.0
#: Streets go on this far beyond what the route needs, and cross streets this far to both sides: farther than one sees.
BEYOND_M = 170.0
CROSS_M = 150.0
#: On both sides of a junction a street is straight.
STRAIGHT_M = 34.0
SHARPEST_BEND_M = 60.0
MOST_BENT_RAD = 0.6
#: Streets keep this distance from x = 0 and y = 0: map images begin there.
MARGIN_M = 60.0


@dataclass(frozen=True)
class Wishes:
    """What the ego shall meet. ``first_junction_m`` from its start to the middle; ``movements`` at the junctions in
    turn, then drawn; ``zebra_m`` from its start to a crossing without a signal, None for none; ``route_m`` length of
    the route (from the start); ``red`` whether the first signal stops it, given that it drives ``speed_mps``, for a
    time within ``wait_s``; ``island_m`` the width of the first street's island, None: as the city has it.
    """

    first_junction_m: float
    movements: tuple[Movement, ...]
    zebra_m: float | None
    route_m: float
    red: bool
    speed_mps: float
    wait_s: tuple[float, float] = (7.0, 12.0)
    island_m: float | None = None


@dataclass
class _Draft:
    """A street while it is drawn: ``start_m`` and ``heading_rad`` of its beginning, its curvatures, what crosses it."""

    start_m: np.ndarray
    heading_rad: float
    curvature: np.ndarray
    profile: dict[str, float]
    junctions: list[tuple[float, float]]
    crossings: list[float]
    stops: list[StopLine]

    def line(self) -> Centreline:
        """Its centreline."""
        return Centreline(self.curvature, (float(self.start_m[0]), float(self.start_m[1])), self.heading_rad)

    def kerb_m(self) -> float:
        """Distance of the kerb from the centreline."""
        p = self.profile
        return 0.5 * p['island_m'] + p['lanes'] * p['lane_width_m'] + p['cycle_m'] + p['parking_width_m']


def draw_plan(rng: np.random.Generator, city: City, wishes: Wishes) -> tuple[Plan, tuple[Movement, ...]]:
    """Draw streets along a route that starts on the first street at ``EGO_START_S_M``, in its direction.

    Returns:
        the plan, whose first street the route starts on, and the movement at each junction that the route meets.
    """
    drafts = [_Draft(np.zeros(2), float(rng.uniform(-math.pi, math.pi)), np.zeros(2), _profile(rng, city), [], [], [])]
    if wishes.island_m is not None:
        drafts[0].profile['island_m'] = wishes.island_m
    junctions: list[Junction] = []
    movements: list[Movement] = []
    spine, sideways, driven_m, begin_m = 0, 0, 0.0, EGO_START_S_M
    next_m = EGO_START_S_M + wishes.first_junction_m
    bends: list[tuple[float, float]] = []
    while True:
        draft = drafts[spine]
        clear_m = STRAIGHT_M if movements else 0.0
        if driven_m + next_m - begin_m > wishes.route_m:
            last_m = begin_m + wishes.route_m - driven_m
            bends.append((begin_m + clear_m, last_m + BEYOND_M - 20.0))
            draft.curvature = _bent(rng, draft.curvature, last_m + BEYOND_M, bends)
            break
        wanted = wishes.movements[len(movements)] if len(movements) < len(wishes.movements) else None
        movement = _movement(rng, sideways, wanted)
        bends.append((begin_m + clear_m, next_m - STRAIGHT_M))
        turning = movement is not Movement.STRAIGHT
        draft.curvature = _bent(rng, draft.curvature, next_m + (CROSS_M if turning else 1.0), bends)
        bends = []
        arrival_s = max(driven_m + next_m - begin_m - 16.0, 0.0) / wishes.speed_mps
        first = len(movements) == 0
        stopped = wishes.red if first else rng.random() < 0.4
        start_s = arrival_s + (rng.uniform(*wishes.wait_s) if stopped else -rng.uniform(2.5, 4.0))
        other = _cross_street(rng, city, drafts, spine, next_m, movement)
        junctions.append(_junction(rng, drafts, spine, next_m, other, start_s, len(junctions)))
        movements.append(movement)
        driven_m += next_m - begin_m
        if turning:
            sideways += 1 if movement is Movement.LEFT else -1
            spine = len(drafts) - 1
            begin_m = other
        else:
            begin_m = next_m
        next_m = begin_m + rng.uniform(90.0, 170.0)
    if wishes.zebra_m is not None:
        drafts[0].crossings.append(EGO_START_S_M + wishes.zebra_m)
    return _assembled(drafts, junctions), tuple(movements)


def _profile(rng: np.random.Generator, city: City) -> dict[str, float]:
    """The cross-section of one street."""
    lanes = int(rng.choice(city.lanes))
    return {
        'lanes': lanes,
        'lane_width_m': rng.uniform(*city.lane_width_m),
        'island_m': rng.uniform(1.2, 2.6) if rng.random() < city.island_share else 0.0,
        'cycle_m': 1.7 if rng.random() < city.cycle_lane_share else 0.0,
        'parking_width_m': 2.3 if rng.random() < 0.75 else 0.0,
        'sidewalk_width_m': rng.uniform(*city.sidewalk_width_m),
    }


def _movement(rng: np.random.Generator, sideways: int, wanted: Movement | None) -> Movement:
    """A movement after which the route still goes forward or to the side of where it began: it never meets itself."""
    allowed = [Movement.STRAIGHT]
    if sideways < 1:
        allowed.append(Movement.LEFT)
    if sideways > -1:
        allowed.append(Movement.RIGHT)
    if wanted in allowed:
        return wanted
    return allowed[rng.integers(len(allowed))]


def _bent(
    rng: np.random.Generator, curvature: np.ndarray, length_m: float, stretches: list[tuple[float, float]]
) -> np.ndarray:
    """The curvatures lengthened, with bends in the stretches: raised cosines with at least the sharpest radius."""
    longer = np.zeros(max(int(length_m / Centreline.STEP_M) + 1, len(curvature)))
    longer[: len(curvature)] = curvature
    bearing = float(longer.sum() * Centreline.STEP_M)
    for first_m, last_m in stretches:
        place_m = first_m
        while True:
            turn = rng.uniform(0.2, 0.6) * (1.0 if rng.random() < 0.5 else -1.0)
            turn = -turn if abs(bearing + turn) > MOST_BENT_RAD else turn
            bend_m = max(rng.uniform(40.0, 70.0), 2.0 * SHARPEST_BEND_M * abs(turn))
            if place_m + bend_m > last_m or rng.random() < 0.25:
                break
            count = int(bend_m / Centreline.STEP_M)
            first = int(place_m / Centreline.STEP_M)
            longer[first : first + count] = (
                turn / bend_m * (1.0 - np.cos(2.0 * np.pi * (np.arange(count) + 0.5) / count))
            )
            bearing += turn
            place_m += bend_m + rng.uniform(5.0, 40.0)
    return longer


def _cross_street(
    rng: np.random.Generator, city: City, drafts: list[_Draft], spine: int, at_m: float, movement: Movement
) -> float:
    """Add the street that crosses number ``spine`` at an arc length; returns the arc length of the middle on it."""
    x, y, heading = drafts[spine].line().place(np.float64(at_m), np.float64(0.0))
    turn = TURNS_RAD[movement] or (0.5 * math.pi if rng.random() < 0.5 else -0.5 * math.pi)
    heading = float(heading) + turn
    # A T: the other street begins in the middle of this one.
    back_m = 0.0 if rng.random() < 0.25 else CROSS_M
    start = np.array([float(x), float(y)]) - back_m * np.array([math.cos(heading), math.sin(heading)])
    curvature = np.zeros(int((back_m + CROSS_M) / Centreline.STEP_M) + 1)
    drafts.append(_Draft(start, heading, curvature, _profile(rng, city), [], [], []))
    return back_m


def _junction(
    rng: np.random.Generator,
    drafts: list[_Draft],
    spine: int,
    at_m: float,
    other_at_m: float,
    green_s: float,
    number: int,
) -> Junction:
    """Join the newest street to number ``spine``: crossings, stop lines, the signal."""
    other = len(drafts) - 1
    both = (drafts[spine], drafts[other])
    kerbs = (both[0].kerb_m(), both[1].kerb_m())
    corner_m = float(rng.uniform(3.0, 5.0))
    half_m = 0.5 * Street.CROSSING_LENGTH_M
    setbacks = tuple(kerb + corner_m + half_m + 0.2 for kerb in reversed(kerbs))
    x, y, heading = both[0].line().place(np.float64(at_m), np.float64(0.0))
    ways_in: list[Way] = []
    ways_out: list[Way] = []
    for street, place_m, setback in zip((spine, other), (at_m, other_at_m), setbacks, strict=True):
        draft = drafts[street]
        draft.junctions.append((place_m - setback + half_m, place_m + setback - half_m))
        for side in (-1, 1):
            if side < 0 and place_m == 0.0:
                continue
            draft.crossings.append(place_m + side * setback)
            draft.stops.append(StopLine(place_m + side * (setback + Junction.STOP_BEFORE_M), -side, number))
            ways_in.append(Way(street, -side))
            ways_out.append(Way(street, side))
    order = (Way(spine, 1), *(way for way in ways_in if way != Way(spine, 1)))
    return Junction(
        streets=(spine, other),
        at_s_m=(at_m, other_at_m),
        centre_m=(float(x), float(y)),
        heading_rad=(float(heading), both[1].heading_rad),
        kerb_m=kerbs,
        setback_m=(setbacks[0], setbacks[1]),
        corner_m=corner_m,
        ways_in=tuple(ways_in),
        ways_out=tuple(ways_out),
        signal=Signal(order, green_s),
    )


def _assembled(drafts: list[_Draft], junctions: list[Junction]) -> Plan:
    """Move everything to positive coordinates and make it final."""
    lines = [draft.line() for draft in drafts]
    lowest = np.array([min(line.x_m.min() for line in lines), min(line.y_m.min() for line in lines)])
    shift = MARGIN_M - lowest
    streets = []
    for draft in drafts:
        draft.start_m = draft.start_m + shift
        p = draft.profile
        streets.append(
            Street(
                centreline=draft.line(),
                lanes=int(p['lanes']),
                lane_width_m=p['lane_width_m'],
                island_m=p['island_m'],
                cycle_m=p['cycle_m'],
                parking_width_m=p['parking_width_m'],
                sidewalk_width_m=p['sidewalk_width_m'],
                crossings_s_m=tuple(draft.crossings),
                junctions_s_m=tuple(draft.junctions),
                stop_lines=tuple(draft.stops),
            )
        )
    moved = tuple(
        replace(junction, centre_m=(junction.centre_m[0] + shift[0], junction.centre_m[1] + shift[1]))
        for junction in junctions
    )
    return Plan(tuple(streets), moved)

"""A trip through the plan: which streets a road user takes, as one path with what it meets on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sparseoccvla_ros.world.streets.junction import TURNS_RAD, Junction, Movement, Way
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import Street
from sparseoccvla_ros.world.traffic.path import STEP_M, Path, turn_points

LANE_CHANGE_M = 45.0
#: A turn begins at most this far before the place where the two lanes' middles would cross.
LONGEST_TANGENT_M = 13.0
NOSE_M = 2.0


class GateKind(Enum):
    """Why road users may have to wait at a place."""

    SIGNAL = 'signal'
    ZEBRA = 'zebra'


@dataclass(frozen=True)
class Gate:
    """A line on a path where one may have to wait: of junction ``number`` for an approach, or of zebra ``number``."""

    s_m: float
    kind: GateKind
    number: int
    approach: Way | None = None


@dataclass(frozen=True)
class Passage:
    """A junction on a path: from the edge where one enters to that where one leaves, and what one does there."""

    junction: int
    enter_m: float
    leave_m: float
    movement: Movement


@dataclass(frozen=True)
class Shift:
    """Keeping to one side: ``to_left_m`` of the lane's middle on a stretch of a street, blended over ``blend_m``."""

    street: int
    direction: int
    first_m: float
    last_m: float
    to_left_m: float
    blend_m: float = 18.0


@dataclass(frozen=True)
class Trip:
    """A path with its gates and passages in order; of each sample [N] the street (number, -1 inside turns), the arc
    length on it, and whether one keeps to a side there because the passage is narrow.
    """

    path: Path
    gates: tuple[Gate, ...]
    passages: tuple[Passage, ...]
    street: np.ndarray
    street_s_m: np.ndarray
    narrow: np.ndarray

    def street_at(self, s_m: float) -> tuple[int, float]:
        """Street and arc length on it; inside a turn the street that comes next."""
        index = min(max(int(s_m / STEP_M), 0), len(self.street) - 1)
        ahead = np.nonzero(self.street[index:] >= 0)[0]
        index = index + int(ahead[0]) if len(ahead) else int(np.nonzero(self.street >= 0)[0][-1])
        return int(self.street[index]), float(self.street_s_m[index])


@dataclass(frozen=True)
class Start:
    """Where a trip begins: a way, the arc length on its street, the lane (0 nearest the middle)."""

    way: Way
    s_m: float
    lane: int


def zebras(plan: Plan) -> tuple[tuple[int, float], ...]:
    """Street and arc length of every pedestrian crossing that belongs to no junction."""
    found = []
    for number, street in enumerate(plan.streets):
        for crossing in street.crossings_s_m:
            if all(not first - 6.0 < crossing < last + 6.0 for first, last in street.junctions_s_m):
                found.append((number, crossing))
    return tuple(found)


def travel(
    plan: Plan,
    start: Start,
    choose: Callable[[Junction, Way, int], Movement],
    length_m: float,
    offset_m: float = 0.0,
    shifts: tuple[Shift, ...] = (),
) -> Trip:
    """Follow the streets.

    Args:
        plan: of the scene.
        start: where to begin.
        choose: asked at each junction with the approach and its turn among the junctions met (0, 1, ...); a movement
            that leads nowhere is replaced by one that exists.
        length_m: the trip ends at least this far on, or where the street ends.
        offset_m: distance kept to the left of the lane's middle.
        shifts: deviations from that.
    """
    points: list[np.ndarray] = []
    streets: list[np.ndarray] = []
    places: list[np.ndarray] = []
    marks: list[tuple[int, int, float, Movement]] = []
    way, s_m, lane, done_m = start.way, start.s_m, start.lane, 0.0
    low_m, high_m = -np.inf, np.inf  # the turns that the present street is entered and left by

    def go(until_m: float, lane_to: int) -> None:
        """Along the present street to an arc length, changing to another lane on the way."""
        nonlocal s_m, done_m
        street = plan.streets[way.street]
        count = max(int(abs(until_m - s_m) / STEP_M), 1)
        along = np.linspace(s_m, until_m, count, endpoint=False)
        left = np.full(count, street.lane_offset_m(lane))
        if lane_to != lane:
            room_m = abs(until_m - s_m)
            before_m, change_m = 0.5 * max(room_m - LANE_CHANGE_M, 0.0), min(LANE_CHANGE_M, room_m)
            share = np.clip((np.abs(along - s_m) - before_m) / change_m, 0.0, 1.0)
            left += _smooth(share) * (street.lane_offset_m(lane_to) - street.lane_offset_m(lane))
        left += offset_m
        for shift in shifts:
            if shift.street == way.street and shift.direction == way.direction:
                # Turns begin and end in the lane, so what is left of a shift there would be a step to the side.
                rise_m = min(shift.blend_m, max(shift.first_m - low_m, STEP_M))
                fall_m = min(shift.blend_m, max(high_m - shift.last_m, STEP_M))
                rise = np.clip((along - shift.first_m) / rise_m + 1.0, 0.0, 1.0)
                fall = np.clip((shift.last_m - along) / fall_m + 1.0, 0.0, 1.0)
                left += shift.to_left_m * _smooth(np.minimum(rise, fall))
        x, y, _ = street.centreline.place(along, way.direction * left)
        points.append(np.column_stack([x, y]))
        streets.append(np.full(count, way.street))
        places.append(along)
        done_m += abs(until_m - s_m)
        s_m = until_m

    met = 0
    while True:
        street = plan.streets[way.street]
        end_m = street.centreline.length_m if way.direction > 0 else 0.0
        number = _next_junction(plan, way, s_m)
        if number is None or done_m > length_m:
            go(end_m if number is None else s_m + way.direction * 30.0, lane)
            break
        junction = plan.junctions[number]
        wanted = choose(junction, way, met)
        met += 1
        movement = next(m for m in (wanted, *Movement) if junction.exit_of(way, m) is not None)
        middle_m = junction.place_on(way.street)
        if movement is Movement.STRAIGHT:
            marks.append((number, way.street, middle_m, movement))
            go(middle_m + way.direction * (junction.setback_on(way.street) + 2.0), lane)
            continue
        out = junction.exit_of(way, movement)
        assert out is not None
        before = lane
        lane = 0 if movement is Movement.LEFT else street.lanes - 1
        lane_out = 0 if movement is Movement.LEFT else plan.streets[out.street].lanes - 1
        turn, entry_m, exit_m = _turn(plan, junction, way, out, movement, (lane, lane_out), offset_m)
        changed, lane = lane, before
        low_m, high_m = (low_m, entry_m) if way.direction > 0 else (entry_m, high_m)
        go(entry_m, changed)
        marks.append((number, way.street, middle_m, movement))
        points.append(turn)
        streets.append(np.full(len(turn), -1))
        places.append(np.full(len(turn), np.nan))
        way, s_m, lane = out, exit_m, lane_out
        low_m, high_m = (exit_m, np.inf) if way.direction > 0 else (-np.inf, exit_m)
        done_m += 20.0
    return _trip(plan, np.concatenate(points), np.concatenate(streets), np.concatenate(places), marks, shifts)


def _smooth(share: np.ndarray) -> np.ndarray:
    """A step from 0 to 1 without jumps in its first two derivatives."""
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def _next_junction(plan: Plan, way: Way, s_m: float) -> int | None:
    ahead = [
        (way.direction * (junction.place_on(way.street) - s_m), number)
        for number, junction in enumerate(plan.junctions)
        if way in junction.ways_in
    ]
    ahead = [item for item in ahead if item[0] > 1.0]
    return min(ahead)[1] if ahead else None


def _turn(
    plan: Plan, junction: Junction, way: Way, out: Way, movement: Movement, lanes: tuple[int, int], offset_m: float
) -> tuple[np.ndarray, float, float]:
    """Points [M, 2] of a turn between two lanes, and the arc lengths on both streets where it begins and ends."""
    left = [plan.streets[w.street].lane_offset_m(lane) + offset_m for w, lane in zip((way, out), lanes, strict=True)]
    heading_in = junction.heading_of(way)
    ahead_in = np.array([np.cos(heading_in), np.sin(heading_in)])
    left_in = np.array([-ahead_in[1], ahead_in[0]])
    sign = 1.0 if movement is Movement.LEFT else -1.0
    ahead_out = sign * left_in
    centre = np.array(junction.centre_m)
    # Where the two lanes' middles meet, relative to the junction's middle: `u` ahead, `v` along the exit.
    u, v = -sign * left[1], sign * left[0]
    meet = centre + ahead_in * u + ahead_out * v
    room_in = junction.setback_on(way.street) + 0.5 * Street.CROSSING_LENGTH_M + u
    room_out = junction.setback_on(out.street) + 0.5 * Street.CROSSING_LENGTH_M - v
    if movement is Movement.LEFT:
        # The front, which comes to the exit first and still at an angle, stays off the island's tip.
        room_out -= NOSE_M
    tangent_m = float(min(room_in, room_out, LONGEST_TANGENT_M))
    local = turn_points(TURNS_RAD[movement], tangent_m)[:-1]
    points = meet + (local[:, :1] - tangent_m) * ahead_in + local[:, 1:] * left_in
    entry_m = junction.place_on(way.street) + way.direction * (u - tangent_m)
    exit_m = junction.place_on(out.street) + out.direction * (v + tangent_m)
    return points, entry_m, exit_m


def _trip(
    plan: Plan,
    points: np.ndarray,
    streets: np.ndarray,
    places: np.ndarray,
    marks: list[tuple[int, int, float, Movement]],
    shifts: tuple[Shift, ...],
) -> Trip:
    """Resample to equal steps and find the gates and passages."""
    path = Path.through(points)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    nearest = np.clip(np.searchsorted(along, np.arange(len(path.points_m)) * STEP_M), 0, len(points) - 1)
    street, street_s = streets[nearest], places[nearest]
    passages = []
    for number, _, _, movement in marks:
        junction = plan.junctions[number]
        gap = path.points_m - np.array(junction.centre_m)
        inside = np.ones(len(gap), dtype=bool)
        for heading, setback in zip(junction.heading_rad, junction.setback_m, strict=True):
            reach = setback - 0.5 * Street.CROSSING_LENGTH_M
            inside &= np.abs(gap[:, 0] * np.cos(heading) + gap[:, 1] * np.sin(heading)) < reach
        found = np.nonzero(inside)[0]
        if len(found):
            passages.append(Passage(number, found[0] * STEP_M, found[-1] * STEP_M, movement))
    gates = []
    lists = [
        (line.s_m, line.direction, GateKind.SIGNAL, line.junction, k)
        for k, street_k in enumerate(plan.streets)
        for line in street_k.stop_lines
    ]
    for number, (k, crossing_m) in enumerate(zebras(plan)):
        for direction in (-1, 1):
            line_m = crossing_m - direction * (0.5 * Street.CROSSING_LENGTH_M + 1.0)
            lists.append((line_m, direction, GateKind.ZEBRA, number, k))
    for line_m, direction, kind, number, k in lists:
        on = np.nonzero((street == k) & (np.abs(street_s - line_m) < STEP_M))[0]
        if not len(on):
            continue
        index = int(on[np.argmin(np.abs(street_s[on] - line_m))])
        step = min(max(index, 1), len(street_s) - 2)
        if (street_s[step + 1] - street_s[step - 1]) * direction > 0.0:
            s_m = index * STEP_M + direction * (line_m - street_s[index])
            gates.append(Gate(float(s_m), kind, number, Way(k, direction) if kind is GateKind.SIGNAL else None))
    gates.sort(key=lambda gate: gate.s_m)
    narrow = np.zeros(len(street), dtype=bool)
    moving = np.sign(np.gradient(np.where(street >= 0, street_s, 0.0)))
    for shift in shifts:
        narrow |= (
            (street == shift.street)
            & (moving == shift.direction)
            & (street_s > shift.first_m)
            & (street_s < shift.last_m)
        )
    return Trip(path, tuple(gates), tuple(passages), street, street_s, narrow)

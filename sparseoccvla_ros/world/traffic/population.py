"""Which vehicles are in the streets when a scene begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sparseoccvla_ros.world.bodies.thing import Shape
from sparseoccvla_ros.world.bodies.two_wheelers import bicycle, motorcycle
from sparseoccvla_ros.world.bodies.vehicles import bus, car, tractor, trailer, truck
from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.streets.junction import Junction, Movement, Way
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.traffic.actors import Vehicle
from sparseoccvla_ros.world.traffic.trip import GateKind, Shift, Start, Trip, travel

#: Between a towing vehicle and its trailer.
HITCH_M = 1.1
#: Of a vehicle's length, from the middle back to the rear axle.
AXLE_SHARE = 0.3
CYCLIST_MPS = (3.5, 5.5)
#: What keeps of a shift's width: vehicles go this much of the intrusion to the left.
SHIFT_SHARE = 0.8


@dataclass(frozen=True)
class Manned:
    """A vehicle with the shapes that stand for it: one, or a towing vehicle and its trailer."""

    vehicle: Vehicle
    shapes: tuple[Shape, ...]


def shifts_of(plan: Plan) -> tuple[Shift, ...]:
    """How everybody gives way to the work zones that reach into a lane."""
    return tuple(
        Shift(zone.street, -zone.side, *_driven(zone.first_m, zone.last_m), zone.intrusion_m * SHIFT_SHARE)
        for zone in plan.work_zones
        if zone.intrusion_m > 0.0
    )


def _driven(first_m: float, last_m: float) -> tuple[float, float]:
    return first_m - 4.0, last_m + 4.0


def manned(trip: Trip, shapes: tuple[Shape, ...], cruise_mps: float) -> Manned:
    """A vehicle whose towing part's rear axle stands at the beginning of its trip."""
    length = shapes[0].size_m[0]
    axle_m, total = AXLE_SHARE * length, length
    if len(shapes) > 1:
        towed_m = HITCH_M + shapes[1].size_m[0]
        axle_m, total = axle_m - 0.5 * towed_m, total + towed_m
    width = max(shape.size_m[1] for shape in shapes)
    return Manned(Vehicle(trip, total, width, axle_m, 0.0, 0.9 * cruise_mps, cruise_mps), shapes)


def populate(
    rng: np.random.Generator,
    plan: Plan,
    city: City,
    ego: tuple[Start, tuple[Movement, ...]],
    gap_ahead_m: float,
    town_mps: float,
    trip_m: float,
) -> list[Manned]:
    """Vehicles of all lanes of all streets but for the ego.

    Args:
        rng: of the scene.
        plan: of the scene.
        city: how dense traffic is.
        ego: where it starts and what it does at the junctions it meets.
        gap_ahead_m: road that stays free before it.
        town_mps: what most drive at.
        trip_m: length of everybody's trip.
    """
    found: list[Manned] = []
    shifts = shifts_of(plan)
    start, movements = ego
    for number, street in enumerate(plan.streets):
        for direction in (1, -1):
            way = Way(number, direction)
            for lane in range(street.lanes):
                ahead = None
                for s_m in _places(rng, plan, way, city.traffic_gap_m):
                    if way == start.way and lane == start.lane and -16.0 < s_m - start.s_m < gap_ahead_m:
                        continue
                    before = way == start.way and s_m > start.s_m and rng.random() < 0.6
                    choose = _as_told(movements) if before else _drawn(rng, plan, lane)
                    trip = travel(plan, Start(way, s_m, lane), choose, trip_m, rng.normal(0.0, 0.12), shifts)
                    item = manned(trip, _vehicle(rng, street.lane_width_m), town_mps * rng.uniform(0.85, 1.1))
                    if way == start.way and lane == start.lane and s_m < start.s_m:
                        # Nobody drives up to the ego faster than it goes.
                        item = replace(item, vehicle=replace(item.vehicle, cruise_mps=0.9 * town_mps))
                    ahead = _calmed(item, plan, ahead, direction * s_m)
                    found.append(ahead[0])
            if street.cycle_m > 0.0 and not any(z.street == number and z.side == -direction for z in plan.work_zones):
                found += _cyclists(rng, plan, way, city, trip_m)
    return found


def _places(rng: np.random.Generator, plan: Plan, way: Way, gap_m: tuple[float, float]) -> list[float]:
    """Arc lengths along a way, the one that is driven first in front, none in a junction or on a crossing."""
    street = plan.streets[way.street]
    length_m = street.centreline.length_m
    places, s_m = [], rng.uniform(10.0, 40.0)
    while s_m < length_m - 12.0:
        place = length_m - s_m if way.direction > 0 else s_m
        if not street.is_open(np.array([place]), 9.0)[0]:
            places.append(place)
        s_m += rng.uniform(*gap_m)
    return places


def _as_told(movements: tuple[Movement, ...]) -> Callable[[Junction, Way, int], Movement]:
    return lambda _junction, _way, met: movements[met] if met < len(movements) else Movement.STRAIGHT


def _drawn(rng: np.random.Generator, plan: Plan, lane: int) -> Callable[[Junction, Way, int], Movement]:
    """Movements drawn now, so that asking does not depend on anything else; turns only from the lane beside them."""
    draws = rng.random(16)

    def choose(_junction: Junction, way: Way, met: int) -> Movement:
        lanes = plan.streets[way.street].lanes
        draw = draws[met % len(draws)]
        if draw < 0.2 and (lane == 0 or lanes == 1):
            return Movement.LEFT
        if draw > 0.8 and lane >= lanes - 1:
            return Movement.RIGHT
        return Movement.STRAIGHT

    return choose


def _vehicle(rng: np.random.Generator, lane_width_m: float) -> tuple[Shape, ...]:
    """One of what drives in lanes."""
    kind = rng.random()
    if kind < 0.06:
        return (tractor(rng), trailer(rng))
    if kind < 0.13:
        return (bus(rng),)
    if kind < 0.24:
        return (truck(rng),)
    if kind < 0.38:
        return (motorcycle(rng, ridden=True),)
    return (car(rng),)


def _cyclists(rng: np.random.Generator, plan: Plan, way: Way, city: City, trip_m: float) -> list[Manned]:
    """People on bicycles in the cycle lane, straight on wherever it leads."""
    street = plan.streets[way.street]
    lane = street.lanes - 1
    offset_m = -(street.lanes_m + 0.5 * street.cycle_m) - street.lane_offset_m(lane)
    found = []
    for s_m in _places(rng, plan, way, (30.0, 120.0)):
        trip = travel(plan, Start(way, s_m, lane), lambda *_: Movement.STRAIGHT, trip_m, offset_m)
        item = manned(trip, (bicycle(rng, ridden=True),), rng.uniform(*CYCLIST_MPS))
        found.append(_calmed(item, plan, None, 0.0)[0])
    return found


def _calmed(item: Manned, plan: Plan, ahead: tuple[Manned, float] | None, place_m: float) -> tuple[Manned, float]:
    """Slower at the beginning if it would otherwise brake hard for a red light or for who is ahead in the lane."""
    vehicle = item.vehicle
    speed = vehicle.speed_mps
    front_m = vehicle.axle_m + 0.5 * vehicle.length_m
    for gate in vehicle.trip.gates[:1]:
        if gate.kind is GateKind.SIGNAL and gate.s_m > front_m:
            speed = min(speed, float(np.sqrt(2.0 * 1.2 * max(gate.s_m - front_m - 3.0, 0.0))))
    if ahead is not None:
        gap_m = ahead[1] - place_m - front_m + ahead[0].vehicle.axle_m - 0.5 * ahead[0].vehicle.length_m
        speed = min(speed, float(np.sqrt(ahead[0].vehicle.speed_mps ** 2 + 2.4 * max(gap_m - 3.0, 0.0))))
    return replace(item, vehicle=replace(vehicle, speed_mps=speed)), place_m

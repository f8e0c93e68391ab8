"""What stands between road and houses: signals, lamps, trees, parked vehicles, benches, bins."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from sparseoccvla_ros.world.bodies.obstacles import barrier, hand_cart, traffic_cone, wheelie_bin
from sparseoccvla_ros.world.bodies.people import pedestrian
from sparseoccvla_ros.world.bodies.plants import tree
from sparseoccvla_ros.world.bodies.street_furniture import (
    bench,
    bollard,
    bus_shelter,
    crossing_sign,
    lamp,
    pole,
    speed_sign,
    traffic_light,
)
from sparseoccvla_ros.world.bodies.thing import Shape, State, Thing
from sparseoccvla_ros.world.bodies.two_wheelers import bicycle, motorcycle
from sparseoccvla_ros.world.bodies.vehicles import car, trailer, truck
from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.scenery.site import Site
from sparseoccvla_ros.world.streets.junction import Signal, Way
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import Ground, Street
from sparseoccvla_ros.world.traffic.trip import zebras

PAVED = (Ground.PAVEMENT,)
SMALL_M = 65.0
CROSSING_CLEARANCE_M = 6.0
#: Furniture keeps to this strip beside the kerb, people to the rest of the sidewalk.
STRIP_M = 0.55


def build_kerbside(rng: np.random.Generator, site: Site, street: Street, city: City) -> None:
    """Both sides of a street, from the kerb to the middle of the sidewalk."""
    for side in (1.0, -1.0):
        _lamps_and_signs(rng, site, street, side)
        _trees(rng, site, street, city, side)
        _parked(rng, site, street, city, side)
        _furniture(rng, site, street, city, side)


def build_signals(rng: np.random.Generator, site: Site, plan: Plan, start_s: float) -> dict[tuple[int, Way], list[int]]:
    """Two traffic lights for each approach, before and behind the junction; ``start_s`` is the signals' time at time 0.

    Returns:
        for each junction and approach, where its lights stand in ``site.things``.
    """
    heads: dict[tuple[int, Way], list[int]] = {}
    for number, junction in enumerate(plan.junctions):
        for way in junction.ways_in:
            street = plan.streets[way.street]
            before_m = junction.setback_on(way.street) - 0.5 * Street.CROSSING_LENGTH_M - 0.3
            middle_m = junction.place_on(way.street)
            right = -way.direction * (street.kerb_m + 0.45)
            turn = 0.0 if way.direction > 0 else math.pi
            shape = traffic_light(rng)
            for ahead_m in (-before_m, before_m + 1.2):
                pose = street.centreline.pose(middle_m + way.direction * ahead_m, right, turn)
                if site.put(shape, pose, (Ground.PAVEMENT, Ground.GRASS), 120.0, (0.3, 0.3)):
                    still = site.things.pop()
                    state = partial(_shown, pose, junction.signal, way, start_s)
                    site.things.append(Thing(still.shape, state, still=False, annotated=False))
                    heads.setdefault((number, way), []).append(len(site.things) - 1)
    for street_number, crossing_m in zebras(plan):
        street = plan.streets[street_number]
        for side in (1.0, -1.0):
            pose = street.centreline.pose(crossing_m - side * 2.2, side * (street.kerb_m + 0.4))
            site.put(crossing_sign(), pose, PAVED, 120.0, (0.3, 0.3))
    return heads


def _shown(pose: np.ndarray, signal: Signal, way: Way, start_s: float, time_s: float) -> State:
    return State(pose, 0.0, signal.lamp(way, time_s + start_s))


def _free(street: Street, s_m: float, margin_m: float) -> bool:
    return not street.is_open(np.array([s_m]), margin_m)[0]


def _lamps_and_signs(rng: np.random.Generator, site: Site, street: Street, side: float) -> None:
    s_m = rng.uniform(5.0, 30.0)
    while s_m < street.centreline.length_m:
        site.put(lamp(side), street.centreline.pose(s_m, side * (street.kerb_m + 0.45)), PAVED, 100.0, (0.3, 0.3))
        s_m += rng.uniform(26.0, 34.0)
    s_m = rng.uniform(20.0, 90.0)
    while s_m < street.centreline.length_m:
        turn = 0.0 if side < 0.0 else math.pi
        sign = speed_sign(rng) if rng.random() < 0.5 else pole(rng)
        pose = street.centreline.pose(s_m, side * (street.kerb_m + 0.4), turn)
        site.put(sign, pose, PAVED, 100.0, (0.3, 0.3))
        s_m += rng.uniform(40.0, 110.0)


def _trees(rng: np.random.Generator, site: Site, street: Street, city: City, side: float) -> None:
    """A row at the kerb, crowns clear of the traffic; none where people come to cross."""
    s_m = rng.uniform(0.0, city.tree_spacing_m)
    while s_m < street.centreline.length_m:
        if _free(street, s_m, CROSSING_CLEARANCE_M):
            pose = street.centreline.pose(s_m, side * (street.kerb_m + 0.65))
            site.put(tree(rng, rng.uniform(3.6, 4.2)), pose, PAVED, 100.0, (0.5, 0.5))
        s_m += city.tree_spacing_m * rng.uniform(0.7, 1.4)


def _parked_vehicle(rng: np.random.Generator) -> tuple[Shape, float]:
    """What stands in a parking lane and how much of it."""
    kind = rng.random()
    if kind < 0.07:
        return truck(rng), 10.5
    if kind < 0.14:
        return trailer(rng), 12.5
    if kind < 0.27:
        return motorcycle(rng, ridden=False), 3.2
    return car(rng), 6.0


def _parked(rng: np.random.Generator, site: Site, street: Street, city: City, side: float) -> None:
    if street.parking_width_m == 0.0:
        return
    s_m = rng.uniform(0.0, 6.0)
    turn = math.pi if side > 0.0 else 0.0
    while s_m < street.centreline.length_m - 14.0:
        shape, slot_m = _parked_vehicle(rng)
        middle = s_m + 0.5 * slot_m
        if _free(street, middle, CROSSING_CLEARANCE_M + 0.5 * slot_m) and rng.random() < city.parked_share:
            half = 0.5 * shape.size_m[1]
            # Wide ones stand a little over the kerb so that they leave the lane free.
            d_m = min(street.kerb_m - half - 0.12, street.carriageway_m + 0.12 + half)
            d_m = max(d_m, street.carriageway_m + 0.12 + half)
            pose = street.centreline.pose(middle, side * d_m, turn + rng.normal(0.0, 0.01))
            site.put(shape, pose, (Ground.PARKING, Ground.PAVEMENT), 90.0, parked=True)
            if slot_m > 7.0 and rng.random() < 0.5:
                for along in (-0.5 * shape.size_m[0] - 0.8, 0.5 * shape.size_m[0] + 0.8):
                    cone = street.centreline.pose(middle + along, side * (street.carriageway_m + 0.4))
                    site.put(traffic_cone(rng), cone, (Ground.PARKING,), SMALL_M)
        s_m += slot_m


def _furniture(rng: np.random.Generator, site: Site, street: Street, city: City, side: float) -> None:
    """Benches, bins, bicycles, bollards, people who stand about: in the strip beside the kerb."""
    s_m = rng.uniform(0.0, 12.0)
    while s_m < street.centreline.length_m:
        if not _free(street, s_m, 3.0):
            s_m += 4.0
            continue
        kind = rng.random()
        place = partial(street.centreline.pose, d_m=side * (street.kerb_m + STRIP_M))
        if kind < 0.18:
            for number in range(int(rng.integers(1, 4))):
                pose = place(s_m + 2.0 * number, turn_rad=rng.normal(0.0, 0.05))
                site.put(bicycle(rng, ridden=False), pose, PAVED, SMALL_M)
        elif kind < 0.38:
            for number in range(int(rng.integers(1, 4))):
                site.put(wheelie_bin(rng), place(s_m + 0.8 * number, turn_rad=-side * 0.5 * math.pi), PAVED, SMALL_M)
        elif kind < 0.46:
            site.put(bench(rng), place(s_m), PAVED, SMALL_M)
        elif kind < 0.52:
            site.put(hand_cart(rng), place(s_m, turn_rad=rng.normal(0.0, 0.1)), PAVED, SMALL_M)
        elif kind < 0.62:
            for number in range(int(rng.integers(2, 6))):
                site.put(bollard(rng), place(s_m + 1.6 * number), PAVED, SMALL_M)
        elif kind < 0.72:
            for number in range(int(rng.integers(2, 5))):
                site.put(barrier(rng), place(s_m + 2.2 * number), PAVED, SMALL_M)
        elif kind < 0.78:
            for number in range(int(rng.integers(2, 5))):
                site.put(traffic_cone(rng), place(s_m + 1.5 * number), PAVED, SMALL_M)
        elif kind < 0.83 and street.sidewalk_width_m > 3.2:
            turn = 0.0 if side > 0.0 else math.pi
            pose = street.centreline.pose(s_m, side * (street.frontage_m - 0.8), turn)
            site.put(bus_shelter(rng), pose, PAVED, SMALL_M)
        elif rng.random() < 0.12 * city.pedestrians_per_100m:
            turn = rng.uniform(-math.pi, math.pi)
            site.put(pedestrian(rng), place(s_m, turn_rad=turn), PAVED, SMALL_M)
        s_m += rng.uniform(6.0, 16.0)

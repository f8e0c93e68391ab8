"""Pedestrians: along the sidewalks, and over the crossings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.world.bodies.people import child, dog, pedestrian
from sparseoccvla_ros.world.bodies.thing import Shape
from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import Street
from sparseoccvla_ros.world.traffic.actors import Kerb, Walker
from sparseoccvla_ros.world.traffic.path import Path
from sparseoccvla_ros.world.traffic.trip import GateKind, zebras

#: Beside the kerb stand lamps and trees: people walk farther in.
KERB_CLEAR_M, FRONT_CLEAR_M = 1.35, 0.45
RADIUS_M = 0.3
#: People come to a zebra's kerb this long before and after the time at which the ego, undisturbed, would be there.
ZEBRA_ARRIVAL_S = (-4.5, -1.0)


@dataclass(frozen=True)
class Person:
    """A walker and its shape."""

    walker: Walker
    shape: Shape


def strollers(rng: np.random.Generator, plan: Plan, city: City, duration_s: float) -> list[Person]:
    """People, and a dog now and then, who walk along a block."""
    people = []
    for street in plan.streets:
        for first_m, last_m in blocks(street):
            count = int(city.pedestrians_per_100m * (last_m - first_m) / 100.0 * rng.uniform(0.6, 1.2))
            for _ in range(count):
                side = 1.0 if rng.random() < 0.5 else -1.0
                low, high = street.kerb_m + KERB_CLEAR_M, street.frontage_m - FRONT_CLEAR_M
                d_m = side * rng.uniform(min(low, high), high)
                speed, way = rng.uniform(0.9, 1.6), 1.0 if rng.random() < 0.5 else -1.0
                s_m = rng.uniform(first_m, last_m)
                until_m = float(np.clip(s_m + way * (speed * (duration_s + 5.0) + 2.0), first_m, last_m))
                if abs(until_m - s_m) < 6.0:
                    continue
                shape = child(rng) if rng.random() < 0.12 else pedestrian(rng)
                people.append(Person(Walker(_along(street, s_m, until_m, d_m), RADIUS_M, 0.0, speed), shape))
                if rng.random() < 0.12:
                    beside = d_m - side * 0.75
                    people.append(Person(Walker(_along(street, s_m, until_m, beside), 0.3, 0.6, speed), dog(rng)))
    return people


def crossers(rng: np.random.Generator, plan: Plan, duration_s: float, zebra_s: float) -> list[Person]:
    """People who go to a crossing, wait, cross and walk on.

    ``zebra_s`` is when the ego, undisturbed, would come to a zebra, since the simulation's start.
    """
    people = []
    arrival_s = (zebra_s + ZEBRA_ARRIVAL_S[0], zebra_s + ZEBRA_ARRIVAL_S[1])
    for number, junction in enumerate(plan.junctions):
        for way in junction.ways_out:
            crossing_m = junction.place_on(way.street) + way.direction * junction.setback_on(way.street)
            gate = (GateKind.SIGNAL, number)
            count = int(rng.integers(0, 4))
            people += _at_crossing(
                rng, plan.streets[way.street], crossing_m, way.direction, gate, count, (0.0, 0.4 * duration_s)
            )
    for number, (street, crossing_m) in enumerate(zebras(plan)):
        gate = (GateKind.ZEBRA, number)
        people += _at_crossing(rng, plan.streets[street], crossing_m, 1, gate, 4, arrival_s)
    return people


def blocks(street: Street) -> list[tuple[float, float]]:
    """Stretches of a street between its junctions."""
    edges = [0.0]
    for first, last in sorted(street.junctions_s_m):
        edges += [first - 2.0 * Street.CROSSING_LENGTH_M, last + 2.0 * Street.CROSSING_LENGTH_M]
    edges.append(street.centreline.length_m)
    pairs = list(zip(edges[::2], edges[1::2], strict=True))
    return [(max(first, 0.0), last) for first, last in pairs if last - max(first, 0.0) > 12.0]


def _along(street: Street, first_m: float, last_m: float, d_m: float) -> Path:
    count = max(int(abs(last_m - first_m)), 4)
    x, y, _ = street.centreline.place(np.linspace(first_m, last_m, count + 1), np.full(count + 1, d_m))
    return Path.through(np.column_stack([x, y]))


def _at_crossing(
    rng: np.random.Generator,
    street: Street,
    crossing_m: float,
    away: int,
    gate: tuple[GateKind, int],
    count: int,
    arrival_s: tuple[float, float],
) -> list[Person]:
    """Up to four people at one crossing who come to its kerb within a span of time.

    ``away`` is the direction along the street in which they come and go.
    """
    people = []
    for number, place in enumerate(rng.permutation(np.linspace(-1.25, 1.25, 4))[:count].tolist()):
        side = 1.0 if number % 2 else -1.0
        edge_m = street.kerb_m + rng.uniform(1.4, max(1.5, street.sidewalk_width_m - 0.5))
        line_m = crossing_m + place
        come_m, go_m = rng.uniform(2.5, 16.0), rng.uniform(6.0, 20.0)
        corners = np.array(
            [
                [line_m + away * come_m, side * edge_m],
                [line_m, side * edge_m],
                [line_m, -side * edge_m],
                [line_m + away * go_m, -side * edge_m],
            ]
        )
        places = _rounded(corners, 0.7)
        x, y, _ = street.centreline.place(places[:, 0], places[:, 1])
        path = Path.through(np.column_stack([x, y]))
        _, left_m = street.centreline.project(*path.points_m.T)
        on_road = np.nonzero(np.abs(left_m) < street.kerb_m + 0.35)[0]
        kerb = Kerb(0.5 * on_road[0] - 0.3, 0.5 * on_road[-1], *gate)
        speed = rng.uniform(1.2, 1.7)
        # At the kerb in time: who would come too late is on his way already.
        wanted_s = rng.uniform(*arrival_s)
        start_s = max(wanted_s - kerb.s_m / speed, 0.0)
        begin_m = max(kerb.s_m - wanted_s * speed, 0.0)
        shape = child(rng) if rng.random() < 0.15 else pedestrian(rng)
        people.append(Person(Walker(path, RADIUS_M, float(begin_m), speed, (kerb,), float(start_s)), shape))
    return people


def _rounded(corners: np.ndarray, radius_m: float) -> np.ndarray:
    """Points [N, 2] along straight lines between corners, each corner cut by a curve."""
    points = [corners[:1]]
    for before, corner, after in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
        into, out = corner - before, after - corner
        cut = min(radius_m, 0.45 * np.linalg.norm(into), 0.45 * np.linalg.norm(out))
        first = corner - into / np.linalg.norm(into) * cut
        last = corner + out / np.linalg.norm(out) * cut
        u = np.linspace(0.0, 1.0, 5)[:, None]
        points += [first * (1 - u) ** 2 + corner * 2 * u * (1 - u) + last * u**2]
    points.append(corners[-1:])
    coarse = np.concatenate(points)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(coarse, axis=0), axis=1))])
    fine = np.linspace(0.0, along[-1], int(along[-1] / 0.35) + 4)
    return np.column_stack([np.interp(fine, along, coarse[:, axis]) for axis in (0, 1)])

"""A scene before anybody moves: streets, what stands in them, who is about to move, light and weather.

Everything is a function of (seed, scene index, length, city); nothing is random after :func:`build_stage` has returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sparseoccvla_ros.world.bodies.thing import Thing
from sparseoccvla_ros.world.city import City, cities, cities_named
from sparseoccvla_ros.world.ego_car import EGO_CENTRE_AHEAD_M, EGO_SIZE_M
from sparseoccvla_ros.world.look import Look, draw_look
from sparseoccvla_ros.world.manoeuvre import Manoeuvre
from sparseoccvla_ros.world.scenery.frontage import build_frontage
from sparseoccvla_ros.world.scenery.kerbside import build_kerbside, build_signals
from sparseoccvla_ros.world.scenery.site import Site
from sparseoccvla_ros.world.scenery.work_zone import build_work_zone, draw_work_zone
from sparseoccvla_ros.world.streets.junction import Movement, Way
from sparseoccvla_ros.world.streets.layout import EGO_START_S_M, Wishes, draw_plan
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.traffic.actors import Vehicle
from sparseoccvla_ros.world.traffic.population import Manned, populate, shifts_of
from sparseoccvla_ros.world.traffic.trip import Start, travel
from sparseoccvla_ros.world.traffic.walkers import Person, crossers, strollers

#: Traffic has moved this long when a scene begins, so that nobody is seen making up his mind.
WARM_UP_S = 3.0
#: Tells this stream of random numbers from those of other purposes.
STREAM = 101


@dataclass(frozen=True)
class Stage:
    """World frame: z up, ground at z = 0, metres. ``still`` are the things that have a place of their own (traffic
    lights among them); ``street`` describes all but what the ego does;
    ``heads`` tells which of them hold for an approach (junction, way); ``traffic`` begins with the
    ego.
    """

    name: str
    street: str
    city: City
    look: Look
    plan: Plan
    manoeuvre: Manoeuvre
    still: tuple[Thing, ...]
    heads: Mapping[tuple[int, Way], tuple[int, ...]]
    traffic: tuple[Manned, ...]
    people: tuple[Person, ...]
    duration_s: float


def build_stage(seed: int, index: int, duration_s: float, city_name: str | None = None, attempt: int = 0) -> Stage:
    """Set scene ``index`` of the world with this seed.

    Args:
        seed: of the whole world, >= 0.
        index: of the scene, >= 0; neighbours differ in town and manoeuvre.
        duration_s: the route is long enough for this time.
        city_name: one of the towns in ``city.py``, or several with commas, which are visited in turn; None: all.
        attempt: another number gives another scene with the same town and manoeuvre.

    Raises:
        ValueError: unknown city.
    """
    rng = np.random.default_rng([STREAM, seed, index, attempt])
    towns = cities() if city_name is None else cities_named(city_name)
    city = towns[(index + seed) % len(towns)]
    manoeuvre = tuple(Manoeuvre)[(index + index // 8 + seed) % len(Manoeuvre)]
    look = draw_look(rng, city)
    town_mps = rng.uniform(8.5, 11.5)
    wishes = _wishes(rng, manoeuvre, town_mps, duration_s)
    plan, movements = draw_plan(rng, city, wishes)
    plan = _with_work_zones(rng, plan, city, manoeuvre)
    ego = _ego(rng, plan, manoeuvre, movements, town_mps, wishes.route_m)
    site = Site(plan, ego.vehicle.trip.path.points_m)
    for zone in plan.work_zones:
        build_work_zone(rng, site, zone)
    heads = build_signals(rng, site, plan, WARM_UP_S)
    for street in plan.streets:
        build_kerbside(rng, site, street, city)
    for street in plan.streets:
        build_frontage(rng, site, street, city)
    gap_m = _gap_ahead_m(rng, manoeuvre, wishes)
    start = Start(Way(0, 1), EGO_START_S_M, _ego_lane(plan, manoeuvre, movements))
    trip_m = 14.0 * (duration_s + WARM_UP_S) + 60.0
    others = populate(rng, plan, city, (start, movements), gap_m, town_mps, trip_m)
    if manoeuvre is Manoeuvre.FOLLOW:
        others = _slowing_leader(rng, others, ego)
    # Of two who touch, the later is left out: those who cross matter more.
    zebra_s = (wishes.zebra_m or 0.0) / wishes.speed_mps
    people = [
        *crossers(rng, plan, duration_s + WARM_UP_S, zebra_s),
        *strollers(rng, plan, city, duration_s + WARM_UP_S),
    ]
    near = np.arange(EGO_START_S_M, EGO_START_S_M + min(wishes.first_junction_m, 160.0), 2.0)
    bend = 'bending' if np.abs(plan.streets[0].centreline.curvature_at(near)).max() > 0.003 else 'straight'
    lanes = plan.streets[0].lanes
    street = f'{bend} street, {lanes} lane{"s" * (lanes > 1)} each way'
    return Stage(
        name=f'scene-{index + 1:04d}',
        street=f'{city.name}, {look.time_of_day}, {look.weather}: {street}',
        city=city,
        look=look,
        plan=plan,
        manoeuvre=manoeuvre,
        still=tuple(site.things),
        heads={key: tuple(value) for key, value in heads.items()},
        traffic=(ego, *others),
        people=tuple(people),
        duration_s=duration_s,
    )


def _wishes(rng: np.random.Generator, manoeuvre: Manoeuvre, town_mps: float, duration_s: float) -> Wishes:
    junction_m = {
        Manoeuvre.DRIVE_ON: rng.uniform(80.0, 150.0),
        Manoeuvre.TURN_LEFT: rng.uniform(70.0, 100.0),
        Manoeuvre.TURN_RIGHT: rng.uniform(70.0, 100.0),
        Manoeuvre.FOLLOW: rng.uniform(120.0, 170.0),
        Manoeuvre.RED_LIGHT: rng.uniform(85.0, 115.0),
        Manoeuvre.START: rng.uniform(24.0, 28.0),
        Manoeuvre.ZEBRA: rng.uniform(160.0, 190.0),
        Manoeuvre.NARROW: rng.uniform(150.0, 190.0),
    }[manoeuvre]
    first = {Manoeuvre.TURN_LEFT: Movement.LEFT, Manoeuvre.TURN_RIGHT: Movement.RIGHT}.get(manoeuvre)
    if manoeuvre in (Manoeuvre.RED_LIGHT, Manoeuvre.START):
        first = tuple(Movement)[rng.integers(len(Movement))]
    return Wishes(
        first_junction_m=junction_m,
        movements=(first or Movement.STRAIGHT,),
        zebra_m=rng.uniform(75.0, 100.0) if manoeuvre is Manoeuvre.ZEBRA else None,
        route_m=12.0 * (duration_s + WARM_UP_S) + 60.0,
        red=manoeuvre in (Manoeuvre.RED_LIGHT, Manoeuvre.START),
        speed_mps=town_mps * 0.93,
        wait_s=(11.0, 14.0) if manoeuvre is Manoeuvre.START else (8.0, 12.0),
        island_m=rng.uniform(0.7, 1.2) if manoeuvre is Manoeuvre.NARROW else None,
    )


def _gap_ahead_m(rng: np.random.Generator, manoeuvre: Manoeuvre, wishes: Wishes) -> float:
    """Road that is free before the ego at first: nobody else comes between it and what the scene is about."""
    drawn_m = rng.uniform(30.0, 60.0)
    if manoeuvre in (Manoeuvre.RED_LIGHT, Manoeuvre.START):
        return wishes.first_junction_m
    if manoeuvre is Manoeuvre.ZEBRA and wishes.zebra_m is not None:
        return wishes.zebra_m
    return 0.35 * drawn_m + 4.0 if manoeuvre is Manoeuvre.FOLLOW else drawn_m


def _with_work_zones(rng: np.random.Generator, plan: Plan, city: City, manoeuvre: Manoeuvre) -> Plan:
    """Work zones on either side near the route; one for sure where a narrow passage is wanted."""
    zones = []
    if manoeuvre is Manoeuvre.NARROW:
        zones.append(draw_work_zone(rng, 0, plan.streets[0], -1, EGO_START_S_M + rng.uniform(75.0, 105.0), narrow=True))
    elif rng.random() < city.work_zone_share:
        side = 1 if rng.random() < 0.5 else -1
        around_m = EGO_START_S_M + rng.uniform(35.0, 130.0)
        narrow = rng.random() < 0.3 and manoeuvre is not Manoeuvre.ZEBRA
        zones.append(draw_work_zone(rng, 0, plan.streets[0], side, around_m, narrow))
    for number, street in enumerate(plan.streets[1:], start=1):
        if rng.random() < 0.35 * city.work_zone_share:
            side = 1 if rng.random() < 0.5 else -1
            around_m = rng.uniform(0.35, 0.65) * street.centreline.length_m
            zones.append(draw_work_zone(rng, number, street, side, around_m, narrow=False))
    return replace(plan, work_zones=tuple(zone for zone in zones if zone is not None))


def _ego_lane(plan: Plan, manoeuvre: Manoeuvre, movements: tuple[Movement, ...]) -> int:
    """The lane it begins in: the one it turns from, the outer one past a narrow place, else the inner."""
    outer = plan.streets[0].lanes - 1
    first = movements[0] if movements else Movement.STRAIGHT
    return 0 if first is Movement.LEFT else outer if first is Movement.RIGHT or manoeuvre is Manoeuvre.NARROW else 0


def _ego(
    rng: np.random.Generator,
    plan: Plan,
    manoeuvre: Manoeuvre,
    movements: tuple[Movement, ...],
    town_mps: float,
    route_m: float,
) -> Manned:
    start = Start(Way(0, 1), EGO_START_S_M, _ego_lane(plan, manoeuvre, movements))
    trip = travel(
        plan,
        start,
        lambda _junction, _way, met: movements[met] if met < len(movements) else Movement.STRAIGHT,
        route_m,
        float(np.clip(rng.normal(0.0, 0.15), -0.3, 0.3)),
        shifts_of(plan),
    )
    cruise = town_mps * rng.uniform(0.92, 1.05)
    speed = 0.0 if manoeuvre is Manoeuvre.START else 0.9 * cruise
    length, width, _ = EGO_SIZE_M
    return Manned(Vehicle(trip, length, width, EGO_CENTRE_AHEAD_M, 0.0, speed, cruise), ())


def _slowing_leader(rng: np.random.Generator, others: list[Manned], ego: Manned) -> list[Manned]:
    """Whoever drives next ahead of the ego on its path slows down for some seconds."""
    path = ego.vehicle.trip.path
    ahead_m = path.tangents[0]
    best, nearest = None, 60.0
    for number, item in enumerate(others):
        x, y, heading, _ = item.vehicle.trip.path.at(0.0)
        gap = np.array([x, y]) - path.points_m[0]
        ahead, aside = gap @ ahead_m, ahead_m[0] * gap[1] - ahead_m[1] * gap[0]
        same_way = np.cos(heading) * ahead_m[0] + np.sin(heading) * ahead_m[1] > 0.5
        if 0.0 < ahead < nearest and abs(aside) < 2.5 and same_way:
            best, nearest = number, float(ahead)
    if best is None:
        return others
    begin = WARM_UP_S + rng.uniform(2.0, 5.0)
    slow = replace(
        others[best].vehicle,
        cruise_mps=0.95 * ego.vehicle.cruise_mps,
        slow_from_s=begin,
        slow_until_s=begin + rng.uniform(5.0, 8.0),
        slow_mps=rng.uniform(1.0, 4.0),
    )
    return [*others[:best], replace(others[best], vehicle=slow), *others[best + 1 :]]

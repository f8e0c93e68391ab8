"""What stands behind the sidewalks: buildings, gardens, building sites, woods."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.buildings import building, fence, kiosk, wall
from sparseoccvla_ros.world.bodies.machines import excavator, wheel_loader
from sparseoccvla_ros.world.bodies.obstacles import barrier, debris, wheelie_bin
from sparseoccvla_ros.world.bodies.plants import bush, hedge, thicket, tree
from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.scenery.site import Site
from sparseoccvla_ros.world.streets.street import Ground, Street

GRASS = (Ground.GRASS,)
BUILT_M, GARDEN_M = 130.0, 75.0


def build_frontage(rng: np.random.Generator, site: Site, street: Street, city: City) -> None:
    """Line both sides of a street."""
    for side in (1.0, -1.0):
        setback_m = rng.uniform(*city.setback_m)
        s_m = rng.uniform(0.0, 10.0)
        while s_m < street.centreline.length_m - 2.0:
            length = rng.uniform(*city.building_length_m)
            gap = rng.uniform(3.0, 9.0) if setback_m > 4.0 or rng.random() < 0.15 else 0.3
            _lot(rng, site, street, city, side, setback_m, s_m + 0.5 * length, length)
            s_m += length + gap
        _woods(rng, site, street, side)


def _lot(
    rng: np.random.Generator,
    site: Site,
    street: Street,
    city: City,
    side: float,
    setback_m: float,
    middle_m: float,
    length: float,
) -> None:
    depth, height = rng.uniform(9.0, 15.0), rng.uniform(*city.building_height_m)
    colour = tuple(np.array(city.facades[rng.integers(len(city.facades))]) * rng.uniform(0.9, 1.08))
    # A straight front beside a bend would reach over the sidewalk by the sagitta of its chord.
    near = street.centreline.curvature_at(np.linspace(middle_m - 0.5 * length, middle_m + 0.5 * length, 8))
    bent = float(np.abs(near).max())
    front_m = street.frontage_m + setback_m + 0.15 * length**2 * bent
    draw = rng.random()
    pose = street.centreline.pose(middle_m, side * (front_m + 0.5 * depth + 0.35))
    if draw < city.building_share:
        site.put(building(rng, length, depth, height, colour), pose, GRASS, BUILT_M)
    elif draw < city.building_share + 0.5 * (1.0 - city.building_share):
        _building_site(rng, site, street, side, front_m, middle_m, length)
    edge_m = street.frontage_m + 0.15 * length**2 * bent
    if setback_m > 4.0:
        _garden(rng, site, street, side, edge_m, setback_m, middle_m, length)


def _garden(
    rng: np.random.Generator,
    site: Site,
    street: Street,
    side: float,
    edge_m: float,
    setback_m: float,
    middle_m: float,
    length: float,
) -> None:
    kind = rng.random()
    if kind < 0.85:
        if kind < 0.4:
            border = hedge(rng, 0.75 * length)
        else:
            border = fence(rng, 0.8 * length) if kind < 0.7 else wall(rng, 0.6 * length)
        site.put(border, street.centreline.pose(middle_m, side * (edge_m + 0.6)), GRASS, GARDEN_M)
    for _ in range(int(rng.integers(0, 4))):
        place = street.centreline.pose(
            middle_m + rng.uniform(-0.5, 0.5) * length, side * (edge_m + rng.uniform(1.6, max(setback_m - 0.8, 1.7)))
        )
        if rng.random() < 0.45:
            shape = tree(rng, rng.uniform(1.6, 2.4))
            site.put(shape, place, GRASS, GARDEN_M, (1.6, 1.6))
        else:
            site.put(bush(rng), place, GRASS, GARDEN_M)
    if rng.random() < 0.3:
        place = street.centreline.pose(middle_m, side * (edge_m + 1.6), rng.uniform(-0.2, 0.2))
        site.put(wheelie_bin(rng), place, GRASS, GARDEN_M)


def _building_site(
    rng: np.random.Generator, site: Site, street: Street, side: float, front_m: float, middle_m: float, length: float
) -> None:
    """An open lot with a machine behind barriers."""
    machine = (excavator if rng.random() < 0.5 else wheel_loader)(rng)
    turn = rng.uniform(-np.pi, np.pi)
    site.put(machine, street.centreline.pose(middle_m, side * (front_m + 5.5), turn), GRASS, GARDEN_M, parked=True)
    for s_m in np.arange(middle_m - 0.45 * length, middle_m + 0.45 * length, 2.3):
        site.put(barrier(rng), street.centreline.pose(float(s_m), side * (front_m + 0.8)), GRASS, GARDEN_M)
    for _ in range(2):
        place = street.centreline.pose(
            middle_m + rng.uniform(-0.4, 0.4) * length, side * (front_m + rng.uniform(2.0, 9.0)), turn
        )
        site.put(debris(rng), place, GRASS, GARDEN_M)
    if rng.random() < 0.3:
        site.put(kiosk(rng), street.centreline.pose(middle_m - 0.3 * length, side * (front_m + 9.0)), GRASS, GARDEN_M)


def _woods(rng: np.random.Generator, site: Site, street: Street, side: float) -> None:
    """A broken line of wood far behind the houses, so that the view through the gaps is not an empty plain."""
    s_m = rng.uniform(-10.0, 10.0)
    while s_m < street.centreline.length_m:
        length = rng.uniform(14.0, 26.0)
        if rng.random() < 0.8:
            pose = street.centreline.pose(s_m, side * rng.uniform(46.0, 54.0))
            site.put(thicket(rng, length), pose, GRASS, BUILT_M)
        s_m += length * rng.uniform(0.8, 1.2)

"""What stands still beside the street: buildings, trees, hedges, lamps, parked vehicles."""

from __future__ import annotations

from functools import partial

import numpy as np

from sparseoccvla_ros.world.bodies.shapes import building, car, crossing_sign, hedge, lamp, thicket, tree, truck
from sparseoccvla_ros.world.bodies.thing import Shape, State, Thing
from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.streets.street import Street

CROSSING_CLEARANCE_M = 8.0


def _standing(state: State, time_s: float) -> State:
    return state


def _still(
    street: Street, shape: Shape, s_m: float, d_m: float, turn_rad: float = 0.0, annotated: bool = False
) -> Thing:
    state = State(street.centreline.pose(s_m, d_m, turn_rad), 0.0)
    return Thing(shape, partial(_standing, state), still=True, annotated=annotated, parked=annotated)


def scenery(rng: np.random.Generator, street: Street, city: City) -> list[Thing]:
    """Buildings, gardens, trees and lamps on both sides of the whole street."""
    things = []
    for side in (1.0, -1.0):
        setback_m = rng.uniform(*city.setback_m)
        things += _buildings(rng, street, city, side, setback_m)
        things += _trees(rng, street, city, side, setback_m)
        s_m = rng.uniform(5.0, 30.0) if side > 0.0 else rng.uniform(20.0, 45.0)
        things += _woods(rng, street, side)
        while s_m < street.centreline.length_m:
            things.append(_still(street, lamp(side), s_m, side * (street.kerb_m + 0.45)))
            s_m += rng.uniform(28.0, 34.0)
        sign_s_m = street.crossing_s_m - side * 2.4
        things.append(_still(street, crossing_sign(), sign_s_m, side * (street.kerb_m + 0.4)))
    return things


def _buildings(rng: np.random.Generator, street: Street, city: City, side: float, setback_m: float) -> list[Thing]:
    things = []
    s_m = rng.uniform(0.0, 10.0)
    while s_m < street.centreline.length_m - 2.0:
        length, depth = rng.uniform(*city.building_length_m), rng.uniform(9.0, 15.0)
        height = rng.uniform(*city.building_height_m)
        colour = tuple(np.array(city.facades[rng.integers(len(city.facades))]) * rng.uniform(0.9, 1.08))
        gap = rng.uniform(3.0, 9.0) if setback_m > 4.0 or rng.random() < 0.15 else 0.3
        middle = s_m + 0.5 * length
        # A straight front beside a bend would reach over the sidewalk by the sagitta of its chord.
        near = street.centreline.curvature_at(np.linspace(s_m, s_m + length, 8))
        sagitta_m = 0.6 * length**2 * float(np.abs(near).max()) / 4.0
        d_m = side * (street.frontage_m + setback_m + sagitta_m + 0.5 * depth + 0.35)
        if rng.random() < city.building_share:
            shape = building(rng, length, depth, height, colour)
            things.append(_still(street, shape, middle, d_m))
        if setback_m > 4.0 and rng.random() < 0.6:
            hedge_d_m = side * (street.frontage_m + 0.6 + 0.15 * length**2 * float(np.abs(near).max()))
            things.append(_still(street, hedge(rng, 0.75 * length), middle, hedge_d_m))
        s_m += length + gap
    return things


def _trees(rng: np.random.Generator, street: Street, city: City, side: float, setback_m: float) -> list[Thing]:
    """Trees in the gardens where there are any, else in a row at the kerb, crowns clear of the traffic."""
    things = []
    garden = setback_m > 4.0
    s_m = rng.uniform(0.0, city.tree_spacing_m)
    while s_m < street.centreline.length_m:
        if garden:
            d_m, clear_m = street.frontage_m + rng.uniform(2.8, 4.2), rng.uniform(1.6, 2.4)
        else:
            d_m, clear_m = street.kerb_m + 0.65, rng.uniform(3.6, 4.2)
        if abs(s_m - street.crossing_s_m) > CROSSING_CLEARANCE_M:
            things.append(_still(street, tree(rng, clear_m), s_m, side * d_m))
        s_m += city.tree_spacing_m * rng.uniform(0.7, 1.4)
    return things


def _woods(rng: np.random.Generator, street: Street, side: float) -> list[Thing]:
    """A broken line of wood far behind the houses, so that the view through the gaps is not an empty plain."""
    things = []
    s_m = rng.uniform(-10.0, 10.0)
    while s_m < street.centreline.length_m:
        length = rng.uniform(14.0, 26.0)
        if rng.random() < 0.8:
            things.append(_still(street, thicket(rng, length), s_m, side * rng.uniform(46.0, 54.0)))
        s_m += length * rng.uniform(0.8, 1.2)
    return things


def parked_vehicles(rng: np.random.Generator, street: Street, city: City) -> list[Thing]:
    """Cars and small lorries in the parking lanes; none near the crossing."""
    if street.parking_width_m == 0.0:
        return []
    things = []
    for side in (1.0, -1.0):
        s_m = rng.uniform(0.0, 6.0)
        while s_m < street.centreline.length_m - 12.0:
            long = rng.random() < 0.08
            slot_m = 10.5 if long else 6.0
            shape = truck(rng) if long else car(rng)
            middle = s_m + 0.5 * slot_m
            free = abs(middle - street.crossing_s_m) > CROSSING_CLEARANCE_M + 0.5 * slot_m
            if free and rng.random() < city.parked_share:
                # Lorries stand a little over the kerb so that they leave the lane free.
                d_m = side * (street.kerb_m - 0.5 * shape.size_m[1] + (0.15 if long else -0.12))
                turn = rng.normal(0.0, 0.01) + (np.pi if side > 0.0 else 0.0)
                things.append(_still(street, shape, middle, d_m, turn, annotated=True))
            s_m += slot_m
    return things

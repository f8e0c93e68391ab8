"""Shapes of what stands and moves in a street, built of convex solids."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.solids import Texture, ball, box, frustum, pillar
from sparseoccvla_ros.world.bodies.thing import BUS, CAR, MANMADE, PEDESTRIAN, TRUCK, VEGETATION, Shape

CAR_COLOURS = (
    (0.86, 0.86, 0.87),
    (0.12, 0.12, 0.14),
    (0.55, 0.57, 0.60),
    (0.68, 0.10, 0.10),
    (0.12, 0.24, 0.55),
    (0.16, 0.38, 0.26),
    (0.80, 0.66, 0.18),
    (0.42, 0.30, 0.22),
)


def car(rng: np.random.Generator) -> Shape:
    """A saloon or an estate car."""
    length, width, height = rng.uniform(3.9, 4.8), rng.uniform(1.72, 1.92), rng.uniform(1.42, 1.68)
    colour = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
    waist, half = 0.56 * height, 0.5 * width
    tail = rng.uniform(-0.49, -0.34)
    body = box((-0.5 * length, -half, 0.0), (0.5 * length, half, waist), colour, Texture.CAR_BODY)
    cabin = frustum(
        (tail * length, -0.96 * half, 0.26 * length, 0.96 * half),
        ((tail + 0.10) * length, -0.78 * half, 0.07 * length, 0.78 * half),
        (waist, height),
        colour,
        Texture.CAR_CABIN,
    )
    return Shape(CAR, (length, width, height), (body, cabin), category='vehicle.car')


def truck(rng: np.random.Generator) -> Shape:
    """A lorry: a cab in front of a cargo box."""
    length, width, height = rng.uniform(6.2, 8.5), rng.uniform(2.2, 2.45), rng.uniform(2.8, 3.2)
    colour = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
    cargo_colour = ((0.85, 0.85, 0.82), (0.30, 0.45, 0.62), (0.75, 0.50, 0.22))[rng.integers(3)]
    front, half = 0.5 * length, 0.5 * width
    cab = frustum(
        (front - 2.0, -half, front, half),
        (front - 2.0, -0.94 * half, front - 0.35, 0.94 * half),
        (0.0, 0.84 * height),
        colour,
        Texture.CAR_CABIN,
    )
    cargo = box((-front, -half, 0.0), (front - 2.1, half, height), cargo_colour, Texture.CARGO)
    return Shape(TRUCK, (length, width, height), (cab, cargo), category='vehicle.truck')


def bus(rng: np.random.Generator) -> Shape:
    """A city bus: one long box with a band of windows."""
    length, width, height = rng.uniform(10.2, 11.8), rng.uniform(2.48, 2.55), rng.uniform(2.95, 3.15)
    colour = ((0.80, 0.20, 0.15), (0.20, 0.42, 0.70), (0.90, 0.78, 0.25), (0.24, 0.55, 0.40))[rng.integers(4)]
    body = box((-0.5 * length, -0.5 * width, 0.0), (0.5 * length, 0.5 * width, height), colour, Texture.BUS)
    return Shape(BUS, (length, width, height), (body,), category='vehicle.bus.rigid')


def pedestrian(rng: np.random.Generator) -> Shape:
    """A standing figure: legs, coat, head."""
    height = rng.uniform(1.55, 1.90)
    coat = tuple(rng.uniform(0.12, 0.85, 3))
    trousers = tuple(rng.uniform(0.08, 0.35, 3))
    skin = ((0.86, 0.68, 0.56), (0.62, 0.44, 0.32), (0.40, 0.28, 0.20))[rng.integers(3)]
    legs = box((-0.14, -0.19, 0.0), (0.14, 0.19, 0.48 * height), trousers, Texture.CLOTH)
    trunk = frustum(
        (-0.17, -0.24, 0.17, 0.24), (-0.14, -0.28, 0.14, 0.28), (0.46 * height, 0.84 * height), coat, Texture.CLOTH
    )
    head = ball((0.0, 0.0, 0.925 * height), (0.11, 0.11, 0.075 * height / 0.8507), skin)
    return Shape(PEDESTRIAN, (0.34, 0.56, height), (legs, trunk, head), category='human.pedestrian.adult')


def building(rng: np.random.Generator, length: float, depth: float, height: float, colour: tuple) -> Shape:
    """A block with windows; low ones get a gabled roof."""
    walls = box((-0.5 * length, -0.5 * depth, 0.0), (0.5 * length, 0.5 * depth, height), colour, Texture.FACADE)
    if height > 9.0:
        return Shape(MANMADE, (length, depth, height), (walls,))
    tiles = ((0.45, 0.20, 0.15), (0.30, 0.30, 0.33), (0.40, 0.28, 0.20))[rng.integers(3)]
    ridge = rng.uniform(1.8, 2.8)
    roof = frustum(
        (-0.5 * length - 0.3, -0.5 * depth - 0.3, 0.5 * length + 0.3, 0.5 * depth + 0.3),
        (-0.5 * length + 0.6, -0.4, 0.5 * length - 0.6, 0.4),
        (height, height + ridge),
        tiles,
    )
    return Shape(MANMADE, (length + 0.6, depth + 0.6, height + ridge), (walls, roof))


def tree(rng: np.random.Generator, clear_m: float) -> Shape:
    """A trunk under a crown that begins ``clear_m`` above the ground."""
    radius, tall = rng.uniform(1.2, 1.9), rng.uniform(1.3, 2.2)
    trunk = pillar((0.18, 0.13), (0.0, clear_m + 0.6), (0.33, 0.25, 0.18), sides=6)
    green = tuple(np.array((0.20, 0.36, 0.13)) * rng.uniform(0.75, 1.3) + (rng.uniform(0.0, 0.10), 0.0, 0.0))
    crown = ball((0.0, 0.0, clear_m + tall), (radius, radius, tall), green, Texture.FOLIAGE)
    return Shape(VEGETATION, (2.0 * radius, 2.0 * radius, clear_m + 2.0 * tall), (trunk, crown))


def hedge(rng: np.random.Generator, length: float) -> Shape:
    """A clipped hedge along a garden."""
    height = rng.uniform(0.8, 1.4)
    green = tuple(np.array((0.18, 0.34, 0.12)) * rng.uniform(0.8, 1.2))
    return Shape(
        VEGETATION,
        (length, 0.8, height),
        (box((-0.5 * length, -0.4, 0.0), (0.5 * length, 0.4, height), green, Texture.FOLIAGE),),
    )


def thicket(rng: np.random.Generator, length: float) -> Shape:
    """A stretch of wood in the distance."""
    height, half = rng.uniform(4.0, 8.0), 0.5 * length
    green = tuple(np.array((0.17, 0.30, 0.13)) * rng.uniform(0.85, 1.2))
    wood = frustum(
        (-half, -3.0, half, 3.0), (-0.8 * half, -1.2, 0.8 * half, 1.2), (0.0, height), green, Texture.FOLIAGE
    )
    return Shape(VEGETATION, (length, 6.0, height), (wood,))


def lamp(side: float) -> Shape:
    """A street lamp whose arm reaches over the road; ``side`` is +1 where the road lies to its right, else -1."""
    grey = (0.42, 0.44, 0.46)
    pole = pillar((0.10, 0.07), (0.0, 7.0), grey, sides=6)
    end = -1.8 * side
    arm = box((-0.06, min(0.0, end), 6.9), (0.06, max(0.0, end), 7.05), grey)
    return Shape(MANMADE, (0.2, 3.6, 7.05), (pole, arm))


def crossing_sign() -> Shape:
    """A pole with a blue plate that faces along the street."""
    pole = pillar((0.05, 0.05), (0.0, 2.9), (0.6, 0.6, 0.62), sides=6)
    plate = box((-0.03, -0.35, 2.2), (0.03, 0.35, 2.9), (0.10, 0.25, 0.72))
    return Shape(MANMADE, (0.1, 0.7, 2.9), (pole, plate))

"""Cars, lorries, buses and trailers: x is forward."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.colours import draw_colour
from sparseoccvla_ros.world.bodies.fitting import fitted
from sparseoccvla_ros.world.bodies.solids import Solid, Texture, box, frustum, hull, prism
from sparseoccvla_ros.world.bodies.thing import BUS, CAR, TRAILER, TRUCK, Shape
from sparseoccvla_ros.world.city import Colour

CAR_WORDS = ('white', 'black', 'grey', 'red', 'blue', 'green', 'yellow', 'brown')
CAR_SHARES = (0.19, 0.17, 0.16, 0.15, 0.14, 0.08, 0.07, 0.04)
LORRY_WORDS = ('white', 'red', 'blue', 'green', 'yellow')
DARK = (0.10, 0.10, 0.11)


def car(rng: np.random.Generator) -> Shape:
    """A hatchback, a saloon, an estate car or an off-roader."""
    # Where the cabin and its roof end behind, as shares of the length from the middle.
    style = rng.integers(4)
    length = rng.uniform(*((3.7, 4.2), (4.4, 4.9), (4.4, 4.8), (4.4, 4.9))[style])
    height = rng.uniform(*((1.46, 1.56), (1.42, 1.50), (1.46, 1.54), (1.66, 1.84))[style])
    tail, roof_tail = ((-0.49, -0.38), (-0.36, -0.18), (-0.49, -0.42), (-0.49, -0.43))[style]
    width = rng.uniform(1.74, 1.92)
    word, colour = draw_colour(rng, CAR_WORDS, CAR_SHARES)
    waist, half, front = 0.58 * height, 0.5 * width, 0.5 * length
    profile = (
        (-front + 0.12, 0.0),
        (front - 0.12, 0.0),
        (front, 0.35),
        (front - 0.04, 0.78 * waist),
        (front - 0.28, 0.86 * waist),
        (0.25 * length, waist),
        (-front + 0.10, waist),
        (-front, 0.40),
    )
    cabin = frustum(
        (tail * length, -0.95 * half, 0.26 * length, 0.95 * half),
        (roof_tail * length, -0.76 * half, 0.09 * length, 0.76 * half),
        (waist, height),
        colour,
        Texture.CAR_CABIN,
    )
    solids = (prism(profile, (-half, half), colour, Texture.CAR_BODY), cabin)
    return fitted(CAR, solids, 'vehicle.car', word)


def _cab(colour: Colour, back_m: float, front_m: float, half_m: float, height_m: float) -> Solid:
    """A driver's cab whose windscreen leans back."""
    profile = (
        (back_m, 0.0),
        (front_m, 0.0),
        (front_m, 0.52 * height_m),
        (front_m - 0.28, height_m),
        (back_m, height_m),
    )
    return prism(profile, (-half_m, half_m), colour, Texture.LORRY_CAB)


def truck(rng: np.random.Generator) -> Shape:
    """A delivery van in one colour, or a lorry: a cab before a cargo box or a low tipping body."""
    kind = rng.integers(3)
    word, colour = draw_colour(rng, LORRY_WORDS)
    if kind == 0:
        length, half, height = rng.uniform(5.6, 6.6), rng.uniform(0.98, 1.06), rng.uniform(2.5, 2.8)
        front = 0.5 * length
        profile = ((-front, 0.0), (front, 0.0), (front, 0.44 * height), (front - 0.65, 0.56 * height))
        profile = (*profile, (front - 1.5, height), (-front, height))
        return fitted(TRUCK, (prism(profile, (-half, half), colour, Texture.VAN),), 'vehicle.truck', word)
    length, half, height = rng.uniform(6.6, 8.8), rng.uniform(1.15, 1.25), rng.uniform(2.9, 3.4)
    front = 0.5 * length
    cab = _cab(colour, front - 2.0, front, half, 0.86 * height)
    if kind == 1:
        # The box has the cab's colour, so that the lorry has one.
        hold = box((-front, -half, 0.0), (front - 2.15, half, height), colour, Texture.CARGO)
        return fitted(TRUCK, (cab, hold), 'vehicle.truck', word)
    bed = box((-front, -half, 0.0), (front - 2.15, half, 1.15), DARK, Texture.CARGO)
    tip = frustum(
        (-front + 0.1, -0.9 * half, front - 2.3, 0.9 * half),
        (-front, -half, front - 2.2, half),
        (1.15, 2.2),
        colour,
        Texture.PLAIN,
    )
    return fitted(TRUCK, (cab, bed, tip), 'vehicle.truck', word)


def tractor(rng: np.random.Generator) -> Shape:
    """The pulling half of an articulated lorry: a tall cab over a short frame."""
    word, colour = draw_colour(rng, LORRY_WORDS)
    length, half, height = rng.uniform(5.8, 6.3), rng.uniform(1.22, 1.27), rng.uniform(3.4, 3.8)
    front = 0.5 * length
    cab = _cab(colour, front - 2.3, front, half, height)
    frame = box((-front, -0.94 * half, 0.0), (front - 2.3, 0.94 * half, 1.0), DARK, Texture.CARGO)
    plate = box((-front + 0.5, -0.5, 1.0), (-front + 1.7, 0.5, 1.15), (0.2, 0.2, 0.21))
    return fitted(TRUCK, (cab, frame, plate), 'vehicle.truck', word)


def trailer(rng: np.random.Generator) -> Shape:
    """A semitrailer: a tall box or a loaded flatbed."""
    word, colour = draw_colour(rng, LORRY_WORDS)
    length, half, height = rng.uniform(9.5, 12.5), rng.uniform(1.22, 1.28), rng.uniform(3.5, 3.9)
    front = 0.5 * length
    wheels = box((-front, -half, 0.0), (-front + 4.4, half, 1.15), DARK, Texture.CARGO)
    legs = box((front - 2.6, -0.8, 0.0), (front - 2.4, 0.8, 1.15), (0.3, 0.3, 0.32))
    if rng.random() < 0.65:
        hold = box((-front, -half, 1.15), (front, half, height), colour, Texture.CARGO)
        return fitted(TRAILER, (wheels, legs, hold), 'vehicle.trailer', word)
    deck = box((-front, -half, 1.15), (front, half, 1.4), colour, Texture.PLAIN)
    wall = box((front - 0.15, -half, 1.4), (front, half, 2.6), colour, Texture.PLAIN)
    load, start = [], -front + 0.4
    for _ in range(3):
        end = start + rng.uniform(2.2, 2.9)
        crate = (start, -rng.uniform(0.7, 1.1), 1.4), (end, rng.uniform(0.7, 1.1), rng.uniform(2.1, 2.8))
        load.append(box(*crate, (0.62, 0.48, 0.30), Texture.PLANKS))
        start = end + 0.3
    return fitted(TRAILER, (wheels, legs, deck, wall, *load), 'vehicle.trailer', word)


def bus(rng: np.random.Generator) -> Shape:
    """A city bus: one long box with a band of windows and a destination board."""
    length, half, height = rng.uniform(10.2, 12.2), rng.uniform(1.25, 1.29), rng.uniform(3.0, 3.35)
    word, colour = draw_colour(rng, ('red', 'blue', 'yellow', 'green', 'white'))
    front = 0.5 * length
    corners = [
        (x * (front - inset), y * (half - 0.5 * inset), z)
        for z, inset in ((0.0, 0.0), (0.93 * height, 0.0), (height, 0.16))
        for x in (-1.0, 1.0)
        for y in (-1.0, 1.0)
    ]
    unit = box((-0.3 * front, -0.7, height), (0.25 * front, 0.7, height + 0.22), (0.80, 0.80, 0.80))
    return fitted(BUS, (hull(np.array(corners), colour, Texture.BUS), unit), 'vehicle.bus.rigid', word)

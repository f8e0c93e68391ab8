"""Lamps, signals, signs, benches, shelters: what a town puts up beside its streets."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.fitting import fitted
from sparseoccvla_ros.world.bodies.solids import Texture, box, frustum, hull, pillar
from sparseoccvla_ros.world.bodies.thing import MANMADE, Shape

GREY = (0.42, 0.44, 0.46)
STEEL = (0.60, 0.60, 0.62)


def lamp(side: float) -> Shape:
    """A street lamp whose arm reaches over the road; ``side`` is +1 where the road lies to its right, else -1."""
    pole = pillar((0.10, 0.07), (0.0, 7.0), GREY, sides=6)
    end = -1.8 * side
    arm = box((-0.06, min(0.0, end), 6.9), (0.06, max(0.0, end), 7.05), GREY)
    head = box((-0.16, end - 0.42, 6.76), (0.16, end + 0.42, 6.92), (0.80, 0.80, 0.78), Texture.STREET_LAMP)
    return fitted(MANMADE, (pole, arm, head))


def pole(rng: np.random.Generator) -> Shape:
    """A bare post: of a flag, a wire, a missing sign."""
    height, radius = rng.uniform(3.0, 8.0), rng.uniform(0.06, 0.13)
    colour = (GREY, STEEL, (0.34, 0.25, 0.17))[rng.integers(3)]
    return fitted(MANMADE, (pillar((radius, 0.8 * radius), (0.0, height), colour, sides=6),))


def bollard(rng: np.random.Generator) -> Shape:
    """A knee-high to waist-high post with a pale band."""
    height, radius = rng.uniform(0.75, 1.05), rng.uniform(0.07, 0.11)
    colour = ((0.16, 0.16, 0.17), (0.62, 0.10, 0.08), (0.50, 0.50, 0.50))[rng.integers(3)]
    post = pillar((radius, radius), (0.0, 0.82 * height), colour)
    cap = pillar((1.05 * radius, 0.7 * radius), (0.82 * height, height), (0.88, 0.88, 0.86))
    return fitted(MANMADE, (post, cap))


def crossing_sign() -> Shape:
    """A pole with a blue plate, a white triangle on it, that faces along the street."""
    post = pillar((0.05, 0.05), (0.0, 2.9), STEEL, sides=6)
    plate = box((-0.03, -0.36, 2.2), (0.03, 0.36, 2.92), (0.05, 0.20, 0.72), Texture.CROSSING_SIGN)
    return fitted(MANMADE, (post, plate))


def speed_sign(rng: np.random.Generator) -> Shape:
    """A pole with a round white plate in a red ring that faces along the street."""
    height = rng.uniform(2.3, 2.7)
    post = pillar((0.05, 0.05), (0.0, height + 0.5), STEEL, sides=6)
    angles = 2.0 * np.pi * np.arange(12) / 12
    ring = [(x, 0.36 * np.cos(a), height + 0.16 + 0.36 * np.sin(a)) for x in (-0.06, -0.02) for a in angles]
    plate = hull(np.array(ring), (0.45, 0.45, 0.46), Texture.SPEED_SIGN)
    return fitted(MANMADE, (post, plate))


def traffic_light(rng: np.random.Generator) -> Shape:
    """A pole whose head faces -x, towards drivers who approach along +x; ``State.lamps`` says which lamp is lit."""
    post = pillar((0.08, 0.07), (0.0, rng.uniform(3.45, 3.7)), GREY, sides=6)
    head = box((-0.42, -0.20, 2.36), (-0.06, 0.20, 3.42), (0.06, 0.06, 0.065), Texture.SIGNAL)
    board = box((-0.10, -0.30, 2.26), (-0.04, 0.30, 3.52), (0.05, 0.05, 0.055))
    return fitted(MANMADE, (post, head, board))


def bench(rng: np.random.Generator) -> Shape:
    """A wooden bench; who sits on it looks along +y."""
    half = rng.uniform(0.75, 1.0)
    wood = ((0.45, 0.30, 0.17), (0.30, 0.36, 0.24))[rng.integers(2)]
    seat = box((-half, -0.20, 0.42), (half, 0.25, 0.48), wood, Texture.PLANKS)
    back = box((-half, -0.28, 0.50), (half, -0.22, 0.90), wood, Texture.PLANKS)
    legs = [box((x - 0.04, -0.26, 0.0), (x + 0.04, 0.22, 0.44), (0.15, 0.15, 0.16)) for x in (-0.8 * half, 0.8 * half)]
    return fitted(MANMADE, (seat, back, *legs))


def bus_shelter(rng: np.random.Generator) -> Shape:
    """A glass shelter with its open side towards +y, 3 to 4 m long."""
    half = rng.uniform(1.5, 2.0)
    frame = ((0.25, 0.26, 0.28), (0.12, 0.30, 0.22))[rng.integers(2)]
    roof = frustum((-half - 0.1, -0.8, half + 0.1, 0.8), (-half, -0.75, half, 0.7), (2.35, 2.50), frame)
    back = box((-half, -0.75, 0.15), (half, -0.68, 2.35), frame, Texture.SHELTER)
    ends = [
        box((x - 0.04, -0.68, 0.15), (x + 0.04, 0.2, 2.35), frame, Texture.SHELTER) for x in (-half + 0.04, half - 0.04)
    ]
    posts = [box((x - 0.04, 0.55, 0.0), (x + 0.04, 0.63, 2.35), frame) for x in (-half + 0.04, half - 0.04)]
    feet = [box((x - 0.05, -0.76, 0.0), (x + 0.05, -0.66, 0.2), frame) for x in (-half + 0.05, half - 0.05)]
    seat = box((-0.7 * half, -0.65, 0.42), (0.5 * half, -0.30, 0.48), (0.42, 0.29, 0.18))
    return fitted(MANMADE, (roof, back, *ends, *posts, *feet, seat))

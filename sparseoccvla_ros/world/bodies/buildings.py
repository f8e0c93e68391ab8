"""Houses, kiosks, walls and fences."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.fitting import fitted
from sparseoccvla_ros.world.bodies.solids import Texture, box, frustum, hull
from sparseoccvla_ros.world.bodies.thing import MANMADE, Shape
from sparseoccvla_ros.world.city import Colour

TILES = ((0.50, 0.21, 0.14), (0.28, 0.28, 0.31), (0.40, 0.27, 0.19))


def building(rng: np.random.Generator, length: float, depth: float, height: float, colour: Colour) -> Shape:
    """A block with windows; low ones get a gabled or hipped roof and a chimney, tall ones a block on the roof.

    Args:
        rng: source of the details.
        length: of the walls along x, metres; eaves reach 0.3 m farther on every side.
        depth: of the walls along y, metres.
        height: of the walls, metres.
        colour: of the walls.
    """
    x, y = 0.5 * length, 0.5 * depth
    if height > 9.0:
        glass = height > 14.0 and rng.random() < 0.35
        walls = box((-x, -y, 0.0), (x, y, height), colour, Texture.GLASS_FACADE if glass else Texture.FACADE)
        left = rng.uniform(-0.7, 0.1) * x
        block = box(
            (left, -0.5 * y, height), (left + 0.5 * x, 0.4 * y, height + rng.uniform(1.5, 3.0)), (0.5, 0.5, 0.5)
        )
        return fitted(MANMADE, (walls, block))
    walls = box((-x, -y, 0.0), (x, y, height), colour, Texture.FACADE)
    tiles = TILES[rng.integers(len(TILES))]
    top = height + rng.uniform(1.9, 3.0)
    hip = rng.uniform(0.0, 1.5) if rng.random() < 0.5 else 0.0
    eaves = [(a * (x + 0.3), b * (y + 0.3), height) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    ridge = [(a * (x + 0.3 - hip), 0.0, top) for a in (-1.0, 1.0)]
    roof = hull(np.array(eaves + ridge), tiles, Texture.ROOF)
    at = rng.uniform(-0.6, 0.6) * x
    chimney = box((at - 0.3, 0.15, height + 0.6), (at + 0.3, 0.75, top + 0.5), (0.45, 0.25, 0.20), Texture.BRICK)
    return fitted(MANMADE, (walls, roof, chimney))


def kiosk(rng: np.random.Generator) -> Shape:
    """A small stall with an awning and a counter towards +y."""
    half, deep = rng.uniform(1.1, 1.6), rng.uniform(0.9, 1.2)
    colour = ((0.20, 0.36, 0.28), (0.62, 0.16, 0.14), (0.20, 0.30, 0.50), (0.80, 0.76, 0.66))[rng.integers(4)]
    hut = box((-half, -deep, 0.0), (half, deep, 2.5), colour, Texture.PLANKS)
    hatch = box((-0.75 * half, deep, 1.05), (0.75 * half, deep + 0.03, 2.0), (0.10, 0.09, 0.08))
    roof = frustum((-half - 0.2, -deep - 0.2, half + 0.2, deep + 0.2), (-half, -deep, half, deep), (2.5, 2.75), colour)
    corners = [(a * half, y, z) for a in (-1.0, 1.0) for y, z in ((deep, 2.1), (deep, 2.3), (deep + 0.7, 2.05))]
    awning = hull(np.array(corners), (0.80, 0.10, 0.10), Texture.STRIPES)
    counter = box((-0.8 * half, deep, 0.95), (0.8 * half, deep + 0.25, 1.03), (0.70, 0.68, 0.64))
    return fitted(MANMADE, (hut, hatch, roof, awning, counter))


def wall(rng: np.random.Generator, length: float) -> Shape:
    """A garden wall of brick or concrete along x."""
    height, half = rng.uniform(0.9, 2.0), 0.5 * length
    brick = rng.random() < 0.6
    colour, texture = ((0.52, 0.27, 0.20), Texture.BRICK) if brick else ((0.64, 0.63, 0.60), Texture.CONCRETE)
    body = box((-half, -0.15, 0.0), (half, 0.15, height), colour, texture)
    coping = box((-half, -0.20, height), (half, 0.20, height + 0.08), (0.66, 0.65, 0.62))
    return fitted(MANMADE, (body, coping))


def fence(rng: np.random.Generator, length: float) -> Shape:
    """A fence of upright boards along x."""
    height, half = rng.uniform(0.9, 1.8), 0.5 * length
    colour = ((0.42, 0.30, 0.19), (0.86, 0.86, 0.84), (0.26, 0.34, 0.24), (0.30, 0.30, 0.32))[rng.integers(4)]
    boards = box((-half, -0.04, 0.0), (half, 0.04, height), colour, Texture.PLANKS)
    rail = box((-half, -0.08, 0.75 * height), (half, 0.08, 0.75 * height + 0.1), tuple(0.85 * part for part in colour))
    return fitted(MANMADE, (boards, rail))

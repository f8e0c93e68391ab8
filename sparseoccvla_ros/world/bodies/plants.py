"""Trees, bushes, hedges."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.fitting import fitted
from sparseoccvla_ros.world.bodies.solids import Texture, ball, frustum, moved, pillar
from sparseoccvla_ros.world.bodies.thing import VEGETATION, Shape
from sparseoccvla_ros.world.city import Colour


def _green(rng: np.random.Generator, base: Colour) -> Colour:
    red, green, blue = np.array(base) * rng.uniform(0.78, 1.25) + (rng.uniform(0.0, 0.10), 0.0, 0.0)
    return float(red), float(green), float(blue)


def tree(rng: np.random.Generator, clear_m: float) -> Shape:
    """A trunk under a round, tall or pointed crown that begins ``clear_m`` above the ground."""
    kind = rng.random()
    bark = ((0.33, 0.25, 0.18), (0.40, 0.37, 0.33), (0.24, 0.19, 0.15))[rng.integers(3)]
    trunk = pillar((rng.uniform(0.16, 0.24), 0.13), (0.0, clear_m + 0.6), bark, Texture.BARK, sides=6)
    if kind < 0.2:
        colour, radius, tall = _green(rng, (0.10, 0.27, 0.13)), rng.uniform(1.2, 1.7), rng.uniform(3.4, 5.0)
        crown = [
            pillar((radius, 0.45 * radius), (clear_m, clear_m + 0.45 * tall), colour, Texture.FOLIAGE, sides=7),
            pillar((0.8 * radius, 0.08), (clear_m + 0.4 * tall, clear_m + tall), colour, Texture.FOLIAGE, sides=7),
        ]
        return fitted(VEGETATION, (trunk, *crown))
    colour = _green(rng, (0.19, 0.37, 0.12) if rng.random() < 0.85 else (0.42, 0.30, 0.10))
    if kind < 0.4:
        radius, tall = rng.uniform(0.9, 1.3), rng.uniform(2.3, 3.2)
        crown = [ball((0.0, 0.0, clear_m + tall), (radius, radius, tall), colour, Texture.FOLIAGE)]
        return fitted(VEGETATION, (trunk, *crown))
    radius, tall = rng.uniform(1.2, 1.8), rng.uniform(1.3, 1.9)
    angle, lean = rng.uniform(-np.pi, np.pi), 0.4 * radius
    crown = [
        ball((0.0, 0.0, clear_m + tall + 0.4), (radius, radius, tall), colour, Texture.FOLIAGE),
        ball(
            (lean * np.cos(angle), lean * np.sin(angle), clear_m + 0.75 * tall),
            (0.8 * radius, 0.8 * radius, 0.75 * tall),
            tuple(0.9 * part for part in colour),
            Texture.FOLIAGE,
        ),
    ]
    return fitted(VEGETATION, (trunk, *crown))


def bush(rng: np.random.Generator) -> Shape:
    """A round shrub, some in flower."""
    radius, height = rng.uniform(0.5, 0.95), rng.uniform(0.9, 1.6)
    colour = _green(rng, (0.17, 0.35, 0.12)) if rng.random() < 0.8 else (0.50, 0.22, 0.30)
    # A ball whose lowest corners stand on the ground, sunk by nothing: the corners lie at 0.8507 of the radius.
    body = ball((0.0, 0.0, 0.5 * height), (radius, radius, 0.5 * height / 0.8507), colour, Texture.FOLIAGE)
    return fitted(VEGETATION, (body,))


def hedge(rng: np.random.Generator, length: float) -> Shape:
    """A clipped hedge along a garden."""
    height, half = rng.uniform(0.8, 1.5), 0.5 * length
    body = frustum(
        (-half, -0.40, half, 0.40),
        (-half + 0.05, -0.32, half - 0.05, 0.32),
        (0.0, height),
        _green(rng, (0.17, 0.34, 0.12)),
        Texture.FOLIAGE,
    )
    return fitted(VEGETATION, (body,))


def thicket(rng: np.random.Generator, length: float) -> Shape:
    """A stretch of wood in the distance, of uneven height."""
    half, colour = 0.5 * length, _green(rng, (0.16, 0.29, 0.12))
    humps = []
    for middle, wide in ((-0.5 * half, 0.5 * half), (0.45 * half, 0.55 * half)):
        height = rng.uniform(4.0, 8.5)
        hump = frustum(
            (-wide, -3.0, wide, 3.0), (-0.75 * wide, -1.2, 0.75 * wide, 1.2), (0.0, height), colour, Texture.FOLIAGE
        )
        humps.append(moved(hump, (middle, 0.0, 0.0)))
    return fitted(VEGETATION, humps)

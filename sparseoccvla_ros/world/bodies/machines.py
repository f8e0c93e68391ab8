"""Machines of building sites: x is forward."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.fitting import centred, fitted
from sparseoccvla_ros.world.bodies.solids import Texture, beam, box, frustum, pillar, prism, wheel
from sparseoccvla_ros.world.bodies.thing import CONSTRUCTION_VEHICLE, Shape
from sparseoccvla_ros.world.city import Colour

LIVERIES: tuple[tuple[str, Colour], ...] = (('yellow', (0.95, 0.72, 0.04)), ('', (0.92, 0.38, 0.04)))
DARK = (0.13, 0.13, 0.14)
STEEL = (0.34, 0.33, 0.32)


def excavator(rng: np.random.Generator) -> Shape:
    """A crawler excavator: tracks, a house with cab and counterweight, and a bent arm with a bucket."""
    word, colour = LIVERIES[rng.integers(len(LIVERIES))]
    scale = rng.uniform(0.88, 1.05)
    track = ((-1.9, 0.25), (-1.6, 0.0), (1.6, 0.0), (1.9, 0.25), (1.9, 0.6), (1.6, 0.85), (-1.6, 0.85), (-1.9, 0.6))
    track = [(x * scale, z * scale) for x, z in track]
    boom_end = (3.3 * scale, 0.1, rng.uniform(3.2, 3.5) * scale)
    bucket_x = rng.uniform(4.1, 4.5) * scale
    solids = [
        prism(track, (-1.30 * scale, -0.72 * scale), DARK, Texture.TRACK),
        prism(track, (0.72 * scale, 1.30 * scale), DARK, Texture.TRACK),
        pillar((0.75, 0.75), (0.5 * scale, 1.05 * scale), DARK),
        box((-1.9 * scale, -1.25 * scale, 1.05 * scale), (1.1 * scale, 1.25 * scale, 1.85 * scale), colour),
        frustum(
            (-2.3 * scale, -1.2 * scale, -0.9 * scale, 1.2 * scale),
            (-2.2 * scale, -1.1 * scale, -0.9 * scale, 1.1 * scale),
            (1.1 * scale, 2.25 * scale),
            colour,
        ),
        frustum(
            (-0.5 * scale, 0.25 * scale, 1.15 * scale, 1.25 * scale),
            (-0.4 * scale, 0.32 * scale, 0.9 * scale, 1.2 * scale),
            (1.85 * scale, 2.95 * scale),
            colour,
            Texture.CAR_CABIN,
        ),
        beam((0.9 * scale, 0.1 - 0.4, 1.5 * scale), (2.1 * scale, -0.3, 3.3 * scale), (0.50, 0.46), colour),
        beam((2.0 * scale, -0.3, 3.3 * scale), (boom_end[0], -0.3, boom_end[2]), (0.46, 0.38), colour),
        beam((boom_end[0] - 0.2, -0.3, boom_end[2] + 0.1), (bucket_x, -0.3, 1.3 * scale), (0.40, 0.30), colour),
        beam((1.2 * scale, -0.3, 2.6 * scale), (2.7 * scale, -0.3, 3.55 * scale), (0.14, 0.14), STEEL),
        prism(
            (
                (bucket_x + 0.15, 1.4 * scale),
                (bucket_x + 0.30, 0.9 * scale),
                (bucket_x - 0.05, 0.35 * scale),
                (bucket_x - 0.75, 0.30 * scale),
                (bucket_x - 0.35, 1.2 * scale),
            ),
            (-0.85, 0.25),
            STEEL,
        ),
    ]
    return fitted(CONSTRUCTION_VEHICLE, centred(solids), 'vehicle.construction', word)


def wheel_loader(rng: np.random.Generator) -> Shape:
    """A wheel loader: four great wheels, an engine behind the cab and a wide shovel on two arms."""
    word, colour = LIVERIES[rng.integers(len(LIVERIES))]
    radius, lift = rng.uniform(0.72, 0.80), rng.uniform(0.05, 0.9)
    hub = tuple(0.9 * part for part in colour)
    solids = [
        *(wheel((x, y, radius), radius, 0.55, hub, sides=12) for x in (-1.35, 1.35) for y in (-0.95, 0.95)),
        box((-2.6, -0.68, 0.7), (0.0, 0.68, 1.15), DARK),
        prism(((-2.7, 1.1), (-0.6, 1.1), (-0.6, 2.1), (-2.4, 1.85), (-2.7, 1.6)), (-0.85, 0.85), colour),
        box((0.0, -0.6, 0.6), (2.0, 0.6, 1.35), colour),
        frustum((-0.85, -0.75, 0.65, 0.75), (-0.65, -0.66, 0.45, 0.66), (1.5, 3.1), colour, Texture.CAR_CABIN),
        *(beam((0.9, y, 1.6), (2.6, y, 0.55 + lift), (0.26, 0.24), colour) for y in (-0.5, 0.5)),
        beam((0.8, 0.0, 1.9), (2.5, 0.0, 1.0 + lift), (0.16, 0.16), STEEL),
        prism(
            ((2.35, 0.25 + lift), (3.45, lift), (2.9, 1.0 + lift), (2.55, 1.05 + lift), (2.35, 0.7 + lift)),
            (-1.3, 1.3),
            STEEL,
        ),
    ]
    return fitted(CONSTRUCTION_VEHICLE, centred(solids), 'vehicle.construction', word)

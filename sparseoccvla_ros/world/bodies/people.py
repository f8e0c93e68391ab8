"""People and dogs: x is where they face."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.colours import COLOURS, draw_colour
from sparseoccvla_ros.world.bodies.fitting import centred, fitted
from sparseoccvla_ros.world.bodies.solids import Solid, Texture, ball, beam, box, frustum
from sparseoccvla_ros.world.bodies.thing import OTHERS, PEDESTRIAN, Shape
from sparseoccvla_ros.world.city import Colour

SKINS = ((0.86, 0.66, 0.53), (0.62, 0.43, 0.31), (0.38, 0.26, 0.18))
TROUSERS = ((0.10, 0.12, 0.20), (0.08, 0.08, 0.09), (0.30, 0.27, 0.22), (0.20, 0.26, 0.38), (0.42, 0.40, 0.37))


def draw_skin(rng: np.random.Generator) -> Colour:
    """A colour of skin."""
    return SKINS[rng.integers(len(SKINS))]


def draw_trousers(rng: np.random.Generator) -> Colour:
    """A colour of trousers, duller than any coat."""
    return TROUSERS[rng.integers(len(TROUSERS))]


def _figure(
    rng: np.random.Generator, height: float, coat: Colour, trousers: Colour, texture: Texture, stride_m: float
) -> list[Solid]:
    """Somebody who walks: legs and arms in mid-stride, a coat and a head."""
    stout = rng.uniform(0.92, 1.12) * height / 1.75
    hip, shoulder = 0.49 * height, 0.82 * height
    ahead = 1.0 if rng.random() < 0.5 else -1.0
    solids = [
        frustum(
            (-0.12 * stout, -0.19 * stout, 0.12 * stout, 0.19 * stout),
            (-0.13 * stout, -0.23 * stout, 0.13 * stout, 0.23 * stout),
            (0.44 * height, 0.83 * height),
            coat,
            texture,
        ),
        ball(
            (0.02, 0.0, 0.915 * height),
            (0.105 * stout, 0.095 * stout, 0.085 * height / 0.8507),
            draw_skin(rng),
            Texture.HEAD,
        ),
    ]
    for side in (-1.0, 1.0):
        step = side * ahead * stride_m
        solids.append(
            beam(
                (0.0, side * 0.10 * stout, hip),
                (step, side * 0.10 * stout, 0.07),
                (0.19 * stout, 0.12),
                trousers,
                Texture.CLOTH,
            )
        )
        foot = (step - 0.08, side * 0.10 * stout - 0.05, 0.0), (step + 0.18, side * 0.10 * stout + 0.05, 0.09)
        solids.append(box(*foot, (0.07, 0.06, 0.06)))
        hand = (-0.8 * step, side * 0.27 * stout, 0.47 * height)
        solids.append(beam((0.0, side * 0.25 * stout, shoulder), hand, (0.12 * stout, 0.09), coat, texture))
    return solids


def pedestrian(rng: np.random.Generator) -> Shape:
    """An adult in a coat of one colour, some with a rucksack or a bag."""
    height = rng.uniform(1.56, 1.90)
    word, coat = draw_colour(rng, tuple(COLOURS))
    solids = _figure(rng, height, coat, draw_trousers(rng), Texture.CLOTH, rng.uniform(0.10, 0.24))
    extra = rng.integers(4)
    if extra == 0:
        pack = (-0.30, -0.16, 0.55 * height), (-0.11, 0.16, 0.80 * height)
        solids.append(box(*pack, draw_trousers(rng), Texture.CLOTH))
    elif extra == 1:
        bag = (-0.14, 0.27, 0.24 * height), (0.14, 0.37, 0.42 * height)
        solids.append(box(*bag, (0.35, 0.22, 0.12), Texture.CLOTH))
    return fitted(PEDESTRIAN, centred(solids), 'human.pedestrian.adult', word)


def child(rng: np.random.Generator) -> Shape:
    """A child in a bright coat."""
    height = rng.uniform(1.05, 1.35)
    word, coat = draw_colour(rng, ('red', 'blue', 'green', 'yellow', 'white'))
    solids = _figure(rng, height, coat, draw_trousers(rng), Texture.CLOTH, rng.uniform(0.08, 0.16))
    return fitted(PEDESTRIAN, centred(solids), 'human.pedestrian.child', word)


def construction_worker(rng: np.random.Generator) -> Shape:
    """A worker in an orange or yellow jacket with reflecting bands, and a helmet."""
    height = rng.uniform(1.65, 1.88)
    jacket = ((1.0, 0.42, 0.02), (0.80, 0.95, 0.08))[rng.integers(2)]
    solids = _figure(rng, height, jacket, (0.12, 0.16, 0.30), Texture.VEST, rng.uniform(0.06, 0.16))
    helmet = ((0.95, 0.95, 0.93), (0.95, 0.80, 0.08))[rng.integers(2)]
    solids.append(
        frustum((-0.13, -0.13, 0.18, 0.13), (-0.08, -0.07, 0.08, 0.07), (0.935 * height, 1.02 * height), helmet)
    )
    return fitted(PEDESTRIAN, centred(solids), 'human.pedestrian.construction_worker')


def dog(rng: np.random.Generator) -> Shape:
    """A dog on four legs."""
    scale = rng.uniform(0.9, 1.25)
    coat = ((0.45, 0.30, 0.16), (0.09, 0.08, 0.08), (0.80, 0.74, 0.62), (0.36, 0.33, 0.30))[rng.integers(4)]
    parts = [
        ((-0.32, -0.12, 0.28), (0.26, 0.12, 0.54)),
        ((0.26, -0.09, 0.46), (0.46, 0.09, 0.70)),
        ((0.46, -0.05, 0.48), (0.60, 0.05, 0.60)),
        *(((x, y, 0.0), (x + 0.09, y + 0.09, 0.30)) for x in (-0.31, 0.16) for y in (-0.12, 0.03)),
    ]
    solids = [box(np.multiply(low, scale), np.multiply(high, scale), coat, Texture.CLOTH) for low, high in parts]
    tail = np.multiply((-0.30, 0.0, 0.50), scale), np.multiply((-0.52, 0.0, 0.68), scale)
    solids.append(beam(*tail, (0.08, 0.05), coat))
    return fitted(OTHERS, centred(solids), 'animal')

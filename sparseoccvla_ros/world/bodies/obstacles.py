"""What stands or lies on the road for a while: barriers, cones, bins, carts, debris."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.colours import draw_colour
from sparseoccvla_ros.world.bodies.fitting import centred, fitted
from sparseoccvla_ros.world.bodies.solids import Texture, beam, box, frustum, hull, pillar, prism, wheel
from sparseoccvla_ros.world.bodies.thing import BARRIER, OTHERS, TRAFFIC_CONE, Shape

RUBBER = (0.06, 0.06, 0.065)
RED = (0.80, 0.06, 0.05)


def barrier(rng: np.random.Generator) -> Shape:
    """A concrete block, a plastic block or a board on feet, all striped red and white; it lies along x."""
    half = rng.uniform(0.75, 1.0)
    kind = rng.integers(3)
    if kind == 0:
        corners = [
            (x * half, y * side, z)
            for z, side in ((0.0, 0.28), (0.28, 0.20), (0.85, 0.10))
            for x in (-1.0, 1.0)
            for y in (-1.0, 1.0)
        ]
        base = hull(np.array([corner for corner in corners if corner[2] < 0.8]), (0.62, 0.62, 0.60), Texture.CONCRETE)
        top = hull(np.array([corner for corner in corners if corner[2] > 0.2]), RED, Texture.STRIPES)
        return fitted(BARRIER, (base, top), 'movable_object.barrier')
    if kind == 1:
        block = frustum((-half, -0.25, half, 0.25), (-half, -0.12, half, 0.12), (0.0, 0.95), RED, Texture.STRIPES)
        return fitted(BARRIER, (block,), 'movable_object.barrier')
    feet = [box((x - 0.12, -0.30, 0.0), (x + 0.12, 0.30, 0.12), RUBBER) for x in (-0.75 * half, 0.75 * half)]
    posts = [box((x - 0.04, -0.04, 0.12), (x + 0.04, 0.04, 1.05), RED) for x in (-0.75 * half, 0.75 * half)]
    boards = [
        box((-half, -0.07, low), (half, 0.07, high), RED, Texture.STRIPES) for low, high in ((0.25, 0.50), (0.65, 1.05))
    ]
    return fitted(BARRIER, (*feet, *posts, *boards), 'movable_object.barrier')


def traffic_cone(rng: np.random.Generator) -> Shape:
    """An orange cone with white bands on a square foot."""
    foot, height = rng.uniform(0.20, 0.24), rng.uniform(0.75, 1.0)
    plate = box((-foot, -foot, 0.0), (foot, foot, 0.06), (0.85, 0.28, 0.03))
    cone = pillar((0.80 * foot, 0.035), (0.06, height), (1.0, 0.34, 0.02), Texture.CONE)
    return fitted(TRAFFIC_CONE, (plate, cone), 'movable_object.trafficcone')


def wheelie_bin(rng: np.random.Generator) -> Shape:
    """A refuse bin on two wheels with a sloping lid."""
    word, colour = draw_colour(rng, ('green', 'blue', 'black', 'yellow', 'grey'))
    height = rng.uniform(0.95, 1.10)
    solids = [
        frustum((-0.22, -0.22, 0.26, 0.22), (-0.29, -0.28, 0.30, 0.28), (0.05, height), (0.16, 0.17, 0.17)),
        prism(((-0.33, height), (0.33, height), (0.33, height + 0.05), (-0.33, height + 0.16)), (-0.30, 0.30), colour),
        *(wheel((-0.22, y, 0.10), 0.10, 0.06) for y in (-0.25, 0.25)),
        box((0.14, -0.16, 0.0), (0.24, 0.16, 0.06), RUBBER),
        beam((-0.36, -0.24, height + 0.05), (-0.36, 0.24, height + 0.05), (0.05, 0.05), RUBBER),
    ]
    # The body has the lid's colour in half of the bins.
    if rng.random() < 0.5:
        solids[0] = frustum((-0.22, -0.22, 0.26, 0.22), (-0.29, -0.28, 0.30, 0.28), (0.05, height), colour)
        return fitted(OTHERS, centred(solids), 'movable_object.pushable_pullable', word)
    return fitted(OTHERS, centred(solids), 'movable_object.pushable_pullable')


def hand_cart(rng: np.random.Generator) -> Shape:
    """A flat cart with four wheels, a handle and a load of boxes."""
    height = rng.uniform(0.35, 0.75)
    solids = [
        box((-0.55, -0.34, 0.26), (0.55, 0.34, 0.34), (0.20, 0.32, 0.50)),
        *(wheel((x, y, 0.13), 0.13, 0.07) for x in (-0.40, 0.40) for y in (-0.28, 0.28)),
        *(beam((-0.53, y, 0.30), (-0.72, y, 1.02), (0.05, 0.05), (0.60, 0.60, 0.62)) for y in (-0.30, 0.30)),
        beam((-0.72, -0.33, 1.0), (-0.72, 0.33, 1.0), (0.06, 0.06), RUBBER),
        box((-0.48, -0.28, 0.34), (0.05, 0.26, 0.34 + height), (0.66, 0.48, 0.28)),
        box((0.08, -0.25, 0.34), (0.50, 0.28, 0.34 + 0.7 * height), (0.60, 0.44, 0.26)),
    ]
    return fitted(OTHERS, centred(solids), 'movable_object.pushable_pullable')


def debris(rng: np.random.Generator) -> Shape:
    """Something that fell off a lorry: broken crates and planks in a heap."""
    solids = []
    for _ in range(rng.integers(3, 6)):
        x, y = rng.uniform(-0.45, 0.45), rng.uniform(-0.35, 0.35)
        half, turn, tall = rng.uniform(0.12, 0.45), rng.uniform(-np.pi, np.pi), rng.uniform(0.12, 0.45)
        narrow = rng.uniform(0.08, 0.22)
        cos, sin = np.cos(turn), np.sin(turn)
        corners = [
            (x + cos * a * half * shrink - sin * b * narrow * shrink, y + sin * a * half * shrink + cos * b * narrow, z)
            for z, shrink in ((0.0, 1.0), (tall, 0.8))
            for a in (-1.0, 1.0)
            for b in (-1.0, 1.0)
        ]
        tone = rng.uniform(0.7, 1.3)
        wood = ((0.50 * tone, 0.36 * tone, 0.21 * tone), (0.22 * tone, 0.22 * tone, 0.24 * tone))[rng.integers(2)]
        solids.append(hull(np.array(corners), wood, Texture.PLANKS))
    return fitted(OTHERS, centred(solids), 'movable_object.debris')

"""Bicycles and motorcycles, with and without their riders: x is forward."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.colours import draw_colour
from sparseoccvla_ros.world.bodies.fitting import centred, fitted
from sparseoccvla_ros.world.bodies.people import draw_skin, draw_trousers
from sparseoccvla_ros.world.bodies.solids import Solid, Texture, ball, beam, box, frustum, hull, wheel
from sparseoccvla_ros.world.bodies.thing import BICYCLE, MOTORCYCLE, Shape

WORDS = ('red', 'blue', 'green', 'yellow', 'black', 'white')
STEEL = (0.30, 0.30, 0.32)
RUBBER = (0.05, 0.05, 0.055)


def _rider(
    rng: np.random.Generator,
    hip_m: tuple[float, float],
    hand_m: tuple[float, float],
    feet_m: tuple[tuple[float, float], tuple[float, float]],
    spread_m: float,
    helmet: bool,
) -> list[Solid]:
    """Who sits with the hips at (x, z), hands at (x, z) and the right and left foot at (x, z)."""
    _, coat = draw_colour(rng, ('white', 'red', 'blue', 'green', 'yellow', 'black', 'grey'))
    trousers = draw_trousers(rng)
    hip_x, hip_z = hip_m
    shoulder_x, shoulder_z = hip_x + 0.28, hip_z + 0.50
    trunk = hull(
        np.array(
            [
                (x + dx, y * half, z)
                for x, z, half, depth in ((hip_x, hip_z - 0.06, 0.17, 0.13), (shoulder_x, shoulder_z, 0.21, 0.10))
                for dx in (-depth, depth)
                for y in (-1.0, 1.0)
            ]
        ),
        coat,
        Texture.CLOTH,
    )
    solids = [trunk]
    for side, (foot_x, foot_z) in zip((-1.0, 1.0), feet_m, strict=True):
        hip = (hip_x, side * 0.10, hip_z)
        knee = (0.5 * (hip_x + foot_x) + 0.22, side * spread_m, 0.5 * (hip_z + foot_z) + 0.10)
        solids.append(beam(hip, knee, (0.17, 0.14), trousers, Texture.CLOTH))
        solids.append(beam(knee, (foot_x, side * spread_m, foot_z), (0.14, 0.10), trousers, Texture.CLOTH))
        shoulder = (shoulder_x, side * 0.21, shoulder_z - 0.06)
        solids.append(beam(shoulder, (hand_m[0], side * 0.26, hand_m[1]), (0.11, 0.08), coat, Texture.CLOTH))
    head = (shoulder_x + 0.08, 0.0, shoulder_z + 0.16)
    if helmet:
        colour = draw_colour(rng, ('white', 'black', 'red', 'blue'))[1]
        solids.append(ball(head, (0.15, 0.14, 0.17), colour))
    else:
        solids.append(ball(head, (0.11, 0.10, 0.15), draw_skin(rng), Texture.HEAD))
    return solids


def bicycle(rng: np.random.Generator, ridden: bool) -> Shape:
    """A bicycle: two thin wheels, a diamond frame, saddle and handlebar."""
    word, colour = draw_colour(rng, WORDS)
    radius = rng.uniform(0.33, 0.35)
    base = rng.uniform(1.02, 1.08)
    front, rear, crank = (0.5 * base, radius), (-0.5 * base, radius), (-0.08, 0.29)
    saddle, head = (-0.24, 0.92), (0.5 * base - 0.20, 0.90)

    def tube(start: tuple[float, float], end: tuple[float, float]) -> Solid:
        return beam((start[0], 0.0, start[1]), (end[0], 0.0, end[1]), (0.05, 0.05), colour)

    seat_cluster, low_head = (-0.20, 0.78), (head[0] + 0.03, 0.74)
    solids = [
        wheel((*rear[:1], 0.0, radius), radius, 0.045, (0.60, 0.61, 0.62), sides=14),
        wheel((*front[:1], 0.0, radius), radius, 0.045, (0.60, 0.61, 0.62), sides=14),
        tube(crank, saddle),
        tube(seat_cluster, (head[0], 0.84)),
        tube(crank, low_head),
        tube(crank, rear),
        tube(seat_cluster, rear),
        tube(head, front),
        box((-0.37, -0.07, 0.92), (-0.11, 0.07, 0.98), RUBBER),
        box((head[0] - 0.05, -0.29, 0.98), (head[0] + 0.02, 0.29, 1.02), RUBBER),
        beam((head[0], 0.0, 0.88), (head[0] - 0.02, 0.0, 1.0), (0.05, 0.05), STEEL),
        box((head[0] + 0.04, -0.05, 0.84), (head[0] + 0.11, 0.05, 0.93), STEEL, Texture.LIGHTS),
        box((-0.5 * base - 0.02, -0.05, 0.66), (-0.5 * base + 0.04, 0.05, 0.74), STEEL, Texture.LIGHTS),
    ]
    if ridden:
        feet = ((crank[0] + 0.12, 0.20), (crank[0] - 0.06, 0.42))
        solids += _rider(rng, (-0.22, 1.02), (head[0] - 0.03, 1.02), feet, 0.13, helmet=rng.random() < 0.5)
    return fitted(BICYCLE, centred(solids), 'vehicle.bicycle', word)


def motorcycle(rng: np.random.Generator, ridden: bool) -> Shape:
    """A motorcycle: two thick wheels, tank and fairing in one colour, a dark engine and seat."""
    word, colour = draw_colour(rng, WORDS)
    radius, base = rng.uniform(0.30, 0.33), rng.uniform(1.38, 1.50)
    front, rear = 0.5 * base, -0.5 * base
    solids = [
        wheel((rear, 0.0, radius), radius, 0.20, (0.5, 0.5, 0.52), sides=12),
        wheel((front, 0.0, radius), radius, 0.16, (0.5, 0.5, 0.52), sides=12),
        frustum((-0.42, -0.20, 0.34, 0.20), (-0.36, -0.16, 0.42, 0.16), (0.24, 0.66), (0.16, 0.16, 0.17)),
        hull(
            np.array(
                [(x, y, z) for y in (-0.17, 0.17) for x, z in ((-0.12, 0.64), (0.46, 0.64), (0.40, 0.95), (0.02, 0.90))]
            ),
            colour,
        ),
        hull(
            np.array(
                [
                    (x, y, z)
                    for y in (-0.15, 0.15)
                    for x, z in ((-0.80, 0.78), (-0.05, 0.64), (-0.05, 0.80), (-0.85, 0.90))
                ]
            ),
            colour,
        ),
        box((-0.70, -0.14, 0.84), (-0.04, 0.14, 0.91), RUBBER),
        hull(
            np.array(
                [(x, y, z) for y in (-0.2, 0.2) for x, z in ((0.40, 0.70), (0.62, 0.72), (0.58, 1.02), (0.42, 1.12))]
            ),
            colour,
        ),
        beam((0.50, 0.0, 0.80), (front, 0.0, radius), (0.12, 0.10), STEEL),
        beam((-0.30, 0.0, 0.42), (rear, 0.0, radius), (0.14, 0.10), STEEL),
        box((0.34, -0.38, 1.00), (0.42, 0.38, 1.05), RUBBER),
        box((0.56, -0.12, 0.78), (0.68, 0.12, 0.95), STEEL, Texture.LIGHTS),
        box((-0.92, -0.13, 0.76), (-0.80, 0.13, 0.90), STEEL, Texture.LIGHTS),
        beam((0.10, -0.22, 0.32), (rear - 0.10, -0.22, 0.42), (0.10, 0.13), (0.62, 0.62, 0.64)),
    ]
    if ridden:
        feet = ((-0.12, 0.34), (-0.12, 0.34))
        solids += _rider(rng, (-0.32, 0.98), (0.36, 1.06), feet, 0.25, helmet=True)
    return fitted(MOTORCYCLE, centred(solids), 'vehicle.motorcycle', word)

"""The ground's colours: asphalt with its markings, kerbs, slabs, grass, islands."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.drawing.markings import markings_of
from sparseoccvla_ros.world.drawing.paint import WHITE, every, fade, hash01, mix, sample, settle
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import Ground

#: The noise repeats after this distance.
NOISE_PERIOD_M = 32.0
KERB_STONE = np.array((0.74, 0.74, 0.72), dtype=np.float32)
ISLAND_STONE = (0.70, 0.67, 0.58)
YELLOW = np.array((0.90, 0.70, 0.08), dtype=np.float32)
GRAVEL = np.array((0.50, 0.45, 0.37), dtype=np.float32)


def paint_ground(
    plan: Plan, city: City, noise: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colours of ground points, without light.

    Args:
        plan: streets and markings.
        city: colours.
        noise: tile from ``paint.noise_tile``.
        x_m: world x [N], metres.
        y_m: world y [N], metres.
        footprint_m: width of a pixel at each point [N], metres.

    Returns:
        RGB 0..1 [N, 3] float32 and ``Ground`` [N] uint8.
    """
    nearby = plan.near(x_m, y_m)
    ground = plan.ground_of(nearby, x_m, y_m)
    base = ground_albedo(city, noise, ground, x_m, y_m, footprint_m)
    markings = markings_of(nearby, ground, footprint_m)
    base = mix(base, base * np.float32((1.25, 0.85, 0.8)), markings.cycle * np.float32(0.8))
    base = mix(base, KERB_STONE, markings.kerb)
    scale = len(noise) / NOISE_PERIOD_M
    worn = sample(noise, x_m * scale * 4.0, y_m * scale * 4.0) - 0.5
    return mix(base, WHITE * np.float32(0.92), markings.paint * (0.9 + 0.3 * worn)), ground


def ground_albedo(
    city: City, noise: np.ndarray, ground: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray
) -> np.ndarray:
    """Colours [N, 3] of the bare ground by its kind [N], without paint and kerbs; else as :func:`paint_ground`."""
    scale = len(noise) / NOISE_PERIOD_M
    fine = (sample(noise, x_m * scale * 4.0, y_m * scale * 4.0) - 0.5) * fade(footprint_m, 0.15)
    coarse = sample(noise, x_m * scale * 0.25, y_m * scale * 0.25) - 0.5
    kinds = (city.asphalt, np.multiply(city.asphalt, 0.88), city.pavement, city.grass, ISLAND_STONE)
    contrast = np.array([0.34, 0.30, 0.16, 0.60, 0.20], dtype=np.float32)[ground]
    tone = 1.0 + contrast * fine + np.float32(0.5) * contrast * coarse
    colour = np.array(kinds, dtype=np.float32)[ground] * tone.astype(np.float32)[:, None]
    painters = {
        Ground.ASPHALT: _asphalt,
        Ground.PARKING: _parking,
        Ground.PAVEMENT: _slabs,
        Ground.GRASS: _grass,
        Ground.ISLAND: _island,
    }
    for kind, painter in painters.items():
        part = np.nonzero(ground == kind)[0]
        if len(part):
            colour[part] = painter(colour[part], noise, x_m[part], y_m[part], footprint_m[part], coarse[part])
    return colour


def _asphalt(
    colour: np.ndarray, noise: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """Cracks, mended patches, manhole covers and oil stains."""
    tone = np.ones(len(x_m), dtype=np.float32)
    column, row = np.floor(x_m / 7.0), np.floor(y_m / 7.0)
    draw = hash01(column, row, 1)
    u, v = x_m - 7.0 * column, y_m - 7.0 * row
    wide, deep = 1.0 + 4.0 * hash01(column, row, 2), 0.8 + 2.0 * hash01(column, row, 3)
    patch = (draw < 0.30) & (u > 0.8) & (u < 0.8 + wide) & (v > 1.0) & (v < 1.0 + deep)
    tone *= np.where(patch, 0.80 + 0.1 * draw, 1.0)
    away = np.hypot(u - 3.5, v - 3.0)
    tone *= np.where((draw > 0.72) & (draw < 0.86), 1.0 - 0.30 * np.clip(1.2 - away / 0.7, 0.0, 1.0), 1.0)
    bent = v - 5.0 - 0.5 * np.sin(2.1 * u + 6.0 * draw) - 0.16 * np.sin(7.3 * u)
    crack = (draw > 0.35) & (draw < 0.62) & (np.abs(bent) < 0.02) & (u > 0.8) & (u < 5.0)
    tone *= 1.0 - 0.5 * crack * fade(footprint_m, 0.12)
    colour = colour * tone.astype(np.float32)[:, None]
    cover = (draw > 0.90) & (away < 0.36)
    bars = every(u - v, 0.09, 0.045) & (away < 0.29)
    iron = np.where(bars | (away > 0.32), 0.62, 0.42)
    return np.where(cover[:, None], colour * iron.astype(np.float32)[:, None], colour)


def _parking(
    colour: np.ndarray, noise: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """Setts of 0.2 m with dark joints."""
    return colour * _stones(x_m, y_m, footprint_m, 0.22, 0.78)[:, None]


def _slabs(
    colour: np.ndarray, noise: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """Paving slabs of 0.8 m, each of its own tone, with dark joints."""
    return colour * _stones(x_m, y_m, footprint_m, 0.8, 0.72)[:, None]


def _stones(x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray, pitch_m: float, joint: float) -> np.ndarray:
    """Factor [N] of a square pattern of stones."""
    u, v = x_m / pitch_m, y_m / pitch_m
    width = 0.06 / pitch_m
    tone = np.where(every(u, 1.0, width) | every(v, 1.0, width), joint, 0.93 + 0.14 * hash01(np.floor(u), np.floor(v)))
    joints = 1.0 - (1.0 - width) ** 2
    return settle(tone, joints * joint + (1.0 - joints), footprint_m, 0.4 * pitch_m)


def _grass(
    colour: np.ndarray, noise: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """Blades, dry patches, bare gravel and flowers."""
    blades = sample(noise, x_m * 64.0, y_m * 64.0) - 0.5
    colour = colour * (1.0 + 0.9 * blades * fade(footprint_m, 0.06)).astype(np.float32)[:, None]
    dry = sample(noise, x_m * 2.3 + 90.0, y_m * 2.3) - 0.5
    colour = mix(colour, colour * np.float32((1.25, 1.05, 0.80)), np.clip(2.0 * dry, 0.0, 0.6))
    grains = 1.0 + 0.5 * (sample(noise, x_m * 40.0, y_m * 40.0) - 0.5) * fade(footprint_m, 0.08)
    stony = np.clip((coarse - 0.24) * 10.0, 0.0, 0.9)
    colour = mix(colour, GRAVEL * grains.astype(np.float32)[:, None], stony)
    column, row = np.floor(x_m / 0.3), np.floor(y_m / 0.3)
    draw = hash01(column, row)
    flower = (draw > 0.93) & (np.hypot(x_m - 0.3 * column - 0.15, y_m - 0.3 * row - 0.15) < 0.05) & (stony == 0.0)
    flower &= (dry < 0.0) & (footprint_m < 0.06)
    yellow = np.where((draw > 0.965)[:, None], np.float32((0.92, 0.80, 0.12)), np.float32((0.90, 0.90, 0.88)))
    return np.where(flower[:, None], yellow, colour)


def _island(
    colour: np.ndarray, noise: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """Pale cobbles under slanting yellow bars."""
    colour = colour * _stones(x_m, y_m, footprint_m, 0.16, 0.66)[:, None]
    share = settle(np.mod(x_m + y_m, 2.0) < 0.36, 0.18, footprint_m, 0.5)
    return mix(colour, np.broadcast_to(YELLOW, colour.shape), share)

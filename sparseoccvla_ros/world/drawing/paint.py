"""Procedural surfaces. Patterns finer than a pixel fade to their mean, so that nothing flickers in the distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sparseoccvla_ros.world.bodies.solids import Texture

GLASS = np.array((0.13, 0.17, 0.22), dtype=np.float32)
TYRE = np.array((0.05, 0.05, 0.055), dtype=np.float32)
WHITE = np.array((0.90, 0.90, 0.88), dtype=np.float32)


@dataclass(frozen=True)
class Surface:
    """Points on solids: ``point_m`` and ``normal`` [N, 3] in the object's frame, the solid's bounds ``low_m`` and
    ``high_m`` [N, 3], its number ``which`` [N], the size of a pixel there ``footprint_m`` [N], and the noise tile.
    """

    point_m: np.ndarray
    normal: np.ndarray
    low_m: np.ndarray
    high_m: np.ndarray
    which: np.ndarray
    footprint_m: np.ndarray
    noise: np.ndarray


def noise_tile(size: int) -> np.ndarray:
    """Smooth periodic noise float32 [size, size], 0..1, mean 0.5: the same in every world."""
    rng = np.random.default_rng(20240)
    total = np.zeros((size, size))
    for octave, weight in ((4, 0.4), (16, 0.3), (64, 0.2), (size, 0.25)):
        coarse = np.pad(rng.random((octave, octave)) - 0.5, 2, mode='wrap')
        step = size // octave
        fine = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += weight * fine[2 * step : 2 * step + size, 2 * step : 2 * step + size]
    return np.clip(0.5 + total * 1.3, 0.0, 1.0).astype(np.float32)


def sample(tile: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The tile's value at texel coordinates, repeated for ever."""
    mask = len(tile) - 1
    return tile[np.floor(y).astype(np.int64) & mask, np.floor(x).astype(np.int64) & mask]


def hash01(*keys: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each tuple of integers, float32."""
    value = np.zeros(np.shape(keys[0]), dtype=np.uint32)
    for key in keys:
        value = (value ^ np.asarray(key).astype(np.int64).astype(np.uint32)) * np.uint32(0x9E3779B1)
        value ^= value >> np.uint32(15)
        value *= np.uint32(0x85EBCA77)
        value ^= value >> np.uint32(13)
    return (value >> np.uint32(8)).astype(np.float32) * np.float32(1.0 / 2**24)


def fade(footprint_m: np.ndarray, detail_m: float) -> np.ndarray:
    """1 where a detail of this size is resolved, 0 where it is finer than a pixel."""
    return np.clip(1.6 - footprint_m / np.float32(0.6 * detail_m), 0.0, 1.0)


def mix(base: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours [N, 3] with ``over`` laid on by shares [N]."""
    return base + (over - base) * share.astype(np.float32)[:, None]


def line_cover(distance_m: np.ndarray, half_width_m: float, footprint_m: np.ndarray) -> np.ndarray:
    """Share of a pixel that a line covers, by the distance from its middle."""
    covered = np.clip(0.5 + (half_width_m - np.abs(distance_m)) / footprint_m, 0.0, 1.0)
    return np.minimum(covered, 2.0 * half_width_m / footprint_m)


def _wheels(surface: Surface, radius_m: float, places: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Tyres and hubs painted on the sides, at shares of the length."""
    x = (surface.point_m[:, 0] - surface.low_m[:, 0]) / (surface.high_m[:, 0] - surface.low_m[:, 0])
    length = surface.high_m[:, 0] - surface.low_m[:, 0]
    side = np.abs(surface.normal[:, 1]) > 0.7
    away = np.full(len(x), np.inf, dtype=np.float32)
    for place in places:
        away = np.minimum(away, np.hypot((x - place) * length, surface.point_m[:, 2] - radius_m))
    return side & (away < radius_m), side & (away < 0.5 * radius_m)


def _underbody(surface: Surface, colour: np.ndarray, clearance_m: float, radius_m: float, places: tuple) -> np.ndarray:
    tyre, hub = _wheels(surface, radius_m, places)
    colour = np.where((surface.point_m[:, 2] < clearance_m)[:, None], TYRE * np.float32(0.8), colour)
    colour = np.where(tyre[:, None], TYRE, colour)
    return np.where(hub[:, None], np.float32(0.42), colour)


def _lamps(surface: Surface, colour: np.ndarray, low_m: float, high_m: float) -> np.ndarray:
    """White in front, red behind, at the outer quarters."""
    z = surface.point_m[:, 2]
    half = surface.high_m[:, 1]
    outer = (np.abs(surface.point_m[:, 1]) > 0.62 * half) & (z > low_m) & (z < high_m)
    colour = np.where((outer & (surface.normal[:, 0] > 0.7))[:, None], np.float32((1.0, 0.97, 0.85)), colour)
    return np.where((outer & (surface.normal[:, 0] < -0.7))[:, None], np.float32((0.85, 0.05, 0.05)), colour)


def plain(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """One colour."""
    return colour


def cloth(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Folds."""
    folds = sample(surface.noise, surface.point_m[:, 1] * 90.0 + surface.which * 31, surface.point_m[:, 2] * 25.0)
    return colour * (0.8 + 0.4 * folds)[:, None]


def foliage(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Clumps of leaves, lighter above."""
    p = surface.point_m
    angle = np.arctan2(p[:, 1], p[:, 0]) * 20.0 + p[:, 0] * 9.0
    leaves = sample(surface.noise, angle + surface.which * 17, p[:, 2] * 16.0)
    clumps = sample(surface.noise, angle * 0.3 + surface.which * 5, p[:, 2] * 5.0)
    contrast = 0.35 + 0.65 * fade(surface.footprint_m, 0.25)
    rise = (p[:, 2] - surface.low_m[:, 2]) / (surface.high_m[:, 2] - surface.low_m[:, 2])
    tone = 0.72 + 0.3 * rise + ((leaves - 0.5) * 1.1 + (clumps - 0.5) * 0.7) * contrast
    return colour * np.clip(tone, 0.25, 1.6)[:, None]


def facade(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Storeys of windows over a ground floor with wide openings."""
    p, low = surface.point_m, surface.low_m
    end = np.abs(surface.normal[:, 0]) > 0.7
    along = np.where(end, p[:, 1] - low[:, 1], p[:, 0] - low[:, 0])
    pitch, storey = 2.4 + 0.5 * hash01(surface.which), 3.1
    column, row = np.floor(along / pitch), np.floor(p[:, 2] / storey)
    u, v = along / pitch - column, p[:, 2] / storey - row
    ground_floor = row == 0
    window = (u > 0.24) & (u < 0.76) & (v > 0.30) & (v < 0.80)
    window = np.where(ground_floor, (u > 0.10) & (u < 0.90) & (v > 0.08) & (v < 0.80), window)
    window &= p[:, 2] < surface.high_m[:, 2] - 0.7
    draw = hash01(surface.which, column, row, end)
    pane = GLASS + (draw * 0.35)[:, None] * np.float32((0.75, 0.85, 1.0))
    pane = np.where((draw > 0.85)[:, None], np.float32((0.62, 0.58, 0.48)), pane)
    bricks = sample(surface.noise, along * 8.0 + surface.which * 13, p[:, 2] * 10.0) - 0.5
    resolved = fade(surface.footprint_m, 0.8)
    wall = colour * (1.0 + 0.22 * bricks * fade(surface.footprint_m, 0.2))[:, None]
    plinth = (p[:, 2] < 0.5) | (np.abs(v - 0.98) < 0.03)
    wall = wall * np.where(plinth, 0.8, 1.0).astype(np.float32)[:, None]
    share = np.where(window, resolved, 0.0) + 0.27 * (1.0 - resolved)
    face = mix(wall, np.where(window[:, None], pane, GLASS + np.float32(0.1)), share)
    roof = surface.normal[:, 2] > 0.5
    return np.where(roof[:, None], np.float32(0.36), face)


def car_body(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Lower half of a car: wheels, bumpers, lamps, number plates."""
    z, y = surface.point_m[:, 2], surface.point_m[:, 1]
    ends = np.abs(surface.normal[:, 0]) > 0.7
    colour = np.where((ends & (z < 0.42))[:, None], colour * np.float32(0.45), colour)
    colour = np.where((ends & (np.abs(y) < 0.26) & (np.abs(z - 0.5) < 0.07))[:, None], WHITE, colour)
    colour = _lamps(surface, colour, 0.56, 0.76)
    return _underbody(surface, colour, 0.2, 0.33, (0.19, 0.80))


def car_cabin(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Glass between pillars under a painted roof; the cab of a lorry stands on the ground and has wheels too."""
    p, low, high = surface.point_m, surface.low_m, surface.high_m
    tall = low[:, 2] < 0.1
    rise = (p[:, 2] - low[:, 2]) / (high[:, 2] - low[:, 2])
    along = (p[:, 0] - low[:, 0]) / (high[:, 0] - low[:, 0])
    side = np.abs(surface.normal[:, 1]) > 0.7
    glass = (rise > np.where(tall, 0.55, 0.10)) & (rise < 0.88) & (surface.normal[:, 2] < 0.85)
    pillar = side & ((np.abs(along - 0.52) < 0.025) | (along < 0.10) | (along > 0.93))
    pillar |= ~side & (np.abs(p[:, 1]) > 0.86 * high[:, 1])
    sheen = GLASS + (0.25 * rise)[:, None] * np.float32((0.7, 0.85, 1.0))
    painted = np.where((glass & ~pillar)[:, None], sheen, colour)
    lorry = _underbody(surface, _lamps(surface, painted, 0.6, 0.85), 0.35, 0.46, (0.45,))
    return np.where(tall[:, None], lorry, painted)


def bus_side(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A band of windows around a painted body."""
    p, high = surface.point_m, surface.high_m
    rise = p[:, 2] / high[:, 2]
    along = np.where(np.abs(surface.normal[:, 1]) > 0.7, p[:, 0], p[:, 1] + 0.75)
    band = (rise > 0.40) & (rise < 0.82) & (surface.normal[:, 2] < 0.5)
    pillar = np.abs(along / 1.5 - np.round(along / 1.5)) < 0.05
    pane = GLASS + (0.2 * rise)[:, None] * np.float32((0.8, 0.9, 1.0))
    colour = np.where((band & ~pillar)[:, None], pane, colour)
    colour = np.where(((rise > 0.86) & (surface.normal[:, 2] < 0.5))[:, None], colour * np.float32(0.7), colour)
    return _underbody(surface, _lamps(surface, colour, 0.6, 0.85), 0.3, 0.48, (0.22, 0.80))


def cargo(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A box with ribs above a chassis with wheels, doors and lamps behind."""
    p = surface.point_m
    along = np.where(np.abs(surface.normal[:, 1]) > 0.7, p[:, 0], p[:, 1])
    rib = np.abs(along / 1.2 - np.round(along / 1.2)) < 0.04
    share = np.where(rib, 0.3, 0.0) * fade(surface.footprint_m, 0.15)
    colour = colour * (1.0 - share).astype(np.float32)[:, None]
    colour = np.where((p[:, 2] < 0.95)[:, None], np.float32(0.16), colour)
    return _underbody(surface, _lamps(surface, colour, 0.65, 0.9), 0.4, 0.46, (0.18, 0.36))


Paint = Callable[[Surface, np.ndarray], np.ndarray]
#: How each :class:`Texture` is painted: points on the surface and base colours [N, 3] give colours [N, 3].
PAINTS: dict[Texture, Paint] = {
    Texture.PLAIN: plain,
    Texture.FACADE: facade,
    Texture.CAR_BODY: car_body,
    Texture.CAR_CABIN: car_cabin,
    Texture.BUS: bus_side,
    Texture.CARGO: cargo,
    Texture.FOLIAGE: foliage,
    Texture.CLOTH: cloth,
}

"""How buildings, walls and street furniture are painted, and what shines on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.drawing.paint import GLASS, Surface, every, fade, hash01, lay, mix, sample, settle

STOREY_M = 3.1
#: Up to this height a building is a house: no shops, ordinary windows downstairs.
HOUSE_M = 9.0
ROOF = (0.36, 0.36, 0.36)
SHOP_SIGNS = np.array(
    ((0.70, 0.10, 0.08), (0.08, 0.28, 0.55), (0.10, 0.40, 0.20), (0.85, 0.62, 0.08), (0.12, 0.12, 0.13)),
    dtype=np.float32,
)
DOORS = np.array(((0.34, 0.20, 0.11), (0.10, 0.24, 0.17), (0.30, 0.08, 0.08), (0.16, 0.20, 0.30)), dtype=np.float32)
LIT_PANE = (0.95, 0.74, 0.40)
SHOP_LIGHT = (0.80, 0.74, 0.58)


@dataclass(frozen=True)
class _Layout:
    """Where each point [N] of a front lies: which column and storey, where in it (0..1), and what it belongs to."""

    column: np.ndarray
    row: np.ndarray
    u: np.ndarray
    v: np.ndarray
    window: np.ndarray
    shop: np.ndarray
    door: np.ndarray
    draw: np.ndarray


def _layout(surface: Surface) -> _Layout:
    p = surface.point_m
    along = surface.along()
    pitch = 2.4 + 0.5 * hash01(surface.which)
    column, row = np.floor(along / pitch), np.floor(p[:, 2] / STOREY_M)
    u, v = along / pitch - column, p[:, 2] / STOREY_M - row
    draw = hash01(surface.which, column, row, surface.on_side())
    ground_floor = row == 0
    shop = ground_floor & (surface.high_m[:, 2] > HOUSE_M)
    upright = (np.abs(surface.normal[:, 2]) < 0.5) & (p[:, 2] < surface.high_m[:, 2] - 0.5)
    # The last column ends where the wall does.
    length = np.where(
        surface.on_side(), surface.high_m[:, 0] - surface.low_m[:, 0], surface.high_m[:, 1] - surface.low_m[:, 1]
    )
    upright &= (column + 1.0) * pitch < length + 0.2
    door = ground_floor & (hash01(surface.which, column, surface.on_side(), 5) < 0.22) & upright
    window = upright & (u > 0.24) & (u < 0.76) & (v > 0.30) & (v < 0.80)
    window = np.where(shop, upright & (u > 0.08) & (u < 0.92) & (v > 0.14) & (v < 0.76), window) & ~door
    door &= (u > 0.30) & (u < 0.70) & (v < 0.72)
    return _Layout(column, row, u, v, window, shop & upright, door, draw)


def facade(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Storeys of windows in plaster or brick, with doors, and shops under their signs in tall houses."""
    p, place = surface.point_m, _layout(surface)
    resolved = fade(surface.footprint_m, 0.8)
    grain = sample(surface.noise, surface.along() * 8.0 + surface.which * 13, p[:, 2] * 10.0) - 0.5
    stain = sample(surface.noise, surface.along() * 2.0 + surface.which * 7, p[:, 2] * 0.7) - 0.5
    tone = 1.0 + 0.16 * grain * fade(surface.footprint_m, 0.2) + 0.22 * stain
    bricks = hash01(surface.which, 3) < 0.45
    tone *= np.where(bricks, brick_tone(surface), 1.0)
    tone *= np.where((p[:, 2] < 0.5) | (place.v > 0.955) | (p[:, 2] > surface.high_m[:, 2] - 0.35), 0.78, 1.0)
    wall = colour * tone.astype(np.float32)[:, None]
    pane = GLASS + (place.draw * 0.30)[:, None] * np.float32((0.75, 0.85, 1.0)) * (0.6 + 0.8 * place.v)[:, None]
    curtain = (place.draw > 0.7) & ~place.shop & (np.abs(place.u - 0.5) > 0.14)
    pane = lay(pane, (0.72, 0.69, 0.62), curtain)
    frame = np.where(
        place.shop, np.abs(place.u - 0.5) < 0.015, (np.abs(place.u - 0.5) < 0.02) | every(place.v - 0.55, 9.0, 0.02)
    )
    pane = lay(pane, (0.80, 0.79, 0.76), frame & (surface.footprint_m < 0.12))
    face = mix(
        wall, np.where(place.window[:, None], pane, GLASS + np.float32(0.1)), np.where(place.window, resolved, 0.0)
    )
    face = mix(face, np.broadcast_to(GLASS + np.float32(0.1), face.shape), 0.27 * (1.0 - resolved))
    # Sills and lintels.
    around = (
        ~place.window
        & ~place.shop
        & (np.abs(place.u - 0.5) < 0.29)
        & (np.abs(place.v - 0.55) < 0.285)
        & (place.row >= 0)
    )
    trim = around & ((place.v > 0.79) | (place.v < 0.31)) & (np.abs(surface.normal[:, 2]) < 0.5)
    face = mix(
        face, np.minimum(colour * np.float32(1.25), np.float32(0.92)), 0.8 * trim * fade(surface.footprint_m, 0.25)
    )
    pick = np.floor(hash01(surface.which, place.column // 3, 9) * 4.99).astype(np.int64)
    sign = place.shop & (place.v > 0.79) & (place.v < 0.94)
    face = np.where(sign[:, None], SHOP_SIGNS[pick], face)
    letters = (
        sign & (place.v > 0.83) & (place.v < 0.90) & (hash01(surface.which, np.floor(surface.along() / 0.22), 4) > 0.4)
    )
    face = mix(
        face, np.broadcast_to(np.float32((0.92, 0.90, 0.84)), face.shape), letters * fade(surface.footprint_m, 0.2)
    )
    face = np.where(place.door[:, None], DOORS[pick % len(DOORS)], face)
    return lay(face, ROOF, surface.normal[:, 2] > 0.5)


def facade_light(surface: Surface, night: float) -> np.ndarray:
    """Lit rooms and shops."""
    place = _layout(surface)
    lit = place.window & (hash01(surface.which, place.column, place.row, surface.on_side(), 7) < 0.34)
    light = lay(np.zeros_like(surface.point_m), LIT_PANE, lit)
    shop = place.window & place.shop & (place.draw < 0.6)
    light = np.where(shop[:, None], np.float32(SHOP_LIGHT) * (0.5 + 0.5 * place.v)[:, None], light)
    strength = 0.65 * night * fade(surface.footprint_m, 0.8) * (0.5 + 0.5 * place.draw)
    return light * strength.astype(np.float32)[:, None] * np.float32(night > 0.3)


def glass_facade(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A curtain wall: panes that mirror the sky between thin bars."""
    p = surface.point_m
    column, row = np.floor(surface.along() / 1.5), np.floor(p[:, 2] / 3.4)
    u, v = surface.along() / 1.5 - column, p[:, 2] / 3.4 - row
    draw = hash01(surface.which, column, row, surface.on_side())
    pane = np.float32((0.20, 0.28, 0.36)) + (0.10 * draw + 0.25 * surface.share(2))[:, None] * np.float32(
        (0.8, 0.95, 1.1)
    )
    bar = (u < 0.06) | (v < 0.05)
    spandrel = v > 0.80
    resolved = fade(surface.footprint_m, 0.5)
    face = mix(pane, colour * np.float32(0.8), 0.7 * spandrel * fade(surface.footprint_m, 1.2))
    face = mix(
        face, np.broadcast_to(np.float32((0.55, 0.57, 0.60)), face.shape), bar * resolved + 0.1 * (1.0 - resolved)
    )
    face = lay(face, (0.30, 0.29, 0.28), (p[:, 2] < 0.4))
    return lay(face, ROOF, surface.normal[:, 2] > 0.5)


def glass_facade_light(surface: Surface, night: float) -> np.ndarray:
    """Offices where somebody works late."""
    p = surface.point_m
    column, row = np.floor(surface.along() / 3.0), np.floor(p[:, 2] / 3.4)
    v = p[:, 2] / 3.4 - row
    lit = (hash01(surface.which, column, row, surface.on_side(), 7) < 0.30) | (row == 0)
    lit &= (v > 0.05) & (v < 0.80) & (surface.normal[:, 2] < 0.5)
    return lay(np.zeros_like(p), np.multiply((0.40, 0.42, 0.37), night), lit & (night > 0.3))


def brick_tone(surface: Surface) -> np.ndarray:
    """Factor [N] of courses of bricks, 0.1 m high and 0.3 m long, with paler joints."""
    course = np.floor(surface.point_m[:, 2] / 0.10)
    along = surface.along() / 0.30 + 0.5 * np.mod(course, 2.0)
    joint = (surface.point_m[:, 2] / 0.10 - course < 0.14) | (along - np.floor(along) < 0.05)
    tone = np.where(joint, 1.22, 0.84 + 0.28 * hash01(course, np.floor(along)))
    return settle(tone, 1.024, surface.footprint_m, 0.11)


def brick(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A brick wall."""
    return colour * brick_tone(surface)[:, None]


def concrete(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Pores, joints every two metres, dirt below."""
    grain = sample(surface.noise, surface.along() * 24.0 + surface.which * 11, surface.point_m[:, 2] * 24.0) - 0.5
    tone = 0.86 + 0.18 * surface.share(2) + 0.20 * grain * fade(surface.footprint_m, 0.1)
    tone = np.where(every(surface.along(), 2.0, 0.04), 0.75 * tone, tone)
    return colour * tone.astype(np.float32)[:, None]


def planks(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Boards of 0.15 m, each of its own tone."""
    board = np.floor(surface.along() / 0.15)
    joint = surface.along() / 0.15 - board < 0.10
    tone = np.where(joint, 0.55, 0.85 + 0.3 * hash01(surface.which, board))
    return colour * settle(tone, 0.955, surface.footprint_m, 0.12)[:, None]


def roof(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Rows of tiles."""
    p = surface.point_m
    row = np.floor(p[:, 2] / 0.16)
    shadow = p[:, 2] / 0.16 - row < 0.25
    tile = hash01(row, np.floor(p[:, 0] / 0.3 + 0.5 * np.mod(row, 2.0)))
    fine = np.where(shadow, 0.72, 0.9 + 0.2 * tile)
    worn = sample(surface.noise, p[:, 0] * 4.0 + surface.which * 3, p[:, 2] * 6.0) - 0.5
    tone = settle(fine, 0.93, surface.footprint_m, 0.2) * (1.0 + 0.3 * worn)
    return colour * tone.astype(np.float32)[:, None]


def stripes(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Slanting bands of white."""
    slant = np.mod(surface.along() + surface.point_m[:, 2], 0.5) < 0.25
    white = np.where(slant, fade(surface.footprint_m, 0.4), 0.0) + 0.5 * (1.0 - fade(surface.footprint_m, 0.4))
    return mix(colour, np.broadcast_to(np.float32((0.93, 0.93, 0.91)), colour.shape), white)


def cone(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Two white bands."""
    rise = surface.share(2)
    return lay(colour, (0.95, 0.95, 0.93), ((rise > 0.32) & (rise < 0.52)) | ((rise > 0.66) & (rise < 0.80)))


def street_lamp_light(surface: Surface, night: float) -> np.ndarray:
    """Its light, downwards and sidewards."""
    strength = np.where(surface.normal[:, 2] < -0.5, 1.4, np.where(surface.normal[:, 2] > 0.5, 0.1, 0.9))
    strength = strength * (night > 0.3)
    return strength.astype(np.float32)[:, None] * np.float32((1.0, 0.80, 0.50))


SIGNAL_LAMPS = (
    (0.84, Lamps.RED, (1.30, 0.08, 0.05)),
    (0.50, Lamps.AMBER, (1.30, 0.72, 0.03)),
    (0.16, Lamps.GREEN, (0.08, 1.20, 0.40)),
)


def _signal_lamp(surface: Surface, rise: float) -> np.ndarray:
    low, high = surface.low_m, surface.high_m
    z = surface.point_m[:, 2] - (low[:, 2] + rise * (high[:, 2] - low[:, 2]))
    return (surface.normal[:, 0] < -0.7) & (np.hypot(surface.point_m[:, 1], z) < 0.155)


def signal(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Three dark lamps, red above, green below, on the face towards -x."""
    for rise, _, shine in SIGNAL_LAMPS:
        colour = lay(colour, np.multiply(shine, 0.13), _signal_lamp(surface, rise))
    return colour


def signal_light(surface: Surface, night: float) -> np.ndarray:
    """The lamps that are lit, by day too."""
    light = np.zeros_like(surface.point_m)
    for rise, lamp, shine in SIGNAL_LAMPS:
        light = lay(light, shine, _signal_lamp(surface, rise) & ((surface.lamps & lamp) > 0))
    return light


def crossing_sign(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A white triangle with somebody who walks, on both faces."""
    up, across = surface.share(2), np.abs(surface.share(1) - 0.5)
    face = np.abs(surface.normal[:, 0]) > 0.7
    colour = lay(colour, (0.95, 0.95, 0.95), face & (up > 0.14) & (across < 0.40 * (0.90 - up) / 0.76))
    return lay(colour, (0.05, 0.05, 0.05), face & (across < 0.045) & (up > 0.22) & (up < 0.66))


def speed_sign(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A red ring around two digits on the face towards -x."""
    up, across = surface.share(2) - 0.5, surface.share(1) - 0.5
    out, face = np.hypot(up, across), surface.normal[:, 0] < -0.7
    colour = lay(colour, (0.78, 0.05, 0.06), face & (out >= 0.36))
    colour = lay(colour, (0.94, 0.94, 0.92), face & (out < 0.36))
    digit = (np.abs(np.abs(across) - 0.13) < 0.08) & (np.abs(up) < 0.17)
    hollow = (np.abs(np.abs(across) - 0.13) < 0.03) & (np.abs(up) < 0.11)
    return lay(colour, (0.05, 0.05, 0.05), face & digit & ~hollow)


def shelter(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Glass in a frame, with a poster."""
    along, up = surface.along(), surface.share(2)
    length = np.where(
        surface.on_side(), surface.high_m[:, 0] - surface.low_m[:, 0], surface.high_m[:, 1] - surface.low_m[:, 1]
    )
    frame = (up < 0.04) | (up > 0.95) | (along < 0.06) | (along > length - 0.06) | every(along, 1.1, 0.06)
    glass = np.float32((0.42, 0.48, 0.50)) + (0.12 * up)[:, None]
    poster = (up > 0.25) & (up < 0.80) & (length < 1.5) & (along > 0.15) & (along < length - 0.15)
    glass = lay(glass, (0.80, 0.45, 0.15), poster)
    return np.where(frame[:, None], colour, glass)

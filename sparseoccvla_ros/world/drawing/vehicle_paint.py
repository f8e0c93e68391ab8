"""How vehicles are painted, and how their lamps shine."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.drawing.paint import GLASS, TYRE, WHITE, Surface, every, fade, lay, mix

HEADLIGHT = (1.0, 0.96, 0.85)
TAIL_LIGHT = (0.50, 0.025, 0.02)
BRAKE_LIGHT = (1.25, 0.12, 0.07)
INDICATOR = (1.25, 0.62, 0.02)
#: Heights of the lamps of cars, vans and lorries, metres.
CAR_LAMPS_M = (0.58, 0.82)
VAN_LAMPS_M = (0.68, 1.02)
LORRY_LAMPS_M = (0.62, 0.90)
BUS_LAMPS_M = (0.68, 1.00)
#: A raised hold stands on a chassis of its own and has neither wheels nor lamps.
RAISED_M = 0.5


def _underbody(surface: Surface, colour: np.ndarray, clearance_m: float, radius_m: float, places: tuple) -> np.ndarray:
    """Dark below, tyres and hubs painted on the sides at shares of the length."""
    colour = lay(colour, TYRE * np.float32(0.8), surface.point_m[:, 2] < clearance_m)
    length = surface.high_m[:, 0] - surface.low_m[:, 0]
    away = np.full(len(length), np.inf, dtype=np.float32)
    for place in places:
        away = np.minimum(away, np.hypot((surface.share(0) - place) * length, surface.point_m[:, 2] - radius_m))
    side = surface.on_side()
    colour = lay(colour, TYRE, side & (away < 1.12 * radius_m))
    return lay(colour, (0.46, 0.47, 0.48), side & (away < 0.58 * radius_m))


def _clusters(surface: Surface, heights_m: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which points [N] lie on a front lamp, a rear lamp, and the outer part of either."""
    p = surface.point_m
    off = np.abs(p[:, 1]) / surface.high_m[:, 1]
    lamp = (off > 0.58) & (p[:, 2] > heights_m[0]) & (p[:, 2] < heights_m[1])
    front = lamp & (p[:, 0] > surface.high_m[:, 0] - 0.16) & (surface.normal[:, 0] > -0.5)
    rear = lamp & (p[:, 0] < surface.low_m[:, 0] + 0.12) & (surface.normal[:, 0] < 0.5)
    return front, rear, off > 0.80


def _lamps(surface: Surface, colour: np.ndarray, heights_m: tuple[float, float], ends: str = 'both') -> np.ndarray:
    front, rear, _ = _clusters(surface, heights_m)
    if ends != 'rear':
        colour = lay(colour, (0.82, 0.83, 0.80), front)
    return colour if ends == 'front' else lay(colour, (0.36, 0.02, 0.03), rear)


def _shine(
    surface: Surface, heights_m: tuple[float, float], night: float, ends: str = 'both'
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Light [N, 3] of the lamps; and the points of the front and the rear ones."""
    front, rear, outer = _clusters(surface, heights_m)
    front, rear = front & (ends != 'rear'), rear & (ends != 'front')
    light = np.zeros_like(surface.point_m)
    on = surface.driven & (night > 0.0)
    light = lay(light, HEADLIGHT, front & on)
    light = lay(light, TAIL_LIGHT, rear & on)
    light = lay(light, BRAKE_LIGHT, rear & ((surface.lamps & Lamps.BRAKE) > 0))
    turn = np.where(surface.point_m[:, 1] > 0.0, surface.lamps & Lamps.LEFT, surface.lamps & Lamps.RIGHT) > 0
    return lay(light, INDICATOR, (front | rear) & outer & turn), front, rear


def car_body(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Lower part of a car: wheels, bumpers, doors, lamps, number plates."""
    z, y = surface.point_m[:, 2], surface.point_m[:, 1]
    ends = np.abs(surface.normal[:, 0]) > 0.6
    along, side = surface.share(0), surface.on_side()
    seams = side & (every(along - 0.36, 0.22, 0.005) & (along > 0.3) & (along < 0.84)) & (z > 0.25)
    colour = colour * (1.0 - 0.5 * seams * fade(surface.footprint_m, 0.06)).astype(np.float32)[:, None]
    handle = side & (every(along - 0.40, 0.22, 0.03) & (along > 0.35) & (along < 0.70)) & every(z - 0.74, 9.0, 0.03)
    colour = colour * np.where(handle, 0.6, 1.0).astype(np.float32)[:, None]
    colour = lay(colour, (0.09, 0.09, 0.10), ends & (z < 0.40))
    grille = (surface.normal[:, 0] > 0.6) & (np.abs(y) < 0.45) & (z > 0.52) & (z < 0.70)
    colour = lay(colour, (0.08, 0.08, 0.09), grille)
    colour = lay(colour, WHITE, ends & (np.abs(y) < 0.26) & (np.abs(z - 0.47) < 0.06))
    colour = _lamps(surface, colour, CAR_LAMPS_M)
    return _underbody(surface, colour, 0.19, 0.33, (0.18, 0.81))


def car_body_light(surface: Surface, night: float) -> np.ndarray:
    """Lamps of a car."""
    return _shine(surface, CAR_LAMPS_M, night)[0]


def car_cabin(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Glass between pillars under a painted roof."""
    p, high = surface.point_m, surface.high_m
    rise, along, side = surface.share(2), surface.share(0), surface.on_side()
    glass = (rise > 0.08) & (rise < 0.88) & (surface.normal[:, 2] < 0.85)
    pillar = side & ((np.abs(along - 0.50) < 0.025) | (along < 0.10) | (along > 0.92))
    pillar |= ~side & (np.abs(p[:, 1]) > 0.86 * high[:, 1])
    sheen = GLASS + (0.25 * rise)[:, None] * np.float32((0.7, 0.85, 1.0))
    return np.where((glass & ~pillar)[:, None], sheen, colour)


def car_cabin_light(surface: Surface, night: float) -> np.ndarray:
    """The third brake light, under the upper edge of the rear window."""
    rear = (surface.normal[:, 0] < -0.2) & (surface.share(2) > 0.74) & (np.abs(surface.point_m[:, 1]) < 0.30)
    return lay(np.zeros_like(surface.point_m), BRAKE_LIGHT, rear & ((surface.lamps & Lamps.BRAKE) > 0))


def lorry_cab(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Windscreen and door windows high up, grille, wheels."""
    p = surface.point_m
    rise, along, side = surface.share(2), surface.share(0), surface.on_side()
    front = surface.normal[:, 0] > 0.2
    glass = (rise > 0.52) & (rise < 0.80) & (front | (side & (along > 0.48) & (along < 0.90)))
    glass &= ~front | (np.abs(p[:, 1]) < 0.9 * surface.high_m[:, 1])
    colour = lay(colour, (0.10, 0.10, 0.11), front & (rise > 0.26) & (rise < 0.46) & every(p[:, 2], 0.12, 0.07))
    sheen = GLASS + (0.25 * rise)[:, None] * np.float32((0.7, 0.85, 1.0))
    colour = np.where(glass[:, None], sheen, colour)
    colour = lay(colour, (0.12, 0.12, 0.13), front & (p[:, 2] < 0.58))
    return _underbody(surface, _lamps(surface, colour, LORRY_LAMPS_M, 'front'), 0.35, 0.46, (0.45,))


def lorry_cab_light(surface: Surface, night: float) -> np.ndarray:
    """Headlights of a lorry."""
    return _shine(surface, LORRY_LAMPS_M, night, 'front')[0]


def van(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A delivery van in one piece: windows in front only."""
    p = surface.point_m
    rise, along, side = surface.share(2), surface.share(0), surface.on_side()
    screen = (
        (surface.normal[:, 0] > 0.3) & (rise > 0.58) & (rise < 0.94) & (np.abs(p[:, 1]) < 0.88 * surface.high_m[:, 1])
    )
    screen |= side & (rise > 0.54) & (rise < 0.80) & (along > 0.70) & (along < 0.85)
    rear = surface.normal[:, 0] < -0.7
    screen |= rear & (rise > 0.55) & (rise < 0.82) & (np.abs(np.abs(p[:, 1]) - 0.45) < 0.30)
    seam = (rear & (np.abs(p[:, 1]) < 0.02)) | (side & every(along - 0.69, 0.22, 0.006) & (along > 0.4))
    colour = colour * (1.0 - 0.5 * seam * fade(surface.footprint_m, 0.06)).astype(np.float32)[:, None]
    sheen = GLASS + (0.25 * rise)[:, None] * np.float32((0.7, 0.85, 1.0))
    colour = np.where(screen[:, None], sheen, colour)
    colour = lay(colour, (0.10, 0.10, 0.11), (np.abs(surface.normal[:, 0]) > 0.7) & (p[:, 2] < 0.5))
    return _underbody(surface, _lamps(surface, colour, VAN_LAMPS_M), 0.24, 0.36, (0.20, 0.83))


def van_light(surface: Surface, night: float) -> np.ndarray:
    """Lamps of a van."""
    return _shine(surface, VAN_LAMPS_M, night)[0]


def cargo(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A box with ribs and rear doors; unless raised, above a chassis with wheels and lamps."""
    p = surface.point_m
    rib = every(surface.along(), 1.2, 0.08)
    rear = surface.normal[:, 0] < -0.7
    rib |= rear & ((np.abs(p[:, 1]) < 0.03) | (np.abs(np.abs(p[:, 1]) - 0.35) < 0.02))
    colour = colour * (1.0 - 0.35 * rib * fade(surface.footprint_m, 0.15)).astype(np.float32)[:, None]
    raised = surface.low_m[:, 2] > RAISED_M
    colour = lay(colour, (0.14, 0.14, 0.15), (p[:, 2] < 0.95) & ~raised)
    short = surface.high_m[:, 0] - surface.low_m[:, 0] < 5.0
    grounded = _underbody(surface, _lamps(surface, colour, LORRY_LAMPS_M, 'rear'), 0.4, 0.46, (0.22, 0.42))
    frame = _underbody(surface, _lamps(surface, colour, LORRY_LAMPS_M, 'rear'), 0.4, 0.46, (0.2, 0.46, 0.72))
    return np.where(raised[:, None], colour, np.where(short[:, None], frame, grounded))


def cargo_light(surface: Surface, night: float) -> np.ndarray:
    """Rear lamps of a lorry or a trailer."""
    light = _shine(surface, LORRY_LAMPS_M, night, 'rear')[0]
    return lay(light, (0.0, 0.0, 0.0), surface.low_m[:, 2] > RAISED_M)


def bus_side(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A band of windows around a painted body, a destination board in front, doors on the right."""
    p, high = surface.point_m, surface.high_m
    rise, side = surface.share(2), surface.on_side()
    front = surface.normal[:, 0] > 0.7
    upright = surface.normal[:, 2] < 0.4
    along = np.where(side, p[:, 0], p[:, 1] + 0.75)
    band = (rise > 0.40) & (rise < 0.80) & upright
    band |= front & (rise > 0.34) & (rise < 0.82)
    door = (surface.normal[:, 1] < -0.7) & (rise > 0.10) & (rise < 0.80) & every(p[:, 0] - 0.40 * high[:, 0], 4.0, 1.2)
    pillar = (every(along, 1.5, 0.14) & ~door & ~front) | (door & every(p[:, 0] - 0.40 * high[:, 0], 0.6, 0.06))
    pane = GLASS + (0.2 * rise)[:, None] * np.float32((0.8, 0.9, 1.0))
    colour = np.where(((band | door) & ~pillar)[:, None], pane, colour)
    board = front & (rise > 0.84) & (rise < 0.92)
    colour = lay(colour, (0.05, 0.05, 0.05), board)
    text = board & (np.abs(p[:, 1]) < 0.8) & every(p[:, 1], 0.16, 0.10) & (rise > 0.86) & (rise < 0.91)
    colour = lay(colour, (1.0, 0.62, 0.1), text)
    colour = lay(colour, (0.92, 0.92, 0.90), side & (rise > 0.27) & (rise < 0.31))
    return _underbody(surface, _lamps(surface, colour, BUS_LAMPS_M), 0.3, 0.48, (0.24, 0.77))


def bus_light(surface: Surface, night: float) -> np.ndarray:
    """Lamps of a bus, and at night the light inside."""
    light, front, rear = _shine(surface, BUS_LAMPS_M, night)
    rise = surface.share(2)
    window = (rise > 0.45) & (rise < 0.78) & surface.on_side() & ~every(surface.point_m[:, 0], 1.5, 0.14)
    inside = window & surface.driven & ~(front | rear)
    return lay(light, np.multiply((0.75, 0.72, 0.55), night), inside & (night > 0.4))


def wheel(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A thin wheel with spokes, or a thick one with a hub."""
    low, high = surface.low_m, surface.high_m
    radius = 0.5 * (high[:, 2] - low[:, 2])
    x = surface.point_m[:, 0] - 0.5 * (low[:, 0] + high[:, 0])
    z = surface.point_m[:, 2] - 0.5 * (low[:, 2] + high[:, 2])
    out = np.hypot(x, z) / radius
    side = surface.on_side()
    thin = high[:, 1] - low[:, 1] < 0.06
    spokes = every(np.arctan2(z, x), np.pi / 8.0, 0.06) * fade(surface.footprint_m, 0.05)
    # Between the spokes one sees what is behind: about the colour of a road.
    open_colour = mix(np.broadcast_to(np.float32((0.40, 0.40, 0.41)), colour.shape), colour, spokes)
    thin_colour = lay(lay(open_colour, colour, out > 0.74), (0.12, 0.12, 0.13), out < 0.12)
    thick_colour = lay(colour, np.float32(0.5) * colour, (out < 0.18) | (every(np.arctan2(z, x), np.pi / 2.5, 0.25)))
    painted = np.where(thin[:, None], thin_colour, thick_colour)
    return lay(painted, TYRE, ~side | (out > np.where(thin, 0.84, 0.62)))


def lights(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A lamp of a two-wheeler: white in front of the object's middle, red behind it."""
    ahead = surface.low_m[:, 0] + surface.high_m[:, 0] > 0.0
    return np.where(ahead[:, None], np.float32((0.82, 0.83, 0.80)), np.float32((0.55, 0.02, 0.03)))


def lights_light(surface: Surface, night: float) -> np.ndarray:
    """Its light."""
    ahead = surface.low_m[:, 0] + surface.high_m[:, 0] > 0.0
    on = surface.driven & (night > 0.0)
    light = lay(np.zeros_like(surface.point_m), HEADLIGHT, ahead & on)
    light = lay(light, TAIL_LIGHT, ~ahead & on)
    light = lay(light, BRAKE_LIGHT, ~ahead & ((surface.lamps & Lamps.BRAKE) > 0))
    turn = np.where(surface.point_m[:, 1] > 0.0, surface.lamps & Lamps.LEFT, surface.lamps & Lamps.RIGHT) > 0
    return lay(light, INDICATOR, turn & (np.abs(surface.point_m[:, 1]) > 0.05))


def track(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A crawler's chain around its rollers."""
    p, low, high = surface.point_m, surface.low_m, surface.high_m
    lug = every(p[:, 0] + 0.6 * p[:, 2], 0.22, 0.10) * fade(surface.footprint_m, 0.15)
    chain = mix(colour, np.broadcast_to(np.float32((0.30, 0.28, 0.26)), colour.shape), 0.8 * lug)
    rise, side = surface.share(2), surface.on_side()
    inner = side & (rise > 0.18) & (rise < 0.82) & (p[:, 0] > low[:, 0] + 0.2) & (p[:, 0] < high[:, 0] - 0.2)
    roller_x = p[:, 0] - 0.6 * np.round(p[:, 0] / 0.6)
    roller = inner & (np.hypot(roller_x, p[:, 2] - 0.5 * high[:, 2]) < 0.24)
    return lay(lay(chain, (0.07, 0.07, 0.07), inner), (0.38, 0.36, 0.33), roller)

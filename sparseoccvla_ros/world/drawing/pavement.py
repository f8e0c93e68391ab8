"""The ground's colours: asphalt with its markings, kerbs, slabs, grass."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.drawing.paint import WHITE, fade, hash01, line_cover, mix, sample
from sparseoccvla_ros.world.streets.street import Ground, Street

#: The noise repeats after this distance.
NOISE_PERIOD_M = 32.0
DASH_M, DASH_PITCH_M = 3.0, 9.0


def paint_ground(
    street: Street, city: City, noise: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, footprint_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colours of ground points, without light.

    Args:
        street: plan and markings.
        city: colours.
        noise: tile from ``paint.noise_tile``.
        x_m: world x [N], metres.
        y_m: world y [N], metres.
        footprint_m: width of a pixel at each point [N], metres.

    Returns:
        RGB 0..1 [N, 3] float32 and ``Ground`` [N] uint8.
    """
    s, d = street.centreline.project(x_m, y_m)
    ground = street.ground_at(d)
    base = np.array([city.asphalt, np.multiply(city.asphalt, 0.9), city.pavement, city.grass], dtype=np.float32)[ground]
    scale = len(noise) / NOISE_PERIOD_M
    fine = sample(noise, x_m * scale * 4.0, y_m * scale * 4.0) - 0.5
    coarse = sample(noise, x_m * scale * 0.25, y_m * scale * 0.25) - 0.5
    contrast = np.array([0.30, 0.30, 0.16, 0.60], dtype=np.float32)[ground]
    tone = 1.0 + contrast * fine * fade(footprint_m, 0.15) + 0.5 * contrast * coarse
    base *= tone.astype(np.float32)[:, None]
    base = _slabs(base, ground, s, d, footprint_m)
    kerb = line_cover(np.abs(d) - street.kerb_m - 0.09, 0.09, footprint_m)
    base = mix(base, np.float32((0.74, 0.74, 0.72)), kerb)
    return mix(base, WHITE * np.float32(0.92), _markings(street, s, d, footprint_m) * (0.9 + 0.3 * fine)), ground


def _slabs(base: np.ndarray, ground: np.ndarray, s: np.ndarray, d: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
    """Paving slabs of 0.8 m, each of its own tone, with dark joints."""
    paved = np.nonzero(ground == Ground.PAVEMENT)[0]
    u, v = s[paved] / 0.8, d[paved] / 0.8
    tone = 0.94 + 0.14 * hash01(np.floor(u), np.floor(v))
    joint = (np.abs(u - np.round(u)) < 0.04) | (np.abs(v - np.round(v)) < 0.04)
    tone = np.where(joint, 0.72, tone)
    resolved = fade(footprint_m[paved], 0.3)
    base[paved] *= (1.0 + (tone - 1.0) * resolved).astype(np.float32)[:, None]
    return base


def _markings(street: Street, s: np.ndarray, d: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
    """Share of paint [N] on the road."""
    from_crossing = s - street.crossing_s_m
    zebra_half_m = 0.5 * Street.CROSSING_LENGTH_M
    at_crossing = np.abs(from_crossing) < zebra_half_m + 2.0
    dashed = (np.mod(s, DASH_PITCH_M) < DASH_M) & ~at_crossing
    paint = line_cover(d, 0.07, footprint_m) * (dashed if street.lanes == 1 else ~at_crossing)
    for lane in range(1, street.lanes):
        paint = np.maximum(paint, line_cover(np.abs(d) - lane * street.lane_width_m, 0.06, footprint_m) * dashed)
    edge_m = street.carriageway_m - (0.25 if street.parking_width_m == 0.0 else 0.0)
    paint = np.maximum(paint, line_cover(np.abs(d) - edge_m, 0.06, footprint_m) * ~at_crossing)
    if street.parking_width_m > 0.0:
        in_bay = (np.abs(d) > street.carriageway_m) & (np.abs(d) < street.kerb_m) & ~at_crossing
        paint = np.maximum(paint, line_cover(np.mod(s + 3.0, 6.0) - 3.0, 0.05, footprint_m) * in_bay)
    stripes = (np.mod(d, 1.0) < 0.5) & (np.abs(from_crossing) < zebra_half_m) & (np.abs(d) < street.kerb_m - 0.2)
    paint = np.maximum(paint, stripes)
    # Stop lines: for each direction before the crossing, on its own half of the road.
    before = np.where(d < 0.0, -from_crossing, from_crossing)
    stop = line_cover(before - zebra_half_m - 1.0, 0.2, footprint_m) * (np.abs(d) < street.carriageway_m)
    return np.maximum(paint, stop)

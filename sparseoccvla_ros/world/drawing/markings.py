"""What is painted on the roads, and their kerbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.world.drawing.paint import line_cover
from sparseoccvla_ros.world.streets.plan import Nearby
from sparseoccvla_ros.world.streets.street import Ground, Street

DASH_M, DASH_PITCH_M = 3.0, 9.0
STOP_LINE_M = 0.4
KERB_M = 0.18
BAY_M = 6.0


@dataclass(frozen=True)
class Markings:
    """Shares [N] of ground points that white ``paint`` and ``kerb`` stones cover; whether they are a ``cycle`` lane."""

    paint: np.ndarray
    kerb: np.ndarray
    cycle: np.ndarray


def markings_of(nearby: Sequence[Nearby], ground: np.ndarray, footprint_m: np.ndarray) -> Markings:
    """Markings of points [N] that lie near streets and whose :class:`Ground` [N] is known.

    ``footprint_m`` [N] is a pixel's width there.
    """
    size = len(ground)
    result = Markings(np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, dtype=bool))
    for part in nearby:
        street, index, s_m, d_m = part.street, part.index, part.s_m, part.d_m
        inside = (s_m > 0.0) & (s_m < street.centreline.length_m) & (np.abs(d_m) < street.kerb_m + KERB_M + 0.2)
        index, s_m, d_m = index[inside], s_m[inside], d_m[inside]
        kind, pixel_m = ground[index], footprint_m[index]
        away = np.abs(d_m)
        is_road = (kind == Ground.ASPHALT) | (kind == Ground.PARKING)
        paint = _paint(street, s_m, d_m, pixel_m) * is_road
        result.paint[index] = np.maximum(result.paint[index], paint)
        kerb = line_cover(away - street.kerb_m - 0.5 * KERB_M, 0.5 * KERB_M, pixel_m) * (kind == Ground.PAVEMENT)
        if street.island_m > 0.0:
            edge = line_cover(away - 0.5 * street.island_m + 0.5 * KERB_M, 0.5 * KERB_M, pixel_m)
            kerb = np.maximum(kerb, edge * (kind == Ground.ISLAND))
        result.kerb[index] = np.maximum(result.kerb[index], kerb)
        if street.cycle_m > 0.0:
            result.cycle[index] |= (
                is_road & (away > street.lanes_m) & (away < street.carriageway_m) & ~street.is_open(s_m)
            )
    return result


def _paint(street: Street, s_m: np.ndarray, d_m: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
    """Share of white paint [N] on one street."""
    away = np.abs(d_m)
    along = ~street.is_open(s_m, 1.2)
    dashed = along & (np.mod(s_m, DASH_PITCH_M) < DASH_M)
    paint = np.zeros(len(s_m))
    if street.island_m == 0.0:
        paint = line_cover(d_m, 0.07, footprint_m) * (dashed if street.lanes == 1 else along)
    for lane in range(1, street.lanes):
        divider = line_cover(away - 0.5 * street.island_m - lane * street.lane_width_m, 0.06, footprint_m)
        paint = np.maximum(paint, divider * dashed)
    beside = street.cycle_m > 0.0 or street.parking_width_m > 0.0
    edge_m = street.lanes_m if beside else street.lanes_m - 0.25
    paint = np.maximum(paint, line_cover(away - edge_m, 0.07, footprint_m) * along)
    if street.parking_width_m > 0.0:
        paint = np.maximum(paint, line_cover(away - street.carriageway_m, 0.05, footprint_m) * along)
        in_bay = along & (away > street.carriageway_m) & (away < street.kerb_m)
        tick = line_cover(np.mod(s_m + 0.5 * BAY_M, BAY_M) - 0.5 * BAY_M, 0.05, footprint_m)
        paint = np.maximum(paint, tick * in_bay)
    stripes = (np.mod(d_m, 1.0) < 0.5) & (away < street.kerb_m - 0.2)
    for crossing_m in street.crossings_s_m:
        paint = np.maximum(paint, stripes & (np.abs(s_m - crossing_m) < 0.5 * Street.CROSSING_LENGTH_M))
    for line in street.stop_lines:
        half = (d_m * line.direction < -0.5 * street.island_m) & (away < street.lanes_m)
        paint = np.maximum(paint, line_cover(s_m - line.s_m, 0.5 * STOP_LINE_M, footprint_m) * half)
    return paint

"""What street lamps and headlights light up: two rasters seen from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparseoccvla_ros.world.bodies.solids import Texture
from sparseoccvla_ros.world.bodies.thing import BUS, CAR, MOTORCYCLE, TRUCK, Thing
from sparseoccvla_ros.world.drawing.paint import bilinear
from sparseoccvla_ros.world.drawing.shadow import snapped_origin

REACH_M, CELL_M = 72.0, 0.5
POOL_M = 15.0
EGO_BEAM_M, BEAM_M = 40.0, 26.0
#: The ego's lamps lie this far ahead of its rear axle.
EGO_NOSE_M = 3.3
STREET_LIGHT = np.array((1.0, 0.78, 0.48), dtype=np.float32)
HEADLIGHT = np.array((1.0, 0.97, 0.88), dtype=np.float32)
WITH_HEADLIGHTS = (CAR, TRUCK, BUS, MOTORCYCLE)


class Lamplight:
    """Light of one scene's lamps; it passes through bodies."""

    def __init__(self, things: Sequence[Thing], poses: np.ndarray) -> None:
        lamps = [
            poses[index] @ (*(0.5 * (solid.low_m + solid.high_m)), 1.0)
            for index, thing in enumerate(things)
            for solid in thing.shape.solids
            if solid.texture == Texture.STREET_LAMP
        ]
        self._lamps_m = np.array(lamps).reshape(-1, 4)[:, :2]
        self._drivers = [
            (index, 0.5 * thing.shape.size_m[0])
            for index, thing in enumerate(things)
            if not thing.still and thing.shape.label in WITH_HEADLIGHTS
        ]
        self._cached: tuple[np.ndarray, np.ndarray] | None = None

    def light_on(
        self, eye_m: np.ndarray, poses: np.ndarray, world_from_ego: np.ndarray, points_m: np.ndarray
    ) -> np.ndarray:
        """Light [N, 3] float32 on world points [N, 3]; ``eye_m`` [2] is the camera's place."""
        origin = snapped_origin(eye_m, REACH_M)
        if self._cached is None or not np.array_equal(self._cached[0], origin):
            self._cached = (origin, self._pools(origin))
        beams = np.zeros_like(self._cached[1])
        for index, nose_m in self._drivers:
            if np.abs(poses[index, :2, 3] - eye_m).max() < REACH_M:
                _add_beam(beams, origin, poses[index], nose_m, BEAM_M)
        _add_beam(beams, origin, world_from_ego, EGO_NOSE_M, EGO_BEAM_M)
        column = (points_m[:, 0] - origin[0]) / CELL_M - 0.5
        row = (points_m[:, 1] - origin[1]) / CELL_M - 0.5
        z = points_m[:, 2].astype(np.float32)
        pool = bilinear(self._cached[1], column, row) * np.clip(7.5 - z, 0.0, 2.0) * np.float32(0.5)
        # A dipped beam lights what is low; a little of it goes higher.
        beam = bilinear(beams, column, row) * np.clip(1.9 - z, 0.12, 1.0)
        return pool[:, None] * STREET_LIGHT + beam[:, None] * HEADLIGHT

    def _pools(self, origin: np.ndarray) -> np.ndarray:
        cells = int(2.0 * REACH_M / CELL_M)
        light = np.zeros((cells, cells), dtype=np.float32)
        for lamp in self._lamps_m:
            window = _window(lamp - POOL_M, lamp + POOL_M, origin, cells)
            if window is not None:
                x, y = _centres(window, origin)
                squared = (x - lamp[0])[None] ** 2 + (y - lamp[1])[:, None] ** 2
                # A lamp at 7 m: cos^3 of the angle over the distance squared, cut off softly.
                shine = (1.0 + squared / 49.0) ** -1.6 * np.clip(1.5 - 1.5 * squared / POOL_M**2, 0.0, 1.0)
                light[window] += 0.85 * shine.astype(np.float32)
        return light


def _add_beam(light: np.ndarray, origin: np.ndarray, pose: np.ndarray, nose_m: float, reach_m: float) -> None:
    """Add the cone of one vehicle's headlights to a raster."""
    ahead, left = pose[:2, 0], pose[:2, 1]
    start = pose[:2, 3] + nose_m * ahead
    half = 0.35 * reach_m
    corners = np.array([start + u * ahead + v * left for u in (0.0, reach_m) for v in (-half, half)])
    window = _window(corners.min(axis=0), corners.max(axis=0), origin, len(light))
    if window is None:
        return
    x, y = _centres(window, origin)
    x, y = (x - start[0]).astype(np.float32), (y - start[1]).astype(np.float32)
    u = np.float32(ahead[0]) * x[None] + np.float32(ahead[1]) * y[:, None]
    v = np.float32(left[0]) * x[None] + np.float32(left[1]) * y[:, None]
    spread = v / (0.9 + 0.22 * np.maximum(u, 0.0))
    fall = np.clip(1.0 - u / reach_m, 0.0, 1.0) * np.clip(u / 1.5, 0.0, 1.0)
    light[window] += np.float32(0.85) * fall * np.exp(-spread * spread)


def _window(low: np.ndarray, high: np.ndarray, origin: np.ndarray, cells: int) -> tuple[slice, slice] | None:
    first = np.clip(np.floor((low - origin) / CELL_M).astype(int), 0, cells)
    last = np.clip(np.ceil((high - origin) / CELL_M).astype(int), 0, cells)
    if (first >= last).any():
        return None
    return slice(first[1], last[1]), slice(first[0], last[0])


def _centres(window: tuple[slice, slice], origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World x of the window's columns and y of its rows."""
    rows, columns = window
    x = origin[0] + (np.arange(columns.start, columns.stop) + 0.5) * CELL_M
    y = origin[1] + (np.arange(rows.start, rows.stop) + 0.5) * CELL_M
    return x, y

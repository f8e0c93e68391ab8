"""Tools of procedural painting. Patterns finer than a pixel fade to their mean, so that nothing flickers far away."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

GLASS = np.array((0.13, 0.17, 0.22), dtype=np.float32)
TYRE = np.array((0.05, 0.05, 0.055), dtype=np.float32)
WHITE = np.array((0.90, 0.90, 0.88), dtype=np.float32)


@dataclass(frozen=True)
class Surface:
    """Points on solids: ``point_m`` and ``normal`` [N, 3] in the object's frame, the solid's bounds ``low_m`` and
    ``high_m`` [N, 3], its number ``which`` [N], what is lit (``Lamps``) ``lamps`` [N] uint8, whether somebody drives it
    ``driven`` [N], the size of a pixel there ``footprint_m`` [N], and the noise tile.
    """

    point_m: np.ndarray
    normal: np.ndarray
    low_m: np.ndarray
    high_m: np.ndarray
    which: np.ndarray
    lamps: np.ndarray
    driven: np.ndarray
    footprint_m: np.ndarray
    noise: np.ndarray

    def share(self, axis: int) -> np.ndarray:
        """How far along the solid's extent each point lies, 0..1 [N]."""
        low = self.low_m[:, axis]
        return (self.point_m[:, axis] - low) / (self.high_m[:, axis] - low)

    def on_side(self) -> np.ndarray:
        """Whether each point's face looks along y [N]."""
        return np.abs(self.normal[:, 1]) > 0.7

    def along(self) -> np.ndarray:
        """Distance [N] along an upright face from its edge, metres."""
        p, low = self.point_m, self.low_m
        return np.where(self.on_side(), p[:, 0] - low[:, 0], p[:, 1] - low[:, 1])


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


def smooth_sample(tile: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """As :func:`sample`, but without steps between the texels."""
    size = len(tile)
    padded = np.pad(tile, ((0, 1), (0, 1)), mode='wrap')
    return bilinear(padded, np.mod(x, size), np.mod(y, size))


def bilinear(raster: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """A float32 raster's values [N] between the middles of its cells, which lie at integers; 0 outside."""
    if len(column) == 0:
        return np.zeros(0, dtype=np.float32)
    # OpenCV takes maps of at most 32767 columns: the points are arranged in rows of this many.
    width = 256
    missing = -len(column) % width
    across = np.pad(column.astype(np.float32), (0, missing)).reshape(-1, width)
    down = np.pad(row.astype(np.float32), (0, missing)).reshape(-1, width)
    return cv2.remap(raster, across, down, cv2.INTER_LINEAR).reshape(-1)[: len(column)]


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


def settle(tone: np.ndarray, mean: float, footprint_m: np.ndarray, detail_m: float) -> np.ndarray:
    """A pattern's factor [N] float32 that becomes its mean where its details are finer than a pixel."""
    return (mean + (tone - mean) * fade(footprint_m, detail_m)).astype(np.float32)


def mix(base: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours [N, 3] with ``over`` laid on by shares [N]."""
    return base + (over - base) * share.astype(np.float32)[:, None]


def lay(colour: np.ndarray, over: tuple[float, float, float] | np.ndarray, where: np.ndarray) -> np.ndarray:
    """Colours [N, 3] with another colour in some places [N]."""
    return np.where(where[:, None], np.asarray(over, dtype=np.float32), colour)


def every(value: np.ndarray, pitch: float, width: float) -> np.ndarray:
    """Whether values lie within half a ``width`` of a multiple of ``pitch``."""
    return np.abs(value - pitch * np.round(value / pitch)) < 0.5 * width


def line_cover(distance_m: np.ndarray, half_width_m: float, footprint_m: np.ndarray) -> np.ndarray:
    """Share of a pixel that a line covers, by the distance from its middle."""
    covered = np.clip(0.5 + (half_width_m - np.abs(distance_m)) / footprint_m, 0.0, 1.0)
    return np.minimum(covered, 2.0 * half_width_m / footprint_m)

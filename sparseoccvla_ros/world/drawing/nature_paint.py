"""How people, animals and plants are painted."""

from __future__ import annotations

import numpy as np

from sparseoccvla_ros.world.drawing.paint import Surface, fade, hash01, lay, sample

HAIR = np.array(((0.07, 0.05, 0.04), (0.22, 0.13, 0.07), (0.50, 0.36, 0.18), (0.45, 0.44, 0.43)), dtype=np.float32)


def cloth(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Folds."""
    folds = sample(surface.noise, surface.point_m[:, 1] * 90.0 + surface.which * 31, surface.point_m[:, 2] * 25.0)
    return colour * (1.0 + 0.36 * (folds - 0.5) * fade(surface.footprint_m, 0.10))[:, None]


def vest(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A jacket with two reflecting bands."""
    rise = surface.share(2)
    band = ((rise > 0.18) & (rise < 0.32)) | ((rise > 0.52) & (rise < 0.66))
    return lay(colour, (0.92, 0.94, 0.92), band)


def head(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """A face towards +x, hair above and behind."""
    up, ahead = surface.share(2), surface.share(0)
    hair = HAIR[np.floor(hash01(surface.which, 2) * 3.99).astype(np.int64)]
    return np.where(((up > 0.72) | (ahead < 0.40))[:, None], hair, colour)


def foliage(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Clumps of leaves, lighter above."""
    p = surface.point_m
    angle = np.arctan2(p[:, 1], p[:, 0]) * 20.0 + p[:, 0] * 9.0
    leaves = sample(surface.noise, angle + surface.which * 17, p[:, 2] * 16.0)
    clumps = sample(surface.noise, angle * 0.3 + surface.which * 5, p[:, 2] * 5.0)
    contrast = 0.35 + 0.65 * fade(surface.footprint_m, 0.25)
    tone = 0.72 + 0.3 * surface.share(2) + ((leaves - 0.5) * 1.1 + (clumps - 0.5) * 0.7) * contrast
    return colour * np.clip(tone, 0.25, 1.6)[:, None]


def bark(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Furrows that run upwards."""
    p = surface.point_m
    around = np.arctan2(p[:, 1], p[:, 0]) * 14.0 + surface.which * 23
    furrow = sample(surface.noise, around, p[:, 2] * 6.0) - 0.5
    return colour * (1.0 + 0.9 * furrow * fade(surface.footprint_m, 0.08))[:, None]

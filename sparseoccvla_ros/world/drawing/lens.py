"""The camera after the light: exposure, lens, rain on the glass, sensor noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sparseoccvla_ros.world.look import Look

#: First number of the seeds of the random streams given to :meth:`Lens.expose`; keeps them apart from all others.
LENS_STREAM = 7907
DROPS = (3, 9)
STREAKS = (60, 140)
#: More amplification where there is less light: factor on the noise.
NOISE_FACTORS = {'day': 1.0, 'dusk': 1.8, 'night': 3.2}


@dataclass(frozen=True)
class Lens:
    """How far an image departs from a perfect one; mild by default.

    ``gain_spread`` standard deviation of the exposure, a share; ``blur_px`` standard deviation of the blur for an
    image 352 px wide; ``shot_noise`` standard deviation of the noise at full white by day, ``read_noise`` that at
    black, both in 8-bit steps; ``vignette`` share of light that is lost in the corners.
    """

    gain_spread: float = 0.03
    blur_px: float = 0.35
    shot_noise: float = 2.2
    read_noise: float = 0.8
    vignette: float = 0.15

    def expose(self, rgb: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
        """What the sensor writes.

        Args:
            rgb: uint8 [H, W, 3], as drawn.
            look: of the scene.
            rng: of this camera and time.

        Returns:
            uint8 [H, W, 3].
        """
        height, width = rgb.shape[:2]
        image = rgb.astype(np.float32)
        if look.weather == 'rain':
            _streaks(image, look, rng)
            _drops(image, rng)
        if self.blur_px > 0.0:
            image = cv2.GaussianBlur(image, (0, 0), self.blur_px * width / 352.0)
        gain = np.float32(1.0 + self.gain_spread * rng.standard_normal())
        image *= gain * _vignette(height, width, self.vignette)
        factor = NOISE_FACTORS[look.time_of_day]
        # Photons: the variance grows with the light.
        noise_px = np.sqrt(image * np.float32(self.shot_noise**2 / 255.0) + np.float32(self.read_noise**2))
        image += np.float32(factor) * noise_px * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(image + np.float32(0.5), 0.0, 255.0).astype(np.uint8)


@lru_cache(maxsize=8)
def _vignette(height: int, width: int, loss: float) -> np.ndarray:
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2.0 - 1.0
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * 2.0 - 1.0
    squared = 0.5 * (x[None] ** 2 + y[:, None] ** 2)
    return (1.0 - np.float32(loss) * squared**2)[..., None]


def _streaks(image: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    """Falling drops: short bright lines, all a little slanted the same way; in place."""
    height, width = image.shape[:2]
    veil = np.zeros((height, width), dtype=np.float32)
    count = int(rng.integers(*STREAKS))
    slant = rng.normal(0.0, 0.12)
    x, y = rng.uniform(0.0, width, count), rng.uniform(-0.1 * height, height, count)
    length = rng.uniform(0.04, 0.14, count) * height
    strength = rng.uniform(0.08, 0.28, count)
    for number in range(count):
        start = int(16.0 * x[number]), int(16.0 * y[number])
        end = start[0] + int(16.0 * slant * length[number]), start[1] + int(16.0 * length[number])
        cv2.line(veil, start, end, float(strength[number]), max(1, width // 500), cv2.LINE_AA, shift=4)
    bright = np.float32(255.0 * 1.1) * np.minimum(np.float32(look.sky_low) + np.float32(0.08), np.float32(0.9))
    image += (bright - image) * veil[..., None]


def _drops(image: np.ndarray, rng: np.random.Generator) -> None:
    """Drops that cling to the glass blur what lies behind them; in place."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), dtype=np.float32)
    for _ in range(rng.integers(*DROPS)):
        middle = int(16.0 * rng.uniform(0.0, width)), int(16.0 * rng.uniform(0.0, height))
        radius = rng.uniform(0.02, 0.06) * height
        axes = int(16.0 * radius), int(16.0 * radius * rng.uniform(1.0, 1.4))
        cv2.ellipse(mask, middle, axes, 0.0, 0.0, 360.0, float(rng.uniform(0.6, 0.9)), -1, cv2.LINE_AA, shift=4)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.008 * height + 0.3)[..., None]
    small = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), 0.006 * width)
    # A drop is a lens of its own: it shows the surroundings a little brighter from above.
    behind = np.roll(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), height // 16, axis=0)
    image += (behind * np.float32(1.06) - image) * mask

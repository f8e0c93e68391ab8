"""Random brightness, contrast, saturation, hue and noise of camera images in training.

Order, ranges and probability are those of PhotoMetricDistortion (SSD, arXiv 1512.02325; mmdet and OPUS use the same):
brightness, contrast, saturation, hue, each with probability 0.5. Two things differ. Contrast there comes before or
after the colours at random, which gives the same pixels, since a factor on all colours leaves hue and saturation alone.
And its swap of colour channels, which would turn red lights green or blue, is left out; noise is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class PhotometricDistortion:
    """What to draw from.

    Raises:
        ValueError: a range is empty or impossible.
    """

    #: Largest change of brightness to either side, grey levels of 255.
    brightness: float = 32.0
    #: Factor on all colours, from and to.
    contrast: tuple[float, float] = (0.5, 1.5)
    #: Factor on the saturation (HSV), from and to.
    saturation: tuple[float, float] = (0.5, 1.5)
    #: Largest shift of the hue to either side.
    hue_rad: float = math.radians(18.0)
    #: Largest standard deviation of the noise of each pixel and channel, grey levels of 255.
    noise: float = 4.0
    #: Of each of the five.
    probability: float = 0.5

    def __post_init__(self) -> None:
        for name, low, high in (
            ('brightness', 0.0, 255.0),
            ('hue_rad', 0.0, math.pi),
            ('noise', 0.0, 255.0),
            ('probability', 0.0, 1.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name} must be in {low:g}..{high:g}, got {getattr(self, name)}')
        for name in ('contrast', 'saturation'):
            low, high = getattr(self, name)
            if not 0.0 <= low <= high < math.inf:
                raise ValueError(f'{name} must be a range of factors, lower end first, got {(low, high)}')

    def draw(self, rng: np.random.Generator) -> PhotometricChange:
        """One camera's change; it takes the same ten numbers from ``rng`` whatever the ranges are."""
        on = rng.uniform(size=5) < self.probability
        brightness, hue_rad = rng.uniform(-1.0, 1.0, size=2) * (self.brightness, self.hue_rad)
        contrast, saturation = rng.uniform(*self.contrast), rng.uniform(*self.saturation)
        noise = rng.uniform(0.0, self.noise)
        return PhotometricChange(
            brightness=float(brightness) if on[0] else 0.0,
            contrast=float(contrast) if on[1] else 1.0,
            saturation=float(saturation) if on[2] else 1.0,
            hue_rad=float(hue_rad) if on[3] else 0.0,
            noise=float(noise) if on[4] else 0.0,
        )


@dataclass(frozen=True)
class PhotometricChange:
    """A drawn distortion; the default changes nothing."""

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue_rad: float = 0.0
    noise: float = 0.0

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Distort an image uint8 [H, W, 3] RGB; ``rng`` gives the noise.

        Returns:
            another one; values beyond 0..255 are clipped.
        """
        if self == PhotometricChange():
            return image.copy()
        pixels = (image.astype(np.float32) + np.float32(self.brightness)) * np.float32(self.contrast)
        if self.saturation != 1.0 or self.hue_rad != 0.0:
            np.maximum(pixels, 0.0, out=pixels)
            hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)  # hue 0..360, saturation 0..1, value as the pixels'
            if self.hue_rad:
                hsv[..., 0] = (hsv[..., 0] + np.float32(math.degrees(self.hue_rad))) % np.float32(360.0)
            hsv[..., 1] = np.minimum(hsv[..., 1] * np.float32(self.saturation), 1.0)
            pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if self.noise:
            pixels += np.float32(self.noise) * rng.standard_normal(pixels.shape, dtype=np.float32)
        return np.clip(np.rint(pixels), 0.0, 255.0).astype(np.uint8)

"""Random resize, crop, flip and rotation of camera images in training, with the intrinsics that belong to the result.

As in BEVDet and OPUS (``resize_lim``, ``bot_pct_lim``, ``rand_flip``, ``rot_lim``). Pixels and intrinsics change
together, so that a point of the scene still projects to where its image is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sparseoccvla_ros.sensors.preprocess import ImageFit


@dataclass(frozen=True)
class ImageAugmentation:
    """What to draw from; the defaults are OPUS' (0.38 to 0.55 where 0.44 fits 1600 px to 704 px).

    Raises:
        ValueError: a range is empty or impossible.
    """

    #: Size of the image relative to the fitted one, from and to.
    resize: tuple[float, float] = (0.86, 1.25)
    #: Share of the resized image's height that is cut off at the bottom, from and to. The rest is cut at the top.
    bottom_cut: tuple[float, float] = (0.0, 0.0)
    #: Probability of a mirrored image.
    flip_probability: float = 0.5
    #: Largest rotation about the middle of the image, to either side.
    rotation_rad: float = 0.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.resize[0] <= self.resize[1] <= 10.0:
            raise ValueError(f'resize must be a range within 0.1..10, lower end first, got {self.resize}')
        if not 0.0 <= self.bottom_cut[0] <= self.bottom_cut[1] < 1.0:
            raise ValueError(f'bottom_cut must be a range within 0..1, lower end first, got {self.bottom_cut}')
        if not 0.0 <= self.flip_probability <= 1.0:
            raise ValueError(f'flip_probability must be in 0..1, got {self.flip_probability}')
        if not 0.0 <= self.rotation_rad <= math.pi:
            raise ValueError(f'rotation_rad must be in 0..pi, got {self.rotation_rad}')

    def draw(self, rng: np.random.Generator) -> ImageWarp:
        """One camera's warp; it takes the same five numbers from ``rng`` whatever the ranges are."""
        return ImageWarp(
            resize=float(rng.uniform(*self.resize)),
            bottom_cut=float(rng.uniform(*self.bottom_cut)),
            left=float(rng.uniform()),
            flip=bool(rng.uniform() < self.flip_probability),
            rotation_rad=float(rng.uniform(-self.rotation_rad, self.rotation_rad)),
        )


@dataclass(frozen=True)
class ImageWarp:
    """A drawn augmentation, in terms that fit an image of any size.

    The default changes nothing: :meth:`fit` then does what :class:`ImageFit` does. ``left`` in 0..1 says where across
    the resized image the window lies (0 at its left edge, 1 at its right one).
    """

    resize: float = 1.0
    bottom_cut: float = 0.0
    left: float = 0.5
    flip: bool = False
    rotation_rad: float = 0.0

    def fit(self, width_px: int, height_px: int, out_width_px: int, out_height_px: int) -> WarpedFit:
        """The warp for images of ``width_px`` x ``height_px``.

        Raises:
            CameraFault: ``wrong_size``, as :meth:`ImageFit.to`.
        """
        ImageFit.to(width_px, height_px, out_width_px, out_height_px)  # refuses the same sizes as without a warp
        resized_width_px = max(1, round(out_width_px * self.resize))
        resized_height_px = max(1, round(height_px * resized_width_px / width_px))
        return WarpedFit(
            resized=ImageFit.to(width_px, height_px, resized_width_px, resized_height_px),
            left_px=round(self.left * (resized_width_px - out_width_px)),
            top_px=resized_height_px - round(self.bottom_cut * resized_height_px) - out_height_px,
            out_width_px=out_width_px,
            out_height_px=out_height_px,
            flip=self.flip,
            rotation_rad=self.rotation_rad,
        )


@dataclass(frozen=True)
class WarpedFit:
    """Resize the image, take a window out of it, mirror it, rotate it; used as an :class:`ImageFit`.

    The window's upper left corner lies at (``left_px``, ``top_px``) of the resized image; what lies outside it is
    black. Positive rotations turn the content clockwise, as seen.
    """

    resized: ImageFit
    left_px: int
    top_px: int
    out_width_px: int
    out_height_px: int
    flip: bool
    rotation_rad: float

    @property
    def decode_reduction(self) -> int:
        """As :attr:`ImageFit.decode_reduction`."""
        return self.resized.decode_reduction

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Warp an image uint8 [H, W, 3], full size or reduced by ``decode_reduction``.

        Returns:
            uint8 [out_height_px, out_width_px, 3], contiguous.

        Raises:
            CameraFault: ``wrong_size``: the image has another size.
        """
        resized = self.resized.apply(image)
        window = np.zeros((self.out_height_px, self.out_width_px, 3), dtype=np.uint8)
        rows, from_rows = _overlap(self.top_px, self.out_height_px, resized.shape[0])
        columns, from_columns = _overlap(self.left_px, self.out_width_px, resized.shape[1])
        window[rows, columns] = resized[from_rows, from_columns]
        if self.flip:
            window = np.ascontiguousarray(window[:, ::-1])
        if self.rotation_rad:
            # OpenCV counts from the middle of the first pixel, we from the corner
            middle = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
            matrix = np.linalg.inv(middle) @ self._rotation() @ middle
            window = cv2.warpAffine(window, matrix[:2], (self.out_width_px, self.out_height_px))
        return window

    def intrinsics(self, intrinsics_px: np.ndarray) -> np.ndarray:
        """Intrinsics [3, 3] of the warped image from those of the full one, pixels from the image's corner.

        After a flip the focal length along u is negative; after a rotation the matrix is no triangular one.
        """
        resized_px = self.resized.intrinsics(intrinsics_px)
        window_from_resized = np.array([[1.0, 0.0, -self.left_px], [0.0, 1.0, -self.top_px], [0.0, 0.0, 1.0]])
        flipped = np.array([[-1.0, 0.0, self.out_width_px], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        warped_px = window_from_resized @ resized_px
        return self._rotation() @ (flipped @ warped_px if self.flip else warped_px)

    def _rotation(self) -> np.ndarray:
        """About the middle of the image, [3, 3], pixels from the corner."""
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        u, v = 0.5 * self.out_width_px, 0.5 * self.out_height_px
        return np.array([[cos, -sin, u - cos * u + sin * v], [sin, cos, v - sin * u - cos * v], [0.0, 0.0, 1.0]])


def _overlap(start: int, length: int, available: int) -> tuple[slice, slice]:
    """Part of a window [start, start + length) that lies within [0, available): in the window, and in the image."""
    low = min(max(start, 0), available)
    high = max(low, min(start + length, available))
    return slice(low - start, high - start), slice(low, high)

"""Camera images to the network's size, and the intrinsics with them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sparseoccvla_ros.sensors.decode import CameraFault


@dataclass(frozen=True)
class ImageFit:
    """Scaling to the network's width, then cutting off the top (sky), so that ``out_height_px`` rows stay.

    Built by :meth:`to`. ``scaled_height_px`` is the height before the cut. ``decode_reduction`` (1, 2, 4 or 8) is
    the largest decode-time reduction that stays at or above the network's resolution and divides both sides, so
    that the reduced image shows exactly the same rectangle; :meth:`apply` takes the full or the reduced image.
    """

    width_px: int
    height_px: int
    out_width_px: int
    out_height_px: int
    scaled_height_px: int
    decode_reduction: int

    @classmethod
    def to(cls, width_px: int, height_px: int, out_width_px: int, out_height_px: int) -> ImageFit:
        """Fit images of ``width_px`` x ``height_px`` to the network's size.

        Raises:
            CameraFault: ``wrong_size``: a side is not positive, or the scaled image is too low to fill the network's.
        """
        sides = (width_px, height_px, out_width_px, out_height_px)
        if min(sides) <= 0:
            raise CameraFault('wrong_size', f'{width_px} x {height_px} px to {out_width_px} x {out_height_px} px')
        scaled_height_px = round(height_px * out_width_px / width_px)
        if scaled_height_px < out_height_px:
            raise CameraFault(
                'wrong_size',
                f'{width_px} x {height_px} px scaled to a width of {out_width_px} px is {scaled_height_px} px high; '
                f'the network needs {out_height_px}',
            )
        reduction = max(
            r for r in (1, 2, 4, 8) if r == 1 or (width_px >= r * out_width_px and not (width_px % r or height_px % r))
        )
        return cls(*sides, scaled_height_px, reduction)

    @property
    def cut_px(self) -> int:
        """Rows cut off at the top, after scaling."""
        return self.scaled_height_px - self.out_height_px

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Scale and cut an image uint8 [H, W, 3], full size or reduced by ``decode_reduction``.

        Returns:
            uint8 [out_height_px, out_width_px, 3], contiguous.

        Raises:
            CameraFault: ``wrong_size``: the image has another size.
        """
        found = image.shape[:2]
        full, r = (self.height_px, self.width_px), self.decode_reduction
        if found not in (full, (self.height_px // r, self.width_px // r)):
            raise CameraFault(
                'wrong_size',
                f'image {found[1]} x {found[0]} px, camera info says {self.width_px} x {self.height_px} px',
            )
        # Both scale coordinates from the image's corner. Linear is 5 times as fast and, this near to 1:1, as good.
        interpolation = cv2.INTER_AREA if found[1] >= 2 * self.out_width_px else cv2.INTER_LINEAR
        scaled = cv2.resize(image, (self.out_width_px, self.scaled_height_px), interpolation=interpolation)
        return np.ascontiguousarray(scaled[self.cut_px :])

    def intrinsics(self, intrinsics_px: np.ndarray) -> np.ndarray:
        """Intrinsics [3, 3] of the fitted image from those of the full one, pixels from the image's corner."""
        fitted_from_full = np.diag([self.out_width_px / self.width_px, self.scaled_height_px / self.height_px, 1.0])
        fitted_from_full[1, 2] = -self.cut_px
        return fitted_from_full @ np.asarray(intrinsics_px, dtype=np.float64)

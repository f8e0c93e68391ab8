"""Light that spreads in the image: halos around lamps, reflections on wet ground."""

from __future__ import annotations

import cv2
import numpy as np

from sparseoccvla_ros.sensors.camera import PinholeCamera

#: Width of halos and height of streaks as shares of the image's width and height.
HALO, STREAK = 0.012, 0.16


def add_bloom(image: np.ndarray, glow: np.ndarray, strength: float) -> None:
    """Add a halo to a float32 image [H, W, 3], in place, around what shines, ``glow`` [H, W, 3]."""
    if not glow.any():
        return
    height, width = glow.shape[:2]
    small = cv2.resize(glow, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 0.5 * HALO * width)
    image += np.float32(0.55 * strength) * cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def wet_reflection(
    image: np.ndarray, glow: np.ndarray, camera: PinholeCamera, world_from_camera: np.ndarray, downward: np.ndarray
) -> np.ndarray:
    """What wet ground mirrors.

    Distant things appear where the mirrored ray meets the image; lamps leave streaks below themselves.

    Args:
        image: float32 [H, W, 3].
        glow: what shines in it [H, W, 3].
        camera: it was taken through.
        world_from_camera: [4, 4].
        downward: float32 directions [N, 3] of the rays that hit the ground, world axes, 1 along the optical axis.

    Returns:
        Colours [N, 3] float32.
    """
    height = image.shape[0]
    rough = cv2.blur(image, (3, 2 * (height // 20) + 1))
    tall = 2 * int(STREAK * height) + 1
    fall = np.zeros((tall, 1), dtype=np.float32)
    # The kernel looks upwards from each pixel: light runs down from its source.
    fall[: tall // 2, 0] = np.linspace(0.4, 1.0, tall // 2)
    streaks = cv2.filter2D(glow, -1, fall * np.float32(8.0 / fall.sum())) if glow.any() else glow
    inverse = world_from_camera[:3, :3].astype(np.float32)
    mirrored = (downward * np.float32((1.0, 1.0, -1.0))) @ inverse
    k = camera.intrinsics_px.astype(np.float32)
    ahead = np.maximum(mirrored[:, 2], np.float32(1e-3))
    u = k[0, 0] * mirrored[:, 0] / ahead + k[0, 2] - np.float32(0.5)
    v = k[1, 1] * mirrored[:, 1] / ahead + k[1, 2] - np.float32(0.5)
    own = downward @ inverse
    own_u = k[0, 0] * own[:, 0] / own[:, 2] + k[0, 2] - np.float32(0.5)
    own_v = k[1, 1] * own[:, 1] / own[:, 2] + k[1, 2] - np.float32(0.5)
    return _look_up(rough, u, v) + _look_up(streaks, own_u, own_v)


def _look_up(image: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Colours [N, 3] at pixels, those at the edge where they lie outside."""
    row = np.clip(np.round(v), 0, image.shape[0] - 1).astype(np.int64)
    column = np.clip(np.round(u), 0, image.shape[1] - 1).astype(np.int64)
    return image[row, column]

"""Camera messages to images and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sparseoccvla_ros.sensors.decode import CameraFault, decode_compressed, decode_raw


@dataclass(frozen=True)
class CameraCalibration:
    """The part of CameraInfo the model uses: a rectified pinhole. ``intrinsics_px`` [3, 3], pixels."""

    width_px: int
    height_px: int
    intrinsics_px: np.ndarray
    frame_id: str


def calibration_from(info: CameraInfo) -> CameraCalibration:
    """Read a CameraInfo of a rectified image topic.

    The projection matrix P rules (it is that of the rectified image); where P is all zero, as some converters
    leave it, K does. Both are taken to belong to the image as it is published: a camera with binning or a region of
    interest shows up as one whose size disagrees.

    Raises:
        CameraFault: ``camera_info_invalid``: no size, or no usable focal length.
    """
    projection = np.asarray(info.p, dtype=np.float64).reshape(3, 4)
    intrinsics_px = projection[:, :3] if projection.any() else np.asarray(info.k, dtype=np.float64).reshape(3, 3)
    if info.width == 0 or info.height == 0:
        raise CameraFault('camera_info_invalid', f'image size {info.width} x {info.height}')
    focal_ok = intrinsics_px[0, 0] > 0 and intrinsics_px[1, 1] > 0 and intrinsics_px[2, 2] == 1.0
    if not (np.isfinite(intrinsics_px).all() and focal_ok):
        raise CameraFault('camera_info_invalid', f'intrinsics {intrinsics_px.ravel().tolist()}')
    return CameraCalibration(info.width, info.height, intrinsics_px.copy(), info.header.frame_id)


def rgb_from(message: CompressedImage | Image, calibration: CameraCalibration, reduction: int) -> np.ndarray:
    """Decode an image message to uint8 RGB [H, W, 3]; a compressed one at 1/``reduction`` of its size.

    Raises:
        CameraFault: the data cannot be decoded, or its size disagrees with the CameraInfo.
    """
    if isinstance(message, CompressedImage):
        image = decode_compressed(message.data, reduce=reduction)
        width_px, height_px = (-(-side // reduction) for side in (calibration.width_px, calibration.height_px))
    else:
        image = decode_raw(message.data, message.encoding, message.height, message.width, message.step)
        width_px, height_px = calibration.width_px, calibration.height_px
    if image.shape[:2] != (height_px, width_px):
        raise CameraFault(
            'camera_info_size_mismatch',
            f'image {image.shape[1]} x {image.shape[0]} (decoded at 1/{reduction}), camera_info '
            f'{calibration.width_px} x {calibration.height_px}',
        )
    return image

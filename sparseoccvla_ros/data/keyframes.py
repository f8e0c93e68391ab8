"""Keyframes of a nuScenes-layout data set as the model takes them, by the code that also runs on the car."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.image_augmentation import ImageWarp
from sparseoccvla_ros.data.nuscenes import LIDAR, NuScenesError, Sample, SensorFrame
from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.sensors.camera import CameraView, SurroundView
from sparseoccvla_ros.sensors.decode import CameraFault, decode_compressed
from sparseoccvla_ros.sensors.preprocess import ImageFit
from sparseoccvla_ros.sensors.projection import view_projections

#: Why a camera is missing: the data set has no image of it at that time.
NO_FRAME = 'no_frame'


def keyframe_view(sample: Sample, cameras: Sequence[str], width_px: int, height_px: int) -> SurroundView:
    """Images of a keyframe, fitted to the network's size, with the ego frame that its labels are in.

    The reference pose is :func:`label_pose`, and "odom" is the map.

    Args:
        sample: the keyframe.
        cameras: names of the rig's cameras, in the order of the model's slots.
        width_px, height_px: size of the network's images.

    Returns:
        the set; a camera without a frame, or whose file cannot be used, is in ``missing`` with its reason.

    Raises:
        NuScenesError: the sample has no sensor at all.
    """
    global_from_ego = label_pose(sample)
    views, missing = [], {}
    for name in cameras:
        frame = sample.sensors.get(name)
        if frame is None:
            missing[name] = NO_FRAME
            continue
        try:
            views.append(camera_view(frame, width_px, height_px))
        except CameraFault as fault:
            missing[name] = fault.reason
        except NuScenesError:
            missing[name] = 'unreadable_file'
    return SurroundView(sample.stamp_ns, global_from_ego, tuple(views), missing)


def label_pose(sample: Sample) -> np.ndarray:
    """``global_from_ego`` [4, 4] of a keyframe's labels: that of :func:`label_frame`.

    Raises:
        NuScenesError: the sample has no sensor at all.
    """
    return label_frame(sample).global_from_ego


def label_frame(sample: Sample) -> SensorFrame:
    """The key frame at whose time and pose a keyframe's labels are.

    Occ3D's grids, like nuScenes' boxes in the ego frame, belong to the vehicle's pose at the LiDAR's time. Without a
    LiDAR it is the pose of the sensor nearest to the sample's time.

    Raises:
        NuScenesError: the sample has no sensor at all.
    """
    if not sample.sensors:
        raise NuScenesError(f'sample {sample.token} has no key frame of any sensor')
    frames = sample.sensors
    return frames.get(LIDAR) or min(frames.values(), key=lambda frame: abs(frame.stamp_ns - sample.stamp_ns))


def camera_view(frame: SensorFrame, width_px: int, height_px: int, warp: ImageWarp | None = None) -> CameraView:
    """One camera's image fitted to the network's size, and its intrinsics; by ``warp`` in training.

    Raises:
        CameraFault: the image or its calibration cannot be used.
        NuScenesError: the file is missing or not readable.
    """
    if frame.intrinsics_px is None:
        raise CameraFault('no_calibration', f'{frame.channel} has no intrinsics')
    sizes = (frame.width_px, frame.height_px, width_px, height_px)
    fit = ImageFit.to(*sizes) if warp is None else warp.fit(*sizes)
    image = fit.apply(decode_compressed(frame.read_bytes(), reduce=fit.decode_reduction))
    return CameraView(
        frame.channel,
        frame.stamp_ns,
        image,
        fit.intrinsics(frame.intrinsics_px),
        frame.ego_from_sensor,
        frame.global_from_ego,
    )


@dataclass(frozen=True)
class EncoderInputs:
    """One training sample's cameras: V = T x N views, frame-major, the current frame first.

    ``images`` uint8 [V, H, W, 3] RGB (zero where a camera is missing), ``image_from_ego`` float32 [V, 4, 4] from the
    current ego frame, ``view_mask`` bool [V].
    """

    images: np.ndarray
    image_from_ego: np.ndarray
    view_mask: np.ndarray


def encoder_inputs(
    frames: Sequence[SurroundView | None], cameras: Sequence[str], width_px: int, height_px: int
) -> EncoderInputs:
    """Put a frame and the earlier ones side by side; None stands for a frame that is not there.

    Raises:
        ValueError: the current frame is None or has no pose.
    """
    current = frames[0] if frames else None
    if current is None or current.odom_from_ego is None:
        raise ValueError('the current frame and its pose must be there')
    images = np.zeros((len(frames), len(cameras), height_px, width_px, 3), dtype=np.uint8)
    projections = np.tile(np.eye(4), (len(frames), len(cameras), 1, 1))
    view_mask = np.zeros((len(frames), len(cameras)), dtype=bool)
    for slot, frame in enumerate(frames):
        if frame is None or frame.odom_from_ego is None:
            continue
        for camera in frame.views:
            images[slot, cameras.index(camera.name)] = camera.image
        image_from_own_ego, view_mask[slot] = view_projections(frame, cameras)
        projections[slot] = image_from_own_ego @ inverse(frame.odom_from_ego) @ current.odom_from_ego
    return EncoderInputs(
        images.reshape(-1, *images.shape[2:]),
        projections.reshape(-1, 4, 4).astype(np.float32),
        view_mask.reshape(-1),
    )

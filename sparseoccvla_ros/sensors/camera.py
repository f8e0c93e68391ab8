"""What a camera is and what one synchronized set of camera images is, without ROS."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class PinholeCamera:
    """A rectified camera on the vehicle.

    ``intrinsics_px`` [3, 3] belongs to an image of ``width_px`` x ``height_px``, pixel coordinates
    measured from the image's corner. ``ego_from_camera`` [4, 4], metres, from the optical frame.
    """

    name: str
    width_px: int
    height_px: int
    intrinsics_px: np.ndarray
    ego_from_camera: np.ndarray


@dataclass(frozen=True)
class CameraView:
    """One camera's image at its own time, fitted to the network's size.

    ``image`` is uint8 [H, W, 3] RGB; ``intrinsics_px`` belongs to that size. ``odom_from_ego`` [4, 4] is
    the vehicle's pose at ``stamp_ns`` (not at the set's reference time), None if it is not known.
    """

    name: str
    stamp_ns: int
    image: np.ndarray
    intrinsics_px: np.ndarray
    ego_from_camera: np.ndarray
    odom_from_ego: np.ndarray | None


@dataclass(frozen=True)
class SurroundView:
    """One camera cycle, ready for the model.

    ``stamp_ns`` is the reference camera's; ``odom_from_ego`` [4, 4] the pose at that time, None if not
    known. ``views`` holds the cameras that are there, in the rig's order; ``missing`` names the others, each
    with its reason.
    """

    stamp_ns: int
    odom_from_ego: np.ndarray | None
    views: tuple[CameraView, ...]
    missing: dict[str, str] = field(default_factory=dict)

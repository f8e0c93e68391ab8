"""Camera sets to what the model's geometry takes: one slot for each camera of the rig."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparseoccvla_ros.geometry import image_from_ego, inverse
from sparseoccvla_ros.sensors.camera import SurroundView


def view_projections(view: SurroundView, cameras: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Projection of each camera of the rig, from the ego frame at the set's reference time.

    Without the pose of a camera's own time its image is taken to have been made at the reference time.

    Args:
        view: the set.
        cameras: names of the rig's N cameras, in the order of the slots.

    Returns:
        ``image_from_ego`` float64 [N, 4, 4], ego metres to pixels of the set's images, and the view mask bool [N],
        False (and the identity) for a camera that is missing.
    """
    projections = np.tile(np.eye(4), (len(cameras), 1, 1))
    view_mask = np.zeros(len(cameras), dtype=bool)
    for camera in view.views:
        slot = cameras.index(camera.name)
        camera_from_ego = inverse(camera.ego_from_camera)
        if view.odom_from_ego is not None and camera.odom_from_ego is not None:
            # from the ego frame at the reference time into the ego frame at the image's own time
            camera_from_ego = camera_from_ego @ inverse(camera.odom_from_ego) @ view.odom_from_ego
        projections[slot] = image_from_ego(camera.intrinsics_px, camera_from_ego)
        view_mask[slot] = True
    return projections, view_mask

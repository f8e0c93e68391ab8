"""The six cameras and the LiDAR of one car of the fleet, read from ``config/rig/*.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from sparseoccvla_ros.sensors.camera import PinholeCamera

#: Columns: the optical axes (x right, y down, z forward) in the axes of a body that looks along its x.
BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
#: Columns: the LiDAR's axes (x right, y forward, z up).
BODY_FROM_LIDAR = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

#: First number of the seeds of this module's random streams, which keeps them apart from all others: numpy takes [1, 5]
#: and [1, 5, 0] for the same seed.
RIG_STREAM = 7919


@dataclass(frozen=True)
class RigCamera:
    """A camera and when it is triggered, seconds relative to the keyframe's time (<= 0)."""

    camera: PinholeCamera
    trigger_offset_s: float


@dataclass(frozen=True)
class LidarMount:
    """The roof LiDAR: where it sits and how it turns.

    ``ego_from_lidar`` [4, 4], metres; the LiDAR's axes are nuScenes' (x right, y forward, z up). ``elevations_rad``
    [beams] ascending, in its frame; it turns clockwise by ``steps`` columns of them and ends each turn
    ``end_azimuth_rad`` to the left of its y axis. Returns come from at most ``range_m``; ``range_noise_m`` is the
    standard deviation of a range.
    """

    ego_from_lidar: np.ndarray
    elevations_rad: np.ndarray
    steps: int
    end_azimuth_rad: float
    range_m: float
    range_noise_m: float


@dataclass(frozen=True)
class Rig:
    """One car's sensors; ``cameras`` in the order of triggering."""

    vehicle: str
    cameras: tuple[RigCamera, ...]
    lidar: LidarMount


def load_rig(path: Path, width_px: int, height_px: int, vehicle: int, seed: int) -> Rig:
    """Read a rig and make it one particular car's.

    Args:
        path: YAML in the form of ``config/rig/nuscenes.yaml``.
        width_px: of the images to make. The full image is scaled by one factor to this width ...
        height_px: ... and its top is cropped to this height, as the network's preprocessing does.
        vehicle: number of the car in the fleet; each has its own small deviations.
        seed: of the world.

    Raises:
        ValueError: the wanted image is higher than the scaled full image.
    """
    config = yaml.safe_load(path.read_text())
    scale = width_px / config['image_width_px']
    cropped_px = config['image_height_px'] * scale - height_px
    if cropped_px < -1e-6:
        tallest = int(config['image_height_px'] * scale)
        raise ValueError(
            f'image height {height_px} px is impossible at width {width_px} px: at most {tallest} px expected'
        )
    # A car is the same in every scene of a world.
    rng = np.random.default_rng([RIG_STREAM, seed, vehicle])
    spread = config['spread']
    cameras = []
    for name, entry in config['cameras'].items():
        focal_px = entry['fx_px'] * (1.0 + rng.normal(0.0, spread['focal_fraction']))
        centre_px = np.array([entry['cx_px'], entry['cy_px']]) + rng.normal(0.0, spread['centre_px'], 2)
        intrinsics = np.array(
            [
                [focal_px * scale, 0.0, centre_px[0] * scale],
                [0.0, focal_px * scale, centre_px[1] * scale - cropped_px],
                [0.0, 0.0, 1.0],
            ]
        )
        ego_from_camera = _mount(entry, BODY_FROM_OPTICAL, spread, rng)
        camera = PinholeCamera(name, width_px, height_px, intrinsics, ego_from_camera)
        cameras.append(RigCamera(camera, float(entry['trigger_offset_s'])))
    cameras.sort(key=lambda item: item.trigger_offset_s)
    entry = config['lidar']
    lidar = LidarMount(
        ego_from_lidar=_mount(entry, BODY_FROM_LIDAR, spread, rng),
        elevations_rad=np.linspace(entry['lowest_rad'], entry['highest_rad'], entry['beams']),
        steps=int(entry['steps']),
        end_azimuth_rad=float(entry['end_azimuth_rad']),
        range_m=float(entry['range_m']),
        range_noise_m=float(entry['range_noise_m']),
    )
    return Rig(f'w{vehicle + 1:03d}', tuple(cameras), lidar)


def _mount(entry: dict, body_from_sensor: np.ndarray, spread: dict, rng: np.random.Generator) -> np.ndarray:
    """``ego_from_sensor`` [4, 4] of an entry of the file, with this car's deviation."""
    angles = np.array([entry['yaw_rad'], entry['pitch_rad'], entry['roll_rad']])
    angles = angles + rng.normal(0.0, spread['angle_rad'], 3)
    ego_from_sensor = np.eye(4)
    ego_from_sensor[:3, :3] = Rotation.from_euler('ZYX', angles).as_matrix() @ body_from_sensor
    ego_from_sensor[:3, 3] = np.array(entry['position_m']) + rng.normal(0.0, spread['position_m'], 3)
    return ego_from_sensor

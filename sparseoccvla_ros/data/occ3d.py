"""Occ3D-nuScenes: the label space of occupancy. Source: Occ3D (arXiv 2304.14365), nuScenes variant."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

CLASS_NAMES = (
    'others',
    'barrier',
    'bicycle',
    'bus',
    'car',
    'construction_vehicle',
    'motorcycle',
    'pedestrian',
    'traffic_cone',
    'trailer',
    'truck',
    'driveable_surface',
    'other_flat',
    'sidewalk',
    'terrain',
    'manmade',
    'vegetation',
)
FREE = 17
#: A voxel that nobody labelled.
UNLABELLED = 255
#: Classes a vehicle drives on; everything else that is occupied is an obstacle.
GROUND_CLASSES = (11, 12, 13, 14)

#: x0, y0, z0, x1, y1, z1 of the labelled space in the ego frame, metres.
RANGE_M = (-40.0, -40.0, -1.0, 40.0, 40.0, 5.4)
VOXEL_M = 0.4
GRID_SHAPE = (200, 200, 16)

#: Display colour of each class, uint8 RGB.
PALETTE_RGB = np.array(
    [
        (90, 90, 90),
        (255, 120, 50),
        (255, 192, 203),
        (255, 215, 0),
        (0, 130, 240),
        (0, 200, 200),
        (200, 180, 0),
        (230, 30, 30),
        (255, 240, 140),
        (135, 60, 0),
        (160, 32, 240),
        (190, 90, 190),
        (139, 137, 137),
        (75, 0, 75),
        (120, 200, 80),
        (220, 220, 240),
        (0, 140, 40),
    ],
    dtype=np.uint8,
)


class Occ3DError(ValueError):
    """A label file is missing or is not what Occ3D says."""


@dataclass(frozen=True)
class OccupancyLabels:
    """Labels of a keyframe in the ego frame at the keyframe's time, uint8 [200, 200, 16] indexed x, y, z.

    ``semantics`` 0..16, :data:`FREE`, or 255 (not labelled). ``mask_camera`` and ``mask_lidar`` are 0 or 1: whether a
    camera or the LiDAR observes the voxel; None where the data set has no such mask.
    """

    semantics: np.ndarray
    mask_camera: np.ndarray | None
    mask_lidar: np.ndarray | None


def load_labels(gts_root: Path, scene_name: str, sample_token: str) -> OccupancyLabels:
    """Read ``<gts_root>/<scene_name>/<sample_token>/labels.npz``.

    Raises:
        Occ3DError: no such file, no ``semantics`` in it, or an array of another shape or with other values.
    """
    path = gts_root / scene_name / sample_token / 'labels.npz'
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ('semantics', 'mask_camera', 'mask_lidar') if name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise Occ3DError(f'cannot read labels {path}: {error}') from error
    if 'semantics' not in arrays:
        raise Occ3DError(f'{path} has no semantics')
    for name, array in arrays.items():
        if array.shape != GRID_SHAPE:
            raise Occ3DError(f'{path}: {name} is {array.shape}, expected {GRID_SHAPE}')
        if name != 'semantics':
            arrays[name] = (array != 0).astype(np.uint8)
        elif not (((array >= 0) & (array <= FREE)) | (array == UNLABELLED)).all():
            raise Occ3DError(f'{path}: semantics beyond 0..{FREE} and {UNLABELLED}: {np.unique(array)}')
    return OccupancyLabels(arrays['semantics'].astype(np.uint8), arrays.get('mask_camera'), arrays.get('mask_lidar'))

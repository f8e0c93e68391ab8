"""Occ3D-nuScenes: the label space of occupancy. Source: Occ3D (arXiv 2304.14365), nuScenes variant."""

from __future__ import annotations

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

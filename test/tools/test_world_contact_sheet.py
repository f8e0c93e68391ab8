"""tools/world_contact_sheet.py: which way is up, and what is on top."""

import numpy as np
from world_contact_sheet import UNSEEN_BRIGHTNESS, from_above

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE, GRID_SHAPE, PALETTE_RGB, OccupancyLabels

CAR, ROAD, TREE = (CLASS_NAMES.index(name) for name in ('car', 'driveable_surface', 'vegetation'))


def test_forward_is_up_left_is_left_and_the_highest_counts():
    semantics = np.full(GRID_SHAPE, FREE, np.uint8)
    semantics[:, :, 2] = ROAD
    semantics[150, 100, 3] = CAR
    semantics[100, 150, 3:9] = CAR
    semantics[100, 150, 9] = TREE
    seen = np.ones(GRID_SHAPE, np.uint8)
    seen[:100] = 0
    image = from_above(OccupancyLabels(semantics, seen, None), 200)
    assert (image[49, 99] == PALETTE_RGB[CAR]).all()
    assert (image[99, 49] == PALETTE_RGB[TREE]).all()
    assert (image[10, 10] == PALETTE_RGB[ROAD]).all()
    assert np.allclose(image[190, 10], UNSEEN_BRIGHTNESS * PALETTE_RGB[ROAD], atol=1)


def test_lidar_points_are_where_they_are():
    labels = OccupancyLabels(np.full(GRID_SHAPE, FREE, np.uint8), None, None)
    image = from_above(labels, 200, np.array([[20.1, 10.1, 0.0], [90.0, 0.0, 0.0]]))
    assert image[49, 74].tolist() == [0, 0, 0]
    assert (from_above(labels, 200)[49, 74] != 0).all()

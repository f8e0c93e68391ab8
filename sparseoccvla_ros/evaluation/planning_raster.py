"""Bird's-eye rasters on which planned and true positions are tested for collisions, exactly as the references draw.

Two grids, both of -50..50 m: 0.5 m with an ego box that is never rotated (ST-P3, UniAD, VAD), and 0.1 m with one that
turns with the path (OmniDrive). Everything is given in a frame with x forward and y left, metres; how a reference names
its axes is settled here. Positions beyond the grid are clipped to its border, as there.

The references keep resolution and origin as float32. That is kept: positions of two decimals lie exactly on the edges
of 0.1 m cells, and which side they fall on depends on it.

Sources: hustvl/VAD ``VAD/planner/metric_stp3.py``, ST-P3 ``stp3/planning_metrics.py``, NVlabs/OmniDrive
``evaluation/planning_utils.py``, ``eval_planning.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

Array = np.ndarray

#: Of the ego vehicle (a Renault Zoe), metres.
EGO_LENGTH_M, EGO_WIDTH_M = 4.084, 1.85
#: The footprint of OmniDrive's boundary test is 4 mm shorter.
BOUNDARY_LENGTH_M = 4.08
#: The LiDAR, to which the 0.5 m grid belongs, is so far ahead of the ego frame's origin; the box's middle is ahead
#: of the LiDAR.
LIDAR_AHEAD_M, BOX_AHEAD_OF_LIDAR_M = 0.985793, 0.5
RANGE_M = 50.0
#: Shorter steps do not turn OmniDrive's box, metres.
TURNING_STEP_M = 1.0

Layout = Literal['vad', 'stp3']


@dataclass(frozen=True, eq=False)
class FutureObjects:
    """Boxes of N objects at T times to come, in one frame (x forward, y left), seen from above.

    ``centre_m`` [T, N, 2], ``heading_rad`` [T, N] counter-clockwise from x, ``valid`` [T, N]; ``length_m`` [N] along
    the heading, ``width_m`` [N]; ``vehicle`` [N] and ``human`` [N] say which of the two an object is, if any;
    ``seen_now`` [N]: it was there at the present, too.

    Raises:
        ValueError: the shapes contradict each other, or a valid box is not finite.
    """

    centre_m: Array
    heading_rad: Array
    valid: Array
    length_m: Array
    width_m: Array
    vehicle: Array
    human: Array
    seen_now: Array

    def __post_init__(self) -> None:
        times, objects = self.valid.shape
        expected = {'centre_m': (times, objects, 2), 'heading_rad': (times, objects)}
        expected |= dict.fromkeys(('length_m', 'width_m', 'vehicle', 'human', 'seen_now'), (objects,))
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f'{name} is {getattr(self, name).shape}, expected {shape}')
        if not (np.isfinite(self.centre_m[self.valid]).all() and np.isfinite(self.heading_rad[self.valid]).all()):
            raise ValueError('a valid box has a position or heading that is not finite')

    def around_lidar(self) -> FutureObjects:
        """The same boxes, given around the ego frame's origin, in a frame around the LiDAR."""
        return replace(self, centre_m=self.centre_m - (LIDAR_AHEAD_M, 0.0))


def _float32(value: float) -> float:
    return float(np.float32(value))


class CoarseGrid:
    """200 x 200 cells of 0.5 m around the LiDAR (x forward, y left from it).

    Args:
        layout: ``vad``: rows grow backwards, columns to the right; ``stp3``: rows grow forwards, columns to the left.
            In both the box is a part of a cell off its place, as in the references, each in its own way.
    """

    CELLS = 200
    STEP_M = 0.5

    def __init__(self, layout: Layout) -> None:
        self._mirrored = layout == 'vad'
        corner = _float32(-RANGE_M + self.STEP_M / 2.0)
        ahead = np.array([-0.5, 0.5]) * EGO_LENGTH_M + BOX_AHEAD_OF_LIDAR_M
        side = np.array([-0.5, 0.5]) * EGO_WIDTH_M
        self._ego_cells = _cells_within((ahead - corner) / self.STEP_M, (side - corner) / self.STEP_M)

    def draw(self, objects: FutureObjects, which: Array) -> Array:
        """Objects ``which`` [N] as raster uint8 [T, 200, 200]; 1 where one is."""
        corners_m = _corners(objects.centre_m, objects.heading_rad, objects.length_m, objects.width_m)
        signed_m = -corners_m if self._mirrored else corners_m
        corners = np.round((signed_m + RANGE_M) / self.STEP_M).astype(np.int32)[..., ::-1]  # column, row
        return _filled(corners, objects.valid & which, self.CELLS)

    def box_collides(self, path_m: Array, raster: Array) -> Array:
        """Whether the ego box meets an object, bool [T]: its LiDAR at ``path_m`` [T, 2], ``raster`` [T, 200, 200]."""
        forward, left = self._in_cells(path_m)
        ahead, side = self._ego_cells.T
        if self._mirrored:
            rows, columns = self.CELLS - (forward[:, None] + ahead), side - left[:, None]
        else:
            rows, columns = forward[:, None] + ahead, left[:, None] + side
        return _any_set(raster, rows, columns)

    def centre_collides(self, path_m: Array, raster: Array) -> Array:
        """Whether the LiDAR itself is on an object, bool [T]; never beyond the grid.

        As ST-P3 does. VAD's counterpart halves an offset and looks at a place 25 m away; it is not followed.
        """
        offset_m = np.float32(RANGE_M - self.STEP_M / 2.0)
        signed_m = np.asarray(path_m, dtype=np.float32) * np.float32(-1.0 if self._mirrored else 1.0)
        cells = ((signed_m + offset_m) / np.float32(self.STEP_M)).astype(np.int32)
        inside = ((cells >= 0) & (cells < self.CELLS)).all(axis=-1)
        rows, columns = np.clip(cells, 0, self.CELLS - 1).T
        return inside & (raster[np.arange(len(raster)), rows, columns] > 0)

    def _in_cells(self, path_m: Array) -> tuple[Array, Array]:
        # float32 like the references' trajectories
        forward, left = (np.asarray(path_m, dtype=np.float32) / np.float32(self.STEP_M)).astype(np.float64).T
        return forward, left


class FineGrid:
    """1000 x 1000 cells of 0.1 m around the ego frame's origin: row y (left), column x (forward)."""

    CELLS = 1000
    STEP_M = _float32(0.1)
    _CORNER_M = _float32(-RANGE_M + 0.05)

    def __init__(self) -> None:
        ahead = np.array([-0.5, 0.5]) * EGO_LENGTH_M + BOX_AHEAD_OF_LIDAR_M + LIDAR_AHEAD_M
        side = np.array([-0.5, 0.5]) * EGO_WIDTH_M
        self._origin_cell = np.float32(self._CORNER_M) / np.float32(self.STEP_M)
        cells = _cells_within((ahead - self._CORNER_M) / self.STEP_M, (side - self._CORNER_M) / self.STEP_M)
        self._ego_from_origin = cells + self._origin_cell

    def draw(self, objects: FutureObjects, which: Array) -> Array:
        """Objects ``which`` [N] as raster uint8 [T, 1000, 1000]; 1 where one is."""
        corners_m = _corners(objects.centre_m, objects.heading_rad, objects.length_m, objects.width_m)
        return _filled(self._cells(corners_m), objects.valid & which, self.CELLS)

    def box_collides(self, path_ego_m: Array, raster: Array) -> Array:
        """Whether the ego box meets an object, bool [T]; ``path_ego_m`` [T, 2], ``raster`` [T, 1000, 1000].

        The box turns about the ego's origin into the direction of the step just made.
        """
        steps_m = np.diff(path_ego_m, axis=0, prepend=0.0)
        headings_rad = np.arctan2(steps_m[:, 1], steps_m[:, 0])
        headings_rad[np.hypot(*steps_m.T) < TURNING_STEP_M] = 0.0
        cos, sin = np.cos(headings_rad).astype(np.float32), np.sin(headings_rad).astype(np.float32)
        to_path = np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)
        cells = np.round(self._ego_from_origin @ to_path - self._origin_cell) + (path_ego_m / self.STEP_M)[:, None]
        return _any_set(raster, cells[..., 1], cells[..., 0])

    def footprints(self, path_ego_m: Array) -> Array:
        """Footprints of the boundary test at t = 0 and along ``path_ego_m`` [T, 2], uint8 [T + 1, 1000, 1000].

        Unlike in :meth:`box_collides` the middle is shifted along x without turning the shift, and every step turns
        the box, however short: OmniDrive's code does so.
        """
        path_m = np.vstack([np.zeros((1, 2)), path_ego_m])
        steps_m = np.diff(path_ego_m, axis=0, prepend=0.0)
        headings_rad = np.concatenate([[0.0], np.arctan2(steps_m[:, 1], steps_m[:, 0])])
        centres_m = path_m + np.array([BOX_AHEAD_OF_LIDAR_M + LIDAR_AHEAD_M, 0.0])
        corners_m = _corners(
            centres_m[:, None], headings_rad[:, None], np.array([BOUNDARY_LENGTH_M]), np.array([EGO_WIDTH_M])
        )
        return _filled(self._cells(corners_m), np.ones((len(path_m), 1), dtype=bool), self.CELLS)

    def _cells(self, points_m: Array) -> Array:
        return np.round((points_m - self._CORNER_M + self.STEP_M / 2.0) / self.STEP_M).astype(np.int32)


def _corners(centre_m: Array, heading_rad: Array, length_m: Array, width_m: Array) -> Array:
    """Corners [T, N, 4, 2] of boxes [T, N]."""
    along = np.stack([np.cos(heading_rad), np.sin(heading_rad)], axis=-1) * (length_m / 2.0)[:, None]
    across = np.stack([-np.sin(heading_rad), np.cos(heading_rad)], axis=-1) * (width_m / 2.0)[:, None]
    return np.stack(
        [centre_m + along + across, centre_m - along + across, centre_m - along - across, centre_m + along - across],
        axis=-2,
    )


def _filled(corners: Array, drawn: Array, cells: int) -> Array:
    """Quadrangles [T, N, 4, 2] (column, row) where ``drawn`` [T, N], as raster uint8 [T, cells, cells]."""
    rasters = np.zeros((len(corners), cells, cells), dtype=np.uint8)
    for raster, polygons, wanted in zip(rasters, corners, drawn, strict=True):
        for polygon in polygons[wanted]:
            cv2.fillPoly(raster, [polygon], 1)
    return rasters


def _cells_within(first: Array, second: Array) -> Array:
    """Cells [M, 2] whose whole numbers lie in two intervals, as scikit-image fills an upright rectangle."""
    axes = [np.arange(int(np.ceil(low)), int(np.floor(high)) + 1) for low, high in (first, second)]
    return np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 2)


def _any_set(rasters: Array, rows: Array, columns: Array) -> Array:
    """Whether any of the cells [T, M], truncated and clipped to the border, is set in its raster; bool [T]."""
    last = rasters.shape[-1] - 1
    rows, columns = (np.clip(cells.astype(np.int32), 0, last) for cells in (rows, columns))
    return rasters[np.arange(len(rasters))[:, None], rows, columns].any(axis=1)

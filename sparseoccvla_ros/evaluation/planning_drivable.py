"""Where a car may drive, as a raster around the ego vehicle, and whether a path leaves it: OmniDrive's boundary test.

Two sources: polygons of nuScenes' map expansion (``maps/expansion/<location>.json``, not part of the tables), drawn as
OmniDrive's map API does, and the map image that the synthetic world writes. nuScenes' own map images are not used: they
contain the sidewalks.

Sources: NVlabs/OmniDrive ``evaluation/map_api.py``, ``eval_planning.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.evaluation.planning_raster import RANGE_M, FineGrid
from sparseoccvla_ros.geometry import inverse, transform_from_planar, yaw_of

Array = np.ndarray
#: An exterior [P, 2] and its holes, each [P, 2].
Polygon = tuple[Array, Sequence[Array]]

CELL_M = 0.1
WORLD_VERSION = 'v1.0-world'


def leaves_drivable(footprints: Array, drivable: Array) -> Array:
    """Whether the ego has left the drivable area at any step until then, bool [T].

    Args:
        footprints: uint8 [T + 1, 1000, 1000], see :meth:`FineGrid.footprints`; if that of t = 0 is outside already, no
            step counts.
        drivable: uint8 [1000, 1000].
    """
    outside = np.array([bool((drivable[footprint > 0] == 0).any()) for footprint in footprints])
    return np.logical_or.accumulate(outside[1:]) & ~outside[0]


def draw_drivable(polygons: Sequence[Polygon], map_from_ego: Array) -> Array:
    """Drivable area uint8 [1000, 1000] around the ego: row y (left), column x (forward), 1 where it may drive.

    Args:
        polygons: in the map's frame, metres.
        map_from_ego: [4, 4]; only its place and heading count.
    """
    ego_from_map = inverse(_level(map_from_ego))
    raster = np.zeros((FineGrid.CELLS, FineGrid.CELLS), dtype=np.uint8)
    for exterior, holes in polygons:
        _draw_polygon(raster, *(_planar(ego_from_map, exterior), [_planar(ego_from_map, hole) for hole in holes]))
    return raster


def _level(map_from_ego: Array) -> Array:
    return transform_from_planar(map_from_ego[0, 3], map_from_ego[1, 3], yaw_of(map_from_ego))


def _planar(target_from_source: Array, points: Array) -> Array:
    return np.asarray(points, dtype=np.float64)[:, :2] @ target_from_source[:2, :2].T + target_from_source[:2, 3]


def _draw_polygon(raster: Array, exterior_m: Array, holes_m: Sequence[Array]) -> None:
    """Cut to the range before corners are rounded, as the reference does: a cut edge is rounded at the cut."""
    exterior_m = _clipped(exterior_m)
    if not len(exterior_m):
        return
    own = np.zeros_like(raster)
    cv2.fillPoly(own, [_cells(exterior_m)], 1)
    within = [hole for hole in holes_m if np.abs(hole).max() < RANGE_M]
    for hole in holes_m:
        clipped = _clipped(hole)
        # A hole that the range cuts becomes a bay of the exterior: its shore belongs to the area, the range's edge not.
        if len(clipped) and np.abs(hole).max() >= RANGE_M:
            cv2.fillPoly(own, [_cells(clipped)], 0)
            for start, end in zip(np.roll(clipped, 1, axis=0), clipped, strict=True):
                if not ((np.abs(start) == RANGE_M) & (start == end)).any():
                    cv2.line(own, _cells(start).tolist(), _cells(end).tolist(), 1)
    raster |= own
    # Whole holes are cut out of what other polygons have drawn, too: the reference's code does so.
    for hole in within:
        cv2.fillPoly(raster, [_cells(hole)], 0)


def _cells(points_m: Array) -> Array:
    return np.round((points_m + RANGE_M) / CELL_M).astype(np.int32)


def _clipped(ring_m: Array) -> Array:
    """A ring [P, 2] cut to the square of the range (Sutherland-Hodgman), [0, 2] if nothing of it is inside."""
    for axis in (0, 1):
        for sign in (1.0, -1.0):
            inside_m = RANGE_M - sign * ring_m[:, axis]
            cut = []
            for k in range(len(ring_m)):
                if (inside_m[k - 1] >= 0.0) != (inside_m[k] >= 0.0):
                    share = inside_m[k - 1] / (inside_m[k - 1] - inside_m[k])
                    point = ring_m[k - 1] + share * (ring_m[k] - ring_m[k - 1])
                    point[axis] = sign * RANGE_M
                    cut.append(point)
                if inside_m[k] >= 0.0:
                    cut.append(ring_m[k])
            ring_m = np.array(cut).reshape(-1, 2)
    return ring_m


class DrivableMaps:
    """Drivable areas of the scenes of a data set.

    Raises:
        NuScenesError: a table cannot be read.
    """

    def __init__(self, tables: NuScenesTables) -> None:
        self._root = tables.dataroot
        self._is_world = tables.version == WORLD_VERSION
        folder = tables.dataroot / tables.version
        self._log_of_scene = {row['name']: row['log_token'] for row in _read(folder / 'scene.json')}
        self._location_of_log = {row['token']: row['location'] for row in _read(folder / 'log.json')}
        self._maps = _read(folder / 'map.json')

    def around(self, scene: str, map_from_ego: Array) -> Array | None:
        """Drivable area uint8 [1000, 1000] around the ego, see :func:`draw_drivable`; None without a map.

        Raises:
            NuScenesError: the map cannot be read.
        """
        path = self._source(scene)
        if path is None or not path.is_file():
            return None
        if path.suffix == '.json':
            return draw_drivable(_expansion_polygons(path), map_from_ego)
        return _cut_from_image(_image(path), map_from_ego)

    def _source(self, scene: str) -> Path | None:
        log = self._log_of_scene[scene]
        if not self._is_world:
            return self._root / 'maps' / 'expansion' / f'{self._location_of_log[log]}.json'
        names = [row['filename'] for row in self._maps if log in row['log_tokens']]
        return self._root / names[0] if names else None


def _read(path: Path) -> list[dict]:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise NuScenesError(f'{path} cannot be read: {error}') from error


@lru_cache(maxsize=4)
def _expansion_polygons(path: Path) -> list[Polygon]:
    tables = _read(path)
    try:
        nodes = {row['token']: (row['x'], row['y']) for row in tables['node']}
        polygons = {row['token']: row for row in tables['polygon']}
        areas = [polygons[token] for row in tables['drivable_area'] for token in row['polygon_tokens']]
        return [
            (
                np.array([nodes[token] for token in area['exterior_node_tokens']]),
                [
                    np.array([nodes[token] for token in hole['node_tokens']])
                    for hole in area['holes']
                    if hole['node_tokens']
                ],
            )
            for area in areas
        ]
    except (KeyError, TypeError) as error:
        raise NuScenesError(f'{path} is not a map expansion: {error!r}') from error


@lru_cache(maxsize=4)
def _image(path: Path) -> Array:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise NuScenesError(f'{path} is not an image')
    return image


def _cut_from_image(image: Array, map_from_ego: Array) -> Array:
    """Nearest pixels of a map image of 0.1 m whose lower left corner is the map's (0, 0)."""
    places_m = CELL_M * np.arange(FineGrid.CELLS) - RANGE_M
    x_m, y_m = np.meshgrid(places_m, places_m)
    map_m = _planar(_level(map_from_ego), np.stack([x_m.ravel(), y_m.ravel()], axis=-1))
    columns, up = np.floor(map_m / CELL_M).astype(np.int64).T
    rows = image.shape[0] - 1 - up
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    raster = np.zeros(len(rows), dtype=np.uint8)
    raster[inside] = image[rows[inside], columns[inside]] > 0
    return raster.reshape(FineGrid.CELLS, FineGrid.CELLS)

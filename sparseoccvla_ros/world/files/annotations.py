"""Rows of boxes: ``sample_annotation`` and ``instance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sparseoccvla_ros.world.files.names import SceneNames
from sparseoccvla_ros.world.files.tables import Row, link, placement, token, visibility_token
from sparseoccvla_ros.world.labels.extraction import Sighting, View, attribute_of, boxed_things
from sparseoccvla_ros.world.scene import Scene


class BoxRows:
    """Boxes of a scene's keyframes, in order of time."""

    def __init__(self, scene: Scene, names: SceneNames) -> None:
        self._scene = scene
        self._names = names
        self._rows: dict[int, list[Row]] = {}

    def add(
        self, number: int, time_s: float, seen: Mapping[int, Sighting], views: Sequence[View], lidar_thing: np.ndarray
    ) -> None:
        """A box for each thing of keyframe ``number`` that gets one.

        Args:
            number: of the keyframe.
            time_s: of it; images are up to 43 ms older.
            seen: what the images show.
            views: the images.
            lidar_thing: index of the thing that each LiDAR point [N] lies on, -1 for none.
        """
        scene, names = self._scene, self._names
        full_px = sum(view.capture.full_px for view in views)
        lidar_points = np.bincount(lidar_thing[lidar_thing >= 0], minlength=len(scene.things))
        for index in boxed_things(scene, time_s, seen):
            thing = scene.things[index]
            state = thing.state_at(time_s)
            length, width, height = thing.shape.size_m
            middle = state.world_from_object.copy()
            middle[2, 3] += 0.5 * height
            attribute = attribute_of(thing, state.speed_mps)
            row = {
                'token': names.token('annotation', index, names.sample_us(number)),
                'sample_token': names.sample_token(number),
                'instance_token': names.instance_token(index),
                'visibility_token': visibility_token(min(seen[index].seen_px / full_px[index], 1.0)),
                'attribute_tokens': [token('attribute', attribute)] if attribute else [],
                **placement(middle),
                'size': [width, length, height],
                'num_lidar_pts': int(lidar_points[index]),
                'num_radar_pts': 0,
            }
            self._rows.setdefault(index, []).append(row)

    def tables(self) -> dict[str, list[Row]]:
        """The rows of both tables."""
        for rows in self._rows.values():
            link(rows)
        instances = [
            {
                'token': self._names.instance_token(index),
                'category_token': token('category', self._scene.things[index].shape.category),
                'nbr_annotations': len(rows),
                'first_annotation_token': rows[0]['token'],
                'last_annotation_token': rows[-1]['token'],
            }
            for index, rows in self._rows.items()
        ]
        return {'sample_annotation': [row for rows in self._rows.values() for row in rows], 'instance': instances}

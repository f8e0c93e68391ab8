"""One scene of the world as files: images, occupancy labels, map, and the rows of its tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sparseoccvla_ros.world.bodies.thing import PEDESTRIAN, Thing
from sparseoccvla_ros.world.drawing.render import Capture, Renderer
from sparseoccvla_ros.world.files.tables import Row, link, placement, token, visibility_token
from sparseoccvla_ros.world.labels.occupancy import OccupancyLabeller
from sparseoccvla_ros.world.rig import Rig
from sparseoccvla_ros.world.scene import Scene

KEYFRAME_HZ = 2
JPEG_QUALITY = 90
#: Farther agents get no box, nor do those that no camera image shows.
ANNOTATION_RANGE_M = 75.0
#: 2026-01-01 08:00 UTC; scenes follow one another by ten minutes. A constant: nothing here asks what time it is.
FIRST_SCENE_US = 1_767_254_400_000_000
SCENE_SPACING_US = 600_000_000
MAP_M_PER_PX = 0.1
MOVING_MPS = 0.2


@dataclass
class SceneRows:
    """Rows that one scene adds to each table, and how much was written."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    images: int = 0
    keyframes: int = 0


class SceneWriter:
    """Renders one scene into a data set's folder; ``seed`` and ``index`` make the tokens."""

    def __init__(self, root: Path, scene: Scene, rig: Rig, seed: int, index: int) -> None:
        self._root = root
        self._scene = scene
        self._rig = rig
        self._renderer = Renderer(scene)
        self._key = (seed, index, scene.city.name, scene.duration_s)
        self._start_us = FIRST_SCENE_US + index * SCENE_SPACING_US
        self._logfile = f'{rig.vehicle}-world-{seed}-{index + 1:04d}'
        self._out = SceneRows()

    def write(self, sweep_hz: int) -> SceneRows:
        """Write everything; camera cycles at ``sweep_hz``, of which ``KEYFRAME_HZ`` are keyframes."""
        scene, rig = self._scene, self._rig
        per_keyframe = sweep_hz // KEYFRAME_HZ
        samples = [self._sample_row(number) for number in range(int(scene.duration_s * KEYFRAME_HZ))]
        link(samples)
        calibrations = [self._calibration_row(item.camera.name) for item in rig.cameras]
        data: dict[str, list[Row]] = {item.camera.name: [] for item in rig.cameras}
        ego_poses: list[Row] = []
        annotations: dict[int, list[Row]] = {}
        labeller = OccupancyLabeller(self._renderer, rig)
        for cycle in range((len(samples) - 1) * per_keyframe + 1):
            is_key_frame = cycle % per_keyframe == 0
            # nuScenes links a sweep to the keyframe that follows it.
            sample = samples[-(-cycle // per_keyframe)]
            captures = []
            for item, calibration in zip(rig.cameras, calibrations, strict=True):
                taken_us = self._start_us + round(cycle * 1e6 / sweep_hz) + round(item.trigger_offset_s * 1e6)
                time_s = (taken_us - self._start_us) * 1e-6
                world_from_ego = scene.world_from_ego(time_s)
                capture = self._renderer.render(item.camera, world_from_ego, time_s)
                pose = {
                    'token': token(*self._key, 'ego_pose', item.camera.name, taken_us),
                    'timestamp': taken_us,
                    **placement(world_from_ego),
                }
                ego_poses.append(pose)
                row = self._data_row(item.camera.name, taken_us, is_key_frame, capture)
                row |= {
                    'sample_token': sample['token'],
                    'ego_pose_token': pose['token'],
                    'calibrated_sensor_token': calibration['token'],
                }
                data[item.camera.name].append(row)
                captures.append((item.camera, world_from_ego, capture))
            if is_key_frame:
                time_s = cycle / sweep_hz
                self._annotate(sample, time_s, [capture for _, _, capture in captures], annotations)
                views = [(camera, pose, capture.depth_m) for camera, pose, capture in captures]
                self._write_labels(labeller, sample, time_s, views)
        for rows in [*data.values(), *annotations.values()]:
            link(rows)
        log_token = token(*self._key, 'log')
        self._out.rows = {
            'log': [self._log_row(log_token)],
            'map': [self._write_map(log_token)],
            'scene': [self._scene_row(log_token, samples)],
            'sample': samples,
            'calibrated_sensor': calibrations,
            'ego_pose': ego_poses,
            'sample_data': [row for rows in data.values() for row in rows],
            'sample_annotation': [row for rows in annotations.values() for row in rows],
            'instance': [self._instance_row(index, rows) for index, rows in annotations.items()],
        }
        self._out.keyframes = len(samples)
        return self._out

    def _sample_row(self, number: int) -> Row:
        return {
            'token': token(*self._key, 'sample', number),
            'timestamp': self._start_us + number * 1_000_000 // KEYFRAME_HZ,
            'scene_token': token(*self._key, 'scene'),
        }

    def _scene_row(self, log_token: str, samples: list[Row]) -> Row:
        return {
            'token': token(*self._key, 'scene'),
            'log_token': log_token,
            'nbr_samples': len(samples),
            'first_sample_token': samples[0]['token'],
            'last_sample_token': samples[-1]['token'],
            'name': self._scene.name,
            'description': self._scene.description,
        }

    def _log_row(self, log_token: str) -> Row:
        return {
            'token': log_token,
            'logfile': self._logfile,
            'vehicle': self._rig.vehicle,
            'date_captured': '2026-01-01',
            'location': f'world-{self._scene.city.name}',
        }

    def _calibration_row(self, channel: str) -> Row:
        camera = next(item.camera for item in self._rig.cameras if item.camera.name == channel)
        return {
            'token': token(*self._key, 'calibrated_sensor', channel),
            'sensor_token': token('sensor', channel),
            **placement(camera.ego_from_camera),
            'camera_intrinsic': camera.intrinsics_px.tolist(),
        }

    def _data_row(self, channel: str, taken_us: int, is_key_frame: bool, capture: Capture) -> Row:
        folder = 'samples' if is_key_frame else 'sweeps'
        filename = f'{folder}/{channel}/{self._logfile}__{channel}__{taken_us}.jpg'
        _write_image(self._root / filename, capture.rgb, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        self._out.images += 1
        height, width, _ = capture.rgb.shape
        return {
            'token': token(*self._key, 'sample_data', channel, taken_us),
            'timestamp': taken_us,
            'fileformat': 'jpg',
            'is_key_frame': is_key_frame,
            'height': height,
            'width': width,
            'filename': filename,
        }

    def _annotate(self, sample: Row, time_s: float, captures: list[Capture], annotations: dict[int, list[Row]]) -> None:
        """A box for each agent of which at least one pixel is seen. Sweeps differ by up to 43 ms from its time."""
        full_px = sum(capture.full_px for capture in captures)
        seen_px = sum(
            np.bincount(capture.thing[capture.thing >= 0], minlength=len(self._scene.things)) for capture in captures
        )
        ego_m = self._scene.world_from_ego(time_s)[:2, 3]
        for index in np.nonzero(seen_px)[0]:
            thing = self._scene.things[index]
            if not thing.annotated:
                continue
            state = thing.state_at(time_s)
            if np.hypot(*(state.world_from_object[:2, 3] - ego_m)) > ANNOTATION_RANGE_M:
                continue
            length, width, height = thing.shape.size_m
            middle = state.world_from_object.copy()
            middle[2, 3] += 0.5 * height
            row = {
                'token': token(*self._key, 'annotation', index, sample['timestamp']),
                'sample_token': sample['token'],
                'instance_token': token(*self._key, 'instance', index),
                'visibility_token': visibility_token(seen_px[index] / full_px[index]),
                'attribute_tokens': [token('attribute', _attribute(thing, state.speed_mps))],
                **placement(middle),
                'size': [width, length, height],
                'num_lidar_pts': 0,
                'num_radar_pts': 0,
            }
            annotations.setdefault(int(index), []).append(row)

    def _instance_row(self, index: int, rows: list[Row]) -> Row:
        return {
            'token': rows[0]['instance_token'],
            'category_token': token('category', self._scene.things[index].shape.category),
            'nbr_annotations': len(rows),
            'first_annotation_token': rows[0]['token'],
            'last_annotation_token': rows[-1]['token'],
        }

    def _write_labels(self, labeller: OccupancyLabeller, sample: Row, time_s: float, views: list) -> None:
        labels = labeller.label(time_s, views)
        folder = self._root / 'gts' / self._scene.name / sample['token']
        folder.mkdir(parents=True)
        np.savez_compressed(
            folder / 'labels.npz',
            semantics=labels.semantics,
            mask_lidar=labels.mask_lidar,
            mask_camera=labels.mask_camera,
        )

    def _write_map(self, log_token: str) -> Row:
        """Drivable area from above, 255 where a car may drive; (0, 0) is the lower left corner, 0.1 m a pixel."""
        street = self._scene.street
        line = street.centreline
        s_m = np.arange(0.0, line.length_m, 1.0)
        left, right = line.place(s_m, street.kerb_m), line.place(s_m, -street.kerb_m)
        outline = np.concatenate([np.stack(left[:2], axis=1), np.stack(right[:2], axis=1)[::-1]]) / MAP_M_PER_PX
        width, height = (int(np.ceil((axis.max() + 50.0) / MAP_M_PER_PX)) for axis in (line.x_m, line.y_m))
        image = np.zeros((height, width), dtype=np.uint8)
        outline[:, 1] = height - outline[:, 1]
        cv2.fillPoly(image, [np.round(outline).astype(np.int32)], 255)
        filename = f'maps/{token(*self._key, "map")}.png'
        _write_image(self._root / filename, image, [cv2.IMWRITE_PNG_COMPRESSION, 6])
        return {
            'token': token(*self._key, 'map'),
            'log_tokens': [log_token],
            'category': 'semantic_prior',
            'filename': filename,
        }


def _attribute(thing: Thing, speed_mps: float) -> str:
    if thing.shape.label == PEDESTRIAN:
        return 'pedestrian.moving' if speed_mps > MOVING_MPS else 'pedestrian.standing'
    if thing.parked:
        return 'vehicle.parked'
    return 'vehicle.moving' if speed_mps > MOVING_MPS else 'vehicle.stopped'


def _write_image(path: Path, image: np.ndarray, options: list[int]) -> None:
    """Encode RGB or grey and write it.

    Raises:
        OSError: the disk is full or the folder cannot be written. (cv2.imwrite would only return False.)
        ValueError: the image cannot be encoded.
    """
    encoded, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image, options)
    if not encoded:
        raise ValueError(f'cannot encode an image of {image.shape} as {path.suffix}')
    path.write_bytes(data.tobytes())

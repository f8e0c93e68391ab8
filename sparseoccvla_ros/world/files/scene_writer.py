"""One scene of the world as files: images, LiDAR, labels, map, ego states, and the rows of its tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from sparseoccvla_ros.data.nuscenes import LIDAR
from sparseoccvla_ros.world.drawing.lens import LENS_STREAM, Lens
from sparseoccvla_ros.world.drawing.lidar import LidarScanner
from sparseoccvla_ros.world.drawing.render import Renderer, encode_depth
from sparseoccvla_ros.world.files.annotations import BoxRows
from sparseoccvla_ros.world.files.can_bus import write_can_bus
from sparseoccvla_ros.world.files.ego_future import write_ego_future
from sparseoccvla_ros.world.files.ground_map import draw_driveable_map
from sparseoccvla_ros.world.files.names import SceneNames
from sparseoccvla_ros.world.files.question_files import SceneQuestions
from sparseoccvla_ros.world.files.request import KEYFRAME_HZ, WorldRequest
from sparseoccvla_ros.world.files.tables import Row, link, placement, token
from sparseoccvla_ros.world.labels.extraction import KeyframeTokens, View, keyframe_facts, sightings
from sparseoccvla_ros.world.labels.facts import KeyframeFacts
from sparseoccvla_ros.world.labels.occupancy import OccupancyLabeller
from sparseoccvla_ros.world.labels.what_if import WhatIf
from sparseoccvla_ros.world.rig import Rig, RigCamera
from sparseoccvla_ros.world.scene import Scene

JPEG_QUALITY = 90
#: First numbers of random streams; see ``rig.RIG_STREAM``.
LIDAR_STREAM = 7901


class SceneWriter:
    """Writes one scene into a data set's folder; files that are already there are written anew."""

    def __init__(self, root: Path, scene: Scene, rig: Rig, names: SceneNames, request: WorldRequest) -> None:
        self._root = root
        self._scene = scene
        self._rig = rig
        self._names = names
        self._request = request
        self._renderer = Renderer(scene)
        self._lidar = LidarScanner(self._renderer, rig.lidar, (LIDAR_STREAM, names.seed, names.index))
        self._lens = Lens() if request.lens else None
        self._labeller = OccupancyLabeller(self._renderer, rig)
        self._boxes = BoxRows(scene, names)
        self._what_if = WhatIf(scene)
        self._instances = {index: names.instance_token(index) for index in range(len(scene.things))}
        self._facts: list[KeyframeFacts] = []
        self._image_paths: dict[str, dict[str, str]] = {}
        self._ego_poses: list[Row] = []
        self._data: dict[str, list[Row]] = {name: [] for name in [*(item.camera.name for item in rig.cameras), LIDAR]}

    def write(self, on_keyframe: Callable[[], None]) -> tuple[dict[str, list[Row]], SceneQuestions]:
        """Write everything but rows and questions, which are returned: rows by table, and what may be asked.

        ``on_keyframe`` is called after each keyframe.
        """
        scene, names = self._scene, self._names
        keyframes = self._request.keyframes_per_scene
        per_keyframe = self._request.sweep_hz // KEYFRAME_HZ
        samples = [self._sample_row(number) for number in range(keyframes)]
        link(samples)
        for cycle in range((keyframes - 1) * per_keyframe + 1):
            # nuScenes links a sweep to the keyframe that follows it.
            number = -(-cycle // per_keyframe)
            is_key_frame = cycle % per_keyframe == 0
            views = [self._photograph(item, cycle, number, is_key_frame) for item in self._rig.cameras]
            if is_key_frame:
                self._keyframe(number, cycle / self._request.sweep_hz, views)
                on_keyframe()
        write_can_bus(self._root / 'can_bus', scene, names)
        write_ego_future(self._root / 'ego' / f'{scene.name}.json', scene, names, keyframes)
        for rows in self._data.values():
            link(rows)
        log_token = names.token('log')
        tables = {
            'log': [self._log_row(log_token)],
            'map': [self._write_map(log_token)],
            'scene': [self._scene_row(log_token, samples)],
            'sample': samples,
            'calibrated_sensor': self._calibration_rows(),
            'ego_pose': self._ego_poses,
            'sample_data': [row for rows in self._data.values() for row in rows],
            **self._boxes.tables(),
        }
        return tables, SceneQuestions.of(self._facts, self._image_paths, names.index, names.seed)

    def _photograph(self, item: RigCamera, cycle: int, number: int, is_key_frame: bool) -> View:
        """One camera's image of a cycle, at the camera's own time."""
        names, camera = self._names, item.camera
        stamp_us = names.stamp_us(cycle / self._request.sweep_hz) + round(item.trigger_offset_s * 1e6)
        time_s = (stamp_us - names.start_us) * 1e-6
        world_from_ego = self._scene.world_from_ego(time_s)
        capture = self._renderer.render(camera, world_from_ego, time_s)
        folder = 'samples' if is_key_frame else 'sweeps'
        filename = names.file(folder, camera.name, stamp_us, 'jpg')
        rgb = capture.rgb
        if self._lens is not None:
            number_of_camera = list(self._data).index(camera.name)
            rng = np.random.default_rng([LENS_STREAM, names.seed, names.index, number_of_camera, stamp_us])
            rgb = self._lens.expose(rgb, self._scene.look, rng)
        _write_image(self._root / filename, rgb, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if is_key_frame:
            self._image_paths.setdefault(names.sample_token(number), {})[camera.name] = filename
            extra = {}
            if self._request.depth:
                extra['depth'] = encode_depth(capture.depth_m)
            if self._request.semantics:
                extra['semantics'] = capture.label
            for kind, image in extra.items():
                path = self._root / names.file(kind, camera.name, stamp_us, 'png')
                _write_image(path, image, [cv2.IMWRITE_PNG_COMPRESSION, 6])
        self._add_data(camera.name, number, stamp_us, is_key_frame, filename, 'jpg', capture.rgb.shape[:2])
        return View(camera, world_from_ego, capture)

    def _keyframe(self, number: int, time_s: float, views: list[View]) -> None:
        names = self._names
        scan = self._lidar.scan(time_s)
        stamp_us = names.sample_us(number)
        filename = names.file('samples', LIDAR, stamp_us, 'pcd.bin')
        (self._root / filename).write_bytes(scan.points.astype('<f4').tobytes())
        self._add_data(LIDAR, number, stamp_us, True, filename, 'pcd', (0, 0))
        seen = sightings(views)
        self._boxes.add(number, time_s, seen, views, scan.thing)
        tokens = KeyframeTokens(names.token('scene'), names.sample_token(number), stamp_us * 1000, self._instances)
        self._facts.append(keyframe_facts(self._scene, time_s, views, seen, tokens, self._what_if))
        labels = self._labeller.label(
            time_s, [(view.camera, view.world_from_ego, view.capture.depth_m) for view in views]
        )
        folder = self._root / 'gts' / self._scene.name / names.sample_token(number)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            folder / 'labels.npz',
            semantics=labels.semantics,
            mask_lidar=labels.mask_lidar,
            mask_camera=labels.mask_camera,
        )

    def _add_data(
        self,
        channel: str,
        number: int,
        stamp_us: int,
        is_key_frame: bool,
        filename: str,
        fileformat: str,
        size_px: tuple[int, int],
    ) -> None:
        """Rows of a sensor's file and of the ego's pose at its time."""
        names = self._names
        pose_token = names.token('ego_pose', channel, stamp_us)
        world_from_ego = self._scene.world_from_ego((stamp_us - names.start_us) * 1e-6)
        self._ego_poses.append({'token': pose_token, 'timestamp': stamp_us, **placement(world_from_ego)})
        row = {
            'token': names.token('sample_data', channel, stamp_us),
            'sample_token': names.sample_token(number),
            'ego_pose_token': pose_token,
            'calibrated_sensor_token': names.token('calibrated_sensor', channel),
            'timestamp': stamp_us,
            'fileformat': fileformat,
            'is_key_frame': is_key_frame,
            'height': size_px[0],
            'width': size_px[1],
            'filename': filename,
        }
        self._data[channel].append(row)

    def _sample_row(self, number: int) -> Row:
        return {
            'token': self._names.sample_token(number),
            'timestamp': self._names.sample_us(number),
            'scene_token': self._names.token('scene'),
        }

    def _scene_row(self, log_token: str, samples: list[Row]) -> Row:
        return {
            'token': self._names.token('scene'),
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
            'logfile': self._names.logfile,
            'vehicle': self._rig.vehicle,
            'date_captured': '2026-01-01',
            'location': f'world-{self._scene.city.name}',
        }

    def _calibration_rows(self) -> list[Row]:
        sensors = {
            item.camera.name: (item.camera.ego_from_camera, item.camera.intrinsics_px.tolist())
            for item in self._rig.cameras
        }
        sensors[LIDAR] = (self._rig.lidar.ego_from_lidar, [])
        return [
            {
                'token': self._names.token('calibrated_sensor', channel),
                'sensor_token': token('sensor', channel),
                **placement(ego_from_sensor),
                'camera_intrinsic': intrinsics,
            }
            for channel, (ego_from_sensor, intrinsics) in sensors.items()
        ]

    def _write_map(self, log_token: str) -> Row:
        filename = f'maps/{self._names.token("map")}.png'
        _write_image(self._root / filename, draw_driveable_map(self._scene), [cv2.IMWRITE_PNG_COMPRESSION, 6])
        return {
            'token': self._names.token('map'),
            'log_tokens': [log_token],
            'category': 'semantic_prior',
            'filename': filename,
        }


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

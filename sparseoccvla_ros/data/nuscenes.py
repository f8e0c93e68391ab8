"""Reader of the nuScenes v1.0 layout: ``<dataroot>/<version>/*.json`` beside ``samples/`` and ``sweeps/``.

The same layout holds the official sets (``v1.0-mini``, ``v1.0-trainval``) and our synthetic world (``v1.0-world``).
Only the tables that are used are read. Units inside are ours: nanoseconds, ``target_from_source`` transforms,
quaternions converted once by :func:`sparseoccvla_ros.geometry.quat_xyzw_from_wxyz`. Everything wrong with the files is
a :class:`NuScenesError` that names the file, the token or the scene.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sparseoccvla_ros.geometry import quat_xyzw_from_wxyz, transform_from

CAMERAS = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT', 'CAM_BACK', 'CAM_BACK_LEFT')
"""The six cameras in the rig's order: clockwise seen from above, from the front left."""

LIDAR = 'LIDAR_TOP'
LIDAR_COLUMNS = ('x', 'y', 'z', 'intensity', 'ring')
"""Columns of a LIDAR_TOP sweep, float32 each."""

NS_PER_US = 1000

Row = Mapping[str, Any]


class NuScenesError(ValueError):
    """A table, token or file of the data set is missing or not as the layout says."""


@dataclass(frozen=True, eq=False)
class SensorFrame:
    """One ``sample_data`` row with everything it points to.

    ``path`` is the sensor's file; ``intrinsics_px`` [3, 3] is None and ``width_px``, ``height_px`` are 0 unless it is a
    camera. ``global_from_ego`` is the vehicle's pose at ``pose_stamp_ns``, which nuScenes makes equal to ``stamp_ns``.
    """

    token: str
    channel: str
    modality: str
    stamp_ns: int
    path: Path
    is_key_frame: bool
    width_px: int
    height_px: int
    intrinsics_px: np.ndarray | None
    ego_from_sensor: np.ndarray
    global_from_ego: np.ndarray
    pose_stamp_ns: int

    def read_bytes(self) -> bytes:
        """The sensor's file as it is.

        Raises:
            NuScenesError: the file is missing, not readable or empty.
        """
        name = f'{self.channel} file {self.path} of sample_data {self.token}'
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise NuScenesError(f'{name}: {error.strerror}') from error
        if not content:
            raise NuScenesError(f'{name} is empty')
        return content


@dataclass(frozen=True, eq=False)
class Sample:
    """A keyframe: ``sensors`` maps a channel to its key frame."""

    token: str
    stamp_ns: int
    sensors: dict[str, SensorFrame]


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene with its keyframes in time order."""

    name: str
    token: str
    description: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, eq=False)
class Annotation:
    """A box. ``global_from_box`` [4, 4]: origin in the box's centre, x along its length, y to its left, z up.

    ``size_wlh_m`` [3] is width, length, height (nuScenes' order): the extent along the box's y, x and z.
    """

    token: str
    instance_token: str
    category: str
    global_from_box: np.ndarray
    size_wlh_m: np.ndarray
    lidar_points: int
    radar_points: int


class NuScenesTables:
    """The tables of one version, indexed once.

    ``v1.0-trainval`` has 2.6 million ``sample_data`` rows; they are kept as parsed, and records are built per scene.

    Raises:
        NuScenesError: a table is missing or malformed, or a token points nowhere.
    """

    def __init__(self, dataroot: Path | str, version: str) -> None:
        self.dataroot = Path(dataroot)
        self.version = version
        if not version or PurePosixPath(version).name != version or version == '..':
            raise NuScenesError(f'version must be a folder name such as v1.0-mini, got {version!r}')
        self._folder = self.dataroot / version
        if not self._folder.is_dir():
            known = sorted(path.name for path in self.dataroot.glob('v*') if path.is_dir())
            raise NuScenesError(f'{self._folder} is not a folder; versions in {self.dataroot}: {known or "none"}')
        self._scenes = {_field(row, 'name', 'scene'): row for row in self._rows('scene')}
        self._samples = self._by_token('sample')
        self._ego_poses = self._by_token('ego_pose')
        self._calibrations = self._by_token('calibrated_sensor')
        self._sensors = self._by_token('sensor')
        self._samples_of_scene = _grouped(self._samples.values(), 'scene_token', 'sample')
        self._data_of_sample = _grouped(self._rows('sample_data'), 'sample_token', 'sample_data')

    @property
    def scene_names(self) -> tuple[str, ...]:
        """Names of all scenes, sorted."""
        return tuple(sorted(self._scenes))

    def scene(self, name: str) -> Scene:
        """A scene with its keyframes.

        Raises:
            NuScenesError: unknown name (the message lists the known ones), or a broken row in the scene.
        """
        row = self._scene_row(name)
        samples = []
        for sample_row in self._sample_rows(row):
            token = _field(sample_row, 'token', 'sample')
            frames = [self._frame(data) for data in self._data_of_sample.get(token, ()) if data.get('is_key_frame')]
            sensors = {frame.channel: frame for frame in frames}
            samples.append(Sample(token, _stamp_ns(sample_row, 'sample'), sensors))
        return Scene(name, _field(row, 'token', 'scene'), str(row.get('description', '')), tuple(samples))

    def location(self, scene_name: str) -> str:
        """Where a scene was recorded, as its log says.

        Raises:
            NuScenesError: unknown scene, or a table or row is missing.
        """
        row = self._scene_row(scene_name)
        return str(_field(self._referred(self._logs, 'log', row, 'scene'), 'location', 'log'))

    @cached_property
    def _logs(self) -> dict[str, Row]:
        return self._by_token('log')

    def frames(self, scene_name: str) -> list[SensorFrame]:
        """Every sensor frame of a scene, sweeps included, in time order.

        Raises:
            NuScenesError: as :meth:`scene`.
        """
        frames = [
            self._frame(data)
            for sample_row in self._sample_rows(self._scene_row(scene_name))
            for data in self._data_of_sample.get(sample_row['token'], ())
        ]
        return sorted(frames, key=lambda frame: (frame.stamp_ns, frame.channel))

    def camera_frames(self, scene_name: str) -> list[SensorFrame]:
        """Every camera frame of a scene, sweeps included, in time order.

        Raises:
            NuScenesError: as :meth:`scene`.
        """
        return [frame for frame in self.frames(scene_name) if frame.modality == 'camera']

    def annotations(self, sample: Sample) -> list[Annotation]:
        """The boxes of a keyframe, in the table's order.

        Raises:
            NuScenesError: a table is missing, or a broken row.
        """
        return [self._annotation(row) for row in self._annotations_of_sample.get(sample.token, ())]

    @cached_property
    def _annotations_of_sample(self) -> dict[str, list[Row]]:
        return _grouped(self._rows('sample_annotation'), 'sample_token', 'sample_annotation')

    @cached_property
    def _category_of_instance(self) -> dict[str, str]:
        categories = self._by_token('category')
        names = {}
        for token, row in self._by_token('instance').items():
            category = self._referred(categories, 'category', row, 'instance')
            names[token] = _field(category, 'name', 'category')
        return names

    def _annotation(self, row: Row) -> Annotation:
        token = _field(row, 'token', 'sample_annotation')
        instance_token = _field(row, 'instance_token', 'sample_annotation')
        if instance_token not in self._category_of_instance:
            raise NuScenesError(f'sample_annotation {token} refers to instance {instance_token}, which has no row')
        size_wlh_m = np.asarray(_field(row, 'size', 'sample_annotation'), dtype=np.float64)
        if size_wlh_m.shape != (3,) or not np.isfinite(size_wlh_m).all() or (size_wlh_m <= 0).any():
            raise NuScenesError(f'sample_annotation {token}: size must be three positive metres, got {row["size"]}')
        return Annotation(
            token=token,
            instance_token=instance_token,
            category=self._category_of_instance[instance_token],
            global_from_box=_transform(row, 'sample_annotation'),
            size_wlh_m=size_wlh_m,
            lidar_points=int(row.get('num_lidar_pts', 0)),
            radar_points=int(row.get('num_radar_pts', 0)),
        )

    def _frame(self, row: Row) -> SensorFrame:
        token = _field(row, 'token', 'sample_data')
        pose = self._referred(self._ego_poses, 'ego_pose', row, 'sample_data')
        calibration = self._referred(self._calibrations, 'calibrated_sensor', row, 'sample_data')
        sensor = self._referred(self._sensors, 'sensor', calibration, 'calibrated_sensor')
        return SensorFrame(
            token=token,
            channel=_field(sensor, 'channel', 'sensor'),
            modality=_field(sensor, 'modality', 'sensor'),
            stamp_ns=_stamp_ns(row, 'sample_data'),
            path=self._file(_field(row, 'filename', 'sample_data'), token),
            is_key_frame=bool(row.get('is_key_frame')),
            width_px=int(row.get('width') or 0),
            height_px=int(row.get('height') or 0),
            intrinsics_px=_intrinsics(calibration),
            ego_from_sensor=_transform(calibration, 'calibrated_sensor'),
            global_from_ego=_transform(pose, 'ego_pose'),
            pose_stamp_ns=_stamp_ns(pose, 'ego_pose'),
        )

    def _file(self, filename: str, token: str) -> Path:
        # A downloaded table must not make us read (and write into a bag) files from elsewhere on this machine.
        relative = PurePosixPath(filename)
        if relative.is_absolute() or '..' in relative.parts or not relative.parts:
            raise NuScenesError(f'sample_data {token}: filename {filename!r} leads out of {self.dataroot}')
        return self.dataroot / relative

    def _scene_row(self, name: str) -> Row:
        if name not in self._scenes:
            raise NuScenesError(f'no scene {name!r} in {self._folder}; it has {", ".join(self.scene_names) or "none"}')
        return self._scenes[name]

    def _sample_rows(self, scene_row: Row) -> list[Row]:
        rows = self._samples_of_scene.get(_field(scene_row, 'token', 'scene'), [])
        if not rows:
            raise NuScenesError(f'scene {scene_row["name"]} has no row in {self._folder / "sample.json"}')
        return sorted(rows, key=lambda row: _stamp_ns(row, 'sample'))

    def _referred(self, table: Mapping[str, Row], name: str, row: Row, source: str) -> Row:
        token = _field(row, f'{name}_token', source)
        if token not in table:
            raise NuScenesError(
                f'{source} {row.get("token")} refers to {name} {token}, which {name}.json does not have'
            )
        return table[token]

    def _rows(self, table: str) -> list[Row]:
        path = self._folder / f'{table}.json'
        try:
            rows = json.loads(path.read_text(encoding='utf-8'))
        except OSError as error:
            raise NuScenesError(f'cannot read table {path}: {error.strerror}') from error
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
            raise NuScenesError(f'{path} is not valid JSON: {error}') from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise NuScenesError(f'{path} must hold a list of objects')
        return rows

    def _by_token(self, table: str) -> dict[str, Row]:
        return {_field(row, 'token', table): row for row in self._rows(table)}


def load_lidar_points(frame: SensorFrame) -> np.ndarray:
    """Points of a LIDAR_TOP sweep, float32 [N, 5], columns :data:`LIDAR_COLUMNS`; metres in the sensor's frame.

    Raises:
        NuScenesError: the file is missing, or its size is not a whole number of points.
    """
    content = frame.read_bytes()
    values_per_point = len(LIDAR_COLUMNS)
    if len(content) % (4 * values_per_point):
        raise NuScenesError(f'{frame.path} has {len(content)} bytes, not a multiple of {4 * values_per_point}')
    return np.frombuffer(content, dtype='<f4').reshape(-1, values_per_point)


def _field(row: Row, key: str, table: str) -> Any:
    if key not in row:
        raise NuScenesError(f'{table}.json: row {row.get("token", row)} has no {key!r}')
    return row[key]


def _grouped(rows: Any, key: str, table: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_field(row, key, table), []).append(row)
    return groups


def _stamp_ns(row: Row, table: str) -> int:
    stamp_us = _field(row, 'timestamp', table)
    if isinstance(stamp_us, bool) or not isinstance(stamp_us, int):
        # A float would lose microseconds: 1.5e15 leaves it a quarter of one.
        raise NuScenesError(f'{table} {row.get("token")}: timestamp must be whole microseconds, got {stamp_us!r}')
    return stamp_us * NS_PER_US


def _transform(row: Row, table: str) -> np.ndarray:
    try:
        return transform_from(_field(row, 'translation', table), quat_xyzw_from_wxyz(_field(row, 'rotation', table)))
    except (ValueError, TypeError, IndexError) as error:
        raise NuScenesError(f'{table} {row.get("token")}: {error}') from error


def _intrinsics(calibration: Row) -> np.ndarray | None:
    values = _field(calibration, 'camera_intrinsic', 'calibrated_sensor')
    if not values:
        return None
    try:
        intrinsics_px = np.array(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise NuScenesError(f'calibrated_sensor {calibration.get("token")}: camera_intrinsic: {error}') from error
    if intrinsics_px.shape != (3, 3) or not np.isfinite(intrinsics_px).all() or intrinsics_px[0, 0] <= 0:
        raise NuScenesError(
            f'calibrated_sensor {calibration.get("token")}: camera_intrinsic must be a 3x3 matrix with a positive '
            f'focal length, got {values}'
        )
    return intrinsics_px

"""A small scene in the nuScenes v1.0 layout, made on the spot: two cameras and a LiDAR on a car that turns left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparseoccvla_ros.data.nuscenes import NuScenesTables

START_US = 1_600_000_000_123_456
SPEED_MPS = 5.0
YAW_RATE_RADPS = 0.2
# Ego axes in the image of a camera that looks along x: z forward, x right, y down; as w, x, y, z.
FORWARD_CAMERA_WXYZ = (0.5, -0.5, 0.5, -0.5)
INTRINSICS_PX = [[60.0, 0.0, 32.0], [0.0, 60.0, 18.0], [0.0, 0.0, 1.0]]
WIDTH_PX, HEIGHT_PX = 64, 36


@dataclass
class LayoutWriter:
    """Rows by table, changed at will by a test before :meth:`write`."""

    root: Path
    version: str = 'v1.0-test'
    tables: dict[str, list[dict]] = field(default_factory=dict)

    def write(self) -> Path:
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f'{name}.json').write_text(json.dumps(rows))
        return self.root

    def read(self) -> NuScenesTables:
        return NuScenesTables(self.write(), self.version)

    def row(self, table: str, **values: object) -> dict:
        """First row with these values."""
        return next(row for row in self.tables[table] if values.items() <= row.items())

    def image(self, relative: str, seed: int) -> np.ndarray:
        image = np.random.default_rng(seed).integers(0, 255, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)
        return image


def circle_pose(seconds: float) -> tuple[list[float], list[float]]:
    """Position [3] and rotation w x y z of a car that circles to the left from (100, 200, 0), first heading along x."""
    yaw = YAW_RATE_RADPS * seconds
    radius = SPEED_MPS / YAW_RATE_RADPS
    position = [100.0 + radius * np.sin(yaw), 200.0 + radius * (1.0 - np.cos(yaw)), 0.0]
    return position, [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


def write_layout(root: Path, keyframes: int = 2, image_suffix: str = '.jpg') -> LayoutWriter:
    """``keyframes`` at 2 Hz, each followed by one camera sweep 80 ms later (not after the last)."""
    layout = LayoutWriter(root)
    channels = {'CAM_FRONT': 0, 'CAM_BACK': 25_000, 'LIDAR_TOP': 40_000}  # firing offsets, microseconds
    rows: dict[str, list[dict]] = {name: [] for name in ('sample', 'sample_data', 'ego_pose')}
    for index in range(keyframes):
        token = f'sample{index}'
        neighbours = {'prev': f'sample{index - 1}' if index else '', 'next': f'sample{index + 1}'}
        stamp_us = START_US + 500_000 * index
        rows['sample'].append({'token': token, 'timestamp': stamp_us, 'scene_token': 'scene-a', **neighbours})
        for sweep in range(2 if index + 1 < keyframes else 1):
            for channel, offset_us in channels.items():
                if sweep and channel == 'LIDAR_TOP':
                    continue
                _add_frame(layout, rows, token, channel, stamp_us + offset_us + 80_000 * sweep, sweep, image_suffix)
    layout.tables = {
        **rows,
        'scene': [{'token': 'scene-a', 'name': 'scene-0001', 'description': 'left turn', 'log_token': 'log'}],
        'sensor': [
            {'token': f's-{channel}', 'channel': channel, 'modality': 'lidar' if 'LIDAR' in channel else 'camera'}
            for channel in channels
        ],
        'calibrated_sensor': [_calibration(channel) for channel in channels],
        'category': [{'token': 'c0', 'name': 'vehicle.car'}],
        'instance': [{'token': 'i0', 'category_token': 'c0'}],
        'sample_annotation': [
            {
                'token': 'a0',
                'sample_token': 'sample0',
                'instance_token': 'i0',
                'translation': [110.0, 203.0, 0.8],
                'size': [2.0, 4.5, 1.6],
                'rotation': [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)],
                'num_lidar_pts': 7,
                'num_radar_pts': 1,
            }
        ],
    }
    return layout


def _add_frame(
    layout: LayoutWriter, rows: dict, sample: str, channel: str, stamp_us: int, sweep: int, image_suffix: str
) -> None:
    folder = 'sweeps' if sweep else 'samples'
    suffix = '.pcd.bin' if channel == 'LIDAR_TOP' else image_suffix
    filename = f'{folder}/{channel}/{stamp_us}{suffix}'
    if channel == 'LIDAR_TOP':
        path = layout.root / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(np.arange(20, dtype='<f4').tobytes())
    else:
        layout.image(filename, seed=stamp_us % 1000)
    token = f'{channel}-{stamp_us}'
    position, rotation = circle_pose((stamp_us - START_US) * 1e-6)
    rows['ego_pose'].append({'token': token, 'timestamp': stamp_us, 'translation': position, 'rotation': rotation})
    rows['sample_data'].append(
        {
            'token': token,
            'sample_token': sample,
            'ego_pose_token': token,
            'calibrated_sensor_token': f'k-{channel}',
            'timestamp': stamp_us,
            'is_key_frame': not sweep,
            'width': 0 if channel == 'LIDAR_TOP' else WIDTH_PX,
            'height': 0 if channel == 'LIDAR_TOP' else HEIGHT_PX,
            'filename': filename,
        }
    )


def _calibration(channel: str) -> dict:
    if channel == 'LIDAR_TOP':
        mounting = {'translation': [0.9, 0.0, 1.8], 'rotation': [1.0, 0.0, 0.0, 0.0], 'camera_intrinsic': []}
    else:
        mounting = {'translation': [1.7, 0.0, 1.5], 'rotation': FORWARD_CAMERA_WXYZ, 'camera_intrinsic': INTRINSICS_PX}
    return {'token': f'k-{channel}', 'sensor_token': f's-{channel}', **mounting}


@pytest.fixture
def make_layout() -> Callable[..., LayoutWriter]:
    """:func:`write_layout`, for scenes of another shape."""
    return write_layout


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    """Two keyframes and one sweep, not yet written."""
    return write_layout(tmp_path / 'data')


@pytest.fixture
def tables(layout: LayoutWriter) -> NuScenesTables:
    """The same, read."""
    return layout.read()

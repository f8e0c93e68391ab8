"""Occupancy queries, clouds, grids and forecasts as messages, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from sparseoccvla_ros.data.occ3d import GROUND_CLASSES, PALETTE_RGB, RANGE_M, VOXEL_M
from sparseoccvla_ros.msg import OccupancyForecast, OccupancyQueries, ReasoningTokens
from sparseoccvla_ros.nodes.conversions.basic import header_from, number_array, pose_from_matrix, stamp_ns_from
from sparseoccvla_ros.runtime.scene import OccupancyPoints, SceneForecast, SceneQueries, SceneReasoning

#: x y z label score rgb: float32 x3, uint8 padded to 4 bytes, float32, and PCL's packed colour (0x00rrggbb).
CLOUD_DTYPE = np.dtype(
    {
        'names': ['x', 'y', 'z', 'label', 'score', 'rgb'],
        'formats': ['<f4', '<f4', '<f4', 'u1', '<f4', '<u4'],
        'offsets': [0, 4, 8, 12, 16, 20],
        'itemsize': 24,
    }
)
_FIELD_TYPES = {
    'x': PointField.FLOAT32,
    'y': PointField.FLOAT32,
    'z': PointField.FLOAT32,
    'label': PointField.UINT8,
    'score': PointField.FLOAT32,
    'rgb': PointField.FLOAT32,  # rviz and PCL read the four bytes of the colour out of a float field
}


def queries_message(scene: SceneQueries, frame_id: str) -> OccupancyQueries:
    """OccupancyQueries of a scene; ``frame_id`` is the ego frame."""
    count, dim = scene.features.shape
    return OccupancyQueries(
        header=header_from(scene.stamp_ns, frame_id),
        cameras_used=list(scene.cameras_used),
        cameras_missing=list(scene.cameras_missing),
        missing_reasons=list(scene.cameras_missing.values()),
        temporal=scene.temporal,
        count=count,
        dim=dim,
        positions=number_array('f', scene.positions_ego.cpu().numpy()),
        features=number_array('f', scene.features.cpu().numpy()),
        scores=number_array('f', scene.scores.cpu().numpy()),
    )


def scene_from(message: OccupancyQueries, device: torch.device) -> SceneQueries:
    """The scene of an OccupancyQueries message, tensors on ``device``; occupancy is not in the message.

    Raises:
        ValueError: the sequences do not have the lengths that count and dim say.
    """
    count, dim = message.count, message.dim
    for name, expected in (('positions', count * 3), ('features', count * dim), ('scores', count)):
        found = len(getattr(message, name))
        if found != expected:
            raise ValueError(f'OccupancyQueries.{name} has {found} numbers; count {count} and dim {dim} say {expected}')
    return SceneQueries(
        stamp_ns=stamp_ns_from(message.header.stamp),
        features=_tensor(message.features, (count, dim), device),
        positions_ego=_tensor(message.positions, (count, 3), device),
        scores=_tensor(message.scores, (count,), device),
        cameras_used=tuple(message.cameras_used),
        cameras_missing=dict(zip(message.cameras_missing, message.missing_reasons, strict=True)),
        temporal=message.temporal,
    )


def tokens_message(reasoning: SceneReasoning, frame_id: str) -> ReasoningTokens:
    """ReasoningTokens of a scene."""
    count, dim = reasoning.tokens.shape
    return ReasoningTokens(
        header=header_from(reasoning.stamp_ns, frame_id),
        count=count,
        dim=dim,
        features=number_array('f', reasoning.tokens.cpu().numpy()),
        prefix_tokens=reasoning.prefix_tokens,
        prompt_tokens=reasoning.prompt_tokens,
        prefill_ms=float(reasoning.stage_ms.get('prefill', 0.0)),
        forecast_ms=float(reasoning.stage_ms.get('forecast', 0.0)),
        prompt_ms=float(reasoning.stage_ms.get('planning_prompt', 0.0)),
    )


def reasoning_from(message: ReasoningTokens, device: torch.device) -> SceneReasoning:
    """The reasoning of a ReasoningTokens message without error; raises ValueError as :func:`scene_from`."""
    expected = message.count * message.dim
    if len(message.features) != expected:
        raise ValueError(
            f'ReasoningTokens.features has {len(message.features)} numbers; count {message.count} and dim '
            f'{message.dim} say {expected}'
        )
    return SceneReasoning(
        stamp_ns=stamp_ns_from(message.header.stamp),
        tokens=_tensor(message.features, (message.count, message.dim), device),
        prefix_tokens=message.prefix_tokens,
        prompt_tokens=message.prompt_tokens,
        stage_ms={
            'prefill': message.prefill_ms,
            'forecast': message.forecast_ms,
            'planning_prompt': message.prompt_ms,
        },
    )


def cloud_message(points: OccupancyPoints, header: Header) -> PointCloud2:
    """PointCloud2 with the fields x y z label score rgb."""
    cloud = np.zeros(len(points.labels), dtype=CLOUD_DTYPE)
    cloud['x'], cloud['y'], cloud['z'] = points.points_ego.T
    cloud['label'] = points.labels
    cloud['score'] = points.scores
    colour = PALETTE_RGB[points.labels].astype(np.uint32)
    cloud['rgb'] = colour[:, 0] << 16 | colour[:, 1] << 8 | colour[:, 2]
    return PointCloud2(
        header=header,
        height=1,
        width=len(cloud),
        fields=[
            PointField(name=name, offset=CLOUD_DTYPE.fields[name][1], datatype=datatype, count=1)
            for name, datatype in _FIELD_TYPES.items()
        ],
        is_bigendian=False,
        point_step=CLOUD_DTYPE.itemsize,
        row_step=CLOUD_DTYPE.itemsize * len(cloud),
        data=number_array('B', cloud.view(np.uint8)),
        is_dense=True,
    )


def occupancy_from(cloud: PointCloud2) -> OccupancyPoints:
    """The points of a cloud as :func:`cloud_message` writes it, bit for bit.

    Raises:
        ValueError: other fields, or not as many bytes as its width says.
    """
    fields = {field.name: (field.offset, field.datatype) for field in cloud.fields}
    expected = {name: (CLOUD_DTYPE.fields[name][1], datatype) for name, datatype in _FIELD_TYPES.items()}
    if fields != expected or cloud.point_step != CLOUD_DTYPE.itemsize or cloud.is_bigendian:
        raise ValueError(f'occupancy cloud has the fields {fields} (offset, type), expected {expected}')
    if len(cloud.data) != cloud.width * cloud.height * CLOUD_DTYPE.itemsize:
        raise ValueError(f'occupancy cloud has {len(cloud.data)} bytes for {cloud.width} x {cloud.height} points')
    values = np.frombuffer(cloud.data, dtype=CLOUD_DTYPE)
    return OccupancyPoints(
        points_ego=np.stack([values['x'], values['y'], values['z']], axis=-1),
        labels=values['label'].copy(),
        scores=values['score'].copy(),
    )


def forecast_from(message: OccupancyForecast) -> SceneForecast:
    """The forecast of a message.

    Raises:
        ValueError: as :func:`occupancy_from`, or not one cloud per horizon.
    """
    if len(message.horizons_s) != len(message.occupancy):
        raise ValueError(f'forecast has {len(message.horizons_s)} horizons and {len(message.occupancy)} clouds')
    clouds = [occupancy_from(cloud) for cloud in message.occupancy]
    return SceneForecast(
        stamp_ns_from(message.header.stamp), tuple(zip(map(float, message.horizons_s), clouds, strict=True))
    )


def grid_message(points: OccupancyPoints, header: Header) -> OccupancyGrid:
    """Bird's-eye OccupancyGrid of Occ3D's square: 100 an obstacle, 0 ground, -1 nothing seen there.

    Row-major from the lower left corner, x forward and y left, 0.4 m cells. An obstacle wins over ground.
    """
    x0, y0, _, x1, y1, _ = RANGE_M
    width, height = round((x1 - x0) / VOXEL_M), round((y1 - y0) / VOXEL_M)
    cells = np.full((height, width), -1, dtype=np.int8)
    column = np.floor((points.points_ego[:, 0] - x0) / VOXEL_M).astype(int)
    row = np.floor((points.points_ego[:, 1] - y0) / VOXEL_M).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    ground = np.isin(points.labels, GROUND_CLASSES)
    cells[row[inside & ground], column[inside & ground]] = 0
    cells[row[inside & ~ground], column[inside & ~ground]] = 100
    grid = OccupancyGrid(header=header, data=number_array('b', cells))
    grid.info.map_load_time = header.stamp
    grid.info.resolution = VOXEL_M
    grid.info.width, grid.info.height = width, height
    corner = np.eye(4)
    corner[:2, 3] = x0, y0
    grid.info.origin = pose_from_matrix(corner)
    return grid


def forecast_message(
    stamp_ns: int, forecast: Sequence[tuple[float, OccupancyPoints]], frame_id: str
) -> OccupancyForecast:
    """OccupancyForecast of (horizon in seconds, points in the ego frame of ``stamp_ns``)."""
    header = header_from(stamp_ns, frame_id)
    return OccupancyForecast(
        header=header,
        horizons_s=number_array('f', np.array([horizon_s for horizon_s, _ in forecast])),
        occupancy=[cloud_message(points, header) for _, points in forecast],
    )


def _tensor(numbers: Sequence[float], shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    values = np.frombuffer(numbers, dtype=np.float32).reshape(shape)
    return torch.tensor(values, device=device)  # a copy: the message may go away or be shared

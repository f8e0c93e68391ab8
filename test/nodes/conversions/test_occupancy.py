"""Occupancy messages read byte by byte as their definitions say, and by an independent CDR reader."""

import struct

import numpy as np
import pytest
import torch
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointField

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, PALETTE_RGB
from sparseoccvla_ros.data.typestore import package_typestore
from sparseoccvla_ros.nodes.conversions.basic import header_from
from sparseoccvla_ros.nodes.conversions.occupancy import (
    cloud_message,
    forecast_from,
    forecast_message,
    grid_message,
    occupancy_from,
    queries_message,
    reasoning_from,
    scene_from,
    tokens_message,
)
from sparseoccvla_ros.runtime.scene import OccupancyPoints, SceneQueries, SceneReasoning

STAMP_NS = 1_532_402_927_612_460_000
CAR, ROAD = CLASS_NAMES.index('car'), CLASS_NAMES.index('driveable_surface')


def occupancy():
    return OccupancyPoints(
        points_ego=np.array([[10.1, -2.3, 0.5], [10.1, -2.3, -0.9], [-39.9, 39.9, 1.0]], np.float32),
        labels=np.array([CAR, ROAD, ROAD], np.uint8),
        scores=np.array([0.75, 0.5, 0.25], np.float32),
    )


def scene(count=5, dim=3):
    values = torch.arange(count * (dim + 4), dtype=torch.float32) / 7
    return SceneQueries(
        stamp_ns=STAMP_NS,
        features=values[: count * dim].reshape(count, dim),
        positions_ego=values[count * dim : count * (dim + 3)].reshape(count, 3),
        scores=values[count * (dim + 3) :],
        cameras_used=('CAM_FRONT', 'CAM_BACK'),
        cameras_missing={'CAM_FRONT_LEFT': 'corrupt_image: 12 bytes'},
        temporal=True,
        occupancy=occupancy(),
    )


def test_every_byte_of_a_cloud_point_is_where_its_field_says():
    cloud = cloud_message(occupancy(), header_from(STAMP_NS, 'base_link'))
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z', 'label', 'score', 'rgb']
    assert (cloud.height, cloud.width, cloud.row_step) == (1, 3, 3 * cloud.point_step)
    codes = {PointField.FLOAT32: '<f', PointField.UINT8: '<B'}
    data = cloud.data.tobytes()
    second = {
        field.name: struct.unpack_from(codes[field.datatype], data, cloud.point_step + field.offset)[0]
        for field in cloud.fields
    }
    np.testing.assert_allclose([second['x'], second['y'], second['z']], [10.1, -2.3, -0.9], rtol=1e-6)
    assert (second['label'], second['score']) == (ROAD, 0.5)
    offset = cloud.point_step + next(field.offset for field in cloud.fields if field.name == 'rgb')
    blue, green, red, _ = data[offset : offset + 4]  # PCL's packed colour, little endian
    assert (red, green, blue) == tuple(PALETTE_RGB[ROAD])


def test_an_empty_scene_gives_an_empty_cloud_and_an_unknown_grid():
    nothing = OccupancyPoints(np.zeros((0, 3), np.float32), np.zeros(0, np.uint8), np.zeros(0, np.float32))
    header = header_from(STAMP_NS, 'base_link')
    assert len(cloud_message(nothing, header).data) == 0
    assert set(grid_message(nothing, header).data) == {-1}


def test_the_grid_is_row_major_from_its_lower_left_corner():
    grid = grid_message(occupancy(), header_from(STAMP_NS, 'base_link'))
    assert (grid.info.width, grid.info.height, grid.info.origin.position.x) == (200, 200, -40.0)
    cells = np.array(grid.data).reshape(200, 200)
    # (10.1 + 40) / 0.4 = 125.25 -> column 125; (-2.3 + 40) / 0.4 = 94.25 -> row 94; the car stands on the road
    assert cells[94, 125] == 100
    assert cells[199, 0] == 0
    assert (cells != -1).sum() == 2


def test_queries_read_by_an_independent_reader_are_the_tensors_numbers():
    message = queries_message(scene(), 'base_link')
    raw = package_typestore().deserialize_cdr(serialize_message(message), 'sparseoccvla_ros/msg/OccupancyQueries')
    assert (raw.count, raw.dim, raw.temporal, raw.error) == (5, 3, True, '')
    assert raw.header.stamp.nanosec == 612_460_000
    assert list(raw.cameras_missing) == ['CAM_FRONT_LEFT']
    assert list(raw.missing_reasons) == ['corrupt_image: 12 bytes']
    np.testing.assert_allclose(raw.features[:4], np.arange(4) / 7, rtol=1e-6)
    np.testing.assert_allclose(raw.positions[:2], np.array([15.0, 16.0]) / 7, rtol=1e-6)


def test_queries_survive_the_way_through_a_message_bit_by_bit():
    there = scene()
    back = scene_from(queries_message(there, 'base_link'), torch.device('cpu'))
    for name in ('features', 'positions_ego', 'scores'):
        assert torch.equal(getattr(back, name), getattr(there, name)), name
    for name in ('stamp_ns', 'cameras_used', 'cameras_missing', 'temporal'):
        assert getattr(back, name) == getattr(there, name), name


def test_a_message_whose_lengths_disagree_is_refused():
    message = queries_message(scene(), 'base_link')
    message.dim = 4
    with pytest.raises(ValueError, match='features has 15 numbers; count 5 and dim 4'):
        scene_from(message, torch.device('cpu'))


def test_reasoning_tokens_both_ways():
    there = SceneReasoning(STAMP_NS, torch.arange(8.0).reshape(2, 4) / 3, 310, 9, {'prefill': 21.5, 'forecast': 2.0})
    message = tokens_message(there, 'base_link')
    raw = package_typestore().deserialize_cdr(serialize_message(message), 'sparseoccvla_ros/msg/ReasoningTokens')
    assert (raw.count, raw.dim, raw.prefix_tokens, raw.prompt_tokens, raw.prefill_ms) == (2, 4, 310, 9, 21.5)
    np.testing.assert_allclose(raw.features, np.arange(8) / 3, rtol=1e-6)
    back = reasoning_from(message, torch.device('cpu'))
    assert torch.equal(back.tokens, there.tokens)
    assert back.stage_ms == {'prefill': 21.5, 'forecast': 2.0, 'planning_prompt': 0.0}
    message.count = 3
    with pytest.raises(ValueError, match='count 3 and dim 4'):
        reasoning_from(message, torch.device('cpu'))


def test_a_forecast_has_one_cloud_per_horizon_in_the_current_frame():
    message = forecast_message(STAMP_NS, [(1.0, occupancy()), (3.0, occupancy())], 'base_link')
    assert message.horizons_s.tolist() == [1.0, 3.0]
    assert [cloud.header.frame_id for cloud in message.occupancy] == ['base_link', 'base_link']
    assert [cloud.width for cloud in message.occupancy] == [3, 3]


def test_occupancy_comes_back_bit_for_bit():
    there = occupancy()
    back = occupancy_from(cloud_message(there, header_from(STAMP_NS, 'base_link')))
    for name in ('points_ego', 'labels', 'scores'):
        np.testing.assert_array_equal(getattr(back, name), getattr(there, name))
        assert getattr(back, name).dtype == getattr(there, name).dtype
    forecast = forecast_from(forecast_message(STAMP_NS, [(1.0, there), (2.5, there)], 'base_link'))
    assert forecast.stamp_ns == STAMP_NS
    assert [horizon_s for horizon_s, _ in forecast.forecast] == [1.0, 2.5]
    np.testing.assert_array_equal(forecast.forecast[1][1].points_ego, there.points_ego)


def test_clouds_that_are_not_ours_are_refused():
    cloud = cloud_message(occupancy(), header_from(STAMP_NS, 'base_link'))
    cloud.width = 4
    with pytest.raises(ValueError, match='has 72 bytes for 4 x 1 points'):
        occupancy_from(cloud)
    cloud = cloud_message(occupancy(), header_from(STAMP_NS, 'base_link'))
    cloud.fields[3].name = 'intensity'
    with pytest.raises(ValueError, match='has the fields'):
        occupancy_from(cloud)
    message = forecast_message(STAMP_NS, [(1.0, occupancy())], 'base_link')
    message.horizons_s.append(2.0)
    with pytest.raises(ValueError, match='2 horizons and 1 clouds'):
        forecast_from(message)

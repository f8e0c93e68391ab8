"""Vehicle limits: read strictly."""

import dataclasses

import numpy as np
import pytest
import yaml

from sparseoccvla_ros.planning.vehicle import VehicleLimits, load_vehicle_limits


def test_the_shipped_file_is_the_default():
    assert load_vehicle_limits() == VehicleLimits()


def test_footprint_is_the_references_box_about_the_rear_axle():
    corners = VehicleLimits().footprint_m()
    np.testing.assert_allclose(corners.max(axis=0) - corners.min(axis=0), [4.084, 1.85])
    np.testing.assert_allclose(corners[:, 0].min(), -0.657)  # rear overhang of the car
    x, y = corners.T
    assert 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) == pytest.approx(4.084 * 1.85)  # counter-clockwise


@pytest.fixture
def values():
    return dataclasses.asdict(VehicleLimits())


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'max_sped_mps': 3.0}, 'unknown key max_sped_mps; known keys: length_m'),
        ({'width_m': 'wide'}, "width_m: expected a number, found 'wide'"),
        ({'width_m': True}, 'width_m: expected a number'),
        ({'max_jerk_mps3': 0}, r'max_jerk_mps3 \(0.0\) must be'),
        ({'max_accel_mps2': float('nan')}, 'max_accel_mps2'),
        ({'max_decel_mps2': 2.0}, r'comfort_decel_mps2 \(3.0\) exceeds max_decel_mps2 \(2.0\)'),
    ],
)
def test_wrong_values_are_named(tmp_path, values, change, reason):
    path = tmp_path / 'car.yaml'
    path.write_text(yaml.safe_dump(values | change))
    with pytest.raises(ValueError, match=reason):
        load_vehicle_limits(path)


def test_half_a_vehicle_is_refused(tmp_path, values):
    path = tmp_path / 'car.yaml'
    del values['max_curvature_1pm']
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match='missing key max_curvature_1pm'):
        load_vehicle_limits(path)
    path.write_text('- 1\n')
    with pytest.raises(ValueError, match='found list'):
        load_vehicle_limits(path)


def test_unknown_names_list_the_known():
    with pytest.raises(FileNotFoundError, match='known: default'):
        load_vehicle_limits('lorry')

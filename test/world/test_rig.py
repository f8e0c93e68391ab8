import numpy as np
import pytest

from sparseoccvla_ros.geometry import image_from_ego, inverse, project_points
from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.world.rig import RIG_STREAM, load_rig

RIG = share_path('config/rig/nuscenes.yaml')
#: Directions in which the cameras of a nuScenes car look, degrees left of forward.
LOOKS_DEG = {
    'CAM_FRONT_LEFT': 55,
    'CAM_FRONT': 0,
    'CAM_FRONT_RIGHT': -55,
    'CAM_BACK_RIGHT': -110,
    'CAM_BACK': 180,
    'CAM_BACK_LEFT': 110,
}


def test_cameras_look_and_fire_as_on_the_real_car(rig):
    assert [item.camera.name for item in rig.cameras] == list(LOOKS_DEG)
    offsets = np.array([item.trigger_offset_s for item in rig.cameras])
    assert (np.diff(offsets) > 0.004).all()
    assert offsets[-1] - offsets[0] == pytest.approx(0.043, abs=0.005)
    assert offsets.max() <= 0.0
    for item in rig.cameras:
        forward, down = item.camera.ego_from_camera[:3, 2], item.camera.ego_from_camera[:3, 1]
        difference = np.degrees(np.arctan2(forward[1], forward[0])) - LOOKS_DEG[item.camera.name]
        assert abs((difference + 180.0) % 360.0 - 180.0) < 3.0
        assert down[2] < -0.99
        assert np.linalg.det(item.camera.ego_from_camera[:3, :3]) == pytest.approx(1.0)


def test_the_lidar_sits_and_turns_as_on_the_real_car(rig):
    lidar = rig.lidar
    # x right, y forward, z up; the public calibrations of the real cars lie within centimetres of (0.94, 0, 1.84).
    for axis, expected in enumerate(([0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])):
        np.testing.assert_allclose(lidar.ego_from_lidar[:3, axis], expected, atol=0.03)
    np.testing.assert_allclose(lidar.ego_from_lidar[:3, 3], [0.94, 0.0, 1.84], atol=0.05)
    # HDL-32E: 32 beams, 1.333 degrees apart, from -30.67 to 10.67.
    elevations_deg = np.degrees(lidar.elevations_rad)
    np.testing.assert_allclose(elevations_deg[[0, -1]], [-30.67, 10.67], atol=0.005)
    np.testing.assert_allclose(np.diff(elevations_deg), 1.3335, atol=0.001)
    # The turn ends where the last camera looks.
    assert np.degrees(lidar.end_azimuth_rad) == pytest.approx(LOOKS_DEG['CAM_BACK_LEFT'], abs=3.0)
    other = load_rig(RIG, 352, 128, vehicle=1, seed=3).lidar
    assert 0.0 < np.abs(other.ego_from_lidar - lidar.ego_from_lidar).max() < 0.1


def test_random_streams_have_a_purpose(monkeypatch):
    seeds, make = [], np.random.default_rng
    monkeypatch.setattr(np.random, 'default_rng', lambda seed: seeds.append(seed) or make(seed))
    load_rig(RIG, 352, 128, vehicle=1, seed=5)
    # First, since numpy takes [1, 5] and [1, 5, 0] for the same seed.
    assert seeds == [[RIG_STREAM, 5, 1]]


def test_a_smaller_image_is_the_full_one_scaled_and_its_top_cropped():
    full = load_rig(RIG, 1600, 900, vehicle=1, seed=5).cameras
    small = load_rig(RIG, 352, 128, vehicle=1, seed=5).cameras
    points = np.array([[20.0, 1.0, 0.5], [30.0, -3.0, 1.0], [-20.0, 1.0, 0.5]])
    for one, other in zip(full, small, strict=True):
        np.testing.assert_array_equal(one.camera.ego_from_camera, other.camera.ego_from_camera)
        projections = [image_from_ego(c.camera.intrinsics_px, inverse(c.camera.ego_from_camera)) for c in (one, other)]
        big, little = (project_points(projection, points)[0] for projection in projections)
        # 352 / 1600 = 0.22; 900 * 0.22 - 128 = 70 rows of the top are gone.
        np.testing.assert_allclose(little, big * 0.22 - (0.0, 70.0), atol=1e-9)


def test_cars_differ_a_little_and_each_is_always_the_same():
    one, two, again = (load_rig(RIG, 352, 128, vehicle, 0) for vehicle in (0, 1, 0))
    for a, b, c in zip(one.cameras, two.cameras, again.cameras, strict=True):
        np.testing.assert_array_equal(a.camera.ego_from_camera, c.camera.ego_from_camera)
        shift = np.abs(a.camera.ego_from_camera[:3, 3] - b.camera.ego_from_camera[:3, 3])
        assert 0.0 < shift.max() < 0.08


def test_an_image_higher_than_the_cameras_is_refused():
    with pytest.raises(ValueError, match='image height 400 px is impossible at width 352 px: at most 198 px expected'):
        load_rig(RIG, 352, 400, vehicle=0, seed=0)

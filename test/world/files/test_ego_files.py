"""CAN bus messages, ego futures and the map, against the scene that they describe."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.world.files.can_bus import write_can_bus
from sparseoccvla_ros.world.files.ego_future import write_ego_future
from sparseoccvla_ros.world.files.ground_map import draw_driveable_map
from sparseoccvla_ros.world.files.names import SceneNames
from sparseoccvla_ros.world.streets.street import GROUND_LABELS

SECOND_US = 1_000_000


@pytest.fixture(scope='module')
def names() -> SceneNames:
    return SceneNames(2, 0, 'harbour', 20.0, 'w001')


@pytest.fixture(scope='module')
def messages(scenes, names, tmp_path_factory) -> dict[str, list]:
    folder = tmp_path_factory.mktemp('can_bus')
    write_can_bus(folder, scenes[0], names)
    prefix = f'{scenes[0].name}_'
    return {path.stem.removeprefix(prefix): json.loads(path.read_text()) for path in folder.iterdir()}


def column(rows: list[dict], key: str) -> np.ndarray:
    return np.array([row[key] for row in rows])


@pytest.mark.parametrize(
    ('name', 'rate_hz'), [('pose', 50), ('ms_imu', 100), ('steeranglefeedback', 100), ('vehicle_monitor', 2)]
)
def test_messages_come_at_their_rate(messages, names, name, rate_hz):
    stamps_us = column(messages[name], 'utime')
    assert len(stamps_us) == 20 * rate_hz
    assert stamps_us[0] == names.start_us
    assert (np.diff(stamps_us) == SECOND_US // rate_hz).all()
    meta = messages['meta'][name]
    assert meta['message_count'] == len(stamps_us)
    assert meta['message_freq'] == pytest.approx(rate_hz, rel=0.06)


def test_velocities_and_rates_are_the_derivatives_of_the_poses(messages):
    poses = messages['pose']
    place_m, speed_mps = column(poses, 'pos'), column(poses, 'vel')
    turned = Rotation.from_quat(column(poses, 'orientation')[:, [1, 2, 3, 0]])
    moved_mps = turned[1:-1].inv().apply(place_m[2:] - place_m[:-2]) / 0.04
    assert np.abs(moved_mps - speed_mps[1:-1]).max() < 0.15
    yaw_rate = (turned[:-2].inv() * turned[2:]).as_rotvec() / 0.04
    assert np.abs(yaw_rate - column(poses, 'rotation_rate')[1:-1]).max() < 0.05
    accel = column(poses, 'accel')
    gained = np.diff(speed_mps[::25, 0]) / 0.5
    assert np.abs(gained - accel[:, 0].reshape(-1, 25).mean(axis=1)[: len(gained)]).max() < 0.3
    # Of the 0.1 s that end at the stamp, so nothing of the driver's decision for the time after it.
    assert np.abs(np.subtract(speed_mps[5:, 0], speed_mps[:-5, 0]) / 0.1 - accel[5:, 0]).max() < 1e-4
    assert np.allclose(accel[:, 1], speed_mps[:, 0] * column(poses, 'rotation_rate')[:, 2], atol=1e-4)
    assert (accel[:, 2] == 9.81).all()
    imu = messages['ms_imu'][::2]
    assert (column(imu, 'q') == column(poses, 'orientation')).all()
    assert (column(imu, 'linear_accel') == accel).all()


def test_the_car_has_the_units_and_signs_of_the_expansion(messages, scenes):
    for row in messages['vehicle_monitor']:
        time_s = (row['utime'] - messages['pose'][0]['utime']) * 1e-6
        motion, command = scenes[0].ego_motion(time_s), scenes[0].command_at(time_s)
        assert row['vehicle_speed'] == pytest.approx(3.6 * motion.speed_mps, abs=0.01)
        assert row['yaw_rate'] == pytest.approx(np.degrees(motion.yaw_rate_radps), abs=0.06)
        assert (row['left_signal'], row['right_signal']) == (command.value == 'left', command.value == 'right')
        # Right is positive there; a front wheel turns a fifteenth of the steering wheel.
        assert row['steering'] == pytest.approx(-15.0 * np.degrees(motion.steering_rad), abs=0.06)
        assert 0 <= row['brake'] <= 126
        assert 0 <= row['throttle'] <= 1000
        assert not (row['brake'] and row['throttle'])
    assert np.abs(column(messages['vehicle_monitor'], 'steering')).max() > 20.0


def test_the_car_is_on_its_route(messages):
    route, place_m = np.array(messages['route']), column(messages['pose'], 'pos')[:, :2]
    away_m = np.sqrt(((place_m[:, None] - route[None]) ** 2).sum(axis=2)).min(axis=1)
    assert away_m.max() < 0.3
    assert np.hypot(*(route[0] - place_m[0])) == pytest.approx(50.0, abs=2.0)


def test_futures_lead_to_where_the_ego_is_then(scenes, names, tmp_path):
    scene = scenes[0]
    write_ego_future(tmp_path / 'ego.json', scene, names, 40)
    content = json.loads((tmp_path / 'ego.json').read_text())
    assert content['targets'] == ['future']
    assert content['inputs'] == ['command', 'state']
    assert content['future_s'] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    samples = [content['samples'][names.sample_token(number)] for number in range(40)]
    for number, sample in enumerate(samples):
        future = sample['future']
        assert future['valid'] == [number + step <= 40 for step in range(1, 7)]
        assert sample['stamp_us'] == names.start_us + number * SECOND_US // 2
        for step, valid in enumerate(future['valid'], start=1):
            if valid:
                world_from_ego = scene.world_from_ego(0.5 * number)
                there = world_from_ego @ np.array([*future['position_m'][step - 1], 0.0, 1.0])
                now_from_then = inverse(world_from_ego) @ scene.world_from_ego(0.5 * (number + step))
                assert np.allclose(there[:2], scene.world_from_ego(0.5 * (number + step))[:2, 3], atol=2e-4)
                assert np.cos(future['heading_rad'][step - 1]) == pytest.approx(now_from_then[0, 0], abs=1e-5)
            else:
                assert future['position_m'][step - 1] == [0.0, 0.0]
    for number, sample in enumerate(samples):
        before, now = (scene.ego_motion(0.5 * number - passed_s).speed_mps for passed_s in (0.1, 0.0))
        assert sample['state']['acceleration_mps2'] == pytest.approx((now - before) / 0.1, abs=1e-5)
        assert sample['state']['speed_mps'] == pytest.approx(now, abs=1e-5)
    commands = {sample['command'] for sample in samples}
    assert commands <= {'left', 'right', 'straight'}


def test_the_pixels_of_the_map_tell_the_ground_below_them(scenes):
    scene = scenes[0]
    image = draw_driveable_map(scene)
    assert set(np.unique(image)) == {0, 255}
    rng = np.random.default_rng(0)
    row, column_ = rng.integers(image.shape[0], size=100_000), rng.integers(image.shape[1], size=100_000)
    x_m, y_m = (column_ + 0.5) * 0.1, (image.shape[0] - row - 0.5) * 0.1
    driveable = GROUND_LABELS[scene.plan.ground_at(x_m, y_m)] == 11
    # A tip of ground that is thinner than the squares looked at first may be lost.
    assert (driveable != (image[row, column_] == 255)).mean() < 5e-5
    for time_s in (0.0, 10.0, 20.0):
        x, y = scene.world_from_ego(time_s)[:2, 3]
        assert image[image.shape[0] - 1 - int(y / 0.1), int(x / 0.1)] == 255


def test_poses_of_the_tables_are_those_of_the_can_bus(world):
    tables = NuScenesTables(world, 'v1.0-world')
    messages = json.loads((world / 'can_bus' / 'scene-0001_pose.json').read_text())
    place = {row['utime'] * 1000: row['pos'] for row in messages}
    for sample in tables.scene('scene-0001').samples:
        frame = sample.sensors['LIDAR_TOP']
        assert np.allclose(frame.global_from_ego[:3, 3], place[sample.stamp_ns], atol=1e-5)

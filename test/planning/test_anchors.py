"""Anchor trajectories: geometry, the stored file, and foreign axes."""

import json

import numpy as np
import pytest

from sparseoccvla_ros.planning.anchors import (
    INTERVAL_S,
    Anchors,
    kinematic_fan,
    load_anchors,
    read_kmeans_anchors,
    save_anchors,
)
from sparseoccvla_ros.runtime.scene import Command


def test_shipped_file_is_the_fan():
    np.testing.assert_allclose(
        load_anchors('config/anchors/default.json').waypoints_ego_m, kinematic_fan().waypoints_ego_m, atol=5.1e-4
    )


def test_fan_by_hand():
    fan = kinematic_fan().waypoints_ego_m
    # straight at 8 m/s: 4 m a step
    np.testing.assert_allclose(fan[Command.STRAIGHT, 3], [(4.0 * k, 0.0) for k in range(1, 7)], atol=1e-12)
    # 60 degrees to the left at 7 m/s in 3 s: radius 21 m / (pi / 3), end at radius * (sin 60, 1 - cos 60)
    radius_m = 21.0 / (np.pi / 3.0)
    np.testing.assert_allclose(fan[Command.LEFT, 2, -1], [radius_m * np.sqrt(0.75), radius_m * 0.5], atol=1e-12)
    np.testing.assert_allclose(fan[Command.RIGHT], fan[Command.LEFT] * (1.0, -1.0))


def test_fan_is_drivable_and_goes_where_it_says():
    fan = kinematic_fan().waypoints_ego_m
    steps = np.diff(np.concatenate([np.zeros((3, 6, 1, 2)), fan], axis=2), axis=2)
    speed_mps = np.linalg.norm(steps, axis=-1) / INTERVAL_S
    heading_rad = np.unwrap(np.arctan2(steps[..., 1], steps[..., 0]), axis=-1)
    lateral_accel = speed_mps[..., 1:] * np.abs(np.diff(heading_rad, axis=-1)) / INTERVAL_S
    assert speed_mps.max() < 16.0
    assert lateral_accel.max() < 2.6
    # the convention of nuScenes planners: 2 m to a side at 3 s make a turn
    assert (fan[Command.LEFT, :, -1, 1] > 2.0).all()
    assert (fan[Command.RIGHT, :, -1, 1] < -2.0).all()
    assert (np.abs(fan[Command.STRAIGHT, :, -1, 1]) < 2.0).all()
    assert len(np.unique(fan.reshape(18, -1), axis=0)) == 18


def test_there_and_back(tmp_path):
    waypoints = np.round(np.random.default_rng(0).normal(size=(3, 2, 6, 2)), 3)
    save_anchors(Anchors(waypoints), tmp_path / 'mine.json')
    np.testing.assert_array_equal(load_anchors(tmp_path / 'mine.json').waypoints_ego_m, waypoints)


def test_kmeans_axes(tmp_path):
    """There x is right and y forward: 10 m ahead and 3 m to the right is (10, -3) in the ego frame."""
    stored = np.zeros((3, 6, 6, 2), dtype=np.float32)
    stored[Command.RIGHT, 4, 5] = (3.0, 10.0)
    np.save(tmp_path / 'kmeans.npy', stored)
    anchors = read_kmeans_anchors(tmp_path / 'kmeans.npy')
    np.testing.assert_array_equal(anchors.waypoints_ego_m[Command.RIGHT, 4, 5], (10.0, -3.0))


@pytest.mark.parametrize(
    ('waypoints', 'message'),
    [
        (np.zeros((2, 6, 6, 2)), r'must be \[3, modes, 6, 2\], got \[2, 6, 6, 2\]'),
        (np.zeros((3, 6, 8, 2)), r'got \[3, 6, 8, 2\]'),
        (np.zeros((3, 0, 6, 2)), r'got \[3, 0, 6, 2\]'),
        (np.full((3, 6, 6, 2), np.nan), 'not finite'),
    ],
)
def test_impossible_anchors(waypoints, message):
    with pytest.raises(ValueError, match=message):
        Anchors(waypoints)


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('frame', 'lidar', "frame must be 'ego, x forward, y left', found 'lidar'"),
        ('unit', 'ft', "unit must be 'm'"),
        ('interval_s', 0.1, 'interval_s must be 0.5, found 0.1'),
        ('commands', ['LEFT', 'RIGHT', 'STRAIGHT'], 'commands must be'),
        ('waypoints', [[1.0], 'x'], 'waypoints must be nested lists of numbers'),
        ('waypoints', None, 'waypoints must be|anchors must be'),
    ],
)
def test_files_that_do_not_say_the_same_are_refused(tmp_path, key, value, message):
    save_anchors(kinematic_fan(), tmp_path / 'a.json')
    content = json.loads((tmp_path / 'a.json').read_text())
    content[key] = value
    (tmp_path / 'a.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_anchors(tmp_path / 'a.json')


def test_absent_file():
    with pytest.raises(FileNotFoundError, match=r'nothing\.json'):
        load_anchors('config/anchors/nothing.json')


def test_published_anchors_lead_where_their_commands_say(project_root):
    """SparseDrive's own file: order of the commands and axes, told by where the anchors end."""
    path = project_root / '../shared/data/anchors/kmeans_plan_6.npy'
    if not path.is_file():
        pytest.skip(f'{path} is absent')
    ends_m = read_kmeans_anchors(path).waypoints_ego_m[:, :, -1]
    assert ends_m.shape == (3, 6, 2)
    assert (ends_m[..., 0] > -0.5).all()
    assert ends_m[Command.RIGHT, :, 1].max() < -2.0
    assert ends_m[Command.LEFT, :, 1].min() > 2.0
    assert np.abs(ends_m[Command.STRAIGHT, :, 1]).max() < 2.0

"""What a planner is trained on: commands of the route, motion until now, the path that followed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sparseoccvla_ros.data.dataset import KeyframeDataset, SampleRequest
from sparseoccvla_ros.data.ego_future import (
    LEAKED_TURN_M,
    WAYPOINT_TIMES_S,
    CommandSource,
    commands_by_token,
    scene_ego_futures,
)
from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.runtime.scene import Command
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

SCENE = 'scene-0001'
#: The car of the layout circles to the left.
SPEED_MPS, YAW_RATE_RADPS = 5.0, 0.2


def circled(seconds: float) -> tuple[list[float], float]:
    """Place in the ego frame and heading after this time on the layout's circle."""
    radius_m, turned_rad = SPEED_MPS / YAW_RATE_RADPS, YAW_RATE_RADPS * seconds
    return [radius_m * math.sin(turned_rad), radius_m * (1.0 - math.cos(turned_rad))], turned_rad


def write_route(layout, commands: list[str], **changes: object) -> Path:
    samples = {f'sample{number}': {'command': command} for number, command in enumerate(commands)}
    path = layout.root / 'ego' / f'{SCENE}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'inputs': ['command', 'state'], 'samples': samples} | changes))
    return path


@pytest.fixture
def drive(make_layout, tmp_path):
    """Ten keyframes, 0.5 s apart."""
    return make_layout(tmp_path / 'data', keyframes=10)


def test_waypoints_are_where_the_car_then_was(drive):
    futures = scene_ego_futures(drive.read(), SCENE)
    assert [future.token for future in futures] == [f'sample{number}' for number in range(10)]
    # the last poses are those of the LiDAR, at each keyframe's own offset
    for number, future in enumerate(futures):
        assert future.waypoints_valid.tolist() == [number + step <= 9 for step in range(1, 7)]
        for step, later_s in enumerate(WAYPOINT_TIMES_S):
            xy_m, heading_rad = circled(later_s) if future.waypoints_valid[step] else ([0.0, 0.0], 0.0)
            # chords between the poses of the sensors
            np.testing.assert_allclose(future.waypoints_ego_m[step], xy_m, atol=0.02)
            assert future.heading_rad[step] == pytest.approx(heading_rad, abs=1e-3)


def test_the_state_is_causal_and_that_of_the_car(drive, make_layout, tmp_path):
    futures = scene_ego_futures(drive.read(), SCENE)
    assert futures[0].state is None
    for future in futures[3:]:
        assert future.state.speed_mps == pytest.approx(SPEED_MPS, abs=0.02)
        assert future.state.accel_mps2 == pytest.approx(0.0, abs=0.05)
        assert future.state.yaw_rate_radps == pytest.approx(YAW_RATE_RADPS, abs=1e-3)
    shorter = scene_ego_futures(make_layout(tmp_path / 'cut', keyframes=6).read(), SCENE)
    numbers = [(f.state.speed_mps, f.state.accel_mps2, f.state.yaw_rate_radps) for f in (futures[5], shorter[5])]
    assert numbers[0] == numbers[1]


def test_without_a_route_there_is_no_command(drive):
    futures = scene_ego_futures(drive.read(), SCENE)
    assert all(future.command is None and future.command_source is None for future in futures)
    assert commands_by_token(futures) == {}


def test_commands_are_those_of_the_route_and_say_so(drive):
    words = ['straight', 'right', 'left'] * 3 + ['straight']
    write_route(drive, words)
    futures = scene_ego_futures(drive.read(), SCENE)
    # The car circles to the left all the time: none of these comes from what it then did.
    assert [future.command for future in futures] == [Command[word.upper()] for word in words]
    assert {future.command_source for future in futures} == {CommandSource.ROUTE}
    data = KeyframeDataset(
        drive.read(),
        [SCENE],
        SampleRequest(32, 16, cameras=('CAM_FRONT', 'CAM_BACK'), boxes=False),
        commands=commands_by_token(futures),
    )
    item = data[1]
    assert (item['command'], item['command_valid']) == (Command.RIGHT, True)
    np.testing.assert_allclose(item['target_future_ego_xy_m'], futures[1].waypoints_ego_m, atol=1e-5)


def test_a_leaked_command_is_only_given_when_asked_for_and_says_so(drive):
    write_route(drive, ['right'] * 10)
    futures = scene_ego_futures(drive.read(), SCENE, leaky_command=True)
    for number, future in enumerate(futures):
        whole = number <= 3
        assert future.command == (Command.LEFT if whole else None)
        assert future.command_source == (CommandSource.RECORDED_FUTURE if whole else None)
    assert circled(3.0)[0][1] > LEAKED_TURN_M
    assert len(commands_by_token(futures)) == 4


@pytest.mark.parametrize(
    ('side', 'command'), [(1.0, Command.LEFT), (-1.0, Command.RIGHT), (0.1, Command.STRAIGHT), (-0.1, Command.STRAIGHT)]
)
def test_a_leaked_command_tells_the_side(drive, side, command):
    # The same drive with its sideways motion scaled: 4.4 m to a side after 3 s, or 0.4 m.
    for pose in drive.tables['ego_pose']:
        pose['translation'][1] *= side
        pose['rotation'][3] *= side
    assert scene_ego_futures(drive.read(), SCENE, leaky_command=True)[0].command is command


@pytest.mark.parametrize(
    ('commands', 'changes', 'message'),
    [
        (['left'] * 9, {}, 'sample9'),
        (['back'] * 10, {}, 'BACK'),
        ([None] * 10, {}, 'expected a command left, right or straight'),
        (['left'] * 10, {'inputs': ['state']}, 'expected command among them'),
    ],
)
def test_a_broken_route_file_is_named(drive, commands, changes, message):
    write_route(drive, commands, **changes)
    with pytest.raises(NuScenesError, match=message) as error:
        scene_ego_futures(drive.read(), SCENE)
    assert f'{SCENE}.json' in str(error.value)


def test_a_route_file_that_is_no_json_is_named(drive):
    write_route(drive, []).write_text('{')
    with pytest.raises(NuScenesError, match=rf'{SCENE}.json cannot be read'):
        scene_ego_futures(drive.read(), SCENE)


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> NuScenesTables:
    root = tmp_path_factory.mktemp('ego') / 'world'
    write_world(root, WorldRequest(scenes=1, seed=2, width_px=32, height_px=16, seconds=4.0), workers=1)
    return NuScenesTables(root, 'v1.0-world')


def test_the_world_and_its_own_file_agree(world):
    (scene,) = world.scene_names
    written = json.loads((world.dataroot / 'ego' / f'{scene}.json').read_text())
    assert tuple(written['future_s']) == WAYPOINT_TIMES_S
    futures = scene_ego_futures(world, scene)
    assert len(futures) == 8
    for future in futures:
        sample = written['samples'][future.token]
        assert future.command is Command[sample['command'].upper()]
        assert future.command_source is CommandSource.ROUTE
        valid = future.waypoints_valid
        # The file knows the scene to its end, the recorded poses end with the last keyframe.
        assert not (valid & ~np.array(sample['future']['valid'])).any()
        np.testing.assert_allclose(
            future.waypoints_ego_m[valid], np.array(sample['future']['position_m'])[valid], atol=0.02
        )
        if future.state is not None:
            assert future.state.speed_mps == pytest.approx(sample['state']['speed_mps'], abs=0.3)
    assert sum(future.state is not None for future in futures) >= 5


def test_the_real_keyframe_has_no_command_and_no_future(nuscenes_dir):
    tables = NuScenesTables(nuscenes_dir, 'v1.0-one')
    (scene,) = tables.scene_names
    for leaky in (False, True):
        (future,) = scene_ego_futures(tables, scene, leaky_command=leaky)
        assert future.command is None
        assert future.state is None
        assert not future.waypoints_valid.any()
        assert not future.waypoints_ego_m.any()

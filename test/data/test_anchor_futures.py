"""Futures by command for clustering, and where their commands come from."""

import json

import numpy as np
import pytest

from sparseoccvla_ros.data.anchor_futures import driven_futures
from sparseoccvla_ros.data.ego_future import CommandSource, scene_ego_futures
from sparseoccvla_ros.data.nuscenes import NuScenesError
from sparseoccvla_ros.runtime.scene import Command

SCENE = 'scene-0001'


@pytest.fixture
def drive(make_layout, tmp_path):
    """Ten keyframes, 0.5 s apart, of a car that circles to the left: four of them have 3 s ahead of them."""
    return make_layout(tmp_path / 'data', keyframes=10)


def write_route(layout, commands):
    samples = {f'sample{number}': {'command': command} for number, command in enumerate(commands)}
    path = layout.root / 'ego' / f'{SCENE}.json'
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({'inputs': ['command', 'state'], 'samples': samples}))


def test_the_route_gives_the_commands(drive):
    write_route(drive, ['straight', 'left', 'left', 'right', 'left', 'left', 'left', 'left', 'left', 'left'])
    tables = drive.read()
    found = driven_futures(tables, [SCENE])
    assert found.source is CommandSource.ROUTE
    assert {command.name: len(found.by_command[command]) for command in Command} == {
        'RIGHT': 1, 'LEFT': 2, 'STRAIGHT': 1,
    }  # fmt: skip
    whole = [future.waypoints_ego_m for future in scene_ego_futures(tables, SCENE)[:4]]
    np.testing.assert_array_equal(found.by_command[Command.LEFT], whole[1:3])
    np.testing.assert_array_equal(found.by_command[Command.RIGHT], whole[3:4])


def test_without_a_route_the_future_does_and_it_is_said(drive):
    found = driven_futures(drive.read(), [SCENE])
    assert found.source is CommandSource.RECORDED_FUTURE
    assert [len(found.by_command[command]) for command in Command] == [0, 4, 0]  # 4.4 m to the left after 3 s
    assert found.by_command[Command.RIGHT].shape == (0, 6, 2)
    assert (found.by_command[Command.LEFT][:, -1, 1] > 2.0).all()


def test_half_a_route_is_refused(drive, monkeypatch):
    write_route(drive, ['left'] * 10)
    tables = drive.read()
    known = scene_ego_futures(tables, SCENE)
    unknown = [type(future)(**{**vars(future), 'scene': 'other', 'command': None}) for future in known]
    monkeypatch.setattr(
        'sparseoccvla_ros.data.anchor_futures.scene_ego_futures',
        lambda tables, scene: known if scene == SCENE else unknown,
    )
    with pytest.raises(NuScenesError, match='1 scenes have no route, for example other'):
        driven_futures(tables, [SCENE, 'other'])

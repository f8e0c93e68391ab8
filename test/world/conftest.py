"""Scenes that several tests look at; building one takes some seconds."""

import pytest

from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.world.rig import Rig, load_rig
from sparseoccvla_ros.world.scene import Scene, build_scene

SCENES = 4
DURATION_S = 20.0


@pytest.fixture(scope='session')
def scenes() -> list[Scene]:
    """Four scenes in a row: every town; turns, a leader that slows down, a red light."""
    return [build_scene(2, index, DURATION_S) for index in range(SCENES)]


@pytest.fixture(scope='session')
def rig() -> Rig:
    """The first car of the fleet with images of 352x128."""
    return load_rig(share_path('config/rig/nuscenes.yaml'), 352, 128, vehicle=0, seed=3)

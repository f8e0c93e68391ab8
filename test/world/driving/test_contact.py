from types import SimpleNamespace

import numpy as np
import pytest

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.solids import box
from sparseoccvla_ros.world.bodies.thing import CAR, MANMADE, Shape, State, Thing
from sparseoccvla_ros.world.driving.contact import Contacts
from sparseoccvla_ros.world.ego_car import EGO_CENTRE_AHEAD_M
from sparseoccvla_ros.world.scene import EgoMotion

OTHER = Shape(CAR, (4.0, 2.0, 1.5), (), category='vehicle.car')


def scene_of(things, speed=0.0, yaw_rate=0.0):
    """An ego of 4 x 2 m at the origin."""
    return SimpleNamespace(
        things=tuple(things),
        ego_size_m=(4.0, 2.0, 1.5),
        world_from_ego=lambda _: np.eye(4),
        ego_box=lambda _: transform_from_planar(EGO_CENTRE_AHEAD_M, 0.0, 0.0),
        ego_motion=lambda _: EgoMotion(speed, 0.0, yaw_rate, 0.0),
    )


def car(x, y, heading=0.0, speed=0.0, still=False):
    """Its box's middle relative to the ego's."""
    state = State(transform_from_planar(x + EGO_CENTRE_AHEAD_M, y, heading), speed)
    return Thing(OTHER, lambda _: state, still=still, annotated=True)


@pytest.mark.parametrize('still', [True, False])
def test_footprints_touch_where_they_overlap(still):
    things = [car(3.99, 0.0, still=still), car(-4.01, 0.0, still=still), car(0.0, 1.99, still=still), car(30.0, 0.0)]
    assert Contacts(scene_of(things)).touching(0.0) == (0, 2)


@pytest.mark.parametrize('still', [True, False])
def test_a_tree_is_touched_at_its_trunk_not_under_its_crown(still):
    trunk = box((-0.2, -0.2, 0.0), (0.2, 0.2, 3.0), (90.0, 60.0, 40.0))
    crown = box((-3.0, -3.0, 3.0), (3.0, 3.0, 8.0), (60.0, 90.0, 40.0))
    tree = Shape(MANMADE, (6.0, 6.0, 8.0), (trunk, crown))
    for y, touched in ((2.0, ()), (1.1, (0,))):
        pose = transform_from_planar(EGO_CENTRE_AHEAD_M, y, 0.0)
        thing = Thing(tree, lambda _, pose=pose: State(pose, 0.0), still=still, annotated=False)
        assert Contacts(scene_of([thing])).touching(0.0) == touched


def test_time_to_collision_worked_by_hand():
    # 16 m between the bumpers, 10 m/s against 2 m/s the same way: 2 s; the step is 0.2 s.
    assert Contacts(scene_of([car(20.0, 0.0, speed=2.0)], speed=10.0)).time_to_collision_s(0.0) == pytest.approx(2.2)
    # Oncoming at 6 m/s: 1 s.
    assert Contacts(scene_of([car(20.0, 0.0, np.pi, 6.0)], speed=10.0)).time_to_collision_s(0.0) == pytest.approx(1.2)
    # Beside the lane, or far enough away: never.
    assert Contacts(scene_of([car(20.0, 2.1)], speed=10.0)).time_to_collision_s(0.0) == float('inf')
    assert Contacts(scene_of([car(40.0, 0.0)], speed=10.0)).time_to_collision_s(0.0) == float('inf')
    # In a bend to the left of 20 m radius the ego misses what is straight ahead.
    assert Contacts(scene_of([car(24.0, 0.0)], 10.0, 0.5)).time_to_collision_s(0.0) == float('inf')
    assert Contacts(scene_of([car(24.0, 0.0)], 10.0, 0.0)).time_to_collision_s(0.0) == pytest.approx(2.2, abs=0.21)

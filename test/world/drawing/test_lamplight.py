from functools import partial

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.street_furniture import lamp
from sparseoccvla_ros.world.bodies.thing import State, Thing
from sparseoccvla_ros.world.bodies.vehicles import car
from sparseoccvla_ros.world.drawing.lamplight import BEAM_M, EGO_BEAM_M, EGO_NOSE_M, Lamplight

EGO = transform_from_planar(500.0, 300.0, 0.5)
EYE = EGO[:2, 3]


def _same(state, time_s):
    return state


def thing(shape, pose, still):
    return Thing(shape, partial(_same, State(pose, 0.0)), still=still, annotated=False)


def light(things, points_m, ego=EGO):
    poses = np.array([thing.state_at(0.0).world_from_object for thing in things]).reshape(-1, 4, 4)
    return Lamplight(things, poses).light_on(EYE, poses, ego, np.asarray(points_m)).sum(axis=1)


def ahead(pose, distance_m, left_m=0.0, z=0.0):
    return (pose @ (distance_m, left_m, z, 1.0))[:3]


def test_the_ego_lights_the_road_ahead_and_less_the_farther_it_is():
    points = [ahead(EGO, EGO_NOSE_M + away) for away in (4.0, 12.0, 25.0, EGO_BEAM_M + 2.0)]
    shine = light((), points)
    assert shine[0] > shine[1] > shine[2] > 0.0 == shine[3]
    behind, beside = light((), [ahead(EGO, -5.0), ahead(EGO, 8.0, 15.0)])
    assert behind == 0.0
    assert beside < 0.01
    low, high = light((), [ahead(EGO, 12.0, 0.0, 0.5), ahead(EGO, 12.0, 0.0, 5.0)])
    assert low > 3.0 * high


def test_a_moving_car_has_headlights_and_a_parked_one_has_none():
    pose = transform_from_planar(520.0, 280.0, -0.8)
    shape = car(np.random.default_rng(0))
    points = [ahead(pose, 6.0), ahead(pose, 3.0 + BEAM_M), ahead(pose, -6.0)]
    away = transform_from_planar(2000.0, 300.0, 0.0)
    moving, parked = (light((thing(shape, pose, still),), points, away) for still in (False, True))
    assert moving[0] > 0.3
    assert moving[1] == moving[2] == 0.0
    assert (parked == 0.0).all()


def test_a_street_lamp_lights_the_ground_below_its_head():
    pose = transform_from_planar(510.0, 310.0, 0.0)
    away = transform_from_planar(2000.0, 300.0, 0.0)
    # The head hangs 1.8 m to the right of the pole.
    points = [(510.0, 308.2, 0.0), (514.0, 308.2, 0.0), (520.0, 308.2, 0.0), (530.0, 308.2, 0.0), (510.0, 308.2, 9.0)]
    below, near, far, beyond, above = light((thing(lamp(1.0), pose, True),), points, away)
    assert below > near > far > 0.0
    assert beyond == above == 0.0

import numpy as np
import pytest

from sparseoccvla_ros.geometry import inverse, wrap_angle
from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs
from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.ego_car import EGO_SIZE_M
from sparseoccvla_ros.world.labels.facts import Command, Reason
from sparseoccvla_ros.world.manoeuvre import Manoeuvre
from sparseoccvla_ros.world.scene import Scene, build_scene
from sparseoccvla_ros.world.stage import build_stage
from sparseoccvla_ros.world.streets.street import Ground

KEYFRAMES_S = np.arange(0.0, 20.0, 0.5)
#: Of a passenger car in traffic; hard braking is 4, a comfortable bend 3.
ACCEL_LIMIT_MPS2 = 4.0
LATERAL_LIMIT_MPS2 = 3.0


def states(scene: Scene, time_s: float) -> np.ndarray:
    return np.stack([thing.state_at(time_s).world_from_object for thing in scene.things])


def test_a_scene_depends_on_nothing_but_seed_and_index(scenes):
    again = build_scene(2, 1, 20.0)
    assert again.description == scenes[1].description
    for time_s in (0.0, 7.3):
        assert np.array_equal(states(again, time_s), states(scenes[1], time_s))
        assert np.array_equal(again.world_from_ego(time_s), scenes[1].world_from_ego(time_s))
    other = build_stage(3, 1, 20.0)
    assert not np.array_equal(
        other.traffic[0].vehicle.trip.path.points_m, scenes[1].stage.traffic[0].vehicle.trip.path.points_m
    )


def test_scenes_differ_in_town_manoeuvre_and_path(scenes):
    assert len({scene.city.name for scene in scenes[:3]}) == 3
    assert len({scene.stage.manoeuvre for scene in scenes}) == len(scenes)
    # In turn, all of them.
    assert {tuple(Manoeuvre)[(index + index // 8) % 8] for index in range(8)} == set(Manoeuvre)
    paths = []
    for scene in scenes:
        ego_from_start = [inverse(scene.world_from_ego(4.0)) @ scene.world_from_ego(t) for t in (5.0, 6.0, 7.0)]
        paths.append(np.concatenate([pose[:2, 3] for pose in ego_from_start]))
    distance = np.linalg.norm(np.array(paths)[:, None] - np.array(paths)[None], axis=-1)
    assert distance[np.triu_indices(len(paths), 1)].min() > 0.3


def test_the_ego_moves_like_a_car(scenes):
    step_s = 0.02
    times = np.arange(0.0, 20.0, step_s)
    for scene in scenes:
        poses = np.stack([scene.world_from_ego(time_s) for time_s in times])
        velocity = np.diff(poses[:, :2, 3], axis=0) / step_s
        heading = np.arctan2(poses[:, 1, 0], poses[:, 0, 0])
        forward = np.einsum('ni,ni->n', velocity, poses[:-1, :2, 0])
        sideways = np.einsum('ni,ni->n', velocity, poses[:-1, :2, 1])
        yaw_rate = wrap_angle(np.diff(heading)) / step_s
        assert forward.min() > -1e-6
        assert forward.max() < 16.0
        # No slip at the rear axle: half a step of turning is all that may show.
        assert np.abs(sideways - 0.5 * yaw_rate * forward * step_s).max() < 0.01
        assert np.abs(np.diff(forward) / step_s).max() < ACCEL_LIMIT_MPS2
        assert np.abs(yaw_rate * forward).max() < LATERAL_LIMIT_MPS2
        for index in range(0, len(times) - 1, 50):
            motion = scene.ego_motion(times[index])
            assert motion.speed_mps == pytest.approx(forward[index], abs=0.1)
            assert motion.yaw_rate_radps == pytest.approx(yaw_rate[index], abs=0.05)


def test_the_ego_stays_on_the_road(scenes):
    length, width, _ = EGO_SIZE_M
    corners = np.array([[x * length, y * width, 0.0, 1.0] for x in (-0.5, 0.5) for y in (-0.5, 0.5)]).T
    for scene in scenes:
        points = np.concatenate([(scene.ego_box(t) @ corners)[:2].T for t in KEYFRAMES_S])
        assert np.isin(scene.plan.ground_at(*points.T), [Ground.ASPHALT, Ground.PARKING]).all()


def test_nobody_touches_anybody_at_any_time(scenes):
    for scene in scenes:
        agents = [thing for thing in scene.things if thing.annotated]
        assert len(agents) > 100
        sizes = np.array([EGO_SIZE_M[:2], *(thing.shape.size_m[:2] for thing in agents)])
        for time_s in np.arange(0.0, 20.0, 0.25):
            poses = [scene.ego_box(time_s), *(thing.state_at(time_s).world_from_object for thing in agents)]
            assert overlapping_pairs(np.stack(poses), sizes) == [], (scene.name, time_s)


def test_commands_come_before_the_turn_and_fit_it():
    scene = build_scene(0, 1, 20.0)
    assert scene.stage.manoeuvre is Manoeuvre.TURN_LEFT
    commands = [scene.command_at(t) for t in KEYFRAMES_S]
    first = commands.index(Command.LEFT)
    heading = [np.arctan2(*scene.world_from_ego(t)[1::-1, 0]) for t in KEYFRAMES_S]
    turned = wrap_angle(np.array(heading) - heading[first])
    # When the command comes the turn has not begun; while it holds, the car turns to the left.
    assert abs(turned[first + 1]) < 0.3
    last = len(commands) - 1 - commands[::-1].index(Command.LEFT)
    assert turned[last] > 0.7 or last == len(commands) - 1


def test_a_red_light_holds_the_ego_and_its_lights_show_it(scenes):
    scene = build_scene(0, 4, 20.0)
    assert scene.stage.manoeuvre is Manoeuvre.RED_LIGHT
    held = [t for t in KEYFRAMES_S if scene.reason_at(t)[0] is Reason.RED_LIGHT and scene.ego_motion(t).speed_mps < 0.5]
    assert held
    for time_s in held:
        heads = scene.signal_heads(time_s)
        assert len(heads) == 2
        for head in heads:
            state = scene.things[head].state_at(time_s)
            assert state.lamps in (Lamps.RED, Lamps.AMBER)
            ahead = inverse(scene.world_from_ego(time_s)) @ state.world_from_object
            # Before it, to its right, facing it (a light faces -x of its own frame).
            assert ahead[0, 3] > 3.0
            assert ahead[1, 3] < 0.0
            assert ahead[0, 0] > 0.9


def test_still_things_stand_on_the_ground_they_belong_on(scenes):
    roads = (Ground.ASPHALT, Ground.PARKING)
    for scene in scenes:
        buildings = [t for t in scene.things if t.still and min(t.shape.size_m) > 4.5]
        assert len(buildings) > 10
        for thing in buildings:
            place = thing.state_at(0.0).world_from_object
            half = 0.5 * np.array(thing.shape.size_m[:2])
            corners = np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * half @ place[:2, :2].T + place[:2, 3]
            assert not np.isin(scene.plan.ground_at(*corners.T), roads).any()


def test_roads_ahead_are_told_from_the_route(scenes):
    seen = [scene.road_at(t) for scene in scenes for t in KEYFRAMES_S]
    assert {road.bend for road in seen} == {'straight', 'left', 'right'}
    assert any(road.junction_m == 0.0 for road in seen)
    for road in seen:
        for distance in (road.junction_m, road.crossing_m, road.work_zone_m):
            assert distance is None or 0.0 <= distance <= 25.0


def test_an_unknown_city_is_refused():
    with pytest.raises(ValueError, match="unknown city 'atlantis'; expected one of"):
        build_stage(0, 0, 5.0, 'atlantis')

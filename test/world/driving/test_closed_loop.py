import math
from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.geometry import inverse, transform_from_planar
from sparseoccvla_ros.planning.trajectory import Trajectory, stop_trajectory
from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs
from sparseoccvla_ros.world.driving import closed_loop
from sparseoccvla_ros.world.driving.closed_loop import ClosedLoop, EventKind
from sparseoccvla_ros.world.driving.drivers import drive, follow_route, keep_going
from sparseoccvla_ros.world.driving.tracking import DrivePlan
from sparseoccvla_ros.world.manoeuvre import Manoeuvre
from sparseoccvla_ros.world.scene import build_scene
from sparseoccvla_ros.world.traffic.simulation import EgoPlace
from sparseoccvla_ros.world.traffic.trip import GateKind

TIMES_S = np.arange(7) * 0.5
DURATION_S = 16.0


@pytest.fixture(scope='module')
def scenes():
    """Three of them: enough for every question here."""
    return [build_scene(3, index, DURATION_S) for index in (0, 1, 3)]


def stage_of(scenes, manoeuvre):
    return next(scene.stage for scene in scenes if scene.stage.manoeuvre is manoeuvre)


def along_route(loop, speed):
    """Along the route at one speed, whatever the rules say."""
    places = np.array([loop.scene.route.at(loop.progress.along_m + speed * time) for time in TIMES_S])
    flat = np.full(7, speed)
    trajectory = Trajectory(TIMES_S, places[:, :2], np.unwrap(places[:, 2]), flat, 0.0 * flat, speed * places[:, 3])
    return DrivePlan.of(trajectory, np.eye(4), loop.time_s)


def test_by_the_rules_every_scene_is_driven_without_contact_much_as_it_was_recorded(scenes):
    for scene in scenes:
        loop = ClosedLoop(scene.stage)
        summary = drive(loop, follow_route)
        assert loop.ended is EventKind.TIME_OVER, summary
        assert not loop.events[:-1], loop.events
        assert summary.beside_route_m < 0.2
        assert max(summary.accel_mps2, summary.brake_mps2) < 4.0
        assert summary.lateral_accel_mps2 < 3.0
        # The same rules drove the ego when the scene was recorded.
        gap = inverse(scene.world_from_ego(DURATION_S)) @ loop.scene.world_from_ego(DURATION_S)
        assert np.abs(gap[:2, 3]).max() < 5.0
        assert summary.distance_m == pytest.approx(summary.progress_m, abs=0.5)


def test_straight_on_at_one_speed_does_worse(scenes):
    ended = [drive(ClosedLoop(scene.stage), keep_going).ended for scene in scenes]
    assert ended.count('collision') >= 2


def test_the_same_plans_give_the_same_world(scenes):
    stage = stage_of(scenes, Manoeuvre.RED_LIGHT)
    runs = [ClosedLoop(stage), ClosedLoop(stage), ClosedLoop(stage)]
    for number, loop in enumerate(runs):
        for _ in range(60):
            loop.step(along_route(loop, 4.0 if number < 2 else 4.5))
    states = [np.stack([t.state_at(6.0).world_from_object for t in loop.scene.things]) for loop in runs]
    assert np.array_equal(states[0], states[1])
    assert np.array_equal(runs[0].scene.world_from_ego(5.13), runs[1].scene.world_from_ego(5.13))
    assert not np.array_equal(runs[0].scene.world_from_ego(5.13), runs[2].scene.world_from_ego(5.13))


def test_who_drives_behind_an_ego_that_stops_in_its_lane_stops_too(scenes):
    for manoeuvre in (Manoeuvre.RED_LIGHT, Manoeuvre.FOLLOW):
        loop = ClosedLoop(stage_of(scenes, manoeuvre), end_at_collision=False)
        for _ in range(round(DURATION_S / 0.1)):
            loop.step(None)
        assert not [event for event in loop.events if event.kind is EventKind.COLLISION]
        assert loop.scene.state.speed_mps == 0.0
        ego_from_world = inverse(loop.scene.world_from_ego(DURATION_S))
        behind = []
        for number in range(1, len(loop.scene.stage.traffic)):
            state = loop.scene.things[loop.scene.things_of_actor[number][0]].state_at(DURATION_S)
            x, y = (ego_from_world @ state.world_from_object)[:2, 3]
            if -12.0 < x < 0.0 and abs(y) < 1.5:
                behind.append(state.speed_mps)
        assert behind, manoeuvre
        assert max(behind) < 0.1


def test_pedestrians_wait_for_an_ego_that_drives_up_and_cross_where_it_is_far(scenes):
    stage = stage_of(scenes, Manoeuvre.ZEBRA)
    route = stage.traffic[0].vehicle.trip.path
    line_m = next(gate.s_m for gate in stage.traffic[0].vehicle.trip.gates if gate.kind is GateKind.ZEBRA)
    people = [
        (number, person.walker)
        for number, person in enumerate(stage.people)
        if person.walker.kerbs and person.walker.kerbs[0].kind is GateKind.ZEBRA and person.walker.starts_s < 5.0
    ]
    assert people

    def on_road_after(before_m, speed, seconds):
        """How many of them are beyond their kerb after the ego has been this far before the line at this speed."""
        # Alone with the pedestrians, so that nobody else keeps them waiting.
        traffic = ClosedLoop(replace(stage, traffic=stage.traffic[:1])).scene.simulation
        x, y, heading, _ = route.at(line_m - before_m)
        for _ in range(round(seconds / 0.1)):
            traffic.place_ego(EgoPlace(x, y, heading, speed, line_m - before_m))
            traffic.step()
        return sum(traffic.walker_at(number, traffic.time_s)[0] > walker.kerbs[0].s_m for number, walker in people)

    # At 9 m/s one needs 16 m to stop; standing 30 m away one lets them go.
    already = on_road_after(12.0, 9.0, 0.1)
    assert on_road_after(12.0, 9.0, 25.0) == already < len(people)
    assert on_road_after(30.0, 0.0, 25.0) == len(people)


def test_a_red_light_that_is_run_is_told(scenes):
    loop = ClosedLoop(stage_of(scenes, Manoeuvre.RED_LIGHT), end_at_collision=False)
    loop_rules = ClosedLoop(stage_of(scenes, Manoeuvre.RED_LIGHT))
    while loop.ended is None:
        loop.step(along_route(loop, 8.0))
    assert drive(loop_rules, follow_route).red_lights == 0
    assert loop.summary().red_lights == 1


def test_a_light_that_has_been_passed_is_not_counted_again_when_progress_steps_back(scenes):
    loop = ClosedLoop(stage_of(scenes, Manoeuvre.RED_LIGHT), end_at_collision=False)
    while not loop.summary().red_lights:
        loop.step(along_route(loop, 8.0))
    passed_m = loop.progress.along_m
    loop.progress.along_m -= 3.0
    loop.step(along_route(loop, 8.0))
    assert loop.progress.along_m > passed_m
    assert loop.summary().red_lights == 1


def test_leaving_the_road_is_told_once_and_timed(scenes):
    loop = ClosedLoop(stage_of(scenes, Manoeuvre.ZEBRA), end_at_collision=False)
    place = loop.scene.world_from_ego(0.0) @ transform_from_planar(0.0, 0.0, -0.4)
    for _ in range(80):
        waypoints = np.column_stack([8.0 * TIMES_S, 0.0 * TIMES_S])
        flat = np.full(7, 8.0)
        stamp_s = 1.0 * int(loop.time_s)
        away = place @ transform_from_planar(8.0 * stamp_s, 0.0, 0.0)
        loop.step(DrivePlan.of(Trajectory(TIMES_S, waypoints, 0 * flat, flat, 0 * flat, 0 * flat), away, stamp_s))
    off = [event for event in loop.events if event.kind is EventKind.OFF_ROAD]
    assert len(off) == 1
    assert loop.summary().off_road_s == pytest.approx(8.0 - off[0].time_s + 0.1, abs=0.01)


def test_what_is_hit_is_named_and_the_drive_is_over(scenes):
    stage = stage_of(scenes, Manoeuvre.RED_LIGHT)
    loop = ClosedLoop(stage)
    # The parked car that is nearest ahead on the right becomes the goal.
    ego_from_world = inverse(loop.scene.world_from_ego(0.0))
    goals = []
    for index, thing in enumerate(loop.scene.things):
        if thing.parked:
            x, y = (ego_from_world @ thing.state_at(0.0).world_from_object)[:2, 3]
            if x > 25.0 and abs(y) < 8.0:
                goals.append((x, index))
    goal = min(goals)[1]
    while loop.ended is None:
        there = loop.scene.things[goal].state_at(0.0).world_from_object[:2, 3]
        here = np.array([loop.scene.state.x_m, loop.scene.state.y_m])
        heading = math.atan2(*(there - here)[::-1])
        flat = np.full(7, 8.0)
        points = here + np.outer(8.0 * TIMES_S, [math.cos(heading), math.sin(heading)])
        plan = Trajectory(TIMES_S, points, np.full(7, heading), flat, 0 * flat, 0 * flat)
        loop.step(DrivePlan.of(plan, np.eye(4), loop.time_s))
    assert loop.ended is EventKind.COLLISION
    hits = [event for event in loop.events if event.kind is EventKind.COLLISION]
    hit = [loop.scene.things[event.thing] for event in hits]
    assert [event.what for event in hits] == [thing.shape.category for thing in hit]
    for thing in hit:
        boxes = np.stack([loop.scene.ego_box(loop.time_s), thing.state_at(loop.time_s).world_from_object])
        sizes = np.array([loop.scene.ego_size_m[:2], thing.shape.size_m[:2]])
        assert overlapping_pairs(boxes, sizes)
    assert loop.summary().time_to_collision_s == 0.0
    with pytest.raises(RuntimeError, match=r'the drive is over: collision'):
        loop.step(None)


def test_who_does_not_get_on_is_stuck(scenes, monkeypatch):
    monkeypatch.setattr(closed_loop, 'STUCK_S', 3.0)
    loop = ClosedLoop(stage_of(scenes, Manoeuvre.ZEBRA))
    while loop.ended is None:
        loop.step(None)
    assert loop.ended is EventKind.STUCK
    assert 3.0 < loop.time_s < 8.0
    assert loop.summary().stale_s == pytest.approx(loop.time_s, abs=0.01)


def test_the_driven_scene_is_continuous_and_agrees_with_its_motion(scenes):
    scene = stage_of(scenes, Manoeuvre.FOLLOW)
    loop = ClosedLoop(scene)
    recorded = next(item for item in scenes if item.stage is scene)
    for time_s in (-0.04, 0.0):
        np.testing.assert_allclose(loop.scene.world_from_ego(time_s), recorded.world_from_ego(time_s), atol=1e-9)
    for _ in range(30):
        loop.step(follow_route(loop))
    for _ in range(20):
        loop.step(DrivePlan.of(stop_trajectory(8.0, 3.0), loop.scene.world_from_ego(3.0), 3.0))
    times, step_s = np.arange(0.1, 4.9, 0.01), 1e-4
    for time_s in times:
        motion = loop.scene.ego_motion(time_s)
        moved = inverse(loop.scene.world_from_ego(time_s)) @ loop.scene.world_from_ego(time_s + step_s)
        assert moved[0, 3] / step_s == pytest.approx(motion.speed_mps, abs=2e-3)
        assert moved[1, 3] / step_s == pytest.approx(0.0, abs=1e-3)
        assert math.asin(moved[1, 0]) / step_s == pytest.approx(motion.yaw_rate_radps, abs=2e-3)


def test_a_steps_controls_begin_when_it_does(scenes):
    loop = ClosedLoop(stage_of(scenes, Manoeuvre.ZEBRA))
    before = [loop.scene.world_from_ego(time_s) for time_s in (-0.02, 0.0)]
    loop.step(None)
    after = [loop.scene.world_from_ego(time_s) for time_s in (-0.02, 0.0)]
    assert np.array_equal(before, after)
    assert loop.scene.now_s == pytest.approx(loop.time_s) == pytest.approx(0.1)
    assert loop.scene.simulation.time_s == pytest.approx(3.1)

"""The gate: plans labelled by how they were made, real driving, and every check by name."""

import itertools
import math

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from sparseoccvla_ros.geometry import inverse, quat_xyzw_from_wxyz, transform_from, transform_points
from sparseoccvla_ros.planning.gate import Check, SafetyGate
from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.runtime.ego_motion import PoseBuffer
from sparseoccvla_ros.runtime.scene import OccupancyPoints

LIMITS = VehicleLimits()
CAR, PEDESTRIAN, ROAD, MANMADE, VEGETATION = 4, 7, 11, 15, 16


def rollout(speed_mps, accel_mps2, curvature_1pm):
    """Waypoints [6, 2] of a bicycle model, from functions of time, in 5 ms steps."""
    waypoints, x, y, yaw, v, dt = [], 0.0, 0.0, 0.0, speed_mps, 0.005
    for i in range(600):
        t = (i + 0.5) * dt
        v_mid = max(0.0, v + 0.5 * dt * accel_mps2(t))
        yaw_mid = yaw + 0.5 * dt * v_mid * curvature_1pm(t)
        x, y = x + dt * v_mid * math.cos(yaw_mid), y + dt * v_mid * math.sin(yaw_mid)
        yaw += dt * v_mid * curvature_1pm(t)
        v = max(0.0, v + dt * accel_mps2(t))
        if (i + 1) % 100 == 0:
            waypoints.append((x, y))
    return np.array(waypoints)


def constant(value):
    return lambda t: value


def inside_all_limits(rng):
    """A random rollout that exceeds no limit: accelerations change at limited jerk, curvature fits the speed."""
    speed = rng.uniform(0.0, 20.0)
    low = max(-LIMITS.max_decel_mps2, -speed / 3.0)
    first, last = rng.uniform(low, LIMITS.max_accel_mps2, 2)
    fastest = min(LIMITS.max_speed_mps, speed + 3.0 * max(first, last, 0.0))
    bound = min(LIMITS.max_curvature_1pm, LIMITS.max_lateral_accel_mps2 / max(fastest, 0.1) ** 2)
    start, end = rng.uniform(-bound, bound, 2)
    return speed, rollout(speed, lambda t: first + (last - first) * t / 3, lambda t: start + (end - start) * t / 3)


def names_of(report):
    return {check.name for check in report.checks if not check.passed}


def test_feasible_rollouts_pass():
    rng = np.random.default_rng(0)
    gate = SafetyGate(LIMITS)
    refused = []
    for _ in range(300):
        speed, waypoints = inside_all_limits(rng)
        refused += gate.check(waypoints, speed).reasons
    assert refused == []


@pytest.mark.parametrize('share', [1.1, 1.5])
@pytest.mark.parametrize(
    ('name', 'plan'),
    [
        ('speed', lambda s: (30.0 * s, rollout(30.0 * s, constant(0.0), constant(0.0)))),
        ('acceleration', lambda s: (3.0, rollout(3.0, constant(4.0 * s), constant(0.0)))),
        ('deceleration', lambda s: (29.0, rollout(29.0, constant(-8.0 * s), constant(0.0)))),
        ('curvature', lambda s: (3.0, rollout(3.0, constant(0.0), constant(0.23 * s)))),
        ('curvature', lambda s: (3.0, rollout(3.0, constant(0.0), constant(-0.23 * s)))),
        ('lateral acceleration', lambda s: (10.0, rollout(10.0, constant(0.0), constant(5.0 * s / 100.0)))),
        ('reverse speed', lambda s: (-0.5 * s, np.stack([-0.25 * s * np.arange(1, 7), np.zeros(6)], axis=1))),
    ],
)
def test_exactly_one_limit_exceeded_is_found_by_name(name, plan, share):
    speed, waypoints = plan(share)
    report = SafetyGate(LIMITS).check(waypoints, speed)
    found = names_of(report)
    assert name in found
    # The start is part of the same motion: it may be found there too.
    assert found <= {name, f'{name} at the start', 'distance from the vehicle at the start'}


def test_jerk_alone():
    """Full braking to full acceleration within a second and back, each inside its own limit."""
    limits = VehicleLimits(max_jerk_mps3=8.0)
    x = np.cumsum([5.0, 6.5, 5.0, 6.5, 5.0, 6.5]) * 0.5  # m/s per step: accelerations of +-3 m/s2, jerk 12 m/s3
    report = SafetyGate(limits).check(np.stack([x, np.zeros(6)], axis=1), 5.0)
    assert report.reasons == ('jerk 12 m/s3 exceeds 8.24 m/s3',)


def test_the_jolt_of_coming_to_rest_is_no_jerk_but_the_one_of_driving_on_is():
    """From 1.6 m/s at 8 m/s2 to rest after 0.2 s and 0.16 m; and the same, but it goes on at 2 m/s."""
    halt = np.stack([np.full(6, 0.16), np.zeros(6)], axis=1)
    assert SafetyGate(LIMITS).check(halt, 1.6).passed
    on = halt + np.outer([0, 1, 2, 3, 4, 5], [1.0, 0.0])
    assert 'jerk' in names_of(SafetyGate(LIMITS).check(on, 1.6))


@pytest.mark.parametrize(('speed', 'name'), [(0.0, 'acceleration at the start'), (12.0, 'deceleration at the start')])
def test_a_plan_must_start_at_the_vehicles_speed(speed, name):
    waypoints = rollout(6.0, constant(0.0), constant(0.0))
    found = names_of(SafetyGate(LIMITS).check(waypoints, speed))
    assert found == {name, 'jerk', 'distance from the vehicle at the start'}
    assert SafetyGate(LIMITS).check(waypoints, 6.0).passed


@pytest.mark.parametrize(('change', 'passes'), [(1.02, True), (1.04, False), (-2.05, True), (-2.07, False)])
def test_the_first_step_is_reachable_from_the_measured_speed(change, passes):
    """Mean speed of the first half second: 0.25 s of 4 or 8 m/s2 with 3 %: 1.03 and 2.06 m/s."""
    limits = VehicleLimits(max_jerk_mps3=50.0)
    report = SafetyGate(limits).check(rollout(6.0, constant(0.0), constant(0.0)), 6.0 - change)
    assert report.passed is passes


@pytest.mark.parametrize(
    ('first', 'speed', 'offset_m'),
    [
        ((3.0, 0.0), 6.0, 0.0),
        ((3.5, 0.0), 6.0, 0.0),  # 4 m/s2 for 0.5 s
        ((4.5, 0.0), 6.0, 1.0),
        ((2.0, 0.0), 6.0, 0.0),  # 8 m/s2
        ((1.0, 0.0), 6.0, 1.0),
        ((0.0, 0.0), 0.0, 0.0),
        ((1.5, 0.0), 0.0, 1.0),
        ((-0.25, 0.0), 0.0, 0.015625),  # 0.5 m/s backwards is reached after 1/16 s: 0.234375 m
        ((0.0, 1.0), 0.0, 1.5),  # sideways
    ],
)
def test_how_far_the_first_waypoint_is_from_what_can_be_reached(first, speed, offset_m):
    plan = np.array(first) + np.zeros((6, 2))
    checks = {check.name: check for check in SafetyGate(LIMITS).check(plan, speed).checks}
    found = checks['distance from the vehicle at the start'].value
    if first[1]:
        assert found > 0.9
    else:
        assert found == pytest.approx(offset_m, abs=1e-9)


def test_a_value_that_is_nan_never_passes():
    assert not Check('speed', math.nan, 1.0, 'm/s').passed
    assert Check('speed', 1.0, 1.0, 'm/s').passed


def test_a_plan_must_start_at_the_vehicle():
    for offset in ((0.0, 1.0), (0.0, -1.0), (3.0, 0.0), (-4.0, 0.0)):
        assert not SafetyGate(LIMITS).check(rollout(6.0, constant(0.0), constant(0.0)) + offset, 6.0).passed
    # Sideways from standstill: no wheel turns that far.
    assert 'curvature' in names_of(
        SafetyGate(LIMITS).check(np.stack([np.zeros(6), 0.3 * np.arange(1, 7)], axis=1), 0.0)
    )


def test_standing_with_noise_passes():
    rng = np.random.default_rng(1)
    for _ in range(100):
        report = SafetyGate(LIMITS).check(rng.normal(scale=0.01, size=(6, 2)), 0.0)
        assert report.passed, report.reasons


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_passes(bad):
    waypoints = rollout(6.0, constant(0.0), constant(0.0))
    waypoints[4, 1] = bad
    assert SafetyGate(LIMITS).check(waypoints, 6.0).reasons == ('non-finite values 1 exceeds 0',)
    assert not SafetyGate(LIMITS).check(rollout(6.0, constant(0.0), constant(0.0)), bad).passed


def occupancy(points, label=CAR):
    points = np.array(points, dtype=np.float32).reshape(-1, 3)
    return OccupancyPoints(points, np.full(len(points), label, np.uint8), np.ones(len(points), np.float32))


AHEAD = rollout(6.0, constant(0.0), constant(0.0))  # 18 m straight on: the front ends at 18 + 3.427 m
NOW, LATER = 'collision with the present occupancy', 'collision with the forecast occupancy'


@pytest.mark.parametrize(
    ('point', 'hit'),
    [
        ([15.0, 0.0, 0.8], True),
        ([21.7, 0.0, 0.8], True),  # the voxel reaches 0.2 m back, to 7 cm before the front bumper
        ([21.8, 0.0, 0.8], False),
        ([10.0, 1.2, 0.8], True),  # half the width is 0.925 m
        ([10.0, 1.3, 0.8], False),
        ([10.0, -1.2, 0.8], True),
        ([-1.0, 0.0, 0.8], False),  # behind, touching the tail
        ([10.0, 0.0, 0.0], True),  # a thing of 0.2 m on the road
        ([10.0, 0.0, -0.4], False),  # below the floor of the vehicle
        ([10.0, 0.0, 1.6], True),
        ([10.0, 0.0, 2.0], False),  # a bridge
    ],
)
def test_the_footprint_sweeps_the_path(point, hit):
    report = SafetyGate(LIMITS).check(AHEAD, 6.0, occupancy([point]))
    assert names_of(report) == ({NOW} if hit else set())


def test_collision_names_time_and_class():
    report = SafetyGate(LIMITS).check(AHEAD, 6.0, occupancy([[9.4, 0.0, 0.8], [9.4, 0.0, 1.2], [9.4, 0.4, 0.8]]))
    # Front at 3.427 m + 6 m/s * t: 9.2 m at 0.97 s, seen at the sweep's next step. Two columns, one of them two high.
    assert report.reasons == (f'{NOW} 2 voxels exceeds 0 voxels, the first after 1.0 s (car)',)


def test_the_swept_footprint_turns_with_the_path():
    turn = rollout(6.0, constant(0.0), constant(0.1))
    end, yaw = turn[-1], 1.8
    nose = end + 3.3 * np.array([math.cos(yaw), math.sin(yaw)])
    assert not SafetyGate(LIMITS).check(turn, 6.0, occupancy([[*nose, 1.0]])).passed
    beside = end + 1.4 * np.array([-math.sin(yaw), math.cos(yaw)])
    assert SafetyGate(LIMITS).check(turn, 6.0, occupancy([[*beside, 1.0]])).passed


def test_ground_is_no_obstacle_and_what_is_not_checked_is_not_shown():
    gate = SafetyGate(LIMITS)
    assert gate.check(AHEAD, 6.0, occupancy([[10.0, 0.0, 0.8]], ROAD)).passed
    assert not gate.check(AHEAD, 6.0, occupancy([[10.0, 0.0, 0.8]], VEGETATION)).passed
    assert gate.check(AHEAD, 6.0, occupancy([])).passed
    names = [check.name for check in gate.check(AHEAD, 6.0).checks]
    assert not any(name.startswith('collision') for name in names)
    assert [check.name for check in gate.check(AHEAD, 6.0, occupancy([])).checks] == [*names, NOW]
    forecast = [(1.0, occupancy([]))]
    assert [check.name for check in gate.check(AHEAD, 6.0, occupancy([]), forecast).checks] == [*names, NOW, LATER]


def test_what_touches_the_vehicle_already():
    """A wall 0.1 m beside it, in voxels that reach 0.3 m further; a voxel at the bumper; one inside."""
    gate = SafetyGate(LIMITS)
    wall = occupancy([[x, 1.0, 0.8] for x in np.arange(-2.0, 30.0, 0.4)], MANMADE)
    beside = [[x, 1.0, 0.8] for x in np.arange(-0.6, 3.5, 0.4)]
    assert gate.check(AHEAD, 6.0, occupancy(beside, MANMADE)).passed  # away along it
    assert not gate.check(AHEAD, 6.0, wall).passed  # what comes later is not touched yet
    left = rollout(3.0, constant(0.0), constant(0.2))
    assert not gate.check(left, 3.0, occupancy(beside, MANMADE)).passed  # into it
    bumper = occupancy([[3.6, 0.0, 0.8]])
    assert not gate.check(AHEAD, 6.0, bumper).passed
    assert gate.check(np.zeros((6, 2)), 0.0, bumper).passed
    assert not gate.check(np.zeros((6, 2)), 0.0, occupancy([[3.0, 0.0, 0.8]])).passed


def test_a_car_that_drives_away_does_not_block_and_one_that_brakes_does():
    gate = SafetyGate(LIMITS)
    now = occupancy([[10.0, 0.0, 0.8]])
    away = [(t, occupancy([[10.0 + 6.0 * t, 0.0, 0.8]])) for t in (1.0, 2.0, 3.0)]
    brakes = [(t, occupancy([[12.0, 0.0, 0.8]])) for t in (1.0, 2.0, 3.0)]
    assert gate.check(AHEAD, 6.0, now, away).passed
    assert names_of(gate.check(AHEAD, 6.0, now)) == {NOW}  # nobody says that it drives
    assert names_of(gate.check(AHEAD, 6.0, now, brakes)) == {LATER}


def test_a_pedestrian_who_will_step_in_blocks():
    gate = SafetyGate(LIMITS)
    now = occupancy([[16.0, 5.0, 0.8]], PEDESTRIAN)
    forecast = [(t, occupancy([[16.0, 5.0 - 2.0 * t, 0.8]], PEDESTRIAN)) for t in (1.0, 2.0, 3.0)]
    assert gate.check(AHEAD, 6.0, now).passed
    report = gate.check(AHEAD, 6.0, now, forecast)
    # Beside the lane until the forecast of 2 s, y = 1 m, counts, from 1.5 s on; the front is at 15.8 m after 2.1 s.
    assert report.reasons == (f'{LATER} 2 voxels exceeds 0 voxels, the first after 2.1 s (pedestrian)',)


@pytest.mark.parametrize('label', [MANMADE, VEGETATION, 0, 1, 8])
def test_what_cannot_move_stays_whatever_the_forecast_says(label):
    nothing = [(t, occupancy([])) for t in (1.0, 2.0, 3.0)]
    report = SafetyGate(LIMITS).check(AHEAD, 6.0, occupancy([[15.0, 0.0, 0.8]], label), nothing)
    assert names_of(report) == {LATER}


@pytest.mark.parametrize(
    ('reached_s', 'horizon'), [(0.3, 0), (0.45, 0), (0.6, 1), (1.4, 1), (1.6, 2), (2.4, 2), (2.6, 3), (2.95, 3)]
)
def test_each_time_of_the_sweep_meets_the_occupancy_nearest_in_time(reached_s, horizon):
    """A voxel that is there at one moment only, where the front first comes to at that time."""
    voxel = occupancy([[3.427 + 6.0 * reached_s, 0.0, 0.8]])
    scenes = [voxel if k == horizon else occupancy([]) for k in range(4)]
    report = SafetyGate(LIMITS).check(AHEAD, 6.0, scenes[0], list(zip((1.0, 2.0, 3.0), scenes[1:], strict=True)))
    assert names_of(report) == {NOW if horizon == 0 else LATER}
    past = [(1.0, occupancy([])), (2.0, occupancy([])), (3.0, occupancy([]))]
    before = int(np.ceil(reached_s - 0.5)) - 1
    if before >= 1:
        past[before - 1] = (float(before), voxel)
        assert SafetyGate(LIMITS).check(AHEAD, 6.0, occupancy([]), past).passed


@pytest.mark.parametrize('times', [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (-1.0,)])
def test_impossible_forecast_times_are_refused(times):
    with pytest.raises(ValueError, match='times must be positive and rise'):
        SafetyGate(LIMITS).check(AHEAD, 6.0, occupancy([]), [(t, occupancy([])) for t in times])


def test_every_point_on_the_way_is_found():
    """Against a dense sweep by brute force, over random plans and points."""
    rng = np.random.default_rng(2)
    gate = SafetyGate(LIMITS)
    found = 0
    for _ in range(60):
        speed, waypoints = inside_all_limits(rng)
        points = np.concatenate([rng.uniform(-5, 40, (40, 1)), rng.uniform(-8, 8, (40, 1)), np.ones((40, 1))], axis=1)
        check = gate.check(waypoints, speed, occupancy(points)).checks[-1]
        assert check.name.startswith('collision')
        # The waypoints themselves, with the path's direction there, shrunk by what a coarse sweep may miss.
        path = np.vstack([[0.0, 0.0], waypoints])
        sure = False
        for before, here in itertools.pairwise(path):
            step = here - before
            if np.hypot(*step) < 2.0:
                continue
            for share in np.linspace(0.0, 1.0, 21):
                local = (points[:, :2] - before - share * step) @ np.array([step, [-step[1], step[0]]]).T
                local = local / np.hypot(*step) - [LIMITS.center_offset_m, 0.0]
                on_way = (np.abs(local[:, 0]) < 1.5) & (np.abs(local[:, 1]) < 0.4)
                clear = (np.abs(points[:, 0] - LIMITS.center_offset_m) > 2.05) | (np.abs(points[:, 1]) > 0.93)
                sure |= bool((on_way & clear).any())
        found += sure
        assert not (sure and check.passed)
    assert found > 5


@pytest.mark.planning_real
def test_real_driving_passes(planning_dir):
    """What a human drove is feasible: no real future is refused, with the speed from past poses only.

    Keyframes are up to 0.6 s apart where the LiDAR turned later; taken for waypoints 0.5 s apart they would show jerks
    of 19 m/s3 that nobody drove. So the path is read at the times that waypoints stand for.
    """
    gate = SafetyGate(LIMITS)
    plans = 0
    for path in sorted(planning_dir.glob('*.npz')):
        data = np.load(path, allow_pickle=False)
        stamps = [int(stamp) * 1000 for stamp in data['timestamp_us']]
        rotations = quat_xyzw_from_wxyz(data['global_from_ego_quat_wxyz'])
        global_from_ego = [
            transform_from(t, q) for t, q in zip(data['global_from_ego_translation_m'], rotations, strict=True)
        ]
        epoch_s = stamps[0] / 1e9
        driven = CubicSpline(np.array(stamps) / 1e9 - epoch_s, np.array([pose[:3, 3] for pose in global_from_ego]))
        buffer = PoseBuffer(history_s=1e4)
        for stamp, pose in zip(stamps, global_from_ego, strict=True):
            buffer.add(stamp, pose)
        for i in range(2, len(stamps) - 6):
            if not data['ego_future_valid'][i].all():
                continue
            future_global = driven(stamps[i] / 1e9 - epoch_s + 0.5 * np.arange(1, 7))
            waypoints = transform_points(inverse(global_from_ego[i]), future_global)[:, :2]
            report = gate.check(waypoints, buffer.state_at(stamps[i]).speed_mps)
            assert report.passed, (path.name, i, report.reasons)
            plans += 1
    assert plans >= 30

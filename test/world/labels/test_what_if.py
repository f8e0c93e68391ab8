"""Rollouts on a straight road along x, 8 m wide, with 2 m of sidewalk on both sides and grass beyond."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.solids import box
from sparseoccvla_ros.world.bodies.thing import CAR, MANMADE, Lamps, Shape, State, Thing
from sparseoccvla_ros.world.labels.facts import Option
from sparseoccvla_ros.world.labels.what_if import Rollout, WhatIf
from sparseoccvla_ros.world.scene import EgoMotion
from sparseoccvla_ros.world.streets.junction import Way
from sparseoccvla_ros.world.streets.street import Ground
from sparseoccvla_ros.world.traffic.path import Path
from sparseoccvla_ros.world.traffic.trip import Gate, GateKind

EGO_SIZE_M = (4.0, 1.8, 1.5)
AHEAD_M = 1.3


def ground_at(_x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    away = np.abs(y_m)
    return np.select([away < 4.0, away < 6.0], [Ground.ASPHALT, Ground.PAVEMENT], Ground.GRASS).astype(np.uint8)


def road(
    *things: Thing, speed_mps: float = 8.0, duration_s: float = 20.0, gates: tuple[Gate, ...] = (), lamp=None
) -> SimpleNamespace:
    """A scene in which the ego drives along y = 0 at a constant speed; ``lamp`` tells what a time shows at gates."""
    path = Path.through(np.column_stack([np.arange(0.0, 400.0), np.zeros(400)]))
    begin_m = 50.0

    def world_from_ego(time_s: float) -> np.ndarray:
        return transform_from_planar(begin_m + speed_mps * time_s, 0.0, 0.0)

    trip = SimpleNamespace(path=path, gates=gates)
    return SimpleNamespace(
        things=things,
        duration_s=duration_s,
        ego_size_m=EGO_SIZE_M,
        plan=SimpleNamespace(ground_at=ground_at, junctions=[SimpleNamespace(signal=SimpleNamespace(lamp=lamp))]),
        world_from_ego=world_from_ego,
        ego_box=lambda time_s: world_from_ego(time_s) @ transform_from_planar(AHEAD_M, 0.0, 0.0),
        ego_motion=lambda _: EgoMotion(speed_mps, 0.0, 0.0, 0.0),
        simulation=SimpleNamespace(vehicle_at=lambda _, t: (begin_m + speed_mps * (t - 3.0), speed_mps, 0.0)),
        stage=SimpleNamespace(traffic=[SimpleNamespace(vehicle=SimpleNamespace(trip=trip))]),
    )


def car(x_m: float, y_m: float, speed_mps: float = 0.0) -> Thing:
    def state(time_s: float) -> State:
        return State(transform_from_planar(x_m + speed_mps * time_s, y_m, 0.0), speed_mps)

    return Thing(Shape(CAR, (4.0, 1.8, 1.5), (), 'vehicle.car'), state, still=speed_mps == 0.0, annotated=True)


def standing(shape: Shape, x_m: float, y_m: float) -> Thing:
    pose = transform_from_planar(x_m, y_m, 0.0)
    return Thing(shape, partial(lambda state, _: state, State(pose, 0.0)), still=True, annotated=False)


NOTHING = Rollout('driveable_surface', (), None)


def test_on_an_empty_road_only_turns_leave_it():
    outcomes = WhatIf(road()).roll_out(0.0)
    assert set(outcomes) == set(Option)
    for option in (Option.KEEP, Option.ACCELERATE, Option.BRAKE):
        assert outcomes[option] == NOTHING
    left = outcomes[Option.LEFT]
    assert left == outcomes[Option.RIGHT]
    assert left.ends_on == 'sidewalk'
    assert left.touched == ()
    assert 1.0 < left.time_s < 2.5


def test_a_turn_is_one_that_a_car_can_drive():
    what_if = WhatIf(road(speed_mps=10.0))
    poses = what_if._way(Option.LEFT, 0.0)
    moved = np.diff(poses[:, :2, 3], axis=0)
    speed_mps = np.hypot(*moved.T) / 0.1
    heading = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    yaw_rate = np.diff(heading) / 0.1
    assert (np.diff(speed_mps) >= -0.4 - 1e-6).all()
    assert speed_mps[-1] == pytest.approx(4.0, abs=0.05)
    assert (speed_mps * yaw_rate < 4.2).all()
    assert (yaw_rate / speed_mps < 1.0 / 8.0 + 1e-3).all()
    assert heading[-1] > np.radians(50.0)


@pytest.mark.parametrize(
    ('option', 'time_s'),
    [
        # Fronts touch after 20 - 1.3 - 2 - 2 = 14.7 m: 1.84 s at 8 m/s, 1.49 s with 2.5 m/s^2 on top.
        (Option.KEEP, 1.9),
        (Option.ACCELERATE, 1.5),
        # It stops within 64 / 12 = 5.3 m.
        (Option.BRAKE, None),
    ],
)
def test_a_standing_car_ahead_is_hit_when_the_gap_is_used_up(option, time_s):
    outcome = WhatIf(road(car(70.0, 0.5))).roll_out(0.0)[option]
    assert outcome.time_s == time_s
    assert outcome.touched == (() if time_s is None else (0,))
    assert outcome.ends_on == 'driveable_surface'


def test_others_do_as_recorded():
    # From behind at 12 m/s: its front is 6.7 m behind the ego's back and gains 4 m/s.
    outcomes = WhatIf(road(car(40.6, 0.0, 12.0))).roll_out(0.0)
    assert outcomes[Option.KEEP].touched == (0,)
    assert outcomes[Option.KEEP].time_s == pytest.approx(1.7)
    assert outcomes[Option.ACCELERATE].touched == ()
    assert outcomes[Option.BRAKE].time_s < 1.7


def test_a_contact_ends_the_rollout():
    outcome = WhatIf(road(car(58.0, 3.2))).roll_out(0.0)[Option.LEFT]
    assert outcome.touched == (0,)
    assert outcome.ends_on == 'driveable_surface'


def test_one_drives_under_a_crown_but_not_through_a_trunk():
    trunk = box((-0.2, -0.2, 0.0), (0.2, 0.2, 3.0), (0.3, 0.2, 0.1))
    crown = box((-3.0, -3.0, 3.0), (3.0, 3.0, 7.0), (0.1, 0.4, 0.1))
    kerb = box((-5.0, -5.0, 0.0), (5.0, 5.0, 0.1), (0.5, 0.5, 0.5))
    tree = Shape(MANMADE, (10.0, 10.0, 7.0), (trunk, crown, kerb))
    assert WhatIf(road(standing(tree, 65.0, 2.5))).roll_out(0.0)[Option.KEEP] == NOTHING
    assert WhatIf(road(standing(tree, 65.0, 0.9))).roll_out(0.0)[Option.KEEP].touched == (0,)


def test_without_three_seconds_left_nothing_is_known():
    what_if = WhatIf(road(duration_s=10.0))
    assert set(what_if.roll_out(7.0)) == set(Option)
    assert what_if.roll_out(7.5) == {}


def line(ahead_m: float) -> tuple[Gate, ...]:
    """A stop line so far before the ego's front, which is 3.3 m before its origin."""
    return (Gate(53.3 + ahead_m, GateKind.SIGNAL, 0, Way(0, 1)),)


@pytest.mark.parametrize(
    ('lamp', 'red', 'unsure'), [('RED', True, False), ('AMBER', False, True), ('GREEN', False, False)]
)
def test_a_stop_line_is_passed_at_red(lamp, red, unsure):
    outcomes = WhatIf(road(gates=line(12.0), lamp=lambda *_: Lamps[lamp])).roll_out(0.0)
    for option in (Option.KEEP, Option.ACCELERATE):
        assert (outcomes[option].runs_red, outcomes[option].light_unsure) == (red, unsure)
        assert outcomes[option].touched == ()
    if red:
        # 12.5 m at 8 m/s: 1.56 s.
        assert outcomes[Option.KEEP].time_s == 1.6
    # It stops within 5.3 m; a turn is on the sidewalk before the line.
    assert outcomes[Option.BRAKE] == NOTHING
    assert not outcomes[Option.LEFT].runs_red


def test_a_line_close_ahead_is_passed_by_turns_and_by_braking_too():
    outcomes = WhatIf(road(gates=line(1.0), lamp=lambda *_: Lamps.RED)).roll_out(0.0)
    assert {option for option, outcome in outcomes.items() if outcome.runs_red} == set(Option)
    assert outcomes[Option.LEFT].ends_on == 'sidewalk'


@pytest.mark.parametrize(
    ('now', 'then', 'red', 'unsure'),
    [
        ('RED', 'RED', True, False),
        # Nobody who sees a red light can know that it turns green in time, nor the other way round.
        ('RED', 'GREEN', False, True),
        ('GREEN', 'RED', False, True),
        ('GREEN', 'AMBER', False, True),
        ('AMBER', 'RED', False, True),
        ('GREEN', 'GREEN', False, False),
    ],
)
def test_a_light_that_changes_before_the_line_is_unsure(now, then, red, unsure):
    # Scenes begin 3 s after the traffic, so now is 3 s there; the line is passed 1.6 s later.
    for change_s, changed in ((4.5, True), (4.7, False)):
        lamp = lambda _, time_s, change_s=change_s: Lamps[now if time_s < change_s else then]  # noqa: E731
        outcome = WhatIf(road(gates=line(12.0), lamp=lamp)).roll_out(0.0)[Option.KEEP]
        if changed:
            assert (outcome.runs_red, outcome.light_unsure) == (red, unsure)
        else:
            assert (outcome.runs_red, outcome.light_unsure) == (now == 'RED', now == 'AMBER')
        assert (outcome.time_s is None) == (not outcome.runs_red and not outcome.light_unsure)


def test_whoever_waits_a_little_over_the_line_has_not_passed_it_yet():
    outcomes = WhatIf(road(gates=line(-0.3), lamp=lambda *_: Lamps.RED, speed_mps=0.0)).roll_out(0.0)
    assert outcomes[Option.ACCELERATE].runs_red
    assert not outcomes[Option.KEEP].runs_red
    beyond = WhatIf(road(gates=line(-3.0), lamp=lambda *_: Lamps.RED)).roll_out(0.0)
    assert not any(outcome.runs_red for outcome in beyond.values())


def test_a_contact_before_the_line_ends_the_rollout():
    outcome = WhatIf(road(car(63.0, 0.0), gates=line(12.0), lamp=lambda *_: Lamps.RED)).roll_out(0.0)[Option.KEEP]
    assert outcome.touched == (0,)
    assert not outcome.runs_red

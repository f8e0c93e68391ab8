import numpy as np
import pytest

from sparseoccvla_ros.world.city import cities
from sparseoccvla_ros.world.streets.junction import Movement, Way
from sparseoccvla_ros.world.streets.layout import EGO_START_S_M, Wishes, draw_plan
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import Ground
from sparseoccvla_ros.world.traffic.trip import GateKind, Shift, Start, travel


def drawn(seed: int, movement: Movement) -> Plan:
    wishes = Wishes(80.0, (movement,), None, 320.0, red=False, speed_mps=9.0)
    return draw_plan(np.random.default_rng(seed), cities()[seed % 3], wishes)[0]


def always(movement: Movement):
    return lambda _junction, _way, _met: movement


@pytest.mark.parametrize('movement', list(Movement))
@pytest.mark.parametrize('seed', range(5))
def test_a_trip_stays_on_the_road_in_its_lane_and_turns_as_told(seed, movement):
    plan = drawn(seed, movement)
    trip = travel(plan, Start(Way(0, 1), EGO_START_S_M, 0), always(movement), 150.0)
    assert np.isin(plan.ground_at(*trip.path.points_m.T), [Ground.ASPHALT, Ground.PARKING]).all()
    assert trip.passages[0].movement is movement
    before = trip.path.at(trip.passages[0].enter_m - 8.0)[2]
    after = trip.path.at(trip.passages[0].leave_m + 6.0)[2]
    turned = (after - before + np.pi) % (2.0 * np.pi) - np.pi
    assert turned == pytest.approx(
        {'straight on': 0.0, 'left': np.pi / 2, 'right': -np.pi / 2}[movement.value], abs=0.02
    )
    # On streets it keeps to the right half, in the middle of a lane.
    for index in range(0, len(trip.street), 20):
        if trip.street[index] >= 0:
            street = plan.streets[trip.street[index]]
            _, d_m = street.centreline.project(*trip.path.points_m[index : index + 1].T)
            assert 0.5 * street.island_m < abs(d_m[0]) < street.lanes_m
    assert np.abs(trip.path.curvature_per_m).max() < 1.0 / 5.0


def test_gates_lie_on_the_stop_lines():
    plan = drawn(0, Movement.LEFT)
    trip = travel(plan, Start(Way(0, 1), EGO_START_S_M, 0), always(Movement.LEFT), 150.0)
    gate = next(gate for gate in trip.gates if gate.kind is GateKind.SIGNAL)
    line = next(line for line in plan.streets[0].stop_lines if line.direction == 1)
    x, y, _, _ = trip.path.at(gate.s_m)
    s_m, _ = plan.streets[0].centreline.project(np.array([x]), np.array([y]))
    assert s_m[0] == pytest.approx(line.s_m, abs=0.3)
    assert gate.approach == Way(0, 1)
    assert gate.s_m < trip.passages[0].enter_m


def test_oncoming_trips_keep_to_their_own_right():
    plan = drawn(1, Movement.STRAIGHT)
    street = plan.streets[0]
    there = travel(plan, Start(Way(0, 1), 120.0, 0), always(Movement.STRAIGHT), 60.0)
    back = travel(plan, Start(Way(0, -1), 180.0, 0), always(Movement.STRAIGHT), 60.0)
    for trip, sign in ((there, -1.0), (back, 1.0)):
        _, d_m = street.centreline.project(*trip.path.points_m.T)
        np.testing.assert_allclose(d_m, sign * abs(street.lane_offset_m(0)), atol=0.02)


def test_a_shift_keeps_to_the_left_of_a_narrow_place():
    plan = drawn(2, Movement.STRAIGHT)
    shift = Shift(0, 1, 150.0, 165.0, 0.5)
    plain = travel(plan, Start(Way(0, 1), 110.0, 0), always(Movement.STRAIGHT), 50.0)
    moved = travel(plan, Start(Way(0, 1), 110.0, 0), always(Movement.STRAIGHT), 50.0, 0.0, (shift,))
    line = plan.streets[0].centreline
    for trip, expected in ((plain, 0.0), (moved, 0.5)):
        s_m, d_m = line.project(*trip.path.points_m.T)
        inside = (s_m > 151.0) & (s_m < 164.0)
        np.testing.assert_allclose(d_m[inside], plan.streets[0].lane_offset_m(0) + expected, atol=0.02)
    assert moved.narrow.any()
    assert not plain.narrow.any()


@pytest.mark.parametrize('movement', [Movement.LEFT, Movement.RIGHT])
@pytest.mark.parametrize('before_turn_m', [8.0, 17.0])
def test_a_shift_is_over_where_a_turn_begins(movement, before_turn_m):
    """Its blend of 18 m would reach into the turn, and leave a step to the side there."""
    plan = drawn(0, movement)
    start = Start(Way(0, 1), EGO_START_S_M, 0)
    plain = travel(plan, start, always(movement), 150.0)
    entry = int(np.argmax(plain.street < 0))
    entry_m = plain.street_s_m[entry - 1]
    shift = Shift(0, 1, entry_m - before_turn_m - 10.0, entry_m - before_turn_m, 0.8)
    moved = travel(plan, start, always(movement), 150.0, 0.0, (shift,))
    assert np.abs(moved.path.curvature_per_m).max() < np.abs(plain.path.curvature_per_m).max() + 0.05
    across = []
    for trip in (plain, moved):
        s_m, d_m = plan.streets[0].centreline.project(*trip.path.points_m[trip.street == 0].T)
        across.append(np.interp(0.5 * (shift.first_m + shift.last_m), s_m, d_m))
    assert across[1] - across[0] == pytest.approx(0.8, abs=0.02)

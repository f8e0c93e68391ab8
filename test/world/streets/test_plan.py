import numpy as np
import pytest

from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.city import cities
from sparseoccvla_ros.world.streets.centreline import Centreline
from sparseoccvla_ros.world.streets.junction import Movement, Signal, Way
from sparseoccvla_ros.world.streets.layout import EGO_START_S_M, SHARPEST_BEND_M, Wishes, draw_plan
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import GROUND_LABELS, Ground, Street


def drawn(seed: int, movement: Movement = Movement.STRAIGHT, route_m: float = 300.0) -> Plan:
    rng = np.random.default_rng(seed)
    wishes = Wishes(70.0, (movement,), 150.0, route_m, red=True, speed_mps=9.0)
    return draw_plan(rng, cities()[seed % 3], wishes)[0]


def test_cross_section_worked_by_hand():
    line = Centreline(np.zeros(1001), (100.0, 200.0), 0.0)
    street = Street(line, 1, 3.5, 2.0, 1.5, 2.0, 3.0, crossings_s_m=(50.0,))
    plan = Plan((street,))
    # From the middle: island 1.0, lane to 4.5, cycle lane to 6.0, parking to 8.0, sidewalk to 11.0.
    d_m = np.array([0.0, 0.9, 1.1, 5.9, 6.1, 7.9, 8.1, 10.9, 11.1])
    kinds = [Ground.ISLAND] * 2 + [Ground.ASPHALT] * 2 + [Ground.PARKING] * 2 + [Ground.PAVEMENT] * 2 + [Ground.GRASS]
    for side in (1.0, -1.0):
        assert plan.ground_at(np.full(9, 120.0), 200.0 + side * d_m).tolist() == kinds
    # The island is open at the crossing, and the street ends where it ends.
    assert plan.ground_at(np.array([150.0, 99.0, 201.0]), np.full(3, 200.0)).tolist() == [
        Ground.ASPHALT,
        Ground.GRASS,
        Ground.GRASS,
    ]
    assert GROUND_LABELS[kinds].tolist() == [12, 12, 11, 11, 11, 11, 13, 13, 14]


@pytest.mark.parametrize('seed', range(6))
def test_ground_of_a_plan_is_that_of_its_streets_but_for_rounded_corners(seed):
    plan = drawn(seed)
    rng = np.random.default_rng(seed)
    centre = np.array(plan.junctions[0].centre_m)
    points = centre + rng.uniform(-60.0, 60.0, (30_000, 2))
    found = plan.ground_at(*points.T)
    single = [Plan((street,)).ground_at(*points.T) for street in plan.streets]
    is_road = np.any([np.isin(kind, [Ground.ASPHALT, Ground.PARKING]) for kind in single], axis=0)
    assert np.isin(found[is_road], [Ground.ASPHALT, Ground.PARKING]).all()
    extra = ~is_road & (found == Ground.ASPHALT)
    # Rounded corners lie close to the junction and only there.
    assert extra.any()
    assert np.linalg.norm(points[extra] - centre, axis=1).max() < 1.5 * (max(plan.junctions[0].kerb_m) + 5.0)
    lone = np.all([kind == Ground.GRASS for kind in single], axis=0)
    assert (found[lone & ~extra] == Ground.GRASS).all()


def test_asking_for_points_one_by_one_or_together_is_the_same():
    plan = drawn(1)
    points = np.array(plan.junctions[0].centre_m) + np.random.default_rng(0).uniform(-80.0, 80.0, (300, 2))
    together = plan.ground_at(*points.T)
    assert together.tolist() == [int(plan.ground_at(point[:1], point[1:])[0]) for point in points]


@pytest.mark.parametrize('movement', list(Movement))
@pytest.mark.parametrize('seed', range(6))
def test_movements_lead_where_they_say(seed, movement):
    plan = drawn(seed, movement)
    junction = plan.junctions[0]
    approach = Way(0, 1)
    out = junction.exit_of(approach, movement)
    turned = junction.heading_of(out) - junction.heading_of(approach)
    turned = (turned + np.pi) % (2.0 * np.pi) - np.pi
    assert turned == pytest.approx(
        {'straight on': 0.0, 'left': np.pi / 2, 'right': -np.pi / 2}[movement.value], abs=1e-6
    )
    # Both streets pass through the middle at the stated places, in the stated directions.
    for number, at_m, heading in zip(junction.streets, junction.at_s_m, junction.heading_rad, strict=True):
        x, y, direction = plan.streets[number].centreline.place(np.float64(at_m), np.float64(0.0))
        assert np.hypot(x - junction.centre_m[0], y - junction.centre_m[1]) < 1e-6
        assert abs(np.sin(direction - heading)) < 1e-9


@pytest.mark.parametrize('seed', range(8))
def test_streets_are_straight_at_junctions_bend_gently_and_have_positive_coordinates(seed):
    plan = drawn(seed, list(Movement)[seed % 3], 500.0)
    for street in plan.streets:
        line = street.centreline
        assert line.x_m.min() > 20.0
        assert line.y_m.min() > 20.0
        assert np.abs(line.curvature_per_m).max() <= 1.0 / SHARPEST_BEND_M * 1.01
        for first, last in street.junctions_s_m:
            assert not line.curvature_at(np.linspace(first - 12.0, last + 12.0, 50)).any()
    assert plan.streets[0].centreline.length_m > EGO_START_S_M


def test_a_signal_lets_one_approach_go_at_a_time_and_pedestrians_only_when_none_does():
    ways = (Way(0, 1), Way(0, -1), Way(1, 1), Way(1, -1))
    signal = Signal(ways, start_s=5.0)
    seen: dict[Way, set[Lamps]] = {way: set() for way in ways}
    walked = False
    last_go_s = dict.fromkeys(ways, -np.inf)
    for time_s in np.arange(0.0, 2.0 * signal.cycle_s, 0.1):
        lamps = {way: signal.lamp(way, time_s) for way in ways}
        going = [way for way, lamp in lamps.items() if lamp is not Lamps.RED]
        assert len(going) <= 1
        for way in going:
            # The others have been stopped long enough to have left.
            assert all(time_s - last_go_s[other] > signal.ALL_RED_S - 0.11 for other in ways if other != way)
            last_go_s[way] = time_s
        left_s = signal.walk_left_s(time_s)
        if left_s > 0.0:
            walked = True
            assert not going
            assert all(signal.lamp(way, time_s + left_s - 0.05) is Lamps.RED for way in ways)
        for way, lamp in lamps.items():
            seen[way].add(lamp)
    assert walked
    assert all(shown == {Lamps.RED, Lamps.AMBER, Lamps.GREEN} for shown in seen.values())
    assert signal.lamp(ways[0], 5.01) is Lamps.GREEN
    assert signal.lamp(ways[0], 4.99) is Lamps.RED

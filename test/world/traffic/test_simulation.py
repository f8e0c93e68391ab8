from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.labels.facts import Reason
from sparseoccvla_ros.world.streets.centreline import Centreline
from sparseoccvla_ros.world.streets.junction import Junction, Movement, Signal, Way
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import StopLine, Street
from sparseoccvla_ros.world.traffic.actors import Kerb, Vehicle, Walker
from sparseoccvla_ros.world.traffic.following import HARDEST_BRAKE_MPS2
from sparseoccvla_ros.world.traffic.path import Path
from sparseoccvla_ros.world.traffic.simulation import EgoPlace, Simulation
from sparseoccvla_ros.world.traffic.trip import GateKind, Start, travel

STREET = Street(Centreline(np.zeros(4001), (50.0, 50.0)), 1, 3.5, 0.0, 0.0, 0.0, 2.5)
ZEBRA = Plan((replace(STREET, crossings_s_m=(150.0,)),))


def straight(_junction, _way, _met) -> Movement:
    return Movement.STRAIGHT


def car(plan: Plan, s_m: float, speed: float = 8.0, cruise: float = 9.0, direction: int = 1) -> Vehicle:
    trip = travel(plan, Start(Way(0, direction), s_m, 0), straight, 300.0)
    return Vehicle(trip, 4.4, 1.8, 1.3, 0.0, speed, cruise)


def across(speed: float = 1.4, start_s: float = 0.0) -> Walker:
    """From the right kerb over the crossing at 150 m to the left."""
    y = np.arange(-5.2, 5.3, 0.4)
    path = Path.through(np.column_stack([np.full(len(y), 200.0), 50.0 + y]))
    return Walker(path, 0.3, 0.0, speed, (Kerb(1.2, 8.8, GateKind.ZEBRA, 0),), start_s)


def signalled(start_s: float) -> Plan:
    """A signal at 150 m whose only approach is ours: green for 8 s from ``start_s`` on."""
    street = replace(STREET, stop_lines=(StopLine(150.0, 1, 0),), junctions_s_m=((153.0, 170.0),))
    junction = Junction(
        streets=(0, 0),
        at_s_m=(160.0, 160.0),
        centre_m=(210.0, 50.0),
        heading_rad=(0.0, 0.0),
        kerb_m=(3.5, 3.5),
        setback_m=(8.0, 8.0),
        corner_m=3.0,
        ways_in=(Way(0, 1),),
        ways_out=(Way(0, 1),),
        signal=Signal((Way(0, 1),), start_s),
    )
    return Plan((street,), (junction,))


def test_a_follower_keeps_off_a_leader_that_slows_down_and_says_why():
    plan = Plan((STREET,))
    leader = replace(car(plan, 140.0), slow_from_s=3.0, slow_until_s=9.0, slow_mps=1.0)
    simulation = Simulation(plan, [car(plan, 110.0), leader], [])
    simulation.run(14.0)
    gaps = [
        30.0 + simulation.vehicle_at(1, t)[0] - simulation.vehicle_at(0, t)[0] - 4.4 for t in np.arange(0.0, 14.0, 0.1)
    ]
    assert min(gaps) > 1.0
    assert simulation.vehicle_at(0, 8.5)[1] < 5.5
    assert simulation.reason_at(0, 7.0) == (Reason.LEADER, 1)
    assert Lamps.BRAKE in simulation.lamps_at(1, 4.0)
    assert simulation.vehicle_at(0, 14.0)[1] > simulation.vehicle_at(0, 8.5)[1]


def test_it_stops_at_red_before_the_line_and_drives_on_at_green():
    plan = signalled(start_s=12.0)
    simulation = Simulation(plan, [car(plan, 90.0)], [])
    simulation.run(20.0)
    s_m, speed, _ = simulation.vehicle_at(0, 11.9)
    front_m = 90.0 + s_m + 1.3 + 2.2
    assert speed < 0.2
    assert 145.0 < front_m < 150.0
    assert simulation.reason_at(0, 11.5)[0] is Reason.RED_LIGHT
    assert Lamps.BRAKE in simulation.lamps_at(0, 11.9)
    assert 90.0 + simulation.vehicle_at(0, 20.0)[0] > 160.0
    through = Simulation(signalled(start_s=3.0), [car(plan, 90.0)], [])
    through.run(9.0)
    assert min(through.vehicle_at(0, t)[1] for t in np.arange(0.0, 9.0, 0.5)) > 7.0


def test_somebody_who_waits_at_a_crossing_is_let_over_it():
    simulation = Simulation(ZEBRA, [car(ZEBRA, 90.0)], [across(start_s=1.0)])
    simulation.run(16.0)
    assert simulation.walker_at(0, 16.0)[0] > 9.0
    for time_s in np.arange(0.0, 16.0, 0.1):
        s_m, _, _ = simulation.vehicle_at(0, time_s)
        y = simulation.walkers[0].path.at(simulation.walker_at(0, time_s)[0])[1] - 50.0
        # Never both on the crossing: the car's body between 148 and 152 m while somebody is in its lane.
        rear_m, front_m = 90.0 + s_m - 0.9, 90.0 + s_m + 3.5
        assert not (front_m > 149.5 and rear_m < 150.5 and -3.0 < y < -0.2)
    reasons = {simulation.reason_at(0, t)[0] for t in np.arange(0.0, 10.0, 0.2)}
    assert Reason.PEDESTRIAN in reasons
    assert simulation.vehicle_at(0, 16.0)[1] > 2.0


def test_nobody_steps_before_a_car_that_cannot_stop():
    fast = replace(car(ZEBRA, 128.0), speed_mps=11.0, cruise_mps=11.0)
    simulation = Simulation(ZEBRA, [fast], [replace(across(), s_m=1.0)])
    simulation.run(1.0)
    assert simulation.walker_at(0, 1.0)[0] < 1.6
    assert simulation.vehicle_at(0, 1.0)[1] > 8.0
    simulation.run(10.0)
    assert simulation.walker_at(0, 10.0)[0] > 5.0


def test_others_react_to_an_ego_that_is_driven_from_outside():
    plan = Plan((STREET,))
    simulation = Simulation(plan, [car(plan, 150.0), car(plan, 110.0)], [])
    for _ in range(150):
        # The ego stands in the lane at x = 200 m, whatever its own driver would have done.
        simulation.place_ego(EgoPlace(200.0, 50.0 - 1.75, 0.0, 0.0, 0.0))
        simulation.step()
    s_m, speed, _ = simulation.vehicle_at(1, simulation.time_s)
    assert speed < 0.1
    # Behind the ego's back end (0.9 m behind its rear axle).
    assert 50.0 + 110.0 + s_m + 3.5 < 200.0 - 0.9


def test_motion_between_steps_is_continuous_and_bounded():
    plan = signalled(start_s=12.0)
    simulation = Simulation(plan, [car(plan, 90.0)], [])
    simulation.run(18.0)
    times = np.arange(0.0, 18.0, 0.01)
    motion = np.array([simulation.vehicle_at(0, float(t)) for t in times])
    moved = np.diff(motion[:, 0])
    np.testing.assert_allclose(moved, 0.5 * (motion[1:, 1] + motion[:-1, 1]) * 0.01, atol=2e-5)
    assert np.diff(motion[:, 1]).min() / 0.01 > -HARDEST_BRAKE_MPS2 - 1e-6
    assert motion[:, 1].min() >= 0.0


def test_who_is_far_from_the_ego_stands_still_until_it_comes_near():
    plan = Plan((STREET,))
    simulation = Simulation(plan, [car(plan, 20.0), car(plan, 248.0, speed=0.0, cruise=6.0)], [])
    simulation.run(3.0)
    assert simulation.vehicle_at(1, 3.0) == (0.0, 0.0, 0.0)
    simulation.run(12.0)
    assert simulation.vehicle_at(1, 12.0)[1] > 1.0


@pytest.mark.parametrize('time_s', [0.0, 3.3])
def test_the_past_stays_as_it_was(time_s):
    plan = Plan((STREET,))
    simulation = Simulation(plan, [car(plan, 110.0), car(plan, 140.0, cruise=5.0)], [])
    simulation.run(4.0)
    before = [simulation.vehicle_at(number, time_s) for number in (0, 1)]
    simulation.run(9.0)
    assert [simulation.vehicle_at(number, time_s) for number in (0, 1)] == before

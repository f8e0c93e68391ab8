"""Plans as messages: every check of the gate with its value and limit, read back from bytes."""

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message

from sparseoccvla_ros.msg import PlannedTrajectory
from sparseoccvla_ros.nodes.conversions.planning import PlanContext, plan_message
from sparseoccvla_ros.planning.gate import SafetyGate
from sparseoccvla_ros.planning.trajectory import trajectory_from_waypoints
from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.runtime.planning import Candidate, Plan
from sparseoccvla_ros.runtime.scene import Command, OccupancyPoints

STAMP_NS = 1_532_402_927_612_460_000


def message_of(waypoints, speed_mps):
    car = OccupancyPoints(np.array([[12.0, 0.0, 1.0]], np.float32), np.array([4], np.uint8), np.ones(1, np.float32))
    report = SafetyGate(VehicleLimits()).check(waypoints, speed_mps, car, [(1.0, car)])
    trajectory = trajectory_from_waypoints(waypoints, speed_mps)
    candidate = Candidate(Command.LEFT, 3, 0.5, report.passed, report.reasons, trajectory, report.checks)
    plan = Plan(STAMP_NS, False, ('none',), candidates=(candidate,))
    context = PlanContext(STAMP_NS, 'odom', np.eye(4), Command.LEFT, 'topic', 0.0)
    return report, deserialize_message(serialize_message(plan_message(plan, context)), PlannedTrajectory)


def test_every_check_is_in_the_message_with_value_and_limit():
    report, message = message_of(np.stack([3.5 * np.arange(1, 7), np.zeros(6)], axis=1), 7.0)
    checks = message.candidates[0].checks
    assert [check.name for check in checks] == [check.name for check in report.checks]
    by_name = {check.name: check for check in checks}
    speed, struck = by_name['speed'], by_name['collision with the forecast occupancy']
    assert (speed.value, round(speed.limit, 3), speed.unit, speed.passed) == (7.0, 30.9, 'm/s', True)
    assert (struck.value, struck.limit, struck.unit, struck.passed) == (1.0, 0.0, 'voxels', False)
    assert {check.name for check in checks if not check.passed} == {
        check.name for check in report.checks if not check.passed
    }
    assert list(message.candidates[0].reasons) == list(report.reasons)


def test_values_that_no_float32_holds_stay_refusals():
    _, message = message_of(3e37 * np.stack([np.arange(1, 7), np.zeros(6)], axis=1), 7.0)
    jerk = next(check for check in message.candidates[0].checks if check.name == 'jerk')
    assert jerk.value == np.inf
    assert not jerk.passed

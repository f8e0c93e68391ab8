"""The mapping to Autoware, with stand-ins of its messages that have the published fields and no others.

Fields: autoware_planning_msgs 1.x, msg/Trajectory.msg and msg/TrajectoryPoint.msg.
"""

import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.nodes.conversions.autoware import autoware_message, autoware_trajectory_type
from sparseoccvla_ros.nodes.conversions.planning import PlanContext
from sparseoccvla_ros.planning.trajectory import remaining, trajectory_from_waypoints
from sparseoccvla_ros.runtime.planning import Plan
from sparseoccvla_ros.runtime.scene import Command

STAMP_NS = 1_532_402_927_612_460_000


@dataclass
class TrajectoryPoint:
    time_from_start: Any = None
    pose: Any = None
    longitudinal_velocity_mps: float = 0.0
    lateral_velocity_mps: float = 0.0
    acceleration_mps2: float = 0.0
    heading_rate_rps: float = 0.0
    front_wheel_angle_rad: float = 0.0
    rear_wheel_angle_rad: float = 0.0


@dataclass
class Trajectory:
    header: Any = None
    points: list = field(default_factory=list)


@pytest.fixture
def autoware(monkeypatch):
    package, messages = ModuleType('autoware_planning_msgs'), ModuleType('autoware_planning_msgs.msg')
    package.__spec__ = sys.__spec__  # find_spec wants one of a module that is loaded
    messages.Trajectory, messages.TrajectoryPoint = Trajectory, TrajectoryPoint
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, messages.__name__, messages)


def planned(trajectory):
    return Plan(STAMP_NS, trajectory is not None, (), trajectory=trajectory)


CONTEXT = PlanContext(STAMP_NS, 'odom', transform_from_planar(100.0, 50.0, np.pi / 2), Command.STRAIGHT, 'topic', 0.2)


def test_places_times_and_speeds_of_an_accelerating_plan(autoware):
    assert autoware_trajectory_type() is Trajectory
    times_s = np.arange(1, 7) * 0.5
    along_m = 4.0 * times_s + 0.5 * times_s**2
    plan = trajectory_from_waypoints(np.stack([along_m, np.zeros(6)], axis=1), 4.0)
    message = autoware_message(planned(remaining(plan, 0.2)), CONTEXT)
    assert (message.header.frame_id, message.header.stamp.sec) == ('odom', 1_532_402_927)
    at_s = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points]
    np.testing.assert_allclose(at_s, [0.2, *times_s])
    at_s = np.array(at_s)
    np.testing.assert_allclose([point.pose.position.x for point in message.points], 100.0, atol=1e-6)
    np.testing.assert_allclose(
        [point.pose.position.y for point in message.points], 50.0 + 4.0 * at_s + 0.5 * at_s**2, atol=1e-6
    )
    np.testing.assert_allclose([point.longitudinal_velocity_mps for point in message.points], 4.0 + at_s, atol=1e-5)
    np.testing.assert_allclose([point.acceleration_mps2 for point in message.points], 1.0, atol=1e-5)
    assert all(point.pose.orientation.z == pytest.approx(np.sqrt(0.5)) for point in message.points)


def test_heading_rate_turns_left_positive(autoware):
    turned = 0.3 * np.arange(1, 7) * 0.5
    plan = trajectory_from_waypoints(20.0 * np.stack([np.sin(turned), 1.0 - np.cos(turned)], axis=1), 6.0)
    rates = [point.heading_rate_rps for point in autoware_message(planned(plan), CONTEXT).points]
    np.testing.assert_allclose(rates, 0.3, atol=1e-6)


def test_a_plan_without_points_is_refused(autoware):
    with pytest.raises(ValueError, match='no trajectory'):
        autoware_message(planned(None), CONTEXT)


def test_without_the_package_there_is_no_type(monkeypatch):
    monkeypatch.setattr('sparseoccvla_ros.nodes.conversions.autoware.find_spec', lambda name: None)
    assert autoware_trajectory_type() is None

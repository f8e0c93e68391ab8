"""The planner node by itself: what odometry, command and scene must not be, and what is published then.

Callbacks are called as the executor calls them; worker, model, gate and messages are the car's own.
"""

import math
import queue

import numpy as np
import pytest
import torch
from nav_msgs.msg import Odometry
from rclpy.parameter import Parameter

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.msg import DrivingCommand, OccupancyQueries, PlannedTrajectory
from sparseoccvla_ros.nodes import planner as planner_module
from sparseoccvla_ros.nodes.conversions.basic import pose_from_matrix, time_from
from sparseoccvla_ros.nodes.conversions.occupancy import scene_from
from sparseoccvla_ros.nodes.handover import HandOver
from sparseoccvla_ros.runtime.scene import SceneReasoning

START_NS = 1_532_402_927_000_000_000
CONFIG = load_model_config('tiny')


class Car:
    """Hands the planner scenes, odometry and commands, and takes its trajectories."""

    def __init__(self, node):
        self.node = node
        self.published = queue.Queue()
        self.driven_m = 0.0

    def drive(self, speed_mps, x_m=None, twist_mps=0.0):
        """Half a second of odometry at 20 Hz, up to START_NS; ``x_m`` replaces the place in every message."""
        for k in range(-10, 1):
            message = Odometry(child_frame_id='base_link')
            message.header.frame_id, message.header.stamp = 'odom', time_from(START_NS + k * 50_000_000)
            message.pose.pose = pose_from_matrix(np.eye(4))
            message.pose.pose.position.x = 0.05 * k * speed_mps if x_m is None else x_m
            message.twist.twist.linear.x = twist_mps
            self.node._ego_motion._on_odometry(message)

    def plan(self, later_s=0.0, queries=300):
        """The trajectory of a scene of this age."""
        numbers = torch.Generator().manual_seed(0)
        message = OccupancyQueries(count=queries, dim=CONFIG.encoder.width, scores=[0.5] * queries)
        message.header.stamp = time_from(START_NS + round(1e9 * later_s))
        message.positions = torch.randn(3 * queries, generator=numbers).tolist()
        message.features = torch.randn(queries * CONFIG.encoder.width, generator=numbers).tolist()
        scene = scene_from(message, torch.device('cpu'))
        tokens = torch.randn(7, CONFIG.language.width, generator=numbers)
        self.node.handover.scene(scene)
        self.node.handover.reasoning(SceneReasoning(scene.stamp_ns, tokens, 0, 7))
        return self.published.get(timeout=20.0)


@pytest.fixture
def car(monkeypatch):
    def publish(publisher, build):
        message = build()
        if isinstance(message, PlannedTrajectory):
            car.published.put(message)

    monkeypatch.setattr(planner_module, 'publish_if_heard', publish)
    node = planner_module.PlannerNode(HandOver(), parameter_overrides=[Parameter('pose_timeout_s', value=0.0)])
    car = Car(node)
    assert node.start()
    yield car
    node.release()
    node.destroy_node()


def refused(trajectory, reason):
    assert not trajectory.valid
    assert (list(trajectory.points), trajectory.chosen, trajectory.is_stop) == ([], -1, False)
    assert reason in trajectory.reasons[0]


def test_with_all_that_is_needed_there_is_a_plan_whatever_the_twist_says(car):
    """The yardstick of the others. Motion is fitted to poses; the message's own speed is not read."""
    car.drive(8.0, twist_mps=math.nan)
    trajectory = car.plan()
    assert trajectory.valid
    assert trajectory.points[0].speed_mps == pytest.approx(8.0, abs=0.5)


def test_no_odometry_and_then_stale_odometry(car):
    refused(car.plan(), 'odometry missing')
    car.drive(8.0)
    assert car.plan(0.2).valid
    refused(car.plan(0.6), 'odometry too old: 0.60 s')


@pytest.mark.parametrize('broken', [math.nan, math.inf])
def test_odometry_that_is_no_number_is_none_and_counted(car, broken):
    car.drive(8.0, x_m=broken)
    refused(car.plan(), 'odometry missing')
    assert car.node.counters['odometry_not_finite'] == 11


def test_an_unknown_command_is_counted_and_the_last_known_one_stays(car):
    car.drive(5.0)
    commands = []
    for later_s, command in enumerate((None, 7, DrivingCommand.LEFT, 255)):
        if command is not None:
            car.node._on_command(DrivingCommand(command=command))
        trajectory = car.plan(0.05 * later_s)
        commands.append((trajectory.command, trajectory.command_source))
    left = (DrivingCommand.LEFT, 'topic')
    assert commands == [(DrivingCommand.STRAIGHT, 'default')] * 2 + [left] * 2
    assert car.node.counters['unknown_command'] == 2


def test_a_scene_without_queries(car):
    car.drive(8.0)
    refused(car.plan(queries=0), 'the scene has no occupancy queries')
    assert car.plan(0.1).valid


def test_no_candidate_that_the_car_could_drive(car):
    """At 38 m/s every anchor (15 m/s at most) asks for more than full braking."""
    car.drive(38.0)
    trajectory = car.plan()
    refused(trajectory, 'no candidate passes the safety gate')
    own = [c for c in trajectory.candidates if c.command == DrivingCommand.STRAIGHT]
    assert len(trajectory.reasons) == 1 + len(own) == 7
    assert not any(candidate.feasible for candidate in trajectory.candidates)
    assert all('deceleration at the start' in ' '.join(candidate.reasons) for candidate in own)

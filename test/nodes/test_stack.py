"""The composed process: what is handed over is the very object, and nothing is serialized for nobody."""

import time

import numpy as np
import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from sparseoccvla_ros.msg import OccupancyQueries
from sparseoccvla_ros.nodes import perception as perception_module
from sparseoccvla_ros.nodes import planner as planner_module
from sparseoccvla_ros.nodes.conversions.basic import stamp_ns_from
from sparseoccvla_ros.nodes.perception import PerceptionNode
from sparseoccvla_ros.nodes.planner import PlannerNode
from sparseoccvla_ros.nodes.reasoning import ReasoningNode


@pytest.fixture
def plan_inputs(monkeypatch):
    """Every PlannerInput that reaches the planning engine."""
    seen = []
    original = planner_module.PlanningEngine.plan

    def plan(self, planner_input):
        seen.append(planner_input)
        return original(self, planner_input)

    monkeypatch.setattr(planner_module.PlanningEngine, 'plan', plan)
    return seen


@pytest.fixture
def queries_built(monkeypatch):
    """Every OccupancyQueries message that the perception node builds."""
    built = []
    original = perception_module.queries_message

    def build(scene, frame_id):
        built.append(scene.stamp_ns)
        return original(scene, frame_id)

    monkeypatch.setattr(perception_module, 'queries_message', build)
    return built


def test_the_planner_gets_perceptions_own_tensors_and_no_message_is_built(start_stack, plan_inputs, queries_built):
    stack = start_stack(planner={'check_occupancy': 'always'})
    produced, reasoned = [], []
    stack.handover.scene_consumers.append(produced.append)
    stack.handover.reasoning_consumers.append(reasoned.append)
    stack.rig.calibrate()
    for number in range(3):
        stack.rig.run_cycle(number)
    assert len(plan_inputs) == len(produced) == len(reasoned) == 3
    for planner_input, scene, reasoning in zip(plan_inputs, produced, reasoned, strict=True):
        assert planner_input.features is scene.features
        assert planner_input.features.data_ptr() == scene.features.data_ptr()
        assert planner_input.positions_ego is scene.positions_ego
        assert planner_input.reasoning is reasoning.tokens
        assert planner_input.occupancy is scene.occupancy is not None
        assert planner_input.forecast is reasoning.forecast
        assert [horizon_s for horizon_s, _ in planner_input.forecast] == [1.0, 2.0, 3.0]
    assert queries_built == []
    # every check of the gate is in the diagnostics, with value and limit
    status = next(entry for entry in stack.nodes['planner'].status() if entry.name.endswith('trajectory'))
    told = {entry.key: entry.value for entry in status.values}
    assert told['gate speed'].endswith(' of 30.9 m/s')
    assert told['gate collision with the forecast occupancy'].endswith(' of 0 voxels')


@pytest.mark.parametrize('choice', ['trained', 'never'])
def test_noise_of_an_untrained_encoder_is_no_obstacle_and_this_is_told(start_stack, plan_inputs, choice):
    stack = start_stack(planner={'check_occupancy': choice})
    stack.rig.calibrate()
    for number in range(3):
        stack.rig.run_cycle(number)
    assert [planner_input.occupancy for planner_input in plan_inputs] == [None] * 3
    status = next(entry for entry in stack.nodes['planner'].status() if entry.name.endswith('trajectory'))
    told = {entry.key: entry.value for entry in status.values}
    assert told['occupancy'] == 'NOT checked'
    assert not any(key.startswith('gate collision') for key in told)


def test_queries_are_published_as_soon_as_somebody_outside_listens(start_stack, queries_built):
    stack = start_stack()
    received = []
    stack.rig.node.create_subscription(OccupancyQueries, 'occupancy_queries', received.append, 10)
    stack.rig.wait(lambda: stack.rig.node.count_publishers('occupancy_queries') == 1)
    stack.rig.calibrate()
    publisher = stack.nodes['perception']._queries
    stack.rig.wait(lambda: publisher.get_subscription_count() == 1)
    status, _ = stack.rig.run_cycle(0)
    stack.rig.wait(lambda: len(received) == 1)
    assert queries_built == [stamp_ns_from(received[0].header.stamp)] == [stamp_ns_from(status.header.stamp)]


def seconds(duration):
    return duration.sec + 1e-9 * duration.nanosec


def test_scenes_flow_with_memory_and_one_trajectory_each(start_stack):
    stack = start_stack()
    stack.rig.calibrate()
    runs = [stack.rig.run_cycle(number) for number in range(4)]
    assert [status.temporal for status, _ in runs] == [False, True, True, True]
    assert all(status.accepted and not status.degraded for status, _ in runs)
    for status, trajectory in runs:
        assert trajectory.header.frame_id == 'odom'
        assert trajectory.input_stamp == status.header.stamp
        assert trajectory.valid or trajectory.reasons
        assert set(status.stages) >= {'decode', 'backbone', 'encoder', 'perception'}
        assert set(trajectory.stages) >= {'prefill', 'planning_prompt', 'planner'}
    assert len(stack.rig.trajectories) == 4
    last = runs[-1][1]
    if last.valid:
        # 8 m/s along odom x since START_NS: the plan starts where the car is by the newest stamp, not by the image's
        start = last.points[0]
        assert seconds(start.time_from_start) == pytest.approx(last.input_age_s, abs=1e-4)
        np.testing.assert_allclose(start.pose.position.x, 8.0 * (1.5 + 0.008 + last.input_age_s), atol=0.1)
    assert [candidate.command for candidate in last.candidates] == [0] * 6 + [1] * 6 + [2] * 6
    assert last.chosen == -1 or last.candidates[last.chosen].command == last.command == 2


def test_an_inactive_stack_takes_nothing_in(start_stack, monkeypatch):
    seen = []
    original = PerceptionNode._on_image

    def on_image(self, camera, message):
        original(self, camera, message)
        seen.append(camera)

    monkeypatch.setattr(PerceptionNode, '_on_image', on_image)
    stack = start_stack(activate=False)
    stack.rig.calibrate()
    stack.rig.cycle(0)
    end_s = time.monotonic() + 10.0
    while len(seen) < 6 and time.monotonic() < end_s:
        time.sleep(0.01)
    assert len(seen) == 6, 'the images of the first cycle have come and gone'
    assert not stack.rig.statuses
    for node in stack.nodes.values():
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    stack.rig.calibrate()
    status, trajectory = stack.rig.run_cycle(1)
    assert status.accepted
    assert trajectory is not None
    assert len(stack.rig.statuses) == 1


def test_deactivated_cleaned_up_and_started_again_it_works_as_before(start_stack):
    stack = start_stack()
    stack.rig.calibrate()
    stack.rig.run_cycle(0)
    for name in ('perception', 'reasoning', 'planner'):
        node = stack.nodes[name]
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    for node in stack.nodes.values():
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    stack.rig.wait_until_heard()
    stack.rig.calibrate()
    status, trajectory = stack.rig.run_cycle(1)
    assert status.accepted
    assert trajectory is not None


def test_a_node_that_cannot_be_configured_leaves_nothing_behind(start_stack):
    rig = start_stack().rig
    node = PlannerNode(parameter_overrides=[Parameter('vehicle_config', value='/nowhere.yaml')], namespace='broken')
    try:
        for _ in range(2):
            assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert rig.node.count_publishers('/broken/trajectory') == 0
    finally:
        node.release()
        node.destroy_node()


@pytest.mark.parametrize('kind', [PerceptionNode, ReasoningNode, PlannerNode])
def test_a_node_refused_for_a_parameter_says_so_and_is_gone(kind):
    with pytest.raises(ValueError, match="pose_source is 'gps'; expected one of odometry, tf"):
        kind(parameter_overrides=[Parameter('pose_source', value='gps')])


def test_a_wrong_parameter_ends_the_process_with_the_value():
    from sparseoccvla_ros.nodes.perception import main

    rclpy.shutdown()
    try:
        assert main(['perception', '--ros-args', '-p', 'reference_camera:=CAM_TOP']) == 2
        assert main(['perception', '--ros-args', '-p', 'device:=cuda:7']) == 1
        assert main(['perception', '--ros-args', '-p', 'weights:=/nowhere']) == 1
    finally:
        rclpy.init()

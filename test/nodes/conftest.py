"""Real nodes over real DDS, in this process, one executor thread for the stack and one for the car."""

import threading
from dataclasses import dataclass

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rig import Rig

from sparseoccvla_ros.nodes.base import ManagedNode
from sparseoccvla_ros.nodes.handover import HandOver
from sparseoccvla_ros.nodes.stack import build_stack

#: Untrained, with thresholds that let its points through: what is tested here is no matter of weights. Time-outs are
#: generous for a loaded machine; a test that depends on one sets its own. The seed is one with which random weights say
#: something.
USUAL = {
    'perception': {
        'weights': '',
        'score_threshold': 0.05,
        'set_timeout_s': 5.0,
        'pose_timeout_s': 5.0,
        'calibration_timeout_s': 5.0,
    },
    'planner': {'weights': '', 'pose_timeout_s': 5.0, 'deadline_s': 60.0},
    'reasoning': {'weights': '', 'seed': 1, 'forecast_score_threshold': 0.05},
}


@dataclass
class Stack:
    """The composed stack with a car in front of it."""

    nodes: dict[str, ManagedNode]
    handover: HandOver
    rig: Rig


@pytest.fixture(scope='session', autouse=True)
def ros():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def start_stack(monkeypatch):
    """A function that starts the composed stack; ``perception={...}`` and so on override parameters."""
    cleanups = []

    def start(activate=True, **overrides):
        handover = HandOver()
        nodes = {node.get_name(): node for node in _build(handover, overrides, monkeypatch)}
        executor = SingleThreadedExecutor()
        for node in nodes.values():
            executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)

        def stop():
            executor.shutdown()
            if thread.is_alive():
                thread.join()
            for node in nodes.values():
                node.release()
                node.destroy_node()

        cleanups.append(stop)
        for node in nodes.values():
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            if activate:
                assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        thread.start()
        rig = Rig()
        cleanups.append(rig.close)
        rig.wait_until_heard()
        return Stack(nodes, handover, rig)

    yield start
    for cleanup in reversed(cleanups):
        cleanup()


def _build(handover, overrides, monkeypatch):
    """build_stack with parameter overrides by node name."""
    original = ManagedNode.__init__

    def with_overrides(self, name, kind, handover, **node_arguments):
        values = {**USUAL[name], **overrides.get(name, {})}
        parameters = [Parameter(key, value=value) for key, value in values.items()]
        original(self, name, kind, handover, parameter_overrides=parameters, **node_arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ManagedNode, '__init__', with_overrides)
        return build_stack(handover)

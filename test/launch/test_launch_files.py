"""Launch files: complete in their arguments, and (where launch_ros is installed) they start the nodes they list."""

import ast
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from lifecycle_msgs.msg import State  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402

from sparseoccvla_ros.nodes.parameters import PerceptionParameters, PlannerParameters, ReasoningParameters  # noqa: E402
from sparseoccvla_ros.srv import DescribeModel  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
NODES = ROOT / 'sparseoccvla_ros/nodes'
PARAMETERS = (PerceptionParameters, ReasoningParameters, PlannerParameters)

needs_launch_ros = pytest.mark.skipif(
    importlib.util.find_spec('launch_ros') is None,
    reason='launch_ros is not installed; docs/testing.md says how to run these tests without a ROS installation',
)


def constant(name: str) -> dict[str, str]:
    """A dictionary at the top of launch_common, which cannot be imported without launch_ros."""
    for node in ast.parse((NODES / 'launch_common.py').read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


def fixed_topics() -> set[str]:
    """Topics that the nodes name in their code (inputs with a parameter have none)."""
    makers = {'output', 'create_publisher', 'create_lifecycle_publisher', 'create_subscription'}
    topics = set()
    for name in ('base', 'perception', 'reasoning', 'planner'):
        for node in ast.walk(ast.parse((NODES / f'{name}.py').read_text())):
            is_maker = isinstance(node, ast.Call) and ast.unparse(node.func).split('.')[-1] in makers
            if is_maker and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                topics.add(node.args[1].value)
    return topics


def test_every_fixed_topic_can_be_renamed():
    assert set(constant('REMAPS')) == fixed_topics()


def test_arguments_that_set_parameters_are_parameters_and_cover_every_input_topic():
    names = {name for kind in PARAMETERS for name in kind.__dataclass_fields__}
    arguments = set(constant('PARAMETER_ARGUMENTS'))
    assert arguments <= names
    assert {name for name in names if name.endswith('_topic')} <= arguments


def test_no_two_arguments_share_a_name():
    topics = [f'{name.lstrip("/")}_topic' for name in constant('REMAPS')]
    assert not set(topics) & set(constant('PARAMETER_ARGUMENTS'))


def test_rviz_shows_topics_that_exist():
    displays = yaml.safe_load((ROOT / 'rviz/sparseoccvla.rviz').read_text())['Visualization Manager']['Displays']
    topics = {display['Topic']['Value'] for display in displays if 'Topic' in display}
    image = PerceptionParameters().image_topic.format(camera='CAM_FRONT')
    assert topics == {'occupancy', 'occupancy_grid', 'path', 'markers', image}


RUNNER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

path, *arguments = sys.argv[1:]
source = PythonLaunchDescriptionSource(path)
include = IncludeLaunchDescription(source, launch_arguments=[tuple(a.split(':=', 1)) for a in arguments])
service = LaunchService()
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


@contextmanager
def launched(file: str, folder: Path, *arguments: str) -> Iterator[Path]:
    """Run a launch file as `ros2 launch` does; yields its log. Interrupts it at the end and checks a clean exit."""
    log = folder / 'launch.log'
    prefixes = [sys.prefix, os.environ.get('AMENT_PREFIX_PATH', '')]
    environment = {
        **os.environ,
        'AMENT_PREFIX_PATH': os.pathsep.join(filter(None, prefixes)),
        'PATH': f'{folder}{os.pathsep}{os.environ["PATH"]}',
        'ROS_LOG_DIR': str(folder / 'ros'),
    }
    command = [sys.executable, '-c', RUNNER, str(ROOT / 'launch' / file), *arguments]
    with log.open('w') as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield log
        finally:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert code == 0, log.read_text()


class Client:
    """A node that calls services of the launched nodes, in a context of its own."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._context = rclpy.Context()
        self._context.init()
        self._node = rclpy.create_node('launch_test', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def call(self, kind: type, name: str, timeout_s: float = 60.0):
        """Response of one service call with an empty request."""
        client = self._node.create_client(kind, name)
        assert client.wait_for_service(timeout_s), f'no service {name}\n{self._log.read_text()}'
        future = client.call_async(kind.Request())
        self._executor.spin_until_future_complete(future, timeout_s)
        assert future.done(), f'{name} did not answer\n{self._log.read_text()}'
        return future.result()

    def wait_until_active(self, node: str, timeout_s: float = 60.0) -> None:
        """Poll a node's lifecycle state."""
        deadline_s = time.monotonic() + timeout_s
        while self.call(GetState, f'{node}/get_state').current_state.id != State.PRIMARY_STATE_ACTIVE:
            assert time.monotonic() < deadline_s, f'{node} is not active\n{self._log.read_text()}'
            time.sleep(0.1)

    def topics(self) -> set[str]:
        """Names on the graph."""
        return {name for name, _ in self._node.get_topic_names_and_types()}

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


def check_stack(log: Path, namespace: str) -> set[str]:
    """All three nodes are active and the model describes itself; the topics on the graph."""
    client = Client(log)
    try:
        for node in ('perception', 'reasoning', 'planner'):
            client.wait_until_active(f'{namespace}/{node}')
        description = client.call(DescribeModel, f'{namespace}/describe')
        assert (description.name, description.device) == ('tiny', 'cpu')
        return client.topics()
    finally:
        client.close()


@needs_launch_ros
@pytest.mark.parametrize(('file', 'processes'), [('stack.launch.py', 1), ('separate.launch.py', 3)])
def test_launch_file_starts_its_nodes(tmp_path, file, processes):
    renamed = ('odometry_topic:=/odometry', 'image_topic:=/{camera}/image', 'trajectory_topic:=plan')
    with launched(file, tmp_path, 'namespace:=car', *renamed) as log:
        topics = check_stack(log, '/car')
    assert {'/odometry', '/CAM_FRONT/image', '/car/plan', '/car/occupancy'} <= topics
    assert not {'/odom', '/car/trajectory'} & topics
    assert log.read_text().count('process has finished cleanly') == processes


@needs_launch_ros
def test_replay_launch_file_starts_the_stack_and_plays_the_bag(tmp_path):
    # `ros2 bag` needs a ROS installation: a stand-in writes down how it was called
    called = tmp_path / 'called'
    player = tmp_path / 'ros2'
    player.write_text(f'#!/bin/sh\necho "$@" > {called}\n')
    player.chmod(0o755)
    with launched('replay.launch.py', tmp_path, 'bag:=/path/to/bag', 'rate:=2.0', 'delay_s:=1.5') as log:
        check_stack(log, '')
    options = '--clock 100 --rate 2.0 --delay 1.5 --disable-keyboard-controls'
    assert called.read_text() == f'bag play /path/to/bag {options}\n'
    assert log.read_text().count('process has finished cleanly') == 2

"""The simulator over real DDS: with a planner of the test's own, with the stack, and alone in a process."""

import contextlib
import dataclasses
import functools
import json
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import rclpy
import yaml
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage
from tf2_msgs.msg import TFMessage

from sparseoccvla_ros.data.nuscenes import CAMERAS
from sparseoccvla_ros.geometry import interpolate, inverse
from sparseoccvla_ros.msg import DrivingCommand, PlannedTrajectory, TrajectoryPoint
from sparseoccvla_ros.nodes import simulator
from sparseoccvla_ros.nodes.conversions.basic import (
    duration_from,
    header_from,
    matrix_from_transform,
    odom_from_ego_of,
    pose_from_matrix,
    stamp_ns_from,
)
from sparseoccvla_ros.nodes.qos import LATCHED
from sparseoccvla_ros.nodes.simulator import SimulatorNode
from sparseoccvla_ros.nodes.simulator_parameters import SimulatorParameters
from sparseoccvla_ros.nodes.stack import build_stack
from sparseoccvla_ros.nodes.static_transforms import StaticTransforms
from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.world.drawing.render import Renderer
from sparseoccvla_ros.world.rig import load_rig
from sparseoccvla_ros.world.scene import build_scene

EVERY = QoSProfile(depth=5000)
QUICK = {
    'seed': 3,
    'scene': 3,
    'duration_s': 3.0,
    'image_width_px': 160,
    'image_height_px': 80,
    'real_time_factor': 0.0,
}


@pytest.fixture(scope='module')
def build():
    """The scene of all these tests is built once; every drive through it is its own."""
    cached = functools.cache(build_scene)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator, 'build_scene', cached)
        yield


@pytest.fixture
def start(build):
    """A function that starts a simulator (and other nodes) on a thread and returns it."""
    cleanups = []

    def start(others=(), activate=True, **overrides):
        values = {**QUICK, **overrides}
        node = SimulatorNode(parameter_overrides=[Parameter(name, value=value) for name, value in values.items()])
        executor = SingleThreadedExecutor()
        nodes = [node, *others]
        for item in nodes:
            executor.add_node(item)
            assert item.trigger_configure() == TransitionCallbackReturn.SUCCESS
            if activate:
                assert item.trigger_activate() == TransitionCallbackReturn.SUCCESS
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()

        def stop():
            executor.shutdown()
            thread.join()
            for item in nodes:
                item.release()
                item.destroy_node()

        cleanups.append(stop)
        return node

    yield start
    for stop in reversed(cleanups):
        stop()


class Listener:
    """Hears everything, and plans straight on at ``speed_mps`` with a bend to the left for each CAM_FRONT image."""

    def __init__(self, speed_mps=None, curvature_1pm=0.0):
        self.node = rclpy.create_node('listener')
        self.clock, self.odometry, self.tf, self.static, self.commands = [], [], [], [], []
        self.images, self.infos = {name: [] for name in CAMERAS}, {name: [] for name in CAMERAS}
        self.log = []
        self._speed_mps, self._curvature_1pm = speed_mps, curvature_1pm
        subscribe = self.node.create_subscription
        subscribe(Clock, '/clock', self.clock.append, EVERY)
        subscribe(Odometry, '/odom', self.odometry.append, EVERY)
        subscribe(TFMessage, '/tf', self.tf.append, EVERY)
        subscribe(TFMessage, '/tf_static', self.static.append, LATCHED)
        subscribe(DrivingCommand, 'driving_command', self.commands.append, LATCHED)
        for name in CAMERAS:
            subscribe(CompressedImage, f'/{name}/image_rect/compressed', self._on_image(name), EVERY)
            subscribe(CameraInfo, f'/{name}/camera_info', self.infos[name].append, EVERY)
        self.trajectory = self.node.create_publisher(PlannedTrajectory, 'trajectory', EVERY)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def close(self):
        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()

    def _on_image(self, name):
        def keep(message):
            self.images[name].append(message)
            if name == CAMERAS[-1] and self._speed_mps is not None:
                self.trajectory.publish(self.plan(stamp_ns_from(message.header.stamp), self._speed_mps))

        return keep

    def plan(self, stamp_ns, speed_mps):
        """From where odometry says the car is."""
        known = [m for m in self.odometry if stamp_ns_from(m.header.stamp) <= stamp_ns]
        odom_from_ego = odom_from_ego_of(known[-1]) if known else np.eye(4)
        message = PlannedTrajectory(header=header_from(stamp_ns, 'odom'), valid=True)
        for number in range(7):
            turned = 0.5 * number * speed_mps * self._curvature_1pm
            along = 0.5 * number * speed_mps
            half = 0.5 * turned
            point = np.eye(4)
            point[:2, :2] = [[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]]
            chord = along * np.sinc(half / np.pi)
            point[:2, 3] = chord * np.cos(half), chord * np.sin(half)
            message.points.append(
                TrajectoryPoint(
                    time_from_start=duration_from(0.5 * number),
                    pose=pose_from_matrix(odom_from_ego @ point),
                    speed_mps=speed_mps,
                )
            )
        return message


@pytest.fixture
def listener():
    made = []

    def make(**arguments):
        made.append(Listener(**arguments))
        return made[-1]

    yield make
    for item in made:
        item.close()


def wait_for(condition, timeout_s=60.0):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def is_over(node):
    return node._phase.startswith('over')


def test_the_loop_closes_and_all_messages_agree(start, listener, tmp_path):
    heard = listener(speed_mps=5.0, curvature_1pm=0.02)
    # What is compared to the images is drawn without a lens.
    node = start(summary_file=str(tmp_path / 'summary.json'), lens=False)
    wait_for(lambda: is_over(node))
    wait_for(lambda: len(heard.images['CAM_FRONT']) == 7 and len(heard.tf) == len(heard.odometry) > 170)
    assert node.counters == {}
    # Time.
    clock = [stamp_ns_from(message.clock) for message in heard.clock]
    assert (np.diff(clock) > 0).all()
    assert clock[-1] - clock[0] == pytest.approx(3.5e9, abs=5e7)
    # TF and odometry.
    stamps = [stamp_ns_from(message.header.stamp) for message in heard.odometry]
    assert (np.diff(stamps) > 0).all()
    for message, moving in zip(heard.odometry, heard.tf, strict=True):
        (transform,) = moving.transforms
        assert (transform.header, transform.child_frame_id) == (message.header, 'base_link')
        np.testing.assert_allclose(matrix_from_transform(transform.transform), odom_from_ego_of(message), atol=1e-12)
    poses = np.stack([odom_from_ego_of(message) for message in heard.odometry])
    speed = np.array([message.twist.twist.linear.x for message in heard.odometry])
    moved = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) / (np.diff(stamps) * 1e-9)
    assert np.abs(moved - 0.5 * (speed[1:] + speed[:-1])).max() < 0.01
    # The car did as it was told: to the speed of the plans, and round their bend.
    assert speed[stamps.index(clock[-1])] == pytest.approx(5.0, abs=0.1)
    assert heard.odometry[-1].twist.twist.angular.z == pytest.approx(5.0 * 0.02, abs=0.02)
    at_start = stamps.index(node._messages.stamp_ns(0.0))
    np.testing.assert_allclose(poses[at_start], np.eye(4), atol=1e-9)
    # Cameras.
    static = StaticTransforms()
    static.add(heard.static[0])
    assert [command.command for command in heard.commands] == [DrivingCommand.STRAIGHT]
    for name in CAMERAS:
        headers = [message.header for message in heard.images[name]]
        assert headers == [info.header for info in heard.infos[name]]
        assert static.lookup('base_link', headers[0].frame_id) is not None
    cycles = np.array([[stamp_ns_from(m.header.stamp) for m in heard.images[name]] for name in CAMERAS])
    rig = load_rig(share_path('config/rig/nuscenes.yaml'), 160, 80, vehicle=0, seed=3)
    offsets_s = {item.camera.name: item.trigger_offset_s for item in rig.cameras}
    for name, stamps_of in zip(CAMERAS, cycles, strict=True):
        due = [node._messages.stamp_ns(0.5 * number + offsets_s[name]) for number in range(7)]
        assert np.abs(stamps_of - due).max() < 10
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['ended'] == 'time over'
    assert summary['distance_m'] == pytest.approx(
        np.trapezoid(speed[at_start:], np.array(stamps[at_start:]) * 1e-9), abs=0.05
    )
    check_images(node, rig, heard, static, stamps, poses)


def check_images(node, rig, heard, static, stamps, poses):
    """TF and camera_info alone say from where each image has been drawn: drawn again from there, it is the same."""
    renderer, seen, nearer = Renderer(node._loop.scene), 0, 0
    for name in CAMERAS:
        for message, info in zip(heard.images[name], heard.infos[name], strict=True):
            stamp_ns = stamp_ns_from(message.header.stamp)
            image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
            assert image.shape == (info.height, info.width, 3) == (80, 160, 3)
            after = int(np.searchsorted(stamps, stamp_ns))
            share = (stamp_ns - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
            odom_from_ego = interpolate(poses[after - 1], poses[after], share)
            map_from_camera = (
                static.lookup('map', 'odom') @ odom_from_ego @ static.lookup('base_link', message.header.frame_id)
            )
            time_s = (stamp_ns - node._messages.stamp_ns(0.0)) * 1e-9
            camera = next(item.camera for item in rig.cameras if item.camera.name == name)
            np.testing.assert_allclose(np.array(info.k).reshape(3, 3), camera.intrinsics_px)
            world_from_camera = node._loop.scene.world_from_ego(time_s) @ camera.ego_from_camera
            np.testing.assert_allclose(map_from_camera, world_from_camera, atol=2e-3)
            drawn = renderer.render(camera, map_from_camera @ inverse(camera.ego_from_camera), time_s).rgb
            ahead = map_from_camera @ inverse(camera.ego_from_camera)
            ahead[:2, 3] += 0.5 * ahead[:2, 0]
            wrong = renderer.render(camera, ahead, time_s).rgb
            error, wrong_error = (np.abs(rgb[..., ::-1].astype(float) - image).mean() for rgb in (drawn, wrong))
            assert error < 8.0
            nearer += bool(error < 0.7 * wrong_error)
            seen += 1
    assert seen == 42
    assert nearer > 38


def test_without_trajectories_the_car_stops_and_bad_ones_are_counted(start, listener):
    heard = listener()
    node = start(start_when_heard=False, lockstep_timeout_s=0.3, duration_s=5.0, activate=False)
    wait_for(lambda: all(publisher.get_subscription_count() for publisher in node._images.values()))
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    wait_for(lambda: heard.odometry)
    for change in (
        lambda m: setattr(m, 'valid', False),
        lambda m: setattr(m.header, 'frame_id', 'map'),
        lambda m: m.points.clear(),
        lambda m: setattr(m.points[3].pose.position, 'x', float('nan')),
        lambda m: setattr(m.header.stamp, 'sec', m.header.stamp.sec + 100),
    ):
        bad = heard.plan(node._messages.stamp_ns(0.0), 5.0)
        change(bad)
        node._on_trajectory(bad)
    wait_for(lambda: is_over(node))
    wait_for(lambda: heard.odometry[-1].header.stamp == header_from(node._messages.stamp_ns(5.0), 'odom').stamp)
    assert heard.odometry[-1].twist.twist.linear.x == 0.0
    assert node._loop.summary().stale_s == pytest.approx(5.0)
    assert node._loop.summary().brake_mps2 == pytest.approx(3.0)
    counters = node.counters
    assert counters.pop('trajectory_malformed') == 2
    assert counters == {
        'trajectory_invalid': 1,
        'trajectory_wrong_frame': 1,
        'trajectory_of_another_time': 1,
        # A trajectory of the future counts as an answer to all cycles before it.
        **({'no_trajectory': counters['no_trajectory']} if 'no_trajectory' in counters else {}),
    }


def test_the_stack_drives(start):
    node = start(others=build_stack(), duration_s=2.0, image_width_px=352, image_height_px=128, end_at_collision=False)
    wait_for(lambda: is_over(node), 120.0)
    assert node.counters.get('no_trajectory', 0) <= 1, 'the first cycle may meet a stack that does not hear it yet'
    assert node._plan is not None
    assert node._loop.summary().stale_s < 1.0
    assert node._loop.summary().driven_s == 2.0


def test_an_inactive_simulator_stands_still_and_goes_on(start, listener):
    heard = listener(speed_mps=5.0)
    node = start(real_time_factor=1.0, duration_s=3.0, camera_hz=0.5)
    wait_for(lambda: node._loop.time_s > 0.5)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    time.sleep(0.3)
    stood_s, heard_before = node._loop.time_s, len(heard.odometry)
    time.sleep(0.5)
    assert node._loop.time_s == stood_s
    assert len(heard.odometry) == heard_before
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    wait_for(lambda: is_over(node))
    assert node._loop.time_s == 3.0


def test_at_the_end_of_the_drive_the_node_ends_what_runs_it(build, tmp_path):
    summary = tmp_path / 'summary.json'
    values = {**QUICK, 'lockstep_timeout_s': 0.1, 'start_when_heard': False, 'summary_file': str(summary)}
    values |= {'duration_s': 1.0, 'image_width_px': 64, 'image_height_px': 32, 'exit_at_end': True}
    # What run_nodes does, with an rclpy of its own instead of a process.
    context = Context()
    rclpy.init(context=context)
    parameters = [Parameter(name, value=value) for name, value in values.items()]
    node = SimulatorNode(parameter_overrides=parameters, context=context)
    executor = SingleThreadedExecutor(context=context)
    try:
        executor.add_node(node)
        assert node.start()
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()
        assert not context.ok()
        assert json.loads(summary.read_text())['counters'] == {'no_trajectory': 3}
    finally:
        node.release()
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


def test_a_process_ends_cleanly_by_a_signal_in_the_middle_of_a_drive(tmp_path):
    pairs = ['duration_s:=1.0', 'image_width_px:=64', 'image_height_px:=32', 'start_when_heard:=false']
    options = [word for pair in [*pairs, 'real_time_factor:=0.001'] for word in ('-p', pair)]
    command = [sys.executable, '-m', 'sparseoccvla_ros.nodes.simulator', '--ros-args', *options]
    log = tmp_path / 'log'
    with log.open('w') as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: 'active' in log.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()


def test_the_executors_thread_does_without_the_world(start, listener):
    node = start(activate=False)
    wanted = listener().plan(node._messages.stamp_ns(0.0), 5.0)
    # As long as nobody has activated it, the world's thread needs no world either.
    node._loop = None
    (status,) = node.status()
    values = {item.key: item.value for item in status.values}
    assert values['time_s'] == '0.0'
    assert float(values['speed_mps']) > 1.0
    assert node._plan_of(wanted).stamp_s == pytest.approx(0.0, abs=1e-6)
    assert node._plan_of(Listener.plan(listener(), node._messages.stamp_ns(0.5), 5.0)) is None
    assert node.counters == {'trajectory_of_another_time': 1}


def test_impossible_parameters_are_refused_with_their_values():
    with pytest.raises(ValueError, match='image_height_px is 200; expected at most 198, 9/16 of image_width_px'):
        SimulatorNode(parameter_overrides=[Parameter('image_height_px', value=200)])
    node = SimulatorNode(parameter_overrides=[Parameter('city', value='atlantis')])
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert node.count_publishers('/odom') == 0
    finally:
        node.release()
        node.destroy_node()


def test_yaml_page_and_declarations_agree(project_root):
    values = yaml.safe_load((project_root / 'config/simulator.yaml').read_text())['/**/simulator']['ros__parameters']
    assert values.pop('use_sim_time') is False
    assert values == dataclasses.asdict(SimulatorParameters())
    page = (project_root / 'docs/nodes/simulator.md').read_text()
    for spec in dataclasses.fields(SimulatorParameters):
        assert f'| `{spec.name}` | `{json.dumps(spec.default)}` |' in page
        assert spec.metadata['description'] in page

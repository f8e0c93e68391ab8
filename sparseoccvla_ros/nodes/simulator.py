"""Node ``simulator``: the synthetic street world as a car. Cameras, odometry, TF and clock out, trajectories in."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from sparseoccvla_ros.data.topics import load_preset
from sparseoccvla_ros.msg import DrivingCommand, PlannedTrajectory
from sparseoccvla_ros.nodes.bag_player import IMAGE_PACE_S
from sparseoccvla_ros.nodes.base import ManagedNode, run_nodes
from sparseoccvla_ros.nodes.conversions.basic import header_from, stamp_ns_from, time_from
from sparseoccvla_ros.nodes.qos import LATCHED, RESULT, images, motion
from sparseoccvla_ros.nodes.simulator_messages import SimulatorMessages
from sparseoccvla_ros.nodes.simulator_parameters import SimulatorParameters
from sparseoccvla_ros.planning.vehicle import load_vehicle_limits
from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.runtime.scene import Command
from sparseoccvla_ros.world.drawing.lens import Lens
from sparseoccvla_ros.world.driving.closed_loop import ClosedLoop
from sparseoccvla_ros.world.driving.driven_scene import RECORD_STEP_S
from sparseoccvla_ros.world.driving.observation import CameraShot, Observer
from sparseoccvla_ros.world.driving.tracking import DrivePlan
from sparseoccvla_ros.world.files.names import FIRST_SCENE_US, SCENE_SPACING_US
from sparseoccvla_ros.world.rig import load_rig
from sparseoccvla_ros.world.scene import build_scene

#: Odometry before time 0, so that the first plan knows how the car has been moving.
PRE_ROLL_S = 0.5
#: Between the last match of publishers and readers and the first message: the other side learns of it later.
SETTLE_S = 0.5
WAIT_S = 0.02
#: A world that is later than this does not try to catch up.
MAX_LAG_S = 0.5


class SimulatorNode(ManagedNode):
    """One drive through one scene, on a thread of its own that starts with the first activation.

    From then on the thread alone touches the world. The executor's thread leaves the newest plan for it, under
    ``_arrived``, and reads of the world only ``_now``, which is replaced as a whole.
    """

    parameters: SimulatorParameters

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__('simulator', SimulatorParameters, None, **node_arguments)
        self._arrived = threading.Condition()
        self._plan: DrivePlan | None = None
        self._answered_ns = 0
        #: Time of the world and the ego's speed, s and m/s, after the last step.
        self._now = (0.0, 0.0)
        self._subscription: Subscription | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._phase = 'not begun'
        self._factor = 0.0
        self._command_told: Command | None = None
        #: Steady time at which the world's time 0 is due; the first message sets it.
        self._zero_s: float | None = None
        self._told_ns = 0

    def configure(self) -> None:
        """Build the scene, the cameras, outputs and the input."""
        wanted = self.parameters
        preset = load_preset(wanted.topics)
        limits = load_vehicle_limits(wanted.vehicle_config)
        path = share_path('config/rig/nuscenes.yaml')
        rig = load_rig(path, wanted.image_width_px, wanted.image_height_px, wanted.car, wanted.seed)
        stage = build_scene(wanted.seed, wanted.scene, wanted.duration_s, wanted.city or None).stage
        self._loop = ClosedLoop(stage, limits, wanted.max_plan_age_s, wanted.end_at_collision)
        self._observer = Observer(self._loop.scene, rig, Lens() if wanted.lens else None, (wanted.seed, wanted.scene))
        self._first_shot_s = min(item.trigger_offset_s for item in rig.cameras)
        start_ns = (FIRST_SCENE_US + wanted.scene * SCENE_SPACING_US) * 1000
        self._messages = SimulatorMessages(self._loop.scene, rig, preset, start_ns)
        self._odom_frame, self._base_frame = preset.odom_frame, preset.base_frame
        image_kind = CompressedImage if preset.image_type == 'compressed' else Image
        names = [item.camera.name for item in rig.cameras]
        self._images = {name: self._output(image_kind, preset.image_topic(name), images('reliable')) for name in names}
        self._infos = {
            name: self._output(CameraInfo, preset.camera_info_topic(name), images('reliable')) for name in names
        }
        self._odometry = self._output(Odometry, preset.odometry, motion('reliable'))
        self._tf = self._output(TFMessage, preset.tf, motion('reliable'))
        self._tf_static = self._output(TFMessage, preset.tf_static, LATCHED)
        self._clock_output = self._output(Clock, '/clock', RESULT)
        self._command = self._output(DrivingCommand, 'driving_command', LATCHED)
        self._subscription = self.create_subscription(PlannedTrajectory, 'trajectory', self._on_trajectory, RESULT)
        self._plan, self._answered_ns, self._command_told = None, 0, None
        self._now = (0.0, self._loop.scene.state.speed_mps)
        self._phase = 'not begun'
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name='simulator', daemon=True)
        self._thread.start()
        self.get_logger().info(f'scene {stage.name} of seed {wanted.seed}: {stage.street}, {stage.manoeuvre.value}')

    def release(self) -> None:
        """Stop the world, then listening and talking."""
        self.active = False
        self._stopping.set()
        with self._arrived:
            self._arrived.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        self.destroy_outputs()
        self._thread = self._subscription = None

    def forget(self) -> None:
        """Nothing: this is where time comes from."""

    def status(self) -> list[DiagnosticStatus]:
        """The drive, and whether plans come."""
        time_s, speed_mps = self._now
        values = {
            'phase': self._phase,
            'time_s': f'{time_s:.1f}',
            'duration_s': self.parameters.duration_s,
            'speed_mps': f'{speed_mps:.2f}',
            'real_time_factor': f'{self._factor:.2f}',
            **self.counters,
        }
        problem = self.silence('trajectory', 'trajectory') if self._phase == 'driving' else ''
        return [self.diagnostic('drive', problem, values)]

    # ------------------------------------------------------------------ input

    def _on_trajectory(self, message: PlannedTrajectory) -> None:
        if not self.active:
            return
        self.heard('trajectory')
        plan = self._plan_of(message)
        with self._arrived:
            self._answered_ns = max(self._answered_ns, stamp_ns_from(message.header.stamp))
            if plan is not None and (self._plan is None or plan.stamp_s >= self._plan.stamp_s):
                self._plan = plan
            self._arrived.notify_all()

    def _plan_of(self, message: PlannedTrajectory) -> DrivePlan | None:
        """The message's plan; None, and counted, if it cannot be followed."""
        if not (message.valid or message.is_stop):
            self.count('trajectory_invalid', '; '.join(message.reasons))
            return None
        if message.header.frame_id != self._odom_frame:
            self.count('trajectory_wrong_frame', f'{message.header.frame_id}, expected {self._odom_frame}')
            return None
        try:
            plan = self._messages.plan(message)
        except ValueError as error:
            self.count('trajectory_malformed', str(error))
            return None
        now_s, _ = self._now
        if not self._first_shot_s <= plan.stamp_s <= now_s + 1e-6:
            self.count('trajectory_of_another_time', f'{plan.stamp_s:.3f} s, now {now_s} s')
            return None
        return plan

    # ------------------------------------------------------------------ the world's thread

    def _run(self) -> None:
        try:
            self._drive()
        except Exception:  # noqa: BLE001 - nobody waits for this thread: what ends it must be told here
            self._phase = 'failed'
            self.count('internal_error')
            self.get_logger().fatal(f'the drive failed:\n{traceback.format_exc()}')
        if self.parameters.exit_at_end and not self._stopping.is_set():
            self.context.try_shutdown()

    def _drive(self) -> None:
        if not self._wait_until_heard():
            return
        loop = self._loop
        self._phase, begun_s = 'driving', time.monotonic()
        self._zero_s, self._told_ns = None, 0
        self._send(self._tf_static, self._messages.static_transforms(-PRE_ROLL_S))
        published_s, paused_s = -PRE_ROLL_S, 0.0
        while not self._stopping.is_set():
            self._tell_command()
            self._publish(published_s, loop.time_s)
            published_s = loop.time_s
            if loop.ended is not None:
                break
            paused_s += self._wait_while_inactive()
            with self._arrived:
                plan = self._plan
            loop.step(plan)
            self._now = (loop.time_s, loop.scene.state.speed_mps)
            self._factor = loop.time_s / max(time.monotonic() - begun_s - paused_s, 1e-9)
        self._finish()

    def _publish(self, after_s: float, until_s: float) -> None:
        """Everything that happens in (after, until], each at its time: odometry, and images that are complete by then.

        Images are drawn before they are due: the world has moved ahead of its clock by a step.
        """
        cycles_s = _multiples(1.0 / self.parameters.camera_hz, after_s, until_s)
        if after_s < 0.0:
            cycles_s = [0.0]
        odometry_s = {round(time_s, 9) for time_s in _multiples(RECORD_STEP_S, after_s, until_s) + cycles_s}
        shots = [shot for cycle_s in cycles_s for shot in self._observer.observe(cycle_s).shots]
        due: list[tuple[float, CameraShot | None]] = [(time_s, None) for time_s in odometry_s]
        due += [(shot.time_s, shot) for shot in shots]
        # What is due at the same time as an image comes before it.
        for time_s, shot in sorted(due, key=lambda item: (item[0], item[1] is not None)):
            self._wait_until(time_s)
            if self._stopping.is_set():
                return
            self._tell_time(time_s)
            if shot is None:
                odometry, transform = self._messages.odometry(time_s)
                self._send(self._odometry, odometry)
                self._send(self._tf, transform)
            else:
                info, image = self._messages.camera(shot)
                self._send(self._infos[shot.camera.name], info)
                self._send(self._images[shot.camera.name], image)
                time.sleep(IMAGE_PACE_S)
        if shots and self.parameters.real_time_factor == 0.0:
            self._wait_for_answer(self._messages.stamp_ns(cycles_s[-1] + self._first_shot_s))

    def _wait_until(self, time_s: float) -> None:
        """Sleep until a time of the world is due; a world that is late stays late."""
        factor = self.parameters.real_time_factor
        if factor == 0.0:
            return
        if self._zero_s is None:
            self._zero_s = time.monotonic() - time_s / factor
        early_s = self._zero_s + time_s / factor - time.monotonic()
        if early_s > 0.0:
            self._stopping.wait(early_s)
        elif early_s < -MAX_LAG_S:
            self._zero_s -= early_s
            self.count('slower_than_asked', f'{-early_s:.2f} s late at {time_s:.1f} s')

    def _wait_for_answer(self, stamp_ns: int) -> None:
        """Wait for a trajectory of this stamp or later, valid or not."""
        with self._arrived:
            came = self._arrived.wait_for(
                lambda: self._answered_ns >= stamp_ns or self._stopping.is_set(), self.parameters.lockstep_timeout_s
            )
        if not came:
            self.count('no_trajectory', f'nothing for {stamp_ns} ns in {self.parameters.lockstep_timeout_s} s')

    def _wait_until_heard(self) -> bool:
        """Wait for activation and, if asked to, for the other side; False if the node goes before."""
        self._phase = 'waiting for readers of the cameras and a publisher of trajectories'
        while not self._stopping.wait(WAIT_S):
            heard = all(publisher.get_subscription_count() for publisher in [*self._images.values(), self._odometry])
            heard = heard and self._subscription_count() > 0
            if self.active and (heard or not self.parameters.start_when_heard):
                return not self._stopping.wait(SETTLE_S)
        return False

    def _subscription_count(self) -> int:
        """Publishers of trajectories that are known."""
        return 0 if self._subscription is None else self._subscription.get_publisher_count()

    def _wait_while_inactive(self) -> float:
        """The world stands while the node is not active; returns for how long, seconds."""
        begun_s = time.monotonic()
        while not self.active and not self._stopping.wait(WAIT_S):
            pass
        waited_s = time.monotonic() - begun_s
        if self._zero_s is not None:
            self._zero_s += waited_s
        return waited_s

    def _finish(self) -> None:
        summary = dataclasses.asdict(self._loop.summary())
        if self._loop.ended is not None:
            self._phase = f'over: {self._loop.ended.value}'
        if self.parameters.summary_file:
            path = Path(self.parameters.summary_file)
            unfinished = path.with_name(f'{path.name}.unfinished')
            unfinished.write_text(json.dumps({**summary, 'counters': self.counters}, indent=2) + '\n', encoding='utf-8')
            unfinished.replace(path)
        self.get_logger().info(f'the drive is over: {json.dumps(summary)}')

    # ------------------------------------------------------------------ output

    def _output(self, kind: type, topic: str, qos: QoSProfile) -> Publisher:
        publisher = self.create_lifecycle_publisher(kind, topic, qos)
        self._outputs.append(publisher)
        return publisher

    def _send(self, publisher: Publisher, message: Any) -> None:
        if not self.active:
            return
        try:
            publisher.publish(message)
        except RuntimeError:
            # rclpy's signal handler invalidates the context while this thread finishes what it has begun
            if self.context.ok():
                raise
            self._stopping.set()

    def _tell_time(self, time_s: float) -> None:
        """/clock never goes back: images that were taken a little earlier do not turn it."""
        stamp_ns = self._messages.stamp_ns(time_s)
        if stamp_ns > self._told_ns:
            self._told_ns = stamp_ns
            self._send(self._clock_output, Clock(clock=time_from(stamp_ns)))

    def _tell_command(self) -> None:
        """The route's command, when it changes."""
        command = Command[self._loop.scene.command_at(self._loop.time_s).name]
        if command != self._command_told:
            self._command_told = command
            header = header_from(self._messages.stamp_ns(self._loop.time_s), self._base_frame)
            self._send(self._command, DrivingCommand(header=header, command=int(command)))


def _multiples(step_s: float, after_s: float, until_s: float) -> list[float]:
    """Multiples of a step in (after, until]."""
    first, last = math.floor((after_s + 1e-9) / step_s) + 1, math.floor((until_s + 1e-9) / step_s)
    return [number * step_s for number in range(first, last + 1)]


def main(args: list[str] | None = None) -> int:
    """Run the node alone in a process."""
    return run_nodes(lambda: [SimulatorNode()], args)


if __name__ == '__main__':
    sys.exit(main())

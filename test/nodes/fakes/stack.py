"""A stand-in for the stack's process in the replay's tests: three lifecycle nodes, no model.

For every camera set it publishes a SceneStatus and a PlannedTrajectory, and it answers questions. Faults are asked for
on the command line: ``--refuse 2`` refuses the third set, ``--mute 2`` accepts it but never plans, ``--die 2`` exits
with code 3 when it is complete, ``--stubborn`` ignores SIGINT. Faults of answers are asked for by the question:
'refuse'; 'never' gets no answer; of a stream also 'late' (accepted after a second), 'overtaken' (its last pieces never
come) and 'gap' (one in its middle does not).
"""

import argparse
import os
import signal
import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage

from sparseoccvla_ros.action import StreamAnswer
from sparseoccvla_ros.msg import PlannedTrajectory, SceneStatus
from sparseoccvla_ros.nodes.base import PUBLISHERS, SUBSCRIBERS
from sparseoccvla_ros.nodes.recorder import OUTPUTS
from sparseoccvla_ros.srv import AskScene, DescribeModel

CAMERAS = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT', 'CAM_BACK', 'CAM_BACK_LEFT')
WORDS = ('a ', 'car ', '<b>ahead</b> ', '& ', 'more')


def say(text: str) -> None:
    """To the process's log, at once."""
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()


class FakeStack:
    """Groups images by half seconds of stamp."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.images: dict[int, dict[str, CompressedImage]] = {}
        self.newest = None
        self.nodes = {name: LifecycleNode(name) for name in arguments.nodes}
        if 'perception' in self.nodes:
            node = self.nodes['perception']
            self.readers = [
                node.create_subscription(
                    CompressedImage,
                    f'{arguments.prefix}/{camera}/image_rect/compressed',
                    lambda m, c=camera: self.on_image(c, m),
                    qos_profile_sensor_data,
                )
                for camera in CAMERAS
            ]
            self.status = node.create_publisher(SceneStatus, 'scene_status', 10)
            self.trajectory = node.create_publisher(PlannedTrajectory, 'trajectory', 10)
            self.diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
            # outputs that it never sends, so that the recorder finds them
            for topic in OUTPUTS.keys() - {'/scene_status', '/trajectory', '/diagnostics'}:
                node.create_publisher(OUTPUTS[topic], topic, 10)
            node.create_timer(0.1, self.tell_matches, clock=Clock(clock_type=ClockType.STEADY_TIME))
            # nothing in this stand-in may need the other processes: perception answers for all
            node.create_service(AskScene, 'ask', self.on_ask)
            node.create_service(DescribeModel, 'describe', self.on_describe)
            self.action = ActionServer(
                node,
                StreamAnswer,
                'stream_answer',
                self.on_stream,
                goal_callback=self.on_goal,
                cancel_callback=lambda _: CancelResponse.ACCEPT,
                callback_group=ReentrantCallbackGroup(),
            )

    def tell_matches(self) -> None:
        """Of its images and its two outputs as they are; the outputs it never sends count as heard."""
        counts = dict.fromkeys(OUTPUTS, 3)
        for publisher in (self.status, self.trajectory):
            counts[publisher.topic_name] = publisher.get_subscription_count()
        known = {reader.topic_name: reader.get_publisher_count() for reader in self.readers}
        statuses = [
            DiagnosticStatus(
                level=DiagnosticStatus.OK,
                name=name,
                values=[KeyValue(key=topic, value=str(count)) for topic, count in values.items()],
            )
            for name, values in (
                (f'perception: {SUBSCRIBERS}', counts),
                (f'perception: {PUBLISHERS}', known),
                (f'reasoning: {PUBLISHERS}', {}),
                (f'planner: {PUBLISHERS}', {}),
            )
        ]
        self.diagnostics.publish(DiagnosticArray(status=statuses))

    def on_image(self, camera: str, message: CompressedImage) -> None:
        stamp = message.header.stamp
        cycle = self.images.setdefault((stamp.sec * 1000 + stamp.nanosec // 1_000_000) // 500, {})
        cycle[camera] = message
        if len(cycle) == len(CAMERAS):
            self.on_set(len(self.images) - 1, cycle['CAM_FRONT'].header.stamp)

    def on_set(self, number: int, stamp) -> None:
        if number == self.arguments.die:
            say('the fake stack dies as told')
            os._exit(3)
        accepted = number != self.arguments.refuse
        status = SceneStatus(accepted=accepted, reason='' if accepted else 'told to', cameras_used=list(CAMERAS))
        status.header.stamp = stamp
        status.stages, status.stage_ms = ['decode'], [12.0]
        status.drop_reasons, status.drop_counts = ['told_to'], [int(not accepted)]
        self.status.publish(status)
        if not accepted or number == self.arguments.mute:
            return
        self.newest = stamp
        plan = PlannedTrajectory(valid=number % 2 == 0, reasons=[] if number % 2 == 0 else ['limits: odd set'])
        plan.header.stamp = plan.input_stamp = stamp
        plan.chosen, plan.command, plan.command_source = -1, 2, 'default'
        plan.stages, plan.stage_ms = ['planner'], [2.0]
        self.trajectory.publish(plan)

    async def on_ask(self, request: AskScene.Request, response: AskScene.Response) -> AskScene.Response:
        if request.question == 'never':
            say('asked')
            await Future()
        if request.question == 'refuse':
            response.message = 'the fake refuses'
            return response
        if self.newest is not None:
            response.scene_stamp = self.newest
        response.success, response.answer = True, f'{"".join(WORDS)} of {request.question}'
        response.prompt_tokens, response.generated_tokens = 20, 5
        response.first_token_ms, response.total_ms = 4.25, 9.5
        return response

    def on_goal(self, goal: StreamAnswer.Goal) -> GoalResponse:
        if goal.question == 'late':
            say('asked late')
            time.sleep(1.0)
        return GoalResponse.ACCEPT

    async def on_stream(self, handle) -> StreamAnswer.Result:
        result = StreamAnswer.Result()
        question = handle.request.question
        if question == 'never':
            say('asked to stream')
            await Future()
        lost = {'overtaken': (3, 4, 5), 'gap': (2,)}.get(question, ())
        for count, word in enumerate(WORDS * (100 if question in ('long', 'late') else 1), 1):
            if handle.is_cancel_requested:
                handle.canceled()
                say('cancelled')
                return result
            if count not in lost:
                handle.publish_feedback(StreamAnswer.Feedback(text=word, generated_tokens=count))
            result.answer += word
            result.generated_tokens = count
            time.sleep(0.02)
        handle.succeed()
        result.success = True
        return result

    def on_describe(self, _: DescribeModel.Request, response: DescribeModel.Response) -> DescribeModel.Response:
        response.name, response.weights, response.device, response.precision = (
            'fake',
            'untrained (seed 0)',
            'cpu',
            'fp32',
        )
        return response


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument('--nodes', nargs='+', default=['perception', 'reasoning', 'planner'])
    parser.add_argument('--prefix', default='')
    for fault in ('refuse', 'mute', 'die'):
        parser.add_argument(f'--{fault}', type=int, default=-1)
    parser.add_argument('--stubborn', action='store_true')
    arguments = parser.parse_args()
    if arguments.stubborn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say('ready')
        while True:
            time.sleep(1.0)
    rclpy.init()
    stack = FakeStack(arguments)
    executor = MultiThreadedExecutor(4)
    for node in stack.nodes.values():
        executor.add_node(node)
        node.trigger_configure()
        node.trigger_activate()
    say('ready')
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown()
        for node in stack.nodes.values():
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""A process that streams an answer of so many tokens; prints 'begun' at the first piece and waits to be killed."""

import sys

import rclpy
from rclpy.action import ActionClient

from sparseoccvla_ros.action import StreamAnswer

TIMEOUT_S = 60.0


def main(max_tokens):
    rclpy.init()
    node = rclpy.create_node('stream_client')
    client = ActionClient(node, StreamAnswer, 'stream_answer')
    assert client.wait_for_server(TIMEOUT_S)
    begun = []

    def on_feedback(message):
        if not begun:
            sys.stdout.write('begun\n')
            sys.stdout.flush()
        begun.append(message)

    client.send_goal_async(StreamAnswer.Goal(question='Describe the scene.', max_tokens=max_tokens), on_feedback)
    rclpy.spin(node)


if __name__ == '__main__':
    main(int(sys.argv[1]))

"""A process that asks: NUMBER QUESTIONS IN_FLIGHT. Prints 'ready', waits for a line, asks, prints its answers as JSON.

Each answer is [success, message, text]; one that does not come within a minute is missing.
"""

import json
import sys
import threading

import rclpy

from sparseoccvla_ros.nodes.qos import REQUESTS
from sparseoccvla_ros.srv import AskScene

TIMEOUT_S = 60.0


def say(line):
    sys.stdout.write(f'{line}\n')
    sys.stdout.flush()


def main(number, questions, in_flight):
    rclpy.init()
    node = rclpy.create_node(f'client_{number}')
    client = node.create_client(AskScene, 'ask', qos_profile=REQUESTS)
    assert client.wait_for_service(TIMEOUT_S)
    threading.Thread(target=rclpy.spin, args=(node,), daemon=True).start()
    say('ready')
    sys.stdin.readline()
    answers = []
    free, all_here = threading.Semaphore(in_flight), threading.Semaphore(0)

    def keep(future):
        answer = future.result()
        answers.append([answer.success, answer.message, answer.answer])
        free.release()
        all_here.release()

    for index in range(questions):
        free.acquire(timeout=TIMEOUT_S)
        request = AskScene.Request(question=f'How many cars does client {number} see, number {index}?', max_tokens=6)
        client.call_async(request).add_done_callback(keep)
    for _ in range(questions):
        all_here.acquire(timeout=TIMEOUT_S)
    say(json.dumps(answers))
    rclpy.try_shutdown()


if __name__ == '__main__':
    main(*(int(argument) for argument in sys.argv[1:]))

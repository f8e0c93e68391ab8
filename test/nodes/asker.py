"""Somebody who asks the stack: clients of its services and its action, every call with a time limit."""

import threading

from sparseoccvla_ros.action import StreamAnswer
from sparseoccvla_ros.nodes.qos import ACTION_SERVICES, FEEDBACK, REQUESTS
from sparseoccvla_ros.srv import AskScene, DescribeModel, SetAdapter

TIMEOUT_S = 20.0


class Asker:
    """Clients on the rig's node; every call waits for its answer."""

    def __init__(self, rig):
        self.rig = rig
        self.ask_client = rig.node.create_client(AskScene, 'ask', qos_profile=REQUESTS)
        self.describe_client = rig.node.create_client(DescribeModel, 'describe')
        self.adapter_client = rig.node.create_client(SetAdapter, 'set_adapter')
        self.action_client = rig.action_client(
            StreamAnswer, 'stream_answer', feedback_sub_qos_profile=FEEDBACK, **ACTION_SERVICES
        )
        for client in (self.ask_client, self.describe_client, self.adapter_client):
            assert client.wait_for_service(TIMEOUT_S)
        assert self.action_client.wait_for_server(TIMEOUT_S)

    def result(self, future):
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(TIMEOUT_S), 'no answer'
        return future.result()

    def stream(self, question, on_feedback=lambda feedback: None, **fields):
        """The goal's handle, once it is accepted."""
        goal = StreamAnswer.Goal(question=question, **fields)
        return self.result(self.action_client.send_goal_async(goal, lambda message: on_feedback(message.feedback)))

    def ask_later(self, question, **fields):
        return self.ask_client.call_async(AskScene.Request(question=question, **fields))

    def ask(self, question, **fields):
        return self.result(self.ask_later(question, **fields))

    def set_adapter_later(self, name):
        return self.adapter_client.call_async(SetAdapter.Request(name=name))

    def set_adapter(self, name):
        return self.result(self.set_adapter_later(name))

    def describe(self):
        return self.result(self.describe_client.call_async(DescribeModel.Request()))


def asker_of(stack):
    """Somebody to ask a stack that has seen two scenes."""
    stack.rig.calibrate()
    for number in range(2):
        stack.rig.run_cycle(number)
    return Asker(stack.rig)

"""What `ros2 service call` and `ros2 action send_goal` send: every command of docs/nodes/reasoning.md, on a stack.

ros2cli is not on PyPI. Where rosidl_runtime_py is installed its own code fills the messages from YAML, else
:func:`set_message_fields` below, which does the same for fields as simple as ours.
"""

import importlib
import re
import shlex

import pytest
import yaml
from action_msgs.msg import GoalStatus
from asker import asker_of
from rig import START_NS, seconds

from sparseoccvla_ros.nodes.conversions.basic import time_from

try:
    from rosidl_runtime_py import set_message_fields
except ImportError:

    def set_message_fields(message, values):
        for name, value in values.items():
            field = getattr(message, name)
            try:
                value = value if type(value) is type(field) else type(field)(value)
            except TypeError:  # a message in a message
                set_message_fields(field, value)
                value = field
            setattr(message, name, value)


COMMAND = re.compile(r'^ros2 (?:service call|action send_goal).*$', re.MULTILINE)


@pytest.fixture
def commands(project_root):
    """Words of the documented commands, options left out."""
    text = (project_root / 'docs/nodes/reasoning.md').read_text(encoding='utf-8')
    return [
        [word for word in shlex.split(line, comments=True) if not word.startswith('--')]
        for line in COMMAND.findall(text)
    ]


@pytest.fixture
def asked(start_stack):
    return asker_of(start_stack())


def kind_of(name):
    package, folder, kind = name.split('/')
    return getattr(importlib.import_module(f'{package}.{folder}'), kind)


def call(asked, service, kind, text='{}'):
    """As `ros2 service call`: a client of the default quality of service."""
    kind = kind_of(kind)
    request = kind.Request()
    set_message_fields(request, yaml.safe_load(text))
    client = asked.rig.node.create_client(kind, service)
    assert client.wait_for_service(5.0)
    return asked.result(client.call_async(request))


def test_every_documented_command_gets_its_answer(asked, commands):
    called = []
    for _, what, _, name, kind, *values in commands:
        del what
        called.append(name)
        if '/action/' in kind:
            goal = kind_of(kind).Goal()
            set_message_fields(goal, yaml.safe_load(values[0]))
            client = asked.rig.action_client(kind_of(kind), name)
            assert client.wait_for_server(5.0)
            wrapped = asked.result(asked.result(client.send_goal_async(goal)).get_result_async())
            assert wrapped.status == GoalStatus.STATUS_SUCCEEDED
            continue
        response = call(asked, name, kind, *values)
        if name == '/ask':
            assert response.success, response.message
        if name == '/describe':
            assert response.name == 'tiny'
        if name == '/set_adapter':  # none is installed here
            assert response.success == (not yaml.safe_load(values[0])['name'])
    assert called.count('/ask') >= 3
    assert {'/ask', '/stream_answer', '/describe', '/set_adapter'} == set(called)


def test_a_question_alone_is_enough(asked):
    """Zeros of all other fields are the defaults: the newest scene, greedy, the node's number of tokens, no turns."""
    answers = [call(asked, '/ask', 'sparseoccvla_ros/srv/AskScene', '{question: "What is ahead?"}') for _ in range(2)]
    assert answers[0].success, answers[0].message
    assert answers[0].answer == answers[1].answer
    assert answers[0].prompt_tokens == answers[1].prompt_tokens
    assert answers[0].scene_stamp == asked.rig.trajectories[-1].input_stamp
    assert 0 < answers[0].generated_tokens <= 128
    assert answers[0].answer == asked.ask('What is ahead?', max_tokens=128).answer


def test_values_that_yaml_reads_as_other_types(asked):
    """An integer temperature, a number as the conversation's id, a stamp as a mapping."""
    values = '{question: "What is ahead?", temperature: 1, seed: 3, max_tokens: 5, conversation_id: 7, stamp: {%s}}'
    stamp = time_from(START_NS + seconds(0.008))
    text = values % f'sec: {stamp.sec}, nanosec: {stamp.nanosec}'
    answer = call(asked, '/ask', 'sparseoccvla_ros/srv/AskScene', text)
    assert answer.success, answer.message
    assert (answer.scene_stamp, answer.generated_tokens) == (stamp, 5)
    direct = asked.ask('What is ahead?', temperature=1.0, seed=3, max_tokens=5, stamp=stamp)
    assert answer.answer == direct.answer
    assert asked.ask('And now?', conversation_id='7').prompt_tokens > asked.ask('And now?').prompt_tokens

"""Questions over the service and the action, as a client outside sends them."""

import threading
import time

import pytest
import torch
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Time
from peft import LoraConfig, get_peft_model
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn

from sparseoccvla_ros.action import StreamAnswer
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import new_llm
from sparseoccvla_ros.nodes.conversions.basic import stamp_ns_from, time_from
from sparseoccvla_ros.nodes.qos import REQUESTS
from sparseoccvla_ros.srv import AskScene, DescribeModel, SetAdapter

TIMEOUT_S = 20.0


class Asker:
    """Clients on the rig's node; every call waits for its answer."""

    def __init__(self, rig):
        self.rig = rig
        self.ask_client = rig.node.create_client(AskScene, 'ask', qos_profile=REQUESTS)
        self.describe_client = rig.node.create_client(DescribeModel, 'describe')
        self.adapter_client = rig.node.create_client(SetAdapter, 'set_adapter')
        self.action_client = ActionClient(rig.node, StreamAnswer, 'stream_answer')
        for client in (self.ask_client, self.describe_client, self.adapter_client):
            assert client.wait_for_service(TIMEOUT_S)
        assert self.action_client.wait_for_server(TIMEOUT_S)

    def result(self, future):
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(TIMEOUT_S), 'no answer'
        return future.result()

    def ask_later(self, question, **fields):
        return self.ask_client.call_async(AskScene.Request(question=question, **fields))

    def ask(self, question, **fields):
        return self.result(self.ask_later(question, **fields))

    def set_adapter(self, name):
        return self.result(self.adapter_client.call_async(SetAdapter.Request(name=name)))

    def describe(self):
        return self.result(self.describe_client.call_async(DescribeModel.Request()))


def asker_of(stack):
    """Somebody to ask a stack that has seen two scenes."""
    stack.rig.calibrate()
    for number in range(2):
        stack.rig.run_cycle(number)
    return Asker(stack.rig)


@pytest.fixture
def asked(start_stack):
    return asker_of(start_stack())


def test_an_answer_names_its_scene_and_counts_its_tokens(asked):
    answer = asked.ask('How many cars are ahead?', max_tokens=12)
    assert answer.success, answer.message
    assert answer.answer.strip()
    newest = asked.rig.trajectories[-1].input_stamp
    assert answer.scene_stamp == newest
    # the newest stamp of any input is odometry's, 50 ms into the cycle; the scene's is CAM_FRONT's, 8 ms into it
    assert answer.scene_age_s == pytest.approx(0.042, abs=1e-3)
    assert 0 < answer.generated_tokens <= 12
    assert 300 < answer.cached_tokens < answer.prompt_tokens
    assert 0.0 < answer.first_token_ms <= answer.total_ms


def test_the_same_question_gets_the_same_answer(asked):
    first, second = (asked.ask('What is on the left?', max_tokens=8) for _ in range(2))
    assert first.answer == second.answer
    sampled = [asked.ask('What is on the left?', max_tokens=8, temperature=1.0, seed=3).answer for _ in range(2)]
    assert sampled[0] == sampled[1]


def test_a_past_scene_stays_askable_and_one_that_was_never_seen_is_refused(asked):
    past = asked.rig.trajectories[0].input_stamp
    answer = asked.ask('Is the road free?', max_tokens=4, stamp=past)
    assert answer.success, answer.message
    assert answer.scene_stamp == past
    assert answer.scene_age_s == pytest.approx(0.542, abs=1e-3)
    refused = asked.ask('Is the road free?', stamp=Time(sec=5))
    assert not refused.success
    assert 'not kept' in refused.message


@pytest.mark.parametrize(
    ('question', 'reason'),
    [('', 'empty'), ('  \n', 'empty'), ('x' * 3000, 'too long'), ('what is \ufffd?', 'U+FFFD')],
    ids=['empty', 'blank', 'too long', 'damaged'],
)
def test_a_bad_question_is_refused_with_the_reason(asked, question, reason):
    answer = asked.ask(question)
    assert not answer.success
    assert reason in answer.message
    assert answer.answer == ''


def test_a_question_before_any_scene_is_refused(start_stack):
    asker = Asker(start_stack().rig)
    answer = asker.ask('Is the road free?')
    assert not answer.success
    assert 'no scene' in answer.message


def test_many_questions_at_once_are_answered_or_told_busy(start_stack):
    asked = asker_of(start_stack(reasoning={'max_waiting_questions': 2, 'max_running_answers': 1}))
    futures = [asked.ask_later('Describe the scene.', max_tokens=100) for _ in range(30)]
    answers = [asked.result(future) for future in futures]
    busy = [answer for answer in answers if not answer.success]
    assert busy
    assert all('busy' in answer.message and answer.total_ms < 1000.0 for answer in busy)
    assert sum(answer.success for answer in answers) >= 3
    assert asked.ask('And now?', max_tokens=4).success


def test_a_streamed_answer_is_the_service_answer_piece_by_piece(asked):
    whole = asked.ask('Describe the scene.', max_tokens=10)
    pieces = []
    goal = StreamAnswer.Goal(question='Describe the scene.', max_tokens=10)
    handle = asked.result(asked.action_client.send_goal_async(goal, lambda message: pieces.append(message.feedback)))
    wrapped = asked.result(handle.get_result_async())
    assert wrapped.status == GoalStatus.STATUS_SUCCEEDED
    assert wrapped.result.answer == whole.answer
    asked.rig.wait(lambda: True)
    assert ''.join(piece.text for piece in pieces).strip() == whole.answer.strip()
    assert [piece.generated_tokens for piece in pieces] == sorted(piece.generated_tokens for piece in pieces)


def test_a_stream_is_whole_and_in_order_however_busy_the_executor_is(start_stack):
    stack = start_stack()
    asked = asker_of(stack)
    busy = stack.nodes['planner'].create_steady_timer(0.1, lambda: time.sleep(0.15))
    pieces = []
    goal = StreamAnswer.Goal(question='Describe the scene.', max_tokens=30)
    handle = asked.result(asked.action_client.send_goal_async(goal, lambda message: pieces.append(message.feedback)))
    wrapped = asked.result(handle.get_result_async())
    stack.nodes['planner'].destroy_timer(busy)
    assert wrapped.status == GoalStatus.STATUS_SUCCEEDED
    assert ''.join(piece.text for piece in pieces).strip() == wrapped.result.answer.strip()
    assert [piece.generated_tokens for piece in pieces] == sorted(piece.generated_tokens for piece in pieces)


def test_an_answer_on_its_way_is_told_when_the_node_is_cleaned_up(start_stack):
    stack = start_stack()
    asked = asker_of(stack)
    future = asked.ask_later('Describe the scene.', max_tokens=500)
    begun = threading.Event()
    goal = StreamAnswer.Goal(question='Describe the scene.', max_tokens=500)
    handle = asked.result(asked.action_client.send_goal_async(goal, lambda message: begun.set()))
    assert begun.wait(TIMEOUT_S)
    node = stack.nodes['reasoning']
    assert node.trigger_deactivate() == node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert asked.result(future).message == 'stopped'
    assert asked.result(handle.get_result_async()).status == GoalStatus.STATUS_ABORTED
    assert asked.ask('And now?').message == 'the node is not active'
    assert asked.describe().name == ''
    assert node.start()
    stack.rig.run_cycle(2)
    assert asked.ask('And now?', max_tokens=4).success


def test_a_cancelled_stream_stops(asked):
    begun = threading.Event()
    goal = StreamAnswer.Goal(question='Describe the scene.', max_tokens=500)
    handle = asked.result(asked.action_client.send_goal_async(goal, lambda message: begun.set()))
    assert begun.wait(TIMEOUT_S)
    asked.result(handle.cancel_goal_async())
    wrapped = asked.result(handle.get_result_async())
    assert wrapped.status == GoalStatus.STATUS_CANCELED
    assert not wrapped.result.success
    assert 'cancel' in wrapped.result.message
    assert wrapped.result.generated_tokens < 500


def test_a_refused_stream_is_aborted_with_the_reason(asked):
    handle = asked.result(asked.action_client.send_goal_async(StreamAnswer.Goal(question=' ')))
    wrapped = asked.result(handle.get_result_async())
    assert wrapped.status == GoalStatus.STATUS_ABORTED
    assert 'empty' in wrapped.result.message


def test_describe_says_what_runs(asked):
    told = asked.describe()
    assert (told.name, told.weights, told.device, told.precision) == ('tiny', 'untrained (seed 0)', 'cpu', 'fp32')
    assert told.context_length > told.scene_prefix_tokens > 300
    stamps = [stamp_ns_from(message.input_stamp) for message in asked.rig.trajectories]
    assert [stamp_ns_from(stamp) for stamp in told.kept_scenes] == stamps
    assert time_from(stamps[0]) == told.kept_scenes[0]


def test_an_adapter_is_set_and_taken_off_by_name(start_stack, tmp_path):
    torch.manual_seed(3)
    lora = LoraConfig(r=4, target_modules=['q_proj', 'v_proj', 'down_proj'], task_type='CAUSAL_LM')
    adapted = get_peft_model(new_llm(load_model_config('tiny').language), lora)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if 'lora_' in name:
                parameter.normal_(0.0, 0.5)
    adapted.save_pretrained(tmp_path / 'night')
    asked = asker_of(start_stack(reasoning={'adapters_folder': str(tmp_path)}))
    assert list(asked.describe().adapters) == ['night']
    plain = asked.ask('What is ahead?', max_tokens=8)

    refused = asked.set_adapter('../night')
    assert not refused.success
    assert 'night' in refused.message
    assert asked.set_adapter('night').success
    assert asked.describe().adapter == 'night'
    adapted_answer = asked.ask('What is ahead?', max_tokens=8)
    assert adapted_answer.success, 'the newest scene is still there'
    assert adapted_answer.scene_stamp == plain.scene_stamp
    assert adapted_answer.answer != plain.answer

    assert asked.set_adapter('').success
    assert asked.ask('What is ahead?', max_tokens=8).answer == plain.answer
    asked.rig.run_cycle(2)
    assert asked.ask('What is ahead?', max_tokens=4).success

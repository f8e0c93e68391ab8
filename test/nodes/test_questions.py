"""Questions over the service and the action, as a client outside sends them."""

import re
import threading

import pytest
from action_msgs.msg import GoalStatus
from asker import TIMEOUT_S, Asker, asker_of
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rig import seconds

from sparseoccvla_ros.action import StreamAnswer
from sparseoccvla_ros.nodes.conversions.basic import stamp_ns_from, time_from
from sparseoccvla_ros.nodes.reasoning import ReasoningNode


class Fatal:
    """A job with a defect that no job may have: it ends the language thread."""

    def run(self):
        raise MemoryError

    def fail(self, reason):
        pass


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
    [('', 'empty'), ('  \n', 'empty'), ('x' * 10_000, 'too long: 10000 characters'), ('what is \ufffd?', 'U+FFFD')],
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


def test_describe_says_what_runs(asked):
    told = asked.describe()
    assert (told.name, told.weights, told.device, told.precision) == ('tiny', 'untrained (seed 1)', 'cpu', 'fp32')
    assert told.language_model == 'own Llama, 4 layers of 256'
    assert (told.adapter, list(told.adapters)) == ('', [])
    assert re.fullmatch(r'[\d.]+ \(torch [\d.]+(\+\w+)?, transformers [\d.]+, peft [\d.]+\)', told.package_version)
    assert told.context_length == 1024
    assert told.context_length > told.scene_prefix_tokens > 300
    stamps = [stamp_ns_from(message.input_stamp) for message in asked.rig.trajectories]
    assert [stamp_ns_from(stamp) for stamp in told.kept_scenes] == stamps
    assert time_from(stamps[0]) == told.kept_scenes[0]


def test_a_conversation_is_kept_by_its_id(asked):
    first = asked.ask('How many cars?', max_tokens=6, conversation_id='a')
    alone = asked.ask('And trucks?', max_tokens=6)
    second = asked.ask('And trucks?', max_tokens=6, conversation_id='a')
    assert second.prompt_tokens > first.prompt_tokens
    assert second.prompt_tokens > alone.prompt_tokens
    assert asked.ask('And trucks?', max_tokens=6, conversation_id='b').prompt_tokens == alone.prompt_tokens
    past = asked.rig.trajectories[0].input_stamp
    third = asked.ask('And before?', max_tokens=6, conversation_id='a', stamp=past)
    assert third.scene_stamp == past
    assert third.prompt_tokens > second.prompt_tokens


def test_an_answer_that_uses_up_its_tokens_says_so_and_is_a_turn(asked):
    cut = asked.ask('How many cars?', max_tokens=3, conversation_id='a')
    assert (cut.success, cut.generated_tokens, cut.message) == (True, 3, 'cut off at max_tokens (3)')
    first_turn = asked.ask('And trucks?', max_tokens=3).prompt_tokens
    assert asked.ask('And trucks?', max_tokens=3, conversation_id='a').prompt_tokens > first_turn


def test_a_clock_that_jumped_back_while_the_node_was_inactive_has_cleared_its_memories_when_it_is_active(start_stack):
    stack = start_stack()
    asked = asker_of(stack)
    node, newest = stack.nodes['reasoning'], asked.rig.trajectories[-1].input_stamp
    assert asked.ask('How many cars?', max_tokens=3, conversation_id='a').success
    assert node.trigger_deactivate() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert len(node._engine.kept_scenes) == 2  # a pause alone forgets nothing
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    stack.handover.clock.observe('odometry', stamp_ns_from(newest) - seconds(60.0))
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert node.counters['clock_jump_back'] == 1
    assert 'no scene' in asked.ask('How many cars?', stamp=newest).message
    stack.rig.run_cycle(2)
    alone = asked.ask('And trucks?', max_tokens=3)
    assert asked.ask('And trucks?', max_tokens=3, conversation_id='a').prompt_tokens == alone.prompt_tokens


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_language_thread_that_has_ended_is_an_error_in_the_diagnostics():
    node = ReasoningNode()
    try:
        assert node.start()
        processing = node.status()[-1]
        assert (processing.name, processing.level) == ('reasoning: processing', DiagnosticStatus.OK)
        node._engine._scheduler.submit_idle(Fatal())
        node._engine._scheduler._thread.join(TIMEOUT_S)
        processing = node.status()[-1]
        assert processing.level == DiagnosticStatus.ERROR
        assert 'language thread has stopped' in processing.message
    finally:
        node.release()
        node.destroy_node()


def test_of_50_conversations_the_latest_are_kept(start_stack):
    asked = asker_of(start_stack(reasoning={'max_conversations': 32}))
    lengths = [asked.ask('What is there?', max_tokens=2, conversation_id=str(n)).prompt_tokens for n in range(50)]
    assert len(set(lengths)) == 1
    kept = [asked.ask('What is there?', max_tokens=2, conversation_id=str(n)).prompt_tokens for n in range(49, 17, -1)]
    assert min(kept) > lengths[0]
    assert asked.ask('What is there?', max_tokens=2, conversation_id='17').prompt_tokens == lengths[0]


def test_an_answer_that_takes_too_long_ends_with_the_reason_and_its_text(start_stack):
    """The service does not block longer than its limit, however many tokens were asked for."""
    asked = asker_of(start_stack(reasoning={'answer_timeout_s': 0.3, 'max_answer_tokens': 600}))
    answer = asked.ask('Describe the scene.', max_tokens=600)
    assert not answer.success
    assert answer.message == f'time limit of 0.3 s reached after {answer.generated_tokens} tokens'
    assert 0 < answer.generated_tokens < 600
    assert answer.answer
    assert 300.0 < answer.total_ms < 3000.0

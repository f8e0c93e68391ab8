"""``sparseoccvla ask`` and the plain rclpy example, against a stand-in for the stack in another process."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from sparseoccvla_ros.nodes.processes import StackProcesses, free_domain, local_environment

ANSWER = 'a car <b>ahead</b> & more'


@pytest.fixture(scope='module')
def stack(project_root, tmp_path_factory):
    """(environment of the stack's domain, its log)."""
    log_dir = tmp_path_factory.mktemp('stack')
    command = {'stack': [sys.executable, str(project_root / 'test/nodes/fakes/stack.py')]}
    with free_domain() as domain_id:
        environment = local_environment(domain_id)
        with StackProcesses(command, environment=environment, log_dir=log_dir) as processes:
            while 'ready' not in (log_dir / 'stack.log').read_text():
                processes.check()
                time.sleep(0.05)
            yield {**os.environ, **environment}, log_dir / 'stack.log'


def begin(arguments, environment, project_root):
    return subprocess.Popen(
        arguments, env=environment, cwd=project_root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_line(line, log, times=1):
    deadline_s = time.monotonic() + 20.0
    while log.read_text().splitlines().count(line) < times:
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)


def command(*arguments):
    return [sys.executable, '-m', 'sparseoccvla_ros.cli.main', 'ask', *arguments]


def run(arguments, environment, project_root):
    return subprocess.run(
        arguments, env=environment, cwd=project_root, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_answer_goes_to_standard_output_alone(stack, project_root):
    done = run(command('What is ahead?'), stack[0], project_root)

    assert (done.returncode, done.stdout) == (0, f'{ANSWER} of What is ahead?\n')
    assert '20 prompt tokens, 5 generated' in done.stderr


def test_a_refusal_is_told_with_its_reason(stack, project_root):
    done = run(command('refuse'), stack[0], project_root)

    assert done.returncode == 1
    assert 'no answer: the fake refuses' in done.stderr


def test_a_streamed_answer_is_the_same_text(stack, project_root):
    done = run(command('What?', '--stream'), stack[0], project_root)

    assert (done.returncode, done.stdout) == (0, f'{ANSWER}\n')


def test_a_stream_whose_result_overtakes_its_last_pieces_is_completed_from_it(stack, project_root):
    done = run(command('overtaken', '--stream'), stack[0], project_root)

    assert (done.returncode, done.stdout) == (0, f'{ANSWER}\n')


def test_a_stream_that_lost_a_piece_in_its_middle_is_followed_by_the_whole_answer(stack, project_root):
    done = run(command('gap', '--stream'), stack[0], project_root)

    assert done.returncode == 0
    assert done.stdout.startswith('a <b>')
    assert done.stdout.endswith(f'\n{ANSWER}\n')


def test_a_stack_that_ends_while_it_is_asked_is_said_soon(project_root, tmp_path):
    log = tmp_path / 'log'
    with free_domain() as domain_id, log.open('w') as output, ExitStack() as started:
        environment = {**os.environ, **local_environment(domain_id)}
        program = [sys.executable, str(project_root / 'test/nodes/fakes/stack.py')]
        fake = subprocess.Popen(program, env=environment, stdout=output, stderr=output)
        started.callback(fake.kill)
        wait_for_line('ready', log)
        asking = [begin(command('never', *mode), environment, project_root) for mode in ([], ['--stream'])]
        for process in asking:
            started.callback(process.kill)
        wait_for_line('asked', log)
        wait_for_line('asked to stream', log)

        fake.send_signal(signal.SIGINT)
        told = [process.communicate(timeout=20)[1] for process in asking]

    assert [process.returncode for process in asking] == [1, 1]
    assert 'service ask is gone: the stack ended before its answer came' in told[0]
    assert 'action stream_answer is gone' in told[1]


def test_ctrl_c_cancels_a_streamed_answer(stack, project_root):
    environment, log = stack
    process = begin(command('long', '--stream'), environment, project_root)
    assert process.stdout is not None
    assert process.stdout.read(len(ANSWER)) == ANSWER

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)

    assert process.returncode == 130
    assert 'cancelled' in errors
    wait_for_line('cancelled', log)


def test_ctrl_c_before_the_question_is_accepted_cancels_it_too(stack, project_root):
    environment, log = stack
    before = log.read_text().splitlines().count('cancelled')
    process = begin(command('late', '--stream'), environment, project_root)
    wait_for_line('asked late', log)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)

    assert process.returncode == 130, errors
    wait_for_line('cancelled', log, before + 1)


@pytest.mark.parametrize('stream', [[], ['--stream']])
def test_no_stack_is_said_within_the_given_time(project_root, stream):
    with free_domain() as domain_id:
        environment = {**os.environ, **local_environment(domain_id)}
        begin_s = time.monotonic()
        done = run(command('What?', '--wait', '0.5', *stream), environment, project_root)

    assert done.returncode == 1
    assert f'no stack seems to run in ROS domain {domain_id}' in done.stderr
    assert time.monotonic() - begin_s < 20.0


def test_the_example_needs_nothing_of_ours_but_the_service(stack, project_root):
    source = (project_root / 'examples/ask_scene.py').read_text()
    assert [line for line in source.splitlines() if 'sparseoccvla_ros' in line] == [
        'from sparseoccvla_ros.srv import AskScene'
    ]

    done = run([sys.executable, 'examples/ask_scene.py', 'What', 'now?'], stack[0], project_root)

    assert (done.returncode, done.stdout) == (0, f'{ANSWER} of What now?\n')

"""Starting, watching and stopping the stack's processes; parameters; domains."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sparseoccvla_ros.nodes.processes import (
    ProcessDiedError,
    StackProcesses,
    free_domain,
    local_environment,
    overlay_parameters,
    resolve_parameters,
    stack_commands,
    write_parameters,
)
from sparseoccvla_ros.resources import share_path

WAIT = 'import sys, time; print("ready", flush=True); time.sleep(60)'
STUBBORN = 'import signal, sys, time; signal.signal(2, signal.SIG_IGN); print("ready", flush=True); time.sleep(60)'


def python(code: str) -> list[str]:
    return [sys.executable, '-c', code]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, timeout_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return condition()


def watch(processes: StackProcesses) -> None:
    deadline_s = time.monotonic() + 10.0
    while time.monotonic() < deadline_s:
        processes.check()
        time.sleep(0.02)


def test_processes_are_gone_after_the_block(tmp_path):
    with StackProcesses({'a': python(WAIT), 'b': python(WAIT)}, environment={}, log_dir=tmp_path) as processes:
        pids = processes.pids.values()
        assert wait_for(lambda: all('ready' in (tmp_path / f'{name}.log').read_text() for name in 'ab'))
        processes.check()

    assert not any(is_there(pid) for pid in pids)


def test_a_process_that_ignores_sigint_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr('sparseoccvla_ros.nodes.processes.STOP_GRACE_S', 0.3)
    with StackProcesses({'a': python(STUBBORN)}, environment={}, log_dir=tmp_path) as processes:
        assert wait_for(lambda: 'ready' in (tmp_path / 'a.log').read_text())
        codes = processes.stop()

    assert codes == {'a': -signal.SIGKILL}


def test_a_death_is_noticed_with_the_end_of_the_log(tmp_path):
    code = 'import sys; [print(f"line {n}") for n in range(100)]; sys.exit(7)'
    with StackProcesses({'a': python(WAIT), 'b': python(code)}, environment={}, log_dir=tmp_path) as processes:
        with pytest.raises(ProcessDiedError) as caught:
            watch(processes)
        other = processes.pids['a']

    assert 'process b ended with exit code 7' in str(caught.value)
    assert 'line 99' in str(caught.value)
    assert 'line 50' not in str(caught.value)
    assert not is_there(other)


def test_a_signal_is_named(tmp_path):
    with StackProcesses({'a': python(WAIT)}, environment={}, log_dir=tmp_path) as processes:
        os.kill(processes.pids['a'], signal.SIGSEGV)
        with pytest.raises(ProcessDiedError, match='signal SIGSEGV'):
            watch(processes)


def test_a_command_that_cannot_start_takes_the_started_ones_with_it(tmp_path):
    processes = StackProcesses(
        {'a': python(WAIT), 'b': [str(tmp_path / 'missing')]}, environment={}, log_dir=tmp_path / 'logs'
    )
    with pytest.raises(FileNotFoundError), processes:
        pass

    assert not any(is_there(pid) for pid in processes.pids.values())


@pytest.mark.skipif(sys.platform != 'linux', reason="the kernel tells children of their parent's death on Linux only")
def test_even_sigkill_leaves_no_orphans(tmp_path):
    code = (
        'import sys, time; from pathlib import Path\n'
        'from sparseoccvla_ros.nodes.processes import StackProcesses\n'
        'with StackProcesses({"a": sys.argv[2:]}, environment={}, log_dir=Path(sys.argv[1])) as processes:\n'
        '    print(processes.pids["a"], flush=True)\n'
        '    time.sleep(60)\n'
    )
    parent = subprocess.Popen(
        [sys.executable, '-c', code, str(tmp_path), *python(WAIT)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert wait_for(lambda: 'ready' in (tmp_path / 'a.log').read_text())

    parent.kill()
    parent.wait(5)
    parent.stdout.close()

    assert wait_for(
        lambda: not Path(f'/proc/{child}/cmdline').exists() or not Path(f'/proc/{child}/cmdline').read_text()
    )


def test_two_runs_never_share_a_domain():
    with free_domain() as first, free_domain() as second, free_domain() as third:
        assert len({first, second, third}) == 3
        assert {first, second, third} <= set(range(1, 101))


def test_a_domain_is_free_again_after_its_run():
    with free_domain() as first:
        pass
    with free_domain() as second:
        assert second == first


def test_a_domain_where_others_live_is_left_alone():
    with free_domain() as mine:
        pass
    ready, script = 'ready\n', 'import rclpy, sys; rclpy.init(); n = rclpy.create_node("other")\n'
    script += 'print("ready", flush=True); sys.stdin.read()'
    other = subprocess.Popen(
        python(script),
        env={**os.environ, **local_environment(mine)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == ready
        with free_domain() as domain_id:
            assert domain_id != mine
    finally:
        other.communicate('', timeout=10)


def test_later_layers_win_and_a_layers_own_node_entry_beats_its_wildcard(tmp_path):
    first, second = tmp_path / 'first.yaml', tmp_path / 'second.yaml'
    first.write_text(
        yaml.safe_dump(
            {
                '/**/perception': {'ros__parameters': {'device': 'cpu', 'seed': 1, 'nested': {'inner': 3}}},
                'planner': {'ros__parameters': {'device': 'cpu'}},
            }
        )
    )
    second.write_text(
        yaml.safe_dump(
            {
                '/planner': {'ros__parameters': {'device': 'cuda:1'}},
                '/**': {'ros__parameters': {'device': 'cuda:0'}},
            },
            sort_keys=False,
        )
    )

    parameters = resolve_parameters([first, second, {'reasoning': {'seed': 2}}])

    assert parameters == {
        'perception': {'device': 'cuda:0', 'seed': 1, 'nested.inner': 3},
        'reasoning': {'device': 'cuda:0', 'seed': 2},
        'planner': {'device': 'cuda:1'},
    }


@pytest.mark.parametrize(
    ('text', 'complaint'),
    [
        ('percepton: {ros__parameters: {seed: 1}}', "parameters of 'percepton'"),
        ('perception: {seed: 1}', 'expected NODE: ros__parameters'),
        ('- a\n- b', 'expected NODE: ros__parameters'),
        ('a: [1', 'is not YAML'),
    ],
)
def test_a_file_that_is_no_parameter_file_is_refused(tmp_path, text, complaint):
    path = tmp_path / 'params.yaml'
    path.write_text(text)

    with pytest.raises(ValueError, match=complaint):
        resolve_parameters([path])


def test_the_shipped_file_survives_writing_and_reading(tmp_path):
    shipped = resolve_parameters([share_path('config/stack.yaml')])
    write_parameters(shipped, tmp_path / 'params.yaml')

    assert resolve_parameters([tmp_path / 'params.yaml']) == shipped
    assert '&' not in (tmp_path / 'params.yaml').read_text()  # rcl reads no YAML anchors
    assert shipped['perception']['reference_camera'] == 'CAM_FRONT'


def test_a_misspelt_parameter_is_refused_with_the_likely_one(tmp_path):
    (tmp_path / 'own.yaml').write_text('planner: {ros__parameters: {deadlines_s: 3.0}}')
    with pytest.raises(ValueError, match="planner has no parameter 'deadlines_s'; did you mean: deadline_s"):
        overlay_parameters([tmp_path / 'own.yaml'])
    parameters = overlay_parameters([{'/**': {'min_cameras': 3}}])
    assert parameters['perception']['min_cameras'] == 3


def test_commands_start_one_process_or_three(tmp_path):
    assert list(stack_commands(tmp_path, separate=False)) == ['stack']
    separate = stack_commands(tmp_path, separate=True)
    assert list(separate) == ['perception', 'reasoning', 'planner']
    assert separate['planner'][1:3] == ['-m', 'sparseoccvla_ros.nodes.planner']

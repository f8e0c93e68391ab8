"""``sparseoccvla up``: the real stack in the foreground."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparseoccvla_ros.cli.main import app
from sparseoccvla_ros.nodes.client import SpinningNode, StackClient
from sparseoccvla_ros.nodes.processes import NODES, free_domain, local_environment


def children_of(pid):
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


@pytest.fixture
def running(project_root, request):
    """(process of ``sparseoccvla up`` once its nodes are active, its children); ``request.param``: options."""
    with free_domain() as domain_id:
        process = subprocess.Popen(
            [sys.executable, '-m', 'sparseoccvla_ros.cli.main', 'up', *request.param],
            env={**os.environ, **local_environment(domain_id)},
            cwd=project_root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            with SpinningNode('test_up', domain_id=domain_id) as session:
                client = StackClient(session)
                session.start()
                client.wait_until_active(NODES, 90.0, lambda: None)
            yield process, children_of(process.pid)
        finally:
            process.kill()
            process.communicate()


def assert_gone(pids):
    deadline_s = time.monotonic() + 10.0
    while any(Path(f'/proc/{pid}').exists() for pid in pids) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert [pid for pid in pids if Path(f'/proc/{pid}').exists()] == []


@pytest.mark.parametrize('running', [[]], indirect=True)
def test_ctrl_c_stops_everything_cleanly(running):
    process, children = running
    assert len(children) == 1

    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 0, output
    assert 'active' in output  # the nodes' logs are on this terminal
    assert 'Traceback' not in output
    assert_gone(children)


@pytest.mark.parametrize('running', [['--separate']], indirect=True)
def test_when_one_process_dies_the_others_are_stopped(running):
    process, children = running
    assert len(children) == 3

    os.kill(children[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert 'process reasoning ended with signal SIGKILL; the others were stopped' in output
    assert_gone(children)


def test_a_wrong_parameter_file_is_told_before_anything_starts(tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text('percepton:\n  ros__parameters:\n    seed: 1\n')

    done = CliRunner().invoke(app, ['up', '--params', str(params)])

    assert done.exit_code == 2
    assert "parameters of 'percepton'" in done.output

"""The stack drives in the synthetic street world: both as processes of a ROS domain of their own, in lockstep."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sparseoccvla_ros.nodes.processes import (
    WATCH_PERIOD_S,
    StackProcesses,
    free_domain,
    local_environment,
    overlay_parameters,
    stack_commands,
    write_parameters,
)
from sparseoccvla_ros.nodes.replay_setup import LOCKSTEP_PARAMETERS

#: Real seconds that a drive may take at most for each second of the world; a slow model takes several for a scene.
SLOWEST = 60.0
START_S = 300.0


class DriveError(RuntimeError):
    """The drive did not come to its end; the message says what is known."""


def drive_with_stack(
    drive: Mapping[str, Any], out: Path, params: Path | None, *, real_time_factor: float = 0.0
) -> dict[str, Any]:
    """Drive through one scene.

    Args:
        drive: parameters of node ``simulator``: seed, scene, duration_s, city ...
        out: folder for the logs of both processes; made if needed.
        params: ROS parameter file over ``config/stack.yaml``.
        real_time_factor: 0 for lockstep.

    Returns:
        the simulator's summary (``closed_loop.Summary`` as a dictionary), with ``counters``.

    Raises:
        ValueError, OSError: ``params`` is wrong or a file cannot be read or written.
        ProcessDiedError: a process ended.
        DriveError: the drive took longer than ``SLOWEST`` allows.
    """
    layers: list[Any] = [LOCKSTEP_PARAMETERS] if real_time_factor == 0.0 else []
    layers += [params] if params is not None else []
    parameters = overlay_parameters([*layers, {'/**': {'use_sim_time': True, 'autostart': True}}])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='sparseoccvla_drive_') as folder:
        summary, stack_file, simulator_file = (Path(folder, name) for name in ('summary.json', 'stack', 'simulator'))
        write_parameters(parameters, stack_file)
        values = {**drive, 'real_time_factor': real_time_factor, 'summary_file': str(summary)}
        simulator_file.write_text(yaml.safe_dump({'simulator': {'ros__parameters': values}}), encoding='utf-8')
        arguments = ['--ros-args', '--params-file', str(simulator_file)]
        commands = {
            **stack_commands(stack_file, separate=False),
            'simulator': [sys.executable, '-m', 'sparseoccvla_ros.nodes.simulator', *arguments],
        }
        with free_domain() as domain_id:
            environment = local_environment(domain_id)
            with StackProcesses(commands, environment=environment, log_dir=out) as processes:
                limit_s = START_S + SLOWEST * values['duration_s']
                end_s = time.monotonic() + limit_s
                while not summary.exists():
                    processes.check()
                    if time.monotonic() > end_s:
                        raise DriveError(f'not over after {limit_s:.0f} s{processes.log_tail("simulator")}')
                    time.sleep(WATCH_PERIOD_S)
        return json.loads(summary.read_text(encoding='utf-8'))

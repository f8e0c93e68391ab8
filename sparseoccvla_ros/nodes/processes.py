"""The stack's processes: their parameters, their ROS domain, starting, watching and stopping them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import yaml

from sparseoccvla_ros.resources import share_path

NODES = ('perception', 'reasoning', 'planner')
DOMAINS = range(1, 101)
STOP_GRACE_S = 8.0
LOG_TAIL_LINES = 25
WATCH_PERIOD_S = 0.1
#: RTPS port mapping (DDSI-RTPS 9.6.1): first unicast discovery port of domain d is 7410 + 250 d.
DISCOVERY_PORT, DOMAIN_GAIN = 7410, 250
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

Parameters = dict[str, dict[str, Any]]


class ProcessDiedError(RuntimeError):
    """A process of the stack ended by itself; the message holds the end of its log."""


def resolve_parameters(layers: Sequence[Path | Mapping[str, Mapping[str, Any]]]) -> Parameters:
    """Parameters of every node: later layers override earlier ones.

    ROS itself lets a node's own entry in an earlier file win over ``/**`` in a later one, so an overlay that sets the
    device for all nodes would be ignored without a word; here ``/**`` is resolved inside each layer.

    Args:
        layers: ROS parameter files, or mappings node (or ``/**``) -> parameter name -> value.

    Raises:
        ValueError: not a ROS parameter file, or a node that the stack does not have.
        OSError: a file cannot be read.
    """
    resolved: Parameters = {node: {} for node in NODES}
    for layer in layers:
        entries = _read_parameter_file(layer) if isinstance(layer, Path) else layer
        for key in sorted(entries, key=_is_specific):
            name = key.strip('/').removeprefix('**/')
            if name not in (*NODES, '**'):
                raise ValueError(f'{layer}: parameters of {key!r}; the stack has {", ".join(NODES)} (or /** for all)')
            for node in NODES if name == '**' else (name,):
                resolved[node].update(entries[key])
    return resolved


def overlay_parameters(overlays: Sequence[Path | Mapping[str, Mapping[str, Any]]]) -> Parameters:
    """Parameters of the stack: ``config/stack.yaml``, which names every one there is, with overlays on it.

    Raises:
        ValueError: as :func:`resolve_parameters`, or a name that no node has, which ROS would ignore silently.
        OSError: a file cannot be read.
    """
    shipped = share_path('config/stack.yaml')
    known = {name for values in resolve_parameters([shipped]).values() for name in values}
    resolved = resolve_parameters([shipped, *overlays])
    for node, values in resolved.items():
        for name in values.keys() - known:
            close = ', '.join(get_close_matches(name, known)) or 'see config/stack.yaml'
            raise ValueError(f'{node} has no parameter {name!r}; did you mean: {close}?')
    return resolved


def write_parameters(parameters: Parameters, path: Path) -> None:
    """Write resolved parameters as the one parameter file that the processes are given."""
    document = {node: {'ros__parameters': dict(values)} for node, values in parameters.items()}
    path.write_text(yaml.dump(document, Dumper=_PlainDumper, sort_keys=False), encoding='utf-8')


def stack_commands(params_file: Path, *, separate: bool) -> dict[str, list[str]]:
    """Command lines by process name: one composed process, or one per node."""
    arguments = ['--ros-args', '--params-file', str(params_file)]
    names = NODES if separate else ('stack',)
    return {name: [sys.executable, '-m', f'sparseoccvla_ros.nodes.{name}', *arguments] for name in names}


@contextmanager
def free_domain() -> Iterator[int]:
    """Reserve a ROS domain id (1 to 100) on this machine for the length of the block.

    A locked file per id keeps our own runs apart (the lock goes with the process, however it ends); a busy discovery
    port shows that somebody else's nodes live there.

    Raises:
        RuntimeError: all domains are taken.
    """
    for attempt in range(len(DOMAINS)):
        domain_id = DOMAINS[(os.getpid() + attempt) % len(DOMAINS)]
        lock = _lock_domain(domain_id)
        if lock is None:
            continue
        with lock:
            if _port_is_free(DISCOVERY_PORT + DOMAIN_GAIN * domain_id):
                yield domain_id
                return
    raise RuntimeError(f'no free ROS domain: {DOMAINS.start} to {DOMAINS.stop - 1} are all taken on this machine')


def local_environment(domain_id: int) -> dict[str, str]:
    """Environment variables that keep a process inside one domain on the local host."""
    return {
        'ROS_DOMAIN_ID': str(domain_id),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        # both would widen or override the range above
        'ROS_LOCALHOST_ONLY': '',
        'ROS_STATIC_PEERS': '',
        'ROS_PYTHON_CHECK_FIELDS': '1',
    }


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143) inside the block, so that ``finally`` blocks stop what was started."""

    def leave(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class StackProcesses:
    """Context manager: starts the processes on entry, stops all of them on exit.

    Each gets a session of its own, so that a Ctrl-C in the terminal reaches this process alone, which then stops them
    in order; and each is told by the kernel when the thread that started it dies, so that even SIGKILL here
    leaves no orphans (Linux).

    Args:
        commands: command line by process name.
        environment: added to this process's environment.
        log_dir: folder for one ``<name>.log`` each; None: they write to this process's terminal.
    """

    def __init__(
        self, commands: Mapping[str, Sequence[str]], *, environment: Mapping[str, str], log_dir: Path | None
    ) -> None:
        self._commands = commands
        self._environment = {**os.environ, 'PYTHONUNBUFFERED': '1', **environment}
        self._log_dir = log_dir
        self._logs: dict[str, TextIO] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> StackProcesses:
        if self._log_dir is not None:
            self._log_dir.mkdir(parents=True, exist_ok=True)
            self._environment['ROS_LOG_DIR'] = str(self._log_dir / 'ros')
        try:
            for name, command in self._commands.items():
                self._start(name, command)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def check(self) -> None:
        """Raise ProcessDiedError if a process has ended."""
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None:
                raise ProcessDiedError(f'process {name} ended with {_exit_text(code)}{self.log_tail(name)}')

    def log_tail(self, name: str) -> str:
        """The last lines of a process's log, as text to append to a message; empty without log files."""
        if self._log_dir is None:
            return ''
        path = self._log_dir / f'{name}.log'
        lines = path.read_text(encoding='utf-8', errors='replace').splitlines()[-LOG_TAIL_LINES:]
        return '\n'.join([f'; the end of {path}:', *(f'  | {line}' for line in lines)])

    def stop(self) -> dict[str, int]:
        """SIGINT to all, SIGKILL to those that are still there after the grace time; returns the exit codes.

        An impatient second Ctrl-C (or SIGTERM) cuts the grace time short.
        """
        try:
            self._signal_all(signal.SIGINT)
            deadline_s = time.monotonic() + STOP_GRACE_S
            for process in self._processes.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline_s - time.monotonic()))
        finally:
            self._signal_all(signal.SIGKILL)
            codes = {name: process.wait() for name, process in self._processes.items()}
            for log in self._logs.values():
                log.close()
            self._logs.clear()
        return codes

    def _start(self, name: str, command: Sequence[str]) -> None:
        log = None
        if self._log_dir is not None:
            log = self._logs[name] = (self._log_dir / f'{name}.log').open('w', encoding='utf-8')
        self._processes[name] = subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == 'linux' else None,
        )

    def _signal_all(self, signum: signal.Signals) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                # the whole session: a node's own helpers (data loaders, compilers) go with it
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signum)


def run_in_foreground(commands: Mapping[str, Sequence[str]]) -> ProcessDiedError | None:
    """Run processes on this terminal, in this shell's ROS domain, until Ctrl-C or SIGTERM or until one of them ends.

    Returns:
        None after an interrupt, else what ended; all processes are gone by then.
    """
    try:
        with exit_on_sigterm(), StackProcesses(commands, environment={}, log_dir=None) as processes:
            while True:
                processes.check()
                time.sleep(WATCH_PERIOD_S)
    except ProcessDiedError as died:
        return died
    except (KeyboardInterrupt, SystemExit):
        return None


class _PlainDumper(yaml.SafeDumper):
    """rcl's YAML reader knows no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_LIBC = ctypes.CDLL(None)  # loaded here: nothing may be imported between fork and exec


def _die_with_parent() -> None:
    # a shell's background job ignores SIGINT, and its children would inherit that
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _lock_domain(domain_id: int) -> TextIO | None:
    """The locked file that reserves a domain; None if another run holds it or the file is another user's."""
    path = Path(tempfile.gettempdir(), f'sparseoccvla_ros_domain_{domain_id}.lock')
    try:
        lock = path.open('a', encoding='utf-8')
    except PermissionError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _exit_text(code: int) -> str:
    return f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', port))
        except OSError:
            return False
    return True


def _read_parameter_file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not YAML: {error}') from error
    if not isinstance(document, dict):
        raise ValueError(f'{path}: expected NODE: ros__parameters: NAME: VALUE, found {document!r}')
    entries = {}
    for node, body in document.items():
        if not isinstance(body, dict) or set(body) != {'ros__parameters'}:
            raise ValueError(f'{path}: expected NODE: ros__parameters: NAME: VALUE, found {node!r}: {body!r}')
        entries[node] = _flat(body['ros__parameters'] or {})
    return entries


def _is_specific(key: str) -> bool:
    """Whether a parameter file's key names one node; such entries rule over those for all of the same file."""
    return not key.endswith('**')


def _flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Nested parameter names joined by dots, as ROS reads them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f'{prefix}{name}.'))
        else:
            flat[f'{prefix}{name}'] = value
    return flat

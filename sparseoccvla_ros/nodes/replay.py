"""Replays a bag through the stack: publishes, waits, asks, records, and sums up."""

from __future__ import annotations

import json
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message

from sparseoccvla_ros.data.bag_reader import BagReader, RawMessage
from sparseoccvla_ros.data.topics import TopicPreset, load_preset
from sparseoccvla_ros.evaluation.bag_input import BagInputError, CameraSettings, ReplaySet, camera_sets, check_topics
from sparseoccvla_ros.evaluation.replay_summary import AnswerRecord, read_outputs, summarize
from sparseoccvla_ros.evaluation.report import write_report
from sparseoccvla_ros.msg import SceneStatus
from sparseoccvla_ros.nodes.bag_player import BagPlayer, numbered, played_topics
from sparseoccvla_ros.nodes.base import PUBLISHERS, SUBSCRIBERS
from sparseoccvla_ros.nodes.client import ANSWER_TIMEOUT_S, SpinningNode, StackClient, answer_record
from sparseoccvla_ros.nodes.processes import (
    NODES,
    StackProcesses,
    free_domain,
    local_environment,
    stack_commands,
    write_parameters,
)
from sparseoccvla_ros.nodes.recorder import OUTPUTS as RECORDED_TOPICS
from sparseoccvla_ros.nodes.recorder import Recorder
from sparseoccvla_ros.nodes.replay_setup import (
    HEARTBEAT_S,
    LOGS,
    OUTPUTS,
    PARAMETERS,
    REPORT,
    SUMMARY,
    ReplayOptions,
    camera_settings,
    prepare_folder,
    question_places,
    stack_parameters,
)

STARTUP_TIMEOUT_S = 300.0
MATCH_TIMEOUT_S = 20.0
#: After the last message of the bag, and after the last trajectory.
SETTLE_TIMEOUT_S = 15.0
QUIET_S = 0.3
ODOMETRY_LEAD_S = 0.005
DIAGNOSTICS = '/diagnostics'
#: Nodes of the stack that read what another process of it publishes.
READERS_IF_SEPARATE = {'/occupancy_queries': 2, '/reasoning_tokens': 1}

Progress = Callable[[str], None]


class ReplayError(RuntimeError):
    """The replay could not be carried through; the message says where it stopped."""


def replay_bag(options: ReplayOptions, progress: Progress) -> dict[str, Any]:
    """Replay a bag, write ``outputs/``, ``logs/``, ``params.yaml``, ``summary.json`` and ``report.html``.

    Returns:
        the summary.

    Raises:
        BagInputError, BagError, PresetError, ValueError, OSError: bag, preset, parameters or ``out`` are wrong.
        ProcessDiedError, StackUnreachableError, ReplayError: the stack failed.
    """
    preset = load_preset(options.topics)
    parameters = stack_parameters(options, preset)
    settings = camera_settings(parameters)
    with BagReader(options.bag) as reader:
        missing = check_topics(reader.topics, preset, settings)
        if missing:
            progress(f'the bag has no images or camera_info of {", ".join(missing)}')
        sets = camera_sets(reader.messages(), preset, settings)
        if not sets:
            raise BagInputError(f'{options.bag} holds no camera set: not one image of {", ".join(settings.cameras)}')
        prepare_folder(options.out, options.kept)
        params_file = options.out / PARAMETERS
        write_parameters(parameters, params_file)
        commands = options.commands or stack_commands(params_file, separate=options.separate)
        with free_domain() as domain_id, _environment(local_environment(domain_id)) as environment:
            progress(f'starting {", ".join(commands)} in ROS domain {domain_id}')
            with StackProcesses(commands, environment=environment, log_dir=options.out / LOGS) as processes:
                run = _Run(options, reader, preset, settings, sets, processes, progress)
                run.carry_out(domain_id)
    outputs = read_outputs(options.out / OUTPUTS)
    summary = summarize(
        outputs,
        published_sets=len(sets),
        answers=run.answers,
        sensor_to_trajectory_ms=run.sensor_to_trajectory_ms(),
        config={
            'bag': str(options.bag),
            'topics': preset.name,
            'arrangement': 'separate' if options.separate else 'composed',
            'rate': options.rate,
            'model': run.model,
            'parameters': parameters,
        },
    )
    (options.out / SUMMARY).write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    write_report(
        options.out / REPORT,
        input_bag=options.bag,
        output_bag=options.out / OUTPUTS,
        preset=preset,
        sets=sets,
        outputs=outputs,
        summary=summary,
    )
    return summary


class _Run:
    """One replay while the stack is up."""

    def __init__(
        self,
        options: ReplayOptions,
        reader: BagReader,
        preset: TopicPreset,
        settings: CameraSettings,
        sets: Sequence[ReplaySet],
        processes: StackProcesses,
        progress: Progress,
    ) -> None:
        self._options = options
        self._reader = reader
        self._preset = preset
        self._settings = settings
        self._sets = sets
        self._check = processes.check
        self._progress = progress
        self._stamps_ns = sorted(camera_set.stamp_ns for camera_set in sets)
        self._tolerance_ns = round(settings.max_spread_s * 1e9)
        self._accepted: dict[int, bool] = {}
        self._received_s: dict[int, float] = {}
        self._published_s: dict[int, float] = {}
        self._heard_s = time.monotonic()
        self._subscribers: dict[str, int] = {}
        self._publishers: dict[str, dict[str, int]] = {}
        self.answers: list[AnswerRecord] = []
        self.model: dict[str, Any] = {}

    def carry_out(self, domain_id: int) -> None:
        """Wait for the stack, play, ask, and let the outputs run dry."""
        with SpinningNode('replay', domain_id=domain_id) as self._session:
            topics = played_topics(self._reader.topics, self._preset, self._settings.cameras)
            self._recorder = Recorder(
                self._session.node, self._options.out / OUTPUTS, lambda: self._player.now_ns, self._listen
            )
            self._player = BagPlayer(
                self._session.node, topics, self._preset, self._settings.cameras, self._reader.start_ns
            )
            with self._recorder:
                self._client = StackClient(self._session)
                self._session.start()
                self._wait_for_stack()
                self._player.introduce(self._reader.messages(topics.keys()))
                if self._options.rate == 0:
                    self._play_in_lockstep()
                else:
                    self._play_in_time()
                self._run_dry()

    def sensor_to_trajectory_ms(self) -> list[float]:
        """From publishing a set's last image to receiving its trajectory, per trajectory."""
        return [
            (self._received_s[stamp_ns] - published_s) * 1e3
            for stamp_ns, published_s in self._published_s.items()
            if stamp_ns in self._received_s
        ]

    def _wait_for_stack(self) -> None:
        begin_s = time.monotonic()
        self._client.wait_until_active(NODES, STARTUP_TIMEOUT_S, self._check)
        described = self._client.describe(MATCH_TIMEOUT_S, self._check)
        self.model = {
            name: getattr(described, name)
            for name in ('name', 'weights', 'language_model', 'adapter', 'device', 'precision', 'scene_prefix_tokens')
        }
        if not self._session.wait_until(lambda: not self._player.unheard(), MATCH_TIMEOUT_S, self._check):
            raise ReplayError(f'the stack does not listen to {", ".join(self._player.unheard())}')
        # Discovery is not symmetric: a node publishes to nobody until it knows its readers, and only it can tell.
        if not self._session.wait_until(lambda: not self._unread(), MATCH_TIMEOUT_S, self._check):
            raise ReplayError(f'the stack does not know all readers of {", ".join(self._unread())}')
        # The readers' side of a match follows the writer's, and volatile data that comes in between is lost.
        if not self._session.wait_until(lambda: not self._unmatched(), MATCH_TIMEOUT_S, self._check):
            raise ReplayError(f'readers do not know their publishers: {", ".join(self._unmatched())}')
        waited_s = time.monotonic() - begin_s
        self._progress(f'stack active after {waited_s:.1f} s: {self.model["name"]}, {self.model["weights"]}')

    def _unread(self) -> list[str]:
        """Outputs whose publisher does not know yet all its readers: the recorder, and the stack's other nodes."""
        readers = dict.fromkeys((topic for topic in RECORDED_TOPICS if topic != DIAGNOSTICS), 1)
        if self._options.separate:
            for topic, count in READERS_IF_SEPARATE.items():
                readers[topic] += count
        return [topic for topic, count in readers.items() if self._subscribers.get(topic, 0) < count]

    def _unmatched(self) -> list[str]:
        """Readers that do not know their publisher yet: the recorder, and the stack's nodes by their own word."""
        published = {*self._player.topics, *(READERS_IF_SEPARATE if self._options.separate else ())}
        silent = [f'{node} (no word from it)' for node in NODES if node not in self._publishers]
        nodes = [
            f'{node} of {topic}'
            for node, counts in self._publishers.items()
            for topic, count in counts.items()
            if topic in published and not count
        ]
        return [*silent, *nodes, *(f'recorder of {topic}' for topic in self._recorder.unmatched())]

    def _play_in_lockstep(self) -> None:
        asked = self._questions_by_set()
        messages = numbered(self._reader.messages(), self._player)
        pending = next(messages, None)
        for number, camera_set in enumerate(self._sets):
            images: list[RawMessage] = []
            while pending is not None and pending[0] < camera_set.end_index:
                if self._player.is_image(pending[1]):
                    images.append(pending[1])
                else:
                    self._player.publish(pending[1])
                pending = next(messages, None)
            # Images last: topics overtake each other, and a pose that came after its image would have been
            # extrapolated in one run and read in the next.
            time.sleep(ODOMETRY_LEAD_S)
            for image in images:
                self._published_s[camera_set.stamp_ns] = time.perf_counter()
                self._player.publish(image)
            self._wait_for_set(number)
            self._tell_progress(number)
            for question in asked.get(number, []):
                self._ask(question)

    def _play_in_time(self) -> None:
        asked = self._questions_by_set()
        at_the_end = asked.pop(len(self._sets) - 1, [])
        number_of = {camera_set.last_index: number for number, camera_set in enumerate(self._sets)}
        pending: list[tuple[str, Any]] = []
        begin_s, start_ns = time.monotonic(), self._reader.start_ns
        for index, message in numbered(self._reader.messages(), self._player):
            due_s = begin_s + (message.log_stamp_ns - start_ns) * 1e-9 / self._options.rate
            self._player.wait_until(message.log_stamp_ns, due_s, self._check)
            number = number_of.get(index)
            if number is not None:
                self._published_s[self._sets[number].stamp_ns] = time.perf_counter()
            self._player.publish(message)
            if number is not None:
                self._tell_progress(number)
                pending += [(question, self._client.ask_async(question)) for question in asked.get(number, [])]
        last_ns = self._sets[-1].stamp_ns
        self._session.wait_until(lambda: self._is_done(last_ns), SETTLE_TIMEOUT_S, self._check)
        for question, future in pending:
            response = self._session.result_of(future, ANSWER_TIMEOUT_S, self._check)
            self._keep(answer_record(question, response))
        for question in at_the_end:
            self._ask(question)

    def _run_dry(self) -> None:
        """Wait until nothing has come for a while: forecasts and markers may follow the trajectory, and what was lost
        on its way comes again with a heartbeat.
        """

        def is_dry() -> bool:
            counts = self._recorder.counts
            complete = all(counts[topic] >= counts['/trajectory'] for topic in RECORDED_TOPICS if topic != DIAGNOSTICS)
            return time.monotonic() - self._heard_s > QUIET_S + (0.0 if complete else HEARTBEAT_S)

        self._session.wait_until(is_dry, SETTLE_TIMEOUT_S, self._check)

    def _wait_for_set(self, number: int) -> None:
        stamp_ns = self._sets[number].stamp_ns
        if self._session.wait_until(lambda: self._is_done(stamp_ns), self._options.set_timeout_s, self._check):
            return
        if self._accepted.get(stamp_ns):
            state = 'perception accepted it, but no trajectory came'
        else:
            newest = max(self._accepted, default=None)
            state = f'no scene status came for it; the newest is of {newest}'
        raise ReplayError(
            f'stuck at set {number + 1} of {len(self._sets)}, stamp {stamp_ns} ns, with '
            f'{len(self._sets[number].camera_stamps_ns)} cameras: {state} within {self._options.set_timeout_s:g} s; '
            f'see {self._options.out / LOGS}'
        )

    def _is_done(self, stamp_ns: int) -> bool:
        accepted = self._accepted.get(stamp_ns)
        return accepted is False or (accepted is True and stamp_ns in self._received_s)

    def _ask(self, question: str) -> None:
        self._keep(self._client.ask(question, MATCH_TIMEOUT_S, self._check))

    def _keep(self, answer: AnswerRecord) -> None:
        self.answers.append(answer)
        said = answer.answer if answer.success else f'no answer: {answer.message}'
        self._progress(f'asked {answer.question!r}: {said}')

    def _questions_by_set(self) -> dict[int, list[str]]:
        asked: dict[int, list[str]] = {}
        places = question_places(len(self._options.questions), len(self._sets))
        for place, question in zip(places, self._options.questions, strict=True):
            asked.setdefault(place, []).append(question)
        return asked

    def _tell_progress(self, number: int) -> None:
        if (number + 1) % 10 == 0 or number + 1 == len(self._sets):
            self._progress(f'set {number + 1} of {len(self._sets)}, {len(self._received_s)} trajectories')

    def _listen(self, topic: str, data: bytes) -> None:
        """On the executor's thread, for every recorded message."""
        if topic == DIAGNOSTICS:
            for status in deserialize_message(data, DiagnosticArray).status:
                node, _, concern = status.name.partition(': ')
                if concern == SUBSCRIBERS:
                    self._subscribers |= {pair.key: int(pair.value) for pair in status.values}
                elif concern == PUBLISHERS:
                    self._publishers[node] = {pair.key: int(pair.value) for pair in status.values}
            self._session.notify()
            return
        self._heard_s = time.monotonic()
        if topic == '/trajectory':
            self._received_s[self._published_stamp_ns(data)] = time.perf_counter()
        elif topic == '/scene_status':
            self._accepted[self._published_stamp_ns(data)] = deserialize_message(data, SceneStatus).accepted
        self._session.notify()

    def _published_stamp_ns(self, data: bytes) -> int:
        """The stamp under which the replay knows a message's set.

        Where the reference camera is missing its stamp is an estimate, which the stack, with less of the bag before it,
        makes a little differently.
        """
        stamp_ns = _header_stamp_ns(data)
        place = bisect_left(self._stamps_ns, stamp_ns)
        nearest_ns = min(self._stamps_ns[max(0, place - 1) : place + 1], key=lambda known: abs(known - stamp_ns))
        return nearest_ns if abs(nearest_ns - stamp_ns) <= self._tolerance_ns else stamp_ns


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Set environment variables for this process, whose middleware reads them too, and put the old ones back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield values
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _header_stamp_ns(data: bytes) -> int:
    """Stamp of a serialized message that begins with a header: after the encapsulation's four bytes."""
    sec, nanosec = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return sec * 1_000_000_000 + nanosec

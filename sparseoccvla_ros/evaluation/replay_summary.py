"""Figures of one replay, from what was recorded: the content of ``summary.json``."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparseoccvla_ros import __version__
from sparseoccvla_ros.data.bag_reader import BagReader
from sparseoccvla_ros.data.typestore import package_typestore

PERCENTILES = {'p50': 50, 'p90': 90, 'p99': 99, 'max': 100}
#: Measured by the replay: from publishing a set's last image to receiving its trajectory.
SENSOR_TO_TRAJECTORY = 'sensor_to_trajectory'
NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class AnswerRecord:
    """One question and what came back; the fields of ``answers`` in the summary."""

    question: str
    answer: str
    success: bool
    message: str
    scene_stamp_ns: int
    prompt_tokens: int
    generated_tokens: int
    first_token_ms: float
    total_ms: float


@dataclass(frozen=True)
class ReplayOutputs:
    """SceneStatus and PlannedTrajectory messages of a recording by scene stamp in nanoseconds, in order of arrival."""

    statuses: Mapping[int, Any]
    trajectories: Mapping[int, Any]

    @property
    def accepted(self) -> tuple[int, ...]:
        """Stamps of the sets that perception made a scene of."""
        return tuple(stamp_ns for stamp_ns, status in self.statuses.items() if status.accepted)


def read_outputs(bag: Path) -> ReplayOutputs:
    """Read the statuses and trajectories of a recorded bag."""
    typestore = package_typestore()
    found: dict[str, dict[int, Any]] = {'/scene_status': {}, '/trajectory': {}}
    with BagReader(bag) as reader:
        for raw in reader.messages(found.keys()):
            message = typestore.deserialize_cdr(raw.data, raw.msgtype)
            found[raw.topic][stamp_ns_of(message.header.stamp)] = message
    return ReplayOutputs(statuses=found['/scene_status'], trajectories=found['/trajectory'])


def summarize(
    outputs: ReplayOutputs,
    *,
    published_sets: int,
    answers: Sequence[AnswerRecord],
    sensor_to_trajectory_ms: Sequence[float],
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the summary; its keys are fixed, outside checks read them.

    Args:
        outputs: what the stack published.
        published_sets: camera sets that the replay published.
        answers: the questions asked, in order.
        sensor_to_trajectory_ms: one duration per trajectory received.
        config: how the stack was started.
    """
    trajectories = list(outputs.trajectories.values())
    return {
        'scenes': len(outputs.accepted),
        'trajectories': len(trajectories),
        'valid_trajectories': sum(bool(trajectory.valid) for trajectory in trajectories),
        'answers': [_rounded(asdict(answer)) for answer in answers],
        'drops': drops(outputs, published_sets),
        'latency_ms': latency_ms(outputs, sensor_to_trajectory_ms),
        'config': dict(config),
        'revision': revision(),
    }


def drops(outputs: ReplayOutputs, published_sets: int) -> dict[str, int]:
    """Counts by reason: the stack's own since its activation, and what never came out of it."""
    counts: dict[str, int] = {}
    if outputs.statuses:
        last = list(outputs.statuses.values())[-1]
        counts = {reason: int(count) for reason, count in zip(last.drop_reasons, last.drop_counts, strict=True)}
    unseen = {
        'set_without_status': max(0, published_sets - len(outputs.statuses)),
        'scene_without_trajectory': len(set(outputs.accepted) - outputs.trajectories.keys()),
    }
    return {reason: count for reason, count in (counts | unseen).items() if count}


def latency_ms(outputs: ReplayOutputs, sensor_to_trajectory_ms: Sequence[float]) -> dict[str, dict[str, float]]:
    """Percentiles of every stage, in the order in which the stages run, the whole way last."""
    durations: dict[str, list[float]] = {}
    for message in (*outputs.statuses.values(), *outputs.trajectories.values()):
        for stage, duration_ms in zip(message.stages, message.stage_ms, strict=True):
            durations.setdefault(stage, []).append(float(duration_ms))
    durations[SENSOR_TO_TRAJECTORY] = list(sensor_to_trajectory_ms)
    return {
        stage: {name: round(float(np.percentile(values, percent)), 3) for name, percent in PERCENTILES.items()}
        for stage, values in durations.items()
        if values
    }


def revision() -> str:
    """``git describe`` of the checkout that runs, else the package's version."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return __version__
    command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--tags', '--abbrev=12']
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        # no git here, or a checkout that belongs to somebody else: the version still says what runs
        return __version__
    return described.stdout.strip()


def stamp_ns_of(stamp: Any) -> int:
    """Nanoseconds of a ``builtin_interfaces/Time``."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    """Durations come as float32; their noise digits are not shown."""
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in record.items()}

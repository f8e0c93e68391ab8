"""What a replay is asked to do: options, the stack's parameters for it, the output folder, when to ask."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseoccvla_ros.data.topics import TopicPreset
from sparseoccvla_ros.evaluation.bag_input import CameraSettings
from sparseoccvla_ros.nodes.processes import Parameters, overlay_parameters

OUTPUTS, LOGS, PARAMETERS, SUMMARY, REPORT = 'outputs', 'logs', 'params.yaml', 'summary.json', 'report.html'
OWN_NAMES = frozenset({OUTPUTS, LOGS, PARAMETERS, SUMMARY, REPORT})

#: Fast DDS notices a lost sample of a reliable topic by its heartbeat, and sends it again.
HEARTBEAT_S = 3.0
RESENT_S = HEARTBEAT_S + 2.0
#: In lockstep nothing is late, only slow: limits on the steady clock must not decide what comes out.
LOCKSTEP_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    'perception': {
        'sensor_reliability': 'reliable',
        'set_timeout_s': RESENT_S,
        'pose_timeout_s': RESENT_S,
        'calibration_timeout_s': 5.0,
    },
    'planner': {
        'sensor_reliability': 'reliable',
        'pose_timeout_s': RESENT_S,
        'deadline_s': 100.0,
        'skip_passed': False,
    },
}
SET_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class ReplayOptions:
    """What to replay and how.

    ``rate`` is bag seconds per second; 0 is lockstep: the next set goes out when the last one's trajectory is
    in. ``params`` overlays ``config/stack.yaml``. ``commands`` replaces the stack's command lines (tests).
    ``kept`` names entries of ``out`` that are somebody else's and stay.
    """

    bag: Path
    out: Path
    rate: float = 1.0
    questions: tuple[str, ...] = ()
    separate: bool = False
    topics: str = 'default'
    params: Path | None = None
    commands: Mapping[str, Sequence[str]] | None = None
    kept: frozenset[str] = frozenset()
    set_timeout_s: float = SET_TIMEOUT_S

    def __post_init__(self) -> None:
        if not 0 <= self.rate < float('inf'):
            raise ValueError(f'rate must be 0 (lockstep) or positive, got {self.rate}')
        if any(not question.strip() for question in self.questions):
            raise ValueError('a question is empty')


def stack_parameters(options: ReplayOptions, preset: TopicPreset) -> Parameters:
    """Every node's parameters: config/stack.yaml, lockstep's limits, the user's file, then the bag's topics.

    Raises:
        ValueError, OSError: the user's file is wrong or cannot be read.
    """
    pose = {'pose_source': preset.pose_source, 'odometry_topic': preset.odometry, 'tf_topic': preset.tf}
    frames = {'base_frame': preset.base_frame, 'odom_frame': preset.odom_frame}
    cameras = {
        'image_topic': preset.image,
        'image_type': preset.image_type,
        'camera_info_topic': preset.camera_info,
        'tf_static_topic': preset.tf_static,
    }
    layers: list[Path | Mapping[str, Mapping[str, Any]]] = [LOCKSTEP_PARAMETERS] if options.rate == 0 else []
    layers += [options.params] if options.params is not None else []
    layers += [
        {
            '/**': {'use_sim_time': True, 'autostart': True},
            'perception': {**pose, **frames, **cameras},
            'reasoning': {**pose, **frames},
            'planner': {**pose, **frames},
        }
    ]
    return overlay_parameters(layers)


def camera_settings(parameters: Parameters) -> CameraSettings:
    """Perception's parameters that decide about camera sets.

    Raises:
        ValueError: one has been given a value of the wrong type.
    """
    perception = parameters['perception']
    return CameraSettings(
        cameras=tuple(perception['cameras']),
        reference_camera=perception['reference_camera'],
        min_cameras=perception['min_cameras'],
        set_timeout_s=perception['set_timeout_s'],
        max_spread_s=perception['max_spread_s'],
    )


def prepare_folder(out: Path, kept: frozenset[str]) -> None:
    """Make ``out`` ready: what an earlier replay left there is removed, anything else is refused.

    Raises:
        ValueError: ``out`` holds what no replay writes; nothing has been removed then.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {entry.name for entry in out.iterdir()} - kept
    # every replay begins with its parameters: without them, even a folder called "logs" is somebody else's
    foreign = sorted(found - OWN_NAMES if PARAMETERS in found else found)
    if foreign:
        raise ValueError(f'{out} holds what is not from a replay ({", ".join(foreign[:5])}): choose another folder')
    for name in sorted(OWN_NAMES - {PARAMETERS}):
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def question_places(questions: int, sets: int) -> list[int]:
    """After which set (index) each question is asked: the first after a third of the sets, the last at the end."""
    if not questions:
        return []
    first, last = max(0, round(sets / 3) - 1), sets - 1
    step = (last - first) / max(1, questions - 1)
    return [round(first + number * step) for number in range(questions)]

#!/usr/bin/env python3
"""Compare the package's synchronizer with message_filters' ApproximateTimeSynchronizer on the same sequences.

    .venv/bin/python tools/compare_synchronizers.py [--cycles 1200] [--seed 0] [--json FILE]

Without message_filters (it comes with a ROS installation; its Python part alone on PYTHONPATH does too) only ours is
run. The sequences: 6 cameras, 12 Hz, offsets 0 8 16 25 35 45 ms, arrival up to 5 ms late, normally distributed
stamp jitter of 1 ms unless said.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'test' / 'sensors')]

from stamp_sequences import (  # noqa: E402
    CAMERAS,
    Message,
    complete_cycles,
    even_cycles_s,
    messages,
    mixed,
    nuscenes_sweeps_s,
)

from sparseoccvla_ros.sensors.synchronizer import CameraSet, CycleSynchronizer  # noqa: E402

REFERENCE = 'CAM_FRONT'
NORMAL_1_MS = {'jitter_ms': 1.0, 'gaussian': True}
# title, sequence settings, (queue, slop) of the ApproximateTimeSynchronizer
CASES: list[tuple[str, dict, tuple[int, float]]] = [
    ('no loss, stamp jitter 1 ms', NORMAL_1_MS, (10, 0.05)),
    ('one camera drops 10 % (middle)', {**NORMAL_1_MS, 'loss': {CAMERAS[3]: 0.1}}, (10, 0.05)),
    ('one camera drops 10 % (first)', {**NORMAL_1_MS, 'loss': {CAMERAS[0]: 0.1}}, (10, 0.05)),
    ('one camera drops 10 % (last)', {**NORMAL_1_MS, 'loss': {CAMERAS[5]: 0.1}}, (10, 0.05)),
    ('every camera drops 10 %', {**NORMAL_1_MS, 'loss': 0.1}, (10, 0.05)),
    ('queue 30, one camera 10 %', {**NORMAL_1_MS, 'loss': {CAMERAS[3]: 0.1}}, (30, 0.05)),
    ('stamp jitter 3 ms', {'jitter_ms': 3.0, 'gaussian': True}, (10, 0.05)),
    ('stamp jitter 3 ms, slop 0.06', {'jitter_ms': 3.0, 'gaussian': True}, (10, 0.06)),
    ('slop 0.08, one camera 10 %', {**NORMAL_1_MS, 'loss': {CAMERAS[3]: 0.1}}, (10, 0.08)),
    ('dead camera', {**NORMAL_1_MS, 'loss': {CAMERAS[3]: 1.0}}, (10, 0.05)),
    ('uniform jitter +-10 ms', {'jitter_ms': 10.0}, (10, 0.06)),
    ('uniform jitter +-10 ms, every camera drops 10 %', {'jitter_ms': 10.0, 'loss': 0.1}, (10, 0.06)),
    ('normal jitter of 10 ms', {'jitter_ms': 10.0, 'gaussian': True}, (10, 0.06)),
    ('nuScenes sweeps, 50 or 100 ms apart', {**NORMAL_1_MS, 'sweeps': True}, (10, 0.05)),
    (
        'nuScenes sweeps, first camera drops 10 %',
        {**NORMAL_1_MS, 'sweeps': True, 'loss': {CAMERAS[0]: 0.1}},
        (10, 0.05),
    ),
]

Add = Callable[[Message], list[CameraSet[Message]]]


def ours() -> Add:
    synchronizer: CycleSynchronizer[Message] = CycleSynchronizer(CAMERAS, REFERENCE)
    return lambda message: synchronizer.add(message.camera, message.stamp_ns, message, message.arrival_s)


def theirs(queue_size: int, slop_s: float) -> Callable[[Message], list]:
    """The real one, fed with stand-ins for messages; ImportError where message_filters is absent."""
    from message_filters import ApproximateTimeSynchronizer, SimpleFilter
    from rclpy.time import Time

    inputs = {camera: SimpleFilter() for camera in CAMERAS}
    sets: list = []
    synchronizer = ApproximateTimeSynchronizer(list(inputs.values()), queue_size, slop_s)
    synchronizer.registerCallback(
        lambda *group: sets.append(SimpleNamespace(items={one.truth.camera: one.truth for one in group}, complete=True))
    )

    def add(message: Message) -> list:
        header = SimpleNamespace(stamp=Time(nanoseconds=message.stamp_ns))
        inputs[message.camera].signalMessage(SimpleNamespace(header=header, truth=message))
        out = sets.copy()
        sets.clear()
        return out

    return add


def measure(add: Callable[[Message], list], sequence: list[Message]) -> dict[str, float]:
    """Feed a sequence; CPU microseconds a message (mean, p99; other processes do not count) and counts of sets."""
    duration_us = np.empty(len(sequence))
    sets = []
    for index, message in enumerate(sequence):
        begin_s = time.thread_time()
        out = add(message)
        duration_us[index] = (time.thread_time() - begin_s) * 1e6
        sets += out
    return {
        'mean_us': float(duration_us.mean()),
        'p99_us': float(np.percentile(duration_us, 99)),
        'complete': sum(s.complete and not mixed(s) for s in sets),
        'mixed': sum(mixed(s) for s in sets),
        'partial': sum(not s.complete for s in sets),
    }


def cell(result: dict[str, float] | None) -> str:
    if result is None:
        return '- | - | - | -'
    return (
        f'{result["mean_us"]:.0f} / {result["p99_us"]:.0f} | {result["complete"]:.0f} | '
        f'{result["mixed"]:.0f} | {result["partial"]:.0f}'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cycles', type=int, default=1200)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='write the figures here too')
    arguments = parser.parse_args()
    try:
        theirs(10, 0.05)
        with_theirs = True
    except ImportError as error:
        with_theirs = False
        print(f'only ours: {error}\n', file=sys.stderr)

    print(
        '| case | complete cycles | ours: us per add, mean / p99 | complete | mixed | partial '
        '| ApproximateTimeSynchronizer: us per add, mean / p99 | complete | mixed | partial |'
    )
    print('| --- ' * 10 + '|')
    rows = []
    for title, settings, (queue_size, slop_s) in CASES:
        settings = dict(settings)
        start_times = nuscenes_sweeps_s if settings.pop('sweeps', False) else even_cycles_s
        sequence = messages(start_times(arguments.cycles), np.random.default_rng(arguments.seed), **settings)
        expected = len(complete_cycles(sequence))
        mine = measure(ours(), sequence)
        other = measure(theirs(queue_size, slop_s), sequence) if with_theirs else None
        rows.append({'case': title, 'complete_cycles': expected, 'ours': mine, 'approximate_time': other})
        print(f'| {title} | {expected} | {cell(mine)} | {cell(other)} |', flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())

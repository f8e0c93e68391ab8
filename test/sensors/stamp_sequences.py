"""Generated and recorded sequences of camera stamps, with the truth of which cycle each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CAMERAS = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT', 'CAM_BACK', 'CAM_BACK_LEFT')
NUSCENES_OFFSETS_MS = (0.0, 8.0, 16.0, 25.0, 35.0, 45.0)
BASE_NS = 1_533_151_603_512_404_000  # a nuScenes time: 19 digits do not fit a float


@dataclass(frozen=True)
class Message:
    """One camera message: ``cycle`` is the truth, ``arrival_s`` steady time."""

    cycle: int
    camera: str
    stamp_ns: int
    arrival_s: float


def even_cycles_s(count: int, period_s: float = 1.0 / 12.0) -> np.ndarray:
    """Start times [count] of a rig with a constant rate."""
    return np.arange(count) * period_s


def nuscenes_sweeps_s(count: int) -> np.ndarray:
    """Start times [count] of nuScenes' 12 Hz cameras: 12 exposures on 20 LiDAR turns, so 50 or 100 ms apart."""
    turns = np.ceil(np.arange(count) * 20.0 / 12.0 - 1e-9)
    return turns * 0.05


def messages(
    cycles_s: np.ndarray,
    rng: np.random.Generator,
    *,
    offsets_ms: tuple[float, ...] = NUSCENES_OFFSETS_MS,
    jitter_ms: float = 0.0,
    gaussian: bool = False,
    loss: dict[str, float] | float = 0.0,
    arrival_jitter_ms: float = 5.0,
    skip_first: int = 0,
    cameras: tuple[str, ...] = CAMERAS,
) -> list[Message]:
    """Messages in the order of arrival.

    Args:
        jitter_ms: of the stamps: uniform in +-jitter_ms, or the standard deviation if ``gaussian``.
        loss: probability that a message is lost, for all cameras or by name.
        arrival_jitter_ms: delay between exposure and arrival, uniform in 0..this (a camera's own order is kept).
        skip_first: messages cut off at the beginning, so that the sequence starts in mid-cycle.
    """
    by_arrival = []
    for camera, offset_ms in zip(cameras, offsets_ms, strict=True):
        noise = rng.normal(0.0, 1.0, len(cycles_s)) if gaussian else rng.uniform(-1.0, 1.0, len(cycles_s))
        stamps_ns = np.round((cycles_s + (offset_ms + jitter_ms * noise) * 1e-3) * 1e9).astype(np.int64)
        arrivals_s = stamps_ns * 1e-9 + rng.uniform(0.0, arrival_jitter_ms * 1e-3, len(cycles_s))
        arrivals_s = np.maximum.accumulate(arrivals_s)
        probability = loss if isinstance(loss, float) else loss.get(camera, 0.0)
        kept = rng.uniform(size=len(cycles_s)) >= probability
        by_arrival += [
            Message(int(i), camera, BASE_NS + int(stamps_ns[i]), float(arrivals_s[i]) + 100.0)
            for i in np.nonzero(kept)[0]
        ]
    by_arrival.sort(key=lambda message: message.arrival_s)
    return by_arrival[skip_first:]


def complete_cycles(sequence: list[Message], cameras: tuple[str, ...] = CAMERAS) -> set[int]:
    """The cycles of which every camera's message is in the sequence."""
    count: dict[int, int] = {}
    for message in sequence:
        count[message.cycle] = count.get(message.cycle, 0) + 1
    return {cycle for cycle, n in count.items() if n == len(cameras)}


def run(synchronizer, sequence: list[Message], poll_s: float = 0.02) -> list:
    """Feed a sequence as a node does: a poll every ``poll_s`` of steady time, and two seconds of them at the end.

    Items are the messages themselves. Returns the camera sets.
    """
    sets, now_s = [], sequence[0].arrival_s
    for message in sequence:
        while now_s + poll_s < message.arrival_s:
            now_s += poll_s
            sets += synchronizer.poll(now_s)
        now_s = message.arrival_s
        sets += synchronizer.add(message.camera, message.stamp_ns, message, now_s)
    for step in range(1, int(2.0 / poll_s)):
        sets += synchronizer.poll(now_s + step * poll_s)
    return sets


def mixed(camera_set) -> bool:
    """True if a set holds messages of different cycles."""
    return len({message.cycle for message in camera_set.items.values()}) > 1

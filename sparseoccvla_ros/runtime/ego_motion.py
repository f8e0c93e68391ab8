"""Where the vehicle was and how it moved, from a bounded history of odometry.

Poses between two samples may use both of them: an image is projected with the pose at its own time, whenever the later
sample arrived. The motion state that goes into the planner is causal: it uses samples at or before the asked time only,
by the same code in training and on the car.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sparseoccvla_ros.geometry import interpolate, transform_from_planar, wrap_angle, yaw_of
from sparseoccvla_ros.runtime.scene import EgoState

NS_PER_S = 1_000_000_000

# A second sample closer than this carries noise rather than motion: 1 mm over 100 ms is already 1 cm/s. nuScenes
# keyframes bring six poses within 45 ms; they count as one.
DISTINCT_NS = 100_000_000


class AddOutcome(Enum):
    """What became of a sample."""

    ADDED = 'added'
    INSERTED = 'inserted out of order'
    DUPLICATE = 'duplicate stamp'
    NOT_FINITE = 'not finite'
    CLOCK_JUMP = 'clock jumped back'


@dataclass(frozen=True)
class _Sample:
    stamp_ns: int
    odom_from_ego: np.ndarray
    speed_mps: float | None
    yaw_rate_radps: float | None


class PoseBuffer:
    """Bounded history of vehicle poses in the odometry frame. Thread safe: every public call holds one lock.

    Args:
        history_s: samples older than this behind the newest are forgotten.
        max_gap_s: poses are not interpolated between samples further apart than this.
        max_extrapolation_s: how far beyond the newest sample a pose is carried on at constant rates.
        window_s: span of samples behind the asked time from which the motion state is fitted. It grows until it holds
            three samples at least 0.1 s apart, because acceleration needs three: 0.5 s at 100 Hz, 1 s at 2 Hz.
        max_window_s: an older third sample does not count; there is no state then.
        max_state_age_s: there is no state if the newest sample at or before the asked time is older than this.
        max_backward_s: a sample older than the newest by more than this is a clock jump, less is only out of order.

    Raises:
        ValueError: a limit is not positive, or the windows contradict each other.
    """

    def __init__(
        self,
        *,
        history_s: float = 10.0,
        max_gap_s: float = 1.0,
        max_extrapolation_s: float = 0.1,
        window_s: float = 0.5,
        max_window_s: float = 1.6,
        max_state_age_s: float = 0.6,
        max_backward_s: float = 1.0,
    ) -> None:
        limits = {'history_s': history_s, 'max_gap_s': max_gap_s, 'window_s': window_s, 'max_window_s': max_window_s}
        limits |= {'max_state_age_s': max_state_age_s, 'max_backward_s': max_backward_s}
        for name, value in limits.items():
            if not value > 0.0:
                raise ValueError(f'{name} ({value}) must be positive')
        if not 0.0 <= max_extrapolation_s < history_s:
            raise ValueError(f'max_extrapolation_s ({max_extrapolation_s}) must be in [0, history_s = {history_s})')
        if not window_s <= max_window_s <= history_s:
            raise ValueError(f'need window_s ({window_s}) <= max_window_s ({max_window_s}) <= history_s ({history_s})')
        self._history_ns = round(history_s * NS_PER_S)
        self._max_gap_ns = round(max_gap_s * NS_PER_S)
        self._max_extrapolation_ns = round(max_extrapolation_s * NS_PER_S)
        self._window_ns = round(window_s * NS_PER_S)
        self._max_window_ns = round(max_window_s * NS_PER_S)
        self._max_state_age_ns = round(max_state_age_s * NS_PER_S)
        self._max_backward_ns = round(max_backward_s * NS_PER_S)
        self._lock = threading.Lock()
        self._samples: list[_Sample] = []
        self._drops: Counter[str] = Counter()

    def add(
        self,
        stamp_ns: int,
        odom_from_ego: np.ndarray,
        speed_mps: float | None = None,
        yaw_rate_radps: float | None = None,
    ) -> AddOutcome:
        """Take one odometry sample, in any order.

        ``speed_mps`` (along ego x) and ``yaw_rate_radps`` are the measured twist, where the source has one that can be
        trusted; converters often leave it zero, so None makes both come from the poses. A stamp that is already there
        is refused. A clock jump back forgets everything older and keeps this sample.
        """
        twist = [value for value in (speed_mps, yaw_rate_radps) if value is not None]
        sample = _Sample(stamp_ns, np.array(odom_from_ego, dtype=np.float64), speed_mps, yaw_rate_radps)
        with self._lock:
            outcome = self._insert(
                sample, finite=bool(np.isfinite(sample.odom_from_ego).all() and np.isfinite(twist).all())
            )
            if outcome is not AddOutcome.ADDED:
                self._drops[outcome.value] += 1
        return outcome

    def clear(self) -> None:
        """Forget all samples (a clock jump seen elsewhere); the counters stay."""
        with self._lock:
            self._samples.clear()

    @property
    def drops(self) -> Counter[str]:
        """Counted irregularities by the value of their :class:`AddOutcome` (a copy)."""
        with self._lock:
            return Counter(self._drops)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample."""
        with self._lock:
            return self._samples[-1].stamp_ns if self._samples else None

    def pose_at(self, stamp_ns: int) -> np.ndarray | None:
        """``odom_from_ego`` [4, 4] at this time, None if the history does not say.

        Between two samples translation is linear and rotation great-circle; beyond the newest both go on at the rates
        of the last distinct samples, for ``max_extrapolation_s``. There is no pose before the oldest sample.
        """
        with self._lock:
            samples = self._samples
            after = bisect_left(samples, stamp_ns, key=_stamp_of)
            if after < len(samples) and samples[after].stamp_ns == stamp_ns:
                return samples[after].odom_from_ego.copy()
            if after == 0:
                return None
            if after < len(samples):
                return self._between(samples[after - 1], samples[after], stamp_ns)
            newest = samples[-1]
            if stamp_ns - newest.stamp_ns > self._max_extrapolation_ns:
                return None
            distinct = bisect_right(samples, newest.stamp_ns - DISTINCT_NS, key=_stamp_of) - 1
            return self._between(samples[distinct], newest, stamp_ns) if distinct >= 0 else None

    def state_at(self, stamp_ns: int) -> EgoState | None:
        """Motion at this time from samples at or before it only, None if they are too old or too few.

        Samples that arrive later (with later stamps) never change the answer. The pose is the newest such sample's,
        carried on to ``stamp_ns`` at the fitted speed and yaw rate.
        """
        state = self._state(stamp_ns)
        return state if isinstance(state, EgoState) else None

    def missing_reason(self, stamp_ns: int) -> str:
        """Why :meth:`state_at` has no state at this time; empty if it has one."""
        state = self._state(stamp_ns)
        return '' if isinstance(state, EgoState) else state

    def _insert(self, sample: _Sample, *, finite: bool) -> AddOutcome:
        samples = self._samples
        if not finite:
            return AddOutcome.NOT_FINITE
        if samples and samples[-1].stamp_ns - sample.stamp_ns > self._max_backward_ns:
            self._samples = [sample]
            return AddOutcome.CLOCK_JUMP
        index = bisect_left(samples, sample.stamp_ns, key=_stamp_of)
        if index < len(samples) and samples[index].stamp_ns == sample.stamp_ns:
            return AddOutcome.DUPLICATE
        outcome = AddOutcome.ADDED if index == len(samples) else AddOutcome.INSERTED
        samples.insert(index, sample)
        del samples[: bisect_left(samples, samples[-1].stamp_ns - self._history_ns, key=_stamp_of)]
        return outcome

    def _between(self, first: _Sample, second: _Sample, stamp_ns: int) -> np.ndarray | None:
        gap_ns = second.stamp_ns - first.stamp_ns
        if gap_ns > self._max_gap_ns:
            return None
        return interpolate(first.odom_from_ego, second.odom_from_ego, (stamp_ns - first.stamp_ns) / gap_ns)

    def _state(self, stamp_ns: int) -> EgoState | str:
        with self._lock:
            past = self._samples[: bisect_right(self._samples, stamp_ns, key=_stamp_of)]
        if not past:
            return 'odometry missing'
        age_ns = stamp_ns - past[-1].stamp_ns
        if age_ns > self._max_state_age_ns:
            return f'odometry too old: {age_ns / NS_PER_S:.2f} s, limit {self._max_state_age_ns / NS_PER_S:.2f} s'
        window = self._window(past)
        if window is None:
            return (
                f'odometry history too short: fewer than 3 distinct poses within {self._max_window_ns / NS_PER_S:.1f} s'
            )
        return _fit_state(window, stamp_ns)

    def _window(self, past: list[_Sample]) -> list[_Sample] | None:
        """Samples to fit: ``window_s`` back from the newest, further until three of them are distinct."""
        newest_ns = past[-1].stamp_ns
        third_ns, distinct = newest_ns, 1
        for sample in reversed(past):
            if third_ns - sample.stamp_ns >= DISTINCT_NS:
                third_ns, distinct = sample.stamp_ns, distinct + 1
                if distinct == 3:
                    break
        if distinct < 3 or newest_ns - third_ns > self._max_window_ns:
            return None
        start_ns = min(third_ns, newest_ns - self._window_ns)
        return past[bisect_left(past, start_ns, key=_stamp_of) :]


def _stamp_of(sample: _Sample) -> int:
    return sample.stamp_ns


def _fit_state(window: list[_Sample], stamp_ns: int) -> EgoState:
    """Constant-acceleration, constant-yaw-acceleration fit of the window, evaluated at ``stamp_ns``.

    Fitting travelled distance and heading by a second-order polynomial has no lag, unlike differences, and averages
    the noise of dense odometry, where single differences would amplify it.
    """
    times_s = np.array([(sample.stamp_ns - stamp_ns) / NS_PER_S for sample in window])
    speeds = [sample.speed_mps for sample in window]
    rates = [sample.yaw_rate_radps for sample in window]
    yaw_rad = np.unwrap([yaw_of(sample.odom_from_ego) for sample in window])
    if None in speeds:
        # distance(t) = c + v t + a t^2 / 2
        half_accel, speed_mps, _ = np.polyfit(times_s, _travelled_m(window), 2)
        accel_mps2 = 2.0 * half_accel
    else:
        accel_mps2, speed_mps = np.polyfit(times_s, speeds, 1)
    yaw_rate_radps = np.polyfit(times_s, yaw_rad, 2)[1] if None in rates else np.polyfit(times_s, rates, 1)[1]

    newest = window[-1]
    ahead_s = -float(times_s[-1])
    turn_rad = yaw_rate_radps * ahead_s
    distance_m = (speed_mps - 0.5 * accel_mps2 * ahead_s) * ahead_s
    chord_m = distance_m * np.sinc(turn_rad / (2.0 * math.pi))
    newest_from_ego = transform_from_planar(
        chord_m * math.cos(0.5 * turn_rad), chord_m * math.sin(0.5 * turn_rad), turn_rad
    )
    return EgoState(
        stamp_ns=stamp_ns,
        odom_from_ego=newest.odom_from_ego @ newest_from_ego,
        speed_mps=float(speed_mps),
        accel_mps2=float(accel_mps2),
        yaw_rate_radps=float(yaw_rate_radps),
    )


def _travelled_m(window: list[_Sample]) -> np.ndarray:
    """Signed distance along the path [N], metres: negative steps are driven backwards.

    A chord is shorter than the arc that it spans; dividing by sinc makes constant turns exact at 2 Hz too.
    """
    poses = np.stack([sample.odom_from_ego for sample in window])
    steps = np.diff(poses[:, :3, 3], axis=0)
    forward = poses[1:, :3, 0] + poses[:-1, :3, 0]
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    turns_rad = wrap_angle(np.diff(np.arctan2(poses[:, 1, 0], poses[:, 0, 0])))
    arcs_m = np.einsum('ni,ni->n', steps, forward) / np.sinc(turns_rad / (2.0 * np.pi))
    return np.concatenate([[0.0], np.cumsum(arcs_m)])

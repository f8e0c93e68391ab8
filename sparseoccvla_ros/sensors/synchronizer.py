"""Camera messages to camera sets, cycle by cycle.

Each message is moved by its camera's learned offset (``cycle_phase``), which puts all messages of one cycle at
one time, and joins the cycle that is nearest. Cycles are handed out in order of time. Neither a common window nor
"nearest to the reference" can do this on a rig whose cameras fire up to 45 ms apart: see docs/synchronization.md.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from statistics import median
from typing import Generic, TypeVar

from sparseoccvla_ros.sensors.cycle_phase import cluster_tolerance_ns, learn_phase

T = TypeVar('T')

NS_PER_S = 1_000_000_000
CLOCK_JUMP_NS = NS_PER_S  # a camera's stamp this far before its last one: the bag was restarted
STALE_IN_A_ROW = 3  # as many out-of-order messages of one camera are a restart too (a loop shorter than that)
START_MESSAGES = 5  # of one camera: four whole cycles have passed, mostly enough to tell where the cycle begins,
START_MESSAGES_MOST = 8  # and if it is not evident even now, it does not matter
START_MARGIN = 1.7
NEW_CAMERA_MESSAGES = 3  # before a camera that joins a running rig is placed
HISTORY_CYCLES = 12
RELEARN_CYCLES = (3, 32)  # first distance, doubled up to the last
SILENT_CYCLES = 8  # a camera missing in as many sets is not waited for
MAX_OPEN_CYCLES = 8
MIN_GAIN = 1.0 / 16.0  # of the running means of a camera's offset and losses
JITTER_GAIN = 1.0 / 128.0
MIN_LOSS = 1e-3


@dataclass(frozen=True)
class CameraSet(Generic[T]):
    """One cycle of the rig.

    ``stamp_ns`` is the reference camera's, or an estimate of it from the other cameras where that one is missing.
    ``items`` and ``stamps_ns`` (each camera's own) hold the cameras that are there, in the rig's order; ``missing``
    names the others.
    """

    stamp_ns: int
    items: dict[str, T]
    stamps_ns: dict[str, int]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True if no camera is missing."""
        return not self.missing


class _Cycle(Generic[T]):
    """An open cycle: members (stamp, stamp without the camera's offset, item) by camera, and their centre."""

    __slots__ = ('centre_ns', 'members', 'opened_s', 'sum_ns')

    def __init__(self, opened_s: float):
        self.opened_s = opened_s
        self.members: dict[int, tuple[int, int, T]] = {}
        self.sum_ns = 0
        self.centre_ns = 0

    def put(self, camera: int, stamp_ns: int, aligned_ns: int, item: T) -> None:
        self.members[camera] = (stamp_ns, aligned_ns, item)
        self.sum_ns += aligned_ns
        self.centre_ns = self.sum_ns // len(self.members)


class CycleSynchronizer(Generic[T]):
    """Groups the messages of a rig's cameras into cycles.

    Not thread-safe; the caller holds its own lock. Memory is bounded whatever arrives (at most
    ``START_MESSAGES_MOST`` messages a camera before the timing is known, ``MAX_OPEN_CYCLES`` cycles after that).

    A cycle is handed out as soon as it is complete; as a partial set when every missing camera has sent a newer
    message or has been silent for ``SILENT_CYCLES`` cycles, or ``timeout_s`` after its first message. Sets come in the
    order of their stamps. (Exception: cameras with a foreign clock, fewer than half of the rig, form their own sets.)

    ``drops`` counts messages that are in no set: ``duplicate``, ``out_of_order`` (before the camera's last one),
    ``late`` (their set is out), ``surplus`` (a second message of a camera in one cycle), ``unlearned`` (the first ones
    of a camera that joins a running rig; all of one whose stamps have nothing to do with the others'), ``cleared``
    (waiting when the clock jumped); and ``clock_jump``, the number of backward jumps.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        reference_camera: str,
        *,
        timeout_s: float = 0.15,
        max_spread_s: float = 0.06,
    ):
        """Take the rig's cameras in order.

        Args:
            timeout_s: longest wait for a cycle's missing cameras, steady time from its first message.
            max_spread_s: no rig's cameras fire further apart than this in one cycle; also the largest deviation of a
                message from its usual time in the cycle.

        Raises:
            ValueError: no cameras, a name twice, the reference camera is not one of them, or a time is not positive.
        """
        self.cameras = tuple(cameras)
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f'cameras must be different names, at least one: {self.cameras}')
        if reference_camera not in self.cameras:
            raise ValueError(f'reference_camera {reference_camera!r} is not one of {self.cameras}')
        if not (timeout_s > 0.0 and max_spread_s > 0.0):
            raise ValueError(f'timeout_s ({timeout_s}) and max_spread_s ({max_spread_s}) must be positive')
        self.reference_camera = reference_camera
        self.timeout_s = timeout_s
        self.drops: Counter[str] = Counter()
        self._max_spread_ns = max_spread_s * NS_PER_S
        self._index = {name: index for index, name in enumerate(self.cameras)}
        self.reset()

    def reset(self) -> None:
        """Forget everything that arrived and all that was learned; ``drops`` goes on counting."""
        count = len(self.cameras)
        self._last_stamp_ns: list[int | None] = [None] * count
        self._last_aligned_ns: list[int | None] = [None] * count
        self._stale = [0] * count
        self._missed = [0] * count
        self._heard_s = float('-inf')
        self._history: deque[tuple[int, int]] = deque(maxlen=HISTORY_CYCLES * count)
        # before the timing is known: messages (stamp, camera, item, arrival)
        self._waiting: list[tuple[int, int, T, float]] = []
        self._locked = False
        self._relearn_cycles = RELEARN_CYCLES[0]
        self._until_learn = self._relearn_cycles * count
        self._offsets_ns = [0] * count
        self._seen = [0] * count  # messages behind each offset
        self._loss = [0.1] * count
        self._jitter_ns2 = 0.0
        self._tolerance_ns = 0.75 * self._max_spread_ns
        self._spacing_known = False
        self._crowd = [0.8] * count  # share of the tolerance in which a second message of a camera is surplus
        self._open: list[_Cycle[T]] = []
        self._closed: _Cycle[T] | None = None
        self._closed_stamp_ns = -(2**63)

    def add(self, camera: str, stamp_ns: int, item: T, now_s: float) -> list[CameraSet[T]]:
        """Take one message; return the sets that it completes, or proves to be incompletable.

        Args:
            stamp_ns: the time of exposure (header stamp), any clock.
            now_s: arrival, steady clock.

        Raises:
            ValueError: the camera is not in the rig.
        """
        index = self._index.get(camera)
        if index is None:
            raise ValueError(f'camera {camera!r} is not one of {self.cameras}')
        last_ns = self._last_stamp_ns[index]
        if last_ns is not None and stamp_ns <= last_ns:
            if stamp_ns == last_ns:
                self.drops['duplicate'] += 1
                return self.poll(now_s)
            self._stale[index] += 1
            if last_ns - stamp_ns < CLOCK_JUMP_NS and self._stale[index] < STALE_IN_A_ROW:
                self.drops['out_of_order'] += 1
                return self.poll(now_s)
            self.drops['clock_jump'] += 1
            self.drops['cleared'] += len(self._waiting) + sum(len(cycle.members) for cycle in self._open)
            self.reset()
            last_ns = None
        self._stale[index] = 0
        self._last_stamp_ns[index] = stamp_ns
        self._history.append((stamp_ns, index))
        self._heard_s = now_s
        if last_ns is not None and not self._spacing_known:
            self._tolerance_ns = min(self._tolerance_ns, 0.6 * (stamp_ns - last_ns))
        if self._locked:
            heard = None if self._seen[index] else sum(i == index for _, i in self._history)
            self._until_learn -= 1
            if self._until_learn <= 0 or heard == NEW_CAMERA_MESSAGES:
                self._learn()
            self._place(index, stamp_ns, item, now_s)
        else:
            self._waiting.append((stamp_ns, index, item, now_s))
            if not self._lock_on_line_up():
                heard = Counter(i for _, i, _, _ in self._waiting)
                if heard[index] >= START_MESSAGES_MOST:
                    self._learn()
                elif heard[index] >= START_MESSAGES and min(heard.values()) >= START_MESSAGES - 1:
                    self._learn(at_least=START_MARGIN)
        return self._hand_out(now_s)

    def poll(self, now_s: float) -> list[CameraSet[T]]:
        """Return the sets whose time is up. Call it every few tens of milliseconds (steady clock)."""
        if self._waiting and now_s - self._heard_s >= self.timeout_s:
            self._learn()
        return self._hand_out(now_s)

    def _lock_on_line_up(self) -> bool:
        """Start at once if the first messages are evidently one cycle, complete.

        In a lockstep replay nothing follows the first cycle until its set is out. Evident means: no pause inside that
        could be the one between two cycles. :meth:`_learn` confirms or corrects it three cycles later.
        """
        if len(self._waiting) != len(self.cameras) or len({index for _, index, _, _ in self._waiting}) != len(
            self.cameras
        ):
            return False
        newest_ns = sorted(stamp_ns for stamp_ns, _, _, _ in self._waiting)
        longest_ns = max((b - a for a, b in pairwise(newest_ns)), default=0)
        if newest_ns[-1] - newest_ns[0] > self._max_spread_ns or longest_ns > self._max_spread_ns / 4.0:
            return False
        centre_ns = sum(newest_ns) // len(newest_ns)
        self._offsets_ns = [stamp_ns - centre_ns for stamp_ns in self._last_stamp_ns]
        self._seen = [1] * len(self.cameras)
        self._place_waiting()
        return True

    def _learn(self, at_least: float = 0.0) -> None:
        """Learn the timing from the history and lock on it, unless its margin is below ``at_least``.

        A lock that holds keeps its offsets: they are means over more cycles.
        """
        known = None  # a first line-up weighs no more than any other
        if self._locked and self._spacing_known:
            known = {i: float(self._offsets_ns[i]) for i, seen in enumerate(self._seen) if seen}
        phase = learn_phase(self._history, self._max_spread_ns, known)
        if phase.margin < at_least:
            return
        # both are relative to a cycle's centre, but not of the same cameras
        shared = (known or {}).keys() & phase.offsets_ns.keys()
        shift_ns = median(known[i] - phase.offsets_ns[i] for i in shared) if shared else 0.0
        for index, offset_ns in phase.offsets_ns.items():
            # an offset that was right is within the noise of the new one
            change_ns = offset_ns + shift_ns - self._offsets_ns[index]
            if not self._seen[index] or not self._locked or abs(change_ns) > self._tolerance_ns / 2.0:
                self._offsets_ns[index] += round(change_ns)
                self._seen[index] = HISTORY_CYCLES // 2
        if phase.spacing_ns is not None:
            self._spacing_known = True
            self._tolerance_ns = cluster_tolerance_ns(phase.spacing_ns, self._max_spread_ns)
            # a camera faster than the rig sends frames between the cycles
            for index, period_ns in phase.periods_ns.items():
                self._crowd[index] = 1.4 if period_ns < 0.75 * phase.spacing_ns else 0.8
        self._until_learn = self._relearn_cycles * len(self.cameras)
        self._relearn_cycles = min(2 * self._relearn_cycles, RELEARN_CYCLES[1])
        self._place_waiting()

    def _place_waiting(self) -> None:
        self._locked = True
        for stamp_ns, index, item, arrived_s in sorted(self._waiting, key=lambda message: message[:2]):
            self._place(index, stamp_ns, item, arrived_s)
        self._waiting.clear()

    def _place(self, index: int, stamp_ns: int, item: T, now_s: float) -> None:
        """Put a message into the nearest cycle that lacks its camera, or open one."""
        if self._spacing_known and not self._seen[index]:
            self.drops['unlearned'] += 1
            return
        aligned_ns = stamp_ns - self._offsets_ns[index]
        self._last_aligned_ns[index] = aligned_ns
        self._missed[index] = 0
        # Nearer to the next cycle than to its own is more often late than the frame after a lost one, and the more so
        # the rarer losses are: the border of two normal distributions of unequal weight.
        favour_ns = self._jitter_ns2 * log(1.0 / max(self._loss[index], MIN_LOSS)) / (2.0 * self._tolerance_ns)
        favour_ns = min(favour_ns, self._tolerance_ns / 4.0)
        nearest, nearest_ns, crowded = None, self._tolerance_ns, False
        crowd_ns = self._crowd[index] * self._tolerance_ns
        for cycle in self._open:
            distance_ns = abs(aligned_ns - cycle.centre_ns)
            if index in cycle.members:
                crowded = crowded or distance_ns < crowd_ns
            # few members make an uncertain centre, and it is unlikely that all the others were lost
            elif distance_ns <= self._tolerance_ns * (1.0 + 0.3 / len(cycle.members)) + favour_ns and (
                nearest is None or distance_ns + favour_ns < nearest_ns - favour_ns
            ):
                nearest, nearest_ns = cycle, distance_ns
        closed = self._closed
        if closed is not None:
            behind_ns = aligned_ns - closed.centre_ns
            if index in closed.members:
                crowded = crowded or behind_ns < crowd_ns
            elif behind_ns < 0 or behind_ns <= nearest_ns:
                self.drops['late'] += 1
                return
        if nearest is None:
            if crowded:
                self.drops['surplus'] += 1
                return
            nearest = _Cycle(now_s)
            position = sum(cycle.centre_ns < aligned_ns for cycle in self._open)
            self._open.insert(position, nearest)
        nearest.put(index, stamp_ns, aligned_ns, item)

    def _hand_out(self, now_s: float) -> list[CameraSet[T]]:
        sets = []
        while self._open:
            cycle = self._open[0]
            over = now_s - cycle.opened_s >= self.timeout_s or len(self._open) > MAX_OPEN_CYCLES
            if not (over or self._is_finished(cycle)):
                break
            del self._open[0]
            sets.append(self._close(cycle))
        return sets

    def _is_finished(self, cycle: _Cycle[T]) -> bool:
        if len(cycle.members) == len(self.cameras):
            return True
        for index, aligned_ns in enumerate(self._last_aligned_ns):
            if index in cycle.members or self._missed[index] >= SILENT_CYCLES:
                continue
            if aligned_ns is None or aligned_ns < cycle.centre_ns:
                return False
        return True

    def _close(self, cycle: _Cycle[T]) -> CameraSet[T]:
        items, stamps_ns, missing = {}, {}, []
        for index, name in enumerate(self.cameras):
            member = cycle.members.get(index)
            if member is None:
                self._missed[index] += 1
                self._loss[index] += MIN_GAIN * (1.0 - self._loss[index])
                missing.append(name)
                continue
            stamps_ns[name], aligned_ns, items[name] = member
            self._seen[index] += 1
            gain = max(MIN_GAIN, 1.0 / self._seen[index])
            residual_ns = aligned_ns - cycle.centre_ns
            self._offsets_ns[index] += round(gain * residual_ns)
            self._jitter_ns2 += JITTER_GAIN * (residual_ns**2 - self._jitter_ns2)
            self._loss[index] *= 1.0 - MIN_GAIN
            cycle.members[index] = None  # only who was there is remembered
        reference = self._index[self.reference_camera]
        estimate_ns = cycle.centre_ns + self._offsets_ns[reference]
        stamp_ns = stamps_ns.get(self.reference_camera, estimate_ns)
        # a lone camera with a foreign clock must not make the others late
        if 2 * len(items) >= len(self.cameras) - sum(m >= SILENT_CYCLES for m in self._missed):
            if self.reference_camera in missing:
                stamp_ns = max(estimate_ns, self._closed_stamp_ns + 1)
            self._closed, self._closed_stamp_ns = cycle, stamp_ns
        return CameraSet(stamp_ns, items, stamps_ns, tuple(missing))

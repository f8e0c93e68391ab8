"""Image features of earlier frames, so that the backbone runs once per new frame.

A change of pose is handled in the projection and never by recomputing: each view keeps ``image_from_odom`` of its own
image time, and the projection for a later ego frame is ``image_from_odom @ odom_from_ego``.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

NS_PER_S = 1_000_000_000

# Frames closer than this to the last stored one add memory and no choice: 20 Hz is finer than any useful tolerance.
MIN_SPACING_S = 0.05


@dataclass(frozen=True)
class FrameFeatures:
    """The features of one camera cycle.

    ``levels`` are the pyramid's levels, each [N, C, h, w] for the N cameras of the rig, in its order; ``view_mask``
    bool [N] is False for a camera that is missing (its features are zero). ``image_from_odom`` float64 [N, 4, 4]
    projects odometry-frame metres into each image at that image's own time.
    """

    stamp_ns: int
    levels: tuple[torch.Tensor, ...]
    image_from_odom: np.ndarray
    view_mask: np.ndarray


@dataclass(frozen=True)
class History:
    """Earlier frames for one scene: ``frames[i]`` lies about ``(i + 1) * frame_interval_s`` back, or is None.

    ``reasons`` says of each empty place why, in the same order ('' where there is a frame).
    """

    frames: tuple[FrameFeatures | None, ...]
    reasons: tuple[str, ...]


class FeatureRing:
    """Keeps frames for ``earlier_frames`` places that lie ``frame_interval_s`` apart.

    Cameras run faster than that, and which frames lie nearest to the places is known only later, so all frames that are
    at least 0.05 s apart are kept as far back as the last place. Not thread safe: it belongs to one engine.

    Args:
        earlier_frames: places, without the current frame.
        frame_interval_s: distance of the places.
        tolerance_s: a frame further than this from its place is not used for it; default a third of the interval, so
            that no frame serves two places.
        max_gap_s: a longer silence between two frames clears the memory.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self, earlier_frames: int, frame_interval_s: float, *, tolerance_s: float | None = None, max_gap_s: float = 1.5
    ) -> None:
        tolerance_s = frame_interval_s / 3.0 if tolerance_s is None else tolerance_s
        if earlier_frames < 0:
            raise ValueError(f'earlier_frames ({earlier_frames}) must not be negative')
        if not 0.0 <= tolerance_s < 0.5 * frame_interval_s:
            raise ValueError(
                f'tolerance_s ({tolerance_s}) must be in [0, half of frame_interval_s = {frame_interval_s})'
            )
        if not max_gap_s >= frame_interval_s:
            raise ValueError(f'max_gap_s ({max_gap_s}) must be at least frame_interval_s ({frame_interval_s})')
        self._places_ns = [round((i + 1) * frame_interval_s * NS_PER_S) for i in range(earlier_frames)]
        self._tolerance_ns = round(tolerance_s * NS_PER_S)
        self._max_gap_ns = round(max_gap_s * NS_PER_S)
        self._frames: list[FrameFeatures] = []
        self._newest_ns: int | None = None
        self._clears: Counter[str] = Counter()
        self.capacity = (
            math.ceil((earlier_frames * frame_interval_s + tolerance_s) / MIN_SPACING_S) if earlier_frames else 0
        )

    def __len__(self) -> int:
        """Frames kept at the moment, at most ``capacity``."""
        return len(self._frames)

    @property
    def clears(self) -> Counter[str]:
        """How often the memory was cleared, by reason."""
        return self._clears

    def advance(self, stamp_ns: int) -> str:
        """Announce a new scene before :meth:`earlier`.

        Clears the memory after a gap, a backward jump, or a stamp that came already (then the clock cannot be trusted).

        Returns:
            Why it was cleared, '' if it was not.
        """
        newest_ns, self._newest_ns = self._newest_ns, stamp_ns
        if newest_ns is None:
            return ''
        reason = ''
        if stamp_ns == newest_ns:
            reason = 'duplicate stamp'
        elif stamp_ns < newest_ns:
            reason = 'clock jumped back'
        elif stamp_ns - newest_ns > self._max_gap_ns:
            reason = 'gap between scenes'
        if reason:
            self._frames.clear()
            self._clears[reason] += 1
        return reason

    def earlier(self, stamp_ns: int) -> History:
        """The frame nearest to each place before ``stamp_ns``, where one lies within the tolerance."""
        frames, reasons = [], []
        for place_ns in self._places_ns:
            nearest = min(self._frames, key=lambda frame: abs(stamp_ns - place_ns - frame.stamp_ns), default=None)
            if nearest is not None and abs(stamp_ns - place_ns - nearest.stamp_ns) > self._tolerance_ns:
                nearest = None
            frames.append(nearest)
            reasons.append('' if nearest else f'no frame {place_ns / NS_PER_S:.2f} s earlier')
        return History(tuple(frames), tuple(reasons))

    def store(self, frame: FrameFeatures) -> None:
        """Keep a frame, and forget those that no later scene can use."""
        if not self._places_ns:
            return
        if self._frames and frame.stamp_ns - self._frames[-1].stamp_ns < round(MIN_SPACING_S * NS_PER_S):
            return
        self._frames.append(frame)
        # The next scene is newer than this frame, so what lies beyond the last place now is beyond it then as well.
        oldest_ns = frame.stamp_ns - self._places_ns[-1] - self._tolerance_ns
        self._frames = [kept for kept in self._frames if kept.stamp_ns > oldest_ns]

    def clear(self) -> None:
        """Forget everything (a clock jump seen elsewhere, or deactivation)."""
        self._frames.clear()
        self._newest_ns = None

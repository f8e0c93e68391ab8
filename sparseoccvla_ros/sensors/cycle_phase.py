"""When each camera fires inside the rig's cycle, learned from the stamps alone.

The cameras of a rig fire at fixed offsets inside a cycle (0 to 43 ms on nuScenes), but neither the offsets nor
the camera that opens the cycle are known, and the cycles themselves need not be evenly spaced: nuScenes spreads
12 exposures over 20 LiDAR turns, so that one cycle follows another after 50 or after 100 ms. Both the smallest
line-up and the phase within a mean period are therefore misleading; what identifies the true cut is that it groups
the recent messages into the fullest sets with the longest pause between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

Stamp = tuple[int, int]
"""(stamp_ns, index of the camera)."""


@dataclass(frozen=True)
class CyclePhase:
    """The rig's timing.

    ``offsets_ns`` maps a camera's index to its firing time relative to the cycle's centre (the mean of the cameras).
    ``spacing_ns`` is the shortest usual distance between two cycles, ``period_ns`` the mean one and
    ``periods_ns`` the shortest usual distance for each camera. They are empty or None where no camera was heard twice.
    """

    offsets_ns: dict[int, float]
    spacing_ns: float | None
    period_ns: float | None
    periods_ns: dict[int, float]


def learn_phase(
    stamps: Sequence[Stamp], tolerance_cap_ns: float, current_offsets_ns: dict[int, float] | None = None
) -> CyclePhase:
    """Find the offsets that explain ``stamps`` (any order, not empty) best.

    Each camera that could open the cycle gives one hypothesis. It is scored by the sum of squared set sizes times
    the pause between cycles. ``current_offsets_ns`` are kept (refined) unless another hypothesis is 1.5 times as
    good, so that a rig whose cameras fire evenly, where every cut is as good, does not flip.

    Args:
        stamps: recent messages, a few cycles of them.
        tolerance_cap_ns: largest distance of a message from its cycle's centre once its offset is taken off.
    """
    stamps = sorted(stamps)
    spacing_ns, period_ns, periods_ns = _periods(stamps)
    window_ns = tolerance_cap_ns if period_ns is None else period_ns
    tolerance_ns = cluster_tolerance_ns(spacing_ns, tolerance_cap_ns)

    best_score, best_offsets = float('-inf'), {}
    for offsets_ns in _hypotheses(stamps, window_ns):
        score, refined_ns = _score(stamps, offsets_ns, window_ns, tolerance_ns)
        if score > best_score:
            best_score, best_offsets = score, refined_ns
    if current_offsets_ns is not None:
        score, refined_ns = _score(stamps, current_offsets_ns, window_ns, tolerance_ns)
        if 1.5 * score >= best_score > 0.0 and len(refined_ns) >= len(best_offsets):
            best_offsets = refined_ns
    return CyclePhase(best_offsets, spacing_ns, period_ns, periods_ns)


def cluster_tolerance_ns(spacing_ns: float | None, cap_ns: float) -> float:
    """Half the distance to the next cycle, as far as it is known, at most ``cap_ns``."""
    return cap_ns if spacing_ns is None else min(cap_ns, spacing_ns / 2.0)


def _periods(stamps: Sequence[Stamp]) -> tuple[float | None, float | None, dict[int, float]]:
    by_camera: dict[int, list[int]] = {}
    for stamp_ns, camera in stamps:
        by_camera.setdefault(camera, []).append(stamp_ns)
    shortest_ns, mean_ns = {}, []
    for camera, times_ns in by_camera.items():
        if len(times_ns) < 2:
            continue
        intervals_ns = sorted(b - a for a, b in zip(times_ns, times_ns[1:], strict=False))
        # the mean of the lowest group: lost frames (twice the period) and the longer of two alternating
        # spacings stay out, jitter averages out
        low_ns = intervals_ns[len(intervals_ns) // 8]
        shortest_ns[camera] = fmean(i for i in intervals_ns if i <= 1.4 * low_ns)
        mean_ns.append((times_ns[-1] - times_ns[0]) / (len(times_ns) - 1))
    if not shortest_ns:
        return None, None, {}
    # median over the cameras: one at half or double rate does not count
    return median(shortest_ns.values()), median(mean_ns), shortest_ns


def _hypotheses(stamps: Sequence[Stamp], window_ns: float) -> list[dict[int, float]]:
    """For each camera as the opener, the offsets of the fullest and then tightest run that begins with it."""
    best: dict[int, tuple[int, int, list[Stamp]]] = {}
    for first, (start_ns, opener) in enumerate(stamps):
        run: list[Stamp] = []
        seen: set[int] = set()
        for stamp_ns, camera in stamps[first:]:
            if camera in seen or stamp_ns - start_ns >= window_ns:
                break
            seen.add(camera)
            run.append((stamp_ns, camera))
        key = (len(run), start_ns - run[-1][0])
        if opener not in best or key > best[opener][:2]:
            best[opener] = (*key, run)
    hypotheses = []
    for _, _, run in best.values():
        centre_ns = sum(stamp_ns for stamp_ns, _ in run) // len(run)
        hypotheses.append({camera: float(stamp_ns - centre_ns) for stamp_ns, camera in run})
    return hypotheses


def _score(
    stamps: Sequence[Stamp], offsets_ns: dict[int, float], window_ns: float, tolerance_ns: float
) -> tuple[float, dict[int, float]]:
    """Group the stamps with these offsets; return the score and the offsets averaged over the groups."""
    base_ns = stamps[0][0]
    aligned = sorted((s - base_ns - offsets_ns[camera], camera) for s, camera in stamps if camera in offsets_ns)
    groups: list[dict[int, float]] = []
    centre_ns = 0.0
    for time_ns, camera in aligned:
        if not groups or camera in groups[-1] or time_ns - centre_ns > tolerance_ns:
            groups.append({})
        group = groups[-1]
        group[camera] = time_ns
        centre_ns = sum(group.values()) / len(group)
    residuals: dict[int, list[float]] = {}
    for group in groups:
        centre_ns = sum(group.values()) / len(group)
        for camera, time_ns in group.items():
            residuals.setdefault(camera, []).append(time_ns - centre_ns)
    refined_ns = {camera: offsets_ns[camera] + fmean(values) for camera, values in residuals.items()}
    if not refined_ns:
        return 0.0, {}
    pause_ns = window_ns - (max(refined_ns.values()) - min(refined_ns.values()))
    return sum(len(group) ** 2 for group in groups) * max(pause_ns, 1.0), refined_ns

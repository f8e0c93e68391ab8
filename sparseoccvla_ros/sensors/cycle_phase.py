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
from itertools import pairwise
from statistics import fmean, median

HYSTERESIS = 1.2

Stamp = tuple[int, int]
"""(stamp_ns, index of the camera)."""


@dataclass(frozen=True)
class CyclePhase:
    """The rig's timing.

    ``offsets_ns`` maps a camera's index to its firing time relative to the cycle's centre (the mean of the cameras).
    ``spacing_ns`` is the shortest usual distance between two cycles, ``period_ns`` the median one and
    ``periods_ns`` the shortest usual distance for each camera. They are empty or None where no camera was heard twice.
    ``margin`` is how many times better the offsets explain the messages than those with any other camera opening.
    """

    offsets_ns: dict[int, float]
    margin: float
    spacing_ns: float | None
    period_ns: float | None
    periods_ns: dict[int, float]


def learn_phase(
    stamps: Sequence[Stamp], tolerance_cap_ns: float, current_offsets_ns: dict[int, float] | None = None
) -> CyclePhase:
    """Find the offsets that explain ``stamps`` (any order, not empty) best.

    Each camera that could open the cycle gives one hypothesis. It is scored by the sum over the sets of a high
    power of their size times the pause to the next cycle. ``current_offsets_ns`` are kept (refined) unless another
    hypothesis is ``HYSTERESIS`` times as good, so that a rig whose cameras fire evenly, where every cut is as good,
    does not flip.

    Args:
        stamps: recent messages, a few cycles of them.
        tolerance_cap_ns: largest distance of a message from its cycle's centre once its offset is taken off.
    """
    stamps = sorted(stamps)
    spacing_ns, period_ns, periods_ns = _periods(stamps)
    window_ns = tolerance_cap_ns if period_ns is None else period_ns
    tolerance_ns = cluster_tolerance_ns(spacing_ns, tolerance_cap_ns)

    scored = [_score(stamps, offsets_ns, window_ns, tolerance_ns) for offsets_ns in _hypotheses(stamps, window_ns)]
    scored.sort(key=lambda one: one[0], reverse=True)
    score, offsets_ns = scored[0]
    other = next((s for s, o in scored[1:] if _is_other_cut(o, offsets_ns, tolerance_ns)), 0.0)
    if current_offsets_ns is not None:
        current_score, current_ns = _score(stamps, current_offsets_ns, window_ns, tolerance_ns)
        if HYSTERESIS * current_score >= score > 0.0 and len(current_ns) >= len(offsets_ns):
            offsets_ns = current_ns
    offsets_ns = _with_absent(stamps, offsets_ns, window_ns, tolerance_ns)
    return CyclePhase(offsets_ns, score / other if other > 0.0 else float('inf'), spacing_ns, period_ns, periods_ns)


def _is_other_cut(a_ns: dict[int, float], b_ns: dict[int, float], tolerance_ns: float) -> bool:
    difference_ns = [a_ns[camera] - b_ns[camera] for camera in a_ns.keys() & b_ns.keys()]
    return not difference_ns or max(difference_ns) - min(difference_ns) > tolerance_ns


def cluster_tolerance_ns(spacing_ns: float | None, cap_ns: float) -> float:
    """Half the distance to the next cycle, as far as it is known, at most ``cap_ns``."""
    return cap_ns if spacing_ns is None else min(cap_ns, spacing_ns / 2.0)


def _periods(stamps: Sequence[Stamp]) -> tuple[float | None, float | None, dict[int, float]]:
    by_camera: dict[int, list[int]] = {}
    for stamp_ns, camera in stamps:
        by_camera.setdefault(camera, []).append(stamp_ns)
    shortest_ns, usual_ns = {}, []
    for camera, times_ns in by_camera.items():
        if len(times_ns) < 2:
            continue
        intervals_ns = sorted(b - a for a, b in pairwise(times_ns))
        # the mean of the lowest group: lost frames (twice the period) and the longer of two alternating
        # spacings stay out, jitter averages out
        low_ns = intervals_ns[len(intervals_ns) // 8]
        shortest_ns[camera] = fmean(i for i in intervals_ns if i <= 1.6 * low_ns)
        usual_ns.append(median(intervals_ns))
    if not shortest_ns:
        return None, None, {}
    # median over the cameras: one at half or double rate does not count
    return median(shortest_ns.values()), median(usual_ns), shortest_ns


def _worth(count: int, spread_ns: float, window_ns: float) -> float:
    # a high power: one camera more outweighs half the pause
    return count**5 * max(window_ns - spread_ns, 1.0)


def _hypotheses(stamps: Sequence[Stamp], window_ns: float) -> list[dict[int, float]]:
    """For each camera as the opener, the offsets of the best run of messages that begins with it."""
    best: dict[int, tuple[float, list[Stamp]]] = {}
    for first, (start_ns, opener) in enumerate(stamps):
        run: list[Stamp] = []
        seen: set[int] = set()
        for stamp_ns, camera in stamps[first:]:
            if camera in seen or stamp_ns - start_ns >= window_ns:
                break
            seen.add(camera)
            run.append((stamp_ns, camera))
        worth = _worth(len(run), run[-1][0] - start_ns, window_ns)
        if opener not in best or worth > best[opener][0]:
            best[opener] = (worth, run)
    hypotheses = []
    for _, run in best.values():
        centre_ns = sum(stamp_ns for stamp_ns, _ in run) // len(run)
        hypotheses.append({camera: float(stamp_ns - centre_ns) for stamp_ns, camera in run})
    return hypotheses


def _groups(stamps: Sequence[Stamp], offsets_ns: dict[int, float], tolerance_ns: float) -> list[dict[int, float]]:
    """The stamps' groups in order: times by camera, without its offset, from the first stamp on."""
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
    return groups


def _with_absent(
    stamps: Sequence[Stamp], offsets_ns: dict[int, float], window_ns: float, tolerance_ns: float
) -> dict[int, float]:
    """Add the cameras that were in no good run, where they belong to the groups of the others at all."""
    centres_ns = [fmean(group.values()) for group in _groups(stamps, offsets_ns, tolerance_ns)]
    distances_ns: dict[int, list[float]] = {}
    for stamp_ns, camera in stamps:
        if camera not in offsets_ns:
            distance_ns = min((stamp_ns - stamps[0][0] - centre_ns for centre_ns in centres_ns), key=abs)
            distances_ns.setdefault(camera, []).append(distance_ns)
    found_ns = {camera: median(distances) for camera, distances in distances_ns.items()}
    return offsets_ns | {camera: distance for camera, distance in found_ns.items() if abs(distance) < window_ns / 2.0}


def _score(
    stamps: Sequence[Stamp], offsets_ns: dict[int, float], window_ns: float, tolerance_ns: float
) -> tuple[float, dict[int, float]]:
    """Group the stamps with these offsets; return the score and the offsets averaged over the groups."""
    groups = _groups(stamps, offsets_ns, tolerance_ns)
    score = 0.0
    residuals: dict[int, list[float]] = {}
    for group in groups:
        centre_ns = sum(group.values()) / len(group)
        for camera, time_ns in group.items():
            residuals.setdefault(camera, []).append(time_ns - centre_ns)
        fired_ns = [time_ns + offsets_ns[camera] for camera, time_ns in group.items()]
        score += _worth(len(group), max(fired_ns) - min(fired_ns), window_ns)
    return score, {camera: offsets_ns[camera] + median(values) for camera, values in residuals.items()}

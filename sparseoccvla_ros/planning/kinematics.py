"""What a plan's waypoints say about the motion between them, as means that a motion inside the limits cannot exceed.

Waypoints 0.5 s apart show no single instant. Every figure here is a mean of the true quantity with weights that are
nowhere negative, over one to three steps (``docs/planning.md`` draws them): the figure of a motion inside a limit lies
inside it too, whatever happens between the waypoints, and a limit that is exceeded throughout such a window is exceeded
by the figure as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.geometry import wrap_angle
from sparseoccvla_ros.planning.trajectory import STANDSTILL_STEP_M, headings_at, steps_along

Array = np.ndarray

STANDING_MPS = 0.1
"""A step slower than this is one at rest."""

NOISE_M = 0.01
"""Of a waypoint to the side: so much may a turn between two chords be less than it looks."""

START_NOISE_M = 0.005
"""The same for the direction in which the path leaves the vehicle, whose own place is exact."""

NEAR_NOISE_M = 0.03
"""And for a waypoint less than :data:`NEAR_M` along the path from the vehicle: the direction of what hardly moves is
noise, and a plan must be able to begin from rest and to end there."""

NEAR_M = 0.4
SHORTEST_CHORD_M = 0.3
"""A shorter chord, other than from the vehicle itself, has no direction worth comparing."""

LONGEST_SPAN_M = 2.5
"""Chords over several steps are compared up to this length: enough to see a turn at walking speed, and short enough
that the chord's direction is the mean heading along it."""

_SAMPLES = 8
_SLOWEST_MPS = 0.3


@dataclass(frozen=True)
class Motion:
    """Figures of N waypoints, SI units; index 0 of each looks back on the vehicle itself.

    ``speeds_mps`` [N]: mean of each step, negative backwards. ``accels_mps2`` [N]: the first over the first step, the
    others over two steps each. ``jerks_mps3`` [N - 1]: the first over two steps, the others over three; the jolt that
    ends every braking to a halt is left out. ``curvatures_1pm``: of every pair of chords that can be compared.
    ``lateral_accels_mps2`` [N]: the first over the first step, the others over two.
    """

    speeds_mps: Array
    accels_mps2: Array
    jerks_mps3: Array
    curvatures_1pm: Array
    lateral_accels_mps2: Array


def motion_of(waypoints_ego_m: Array, speed_mps: float, step_s: float) -> Motion:
    """The motion of a plan that starts at the vehicle.

    Args:
        waypoints_ego_m: [N, 2], finite, ego frame at the stamp, the first one step after it.
        speed_mps: the vehicle's measured speed at the stamp, along ego x.
        step_s: time between waypoints.
    """
    chords_m, directions_rad = steps_along(waypoints_ego_m)
    headings_rad = headings_at(chords_m, directions_rad)
    # a chord is shorter than its arc
    half_turns = np.clip(0.5 * np.abs(np.diff(headings_rad)), 0.0, 1.2)
    arcs_m = chords_m / np.sinc(half_turns / np.pi)
    speeds = arcs_m / step_s
    accels = np.diff(speeds) / step_s
    first_accel = 2.0 * (speeds[0] - speed_mps) / step_s
    jerks = np.diff(accels) / step_s
    # the first acceleration is centred on a third of the first step, the second on its end
    first_jerk = (accels[:1] - first_accel) / (2.0 / 3.0 * step_s)
    return Motion(
        speeds_mps=speeds,
        accels_mps2=np.concatenate([[first_accel], accels]),
        jerks_mps3=_without_halt(np.concatenate([first_jerk, jerks]), speeds),
        curvatures_1pm=_curvatures(waypoints_ego_m, arcs_m),
        lateral_accels_mps2=_lateral_accels(chords_m, directions_rad, speeds, speed_mps, step_s),
    )


def _without_halt(jerks_mps3: Array, speeds_mps: Array) -> Array:
    """Jerks with 0 where the brake is let go because the vehicle has come to rest, to stay there.

    Wheels that stand end the deceleration at once, however gently the brake is eased.
    """
    moving = np.flatnonzero(np.abs(speeds_mps) >= STANDING_MPS)
    resting_from = moving[-1] + 1 if len(moving) else 0
    last_step = np.arange(1, len(jerks_mps3) + 1)  # of the first jerk the second step, and so on
    halt = (last_step >= resting_from - 1) & (resting_from < len(speeds_mps)) & (jerks_mps3 > 0.0)
    return np.where(halt, 0.0, jerks_mps3)


def _curvatures(waypoints_ego_m: Array, arcs_m: Array) -> Array:
    """Mean curvatures of parts of the path, at least one.

    Between the middles of two chords that follow each other the heading turns by the angle between them. From the
    vehicle, whose heading is known, one chord is enough.
    """
    points_m = np.vstack([np.zeros((1, 2)), waypoints_ego_m])
    along_m = np.concatenate([[0.0], np.cumsum(np.abs(arcs_m))])
    net_m = np.concatenate([[0.0], np.cumsum(arcs_m)])
    first, last = np.triu_indices(len(points_m), 1)
    lengths_m, net_m = along_m[last] - along_m[first], net_m[last] - net_m[first]
    offsets_m = (points_m[last] - points_m[first]) * np.where(net_m < 0.0, -1.0, 1.0)[:, None]
    chords_m = np.linalg.norm(offsets_m, axis=1)
    single = last - first == 1
    # a longer span only where the vehicle goes one way along all of it
    usable = single | ((lengths_m <= LONGEST_SPAN_M) & (np.abs(np.abs(net_m) - lengths_m) < 1e-6))
    directions_rad = np.arctan2(offsets_m[:, 1], offsets_m[:, 0])

    here = usable & (first == 0) & (chords_m >= STANDSTILL_STEP_M)
    noise_m = np.where(lengths_m[here] < NEAR_M, NEAR_NOISE_M, START_NOISE_M)
    turns_rad = np.abs(directions_rad[here]) - noise_m / chords_m[here]
    from_vehicle = 2.0 * np.maximum(0.0, turns_rad) / lengths_m[here]

    span = np.flatnonzero(usable & (chords_m >= SHORTEST_CHORD_M))
    before, after = (index.ravel() for index in np.meshgrid(span, span, indexing='ij'))
    follows = last[before] == first[after]
    before, after = before[follows], after[follows]
    turns_rad = np.abs(wrap_angle(directions_rad[after] - directions_rad[before]))
    turns_rad -= NOISE_M * (1.0 / chords_m[before] + 1.0 / chords_m[after])
    between = 2.0 * np.maximum(0.0, turns_rad) / (lengths_m[before] + lengths_m[after])
    return np.concatenate([[0.0], from_vehicle, between])


def _lateral_accels(
    chords_m: Array, directions_rad: Array, speeds_mps: Array, speed_mps: float, step_s: float
) -> Array:
    """At the start of each step: the turn there, divided by the time over speed that it was weighted with.

    A chord's direction is the mean heading along it, so the turn between two is the integral of the curvature, which is
    lateral acceleration over speed squared, with weights that rise and fall linearly along the path.
    """
    speeds = np.maximum(np.abs(_speeds_within(speeds_mps, speed_mps)), _SLOWEST_MPS)
    path = (np.cumsum(speeds, axis=1) - 0.5 * speeds) / speeds.sum(axis=1, keepdims=True)
    dt = step_s / _SAMPLES
    falling = ((1.0 - path) / speeds).sum(axis=1) * dt
    rising = (path / speeds).sum(axis=1) * dt
    weights = falling + np.concatenate([[0.0], rising[:-1]])
    lengths_m = np.maximum(np.abs(chords_m), STANDSTILL_STEP_M)
    noise_rad = NOISE_M / lengths_m
    noise_rad[1:] += NOISE_M / lengths_m[:-1]
    turns_rad = np.abs(np.diff(directions_rad, prepend=0.0))
    return np.maximum(0.0, turns_rad - noise_rad) / weights


def _speeds_within(speeds_mps: Array, speed_mps: float) -> Array:
    """Speeds [N, samples] inside each step: parabolas that have the steps' means, and meet at the nodes.

    At a node with two steps on either side the speed is that of the cubic that has the four means.
    """
    nodes_mps = np.concatenate([[speed_mps], 0.5 * (speeds_mps[1:] + speeds_mps[:-1]), [speeds_mps[-1]]])
    if len(speeds_mps) >= 4:
        inner, outer = speeds_mps[1:-2] + speeds_mps[2:-1], speeds_mps[:-3] + speeds_mps[3:]
        nodes_mps[2:-2] = (7.0 * inner - outer) / 12.0
    nodes_mps[-1] = 2.0 * speeds_mps[-1] - nodes_mps[-2]
    begin_mps, end_mps = nodes_mps[:-1, None], nodes_mps[1:, None]
    share = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    bulge_mps = 6.0 * (speeds_mps[:, None] - 0.5 * (begin_mps + end_mps))
    return begin_mps + share * (end_mps - begin_mps) + share * (1.0 - share) * bulge_mps

"""Plans labelled by how they are made: rollouts of a kinematic bicycle (rear axle) under controls given every 10 ms."""

from dataclasses import dataclass

import numpy as np

DT_S = 0.01
TICKS = 300
TICKS_A_STEP = 50
#: Good controls go up to this share of a limit.
EDGE = 0.98

#: What a bad plan exceeds, each alone.
LIMIT_NAMES = ('speed', 'reverse speed', 'acceleration', 'deceleration', 'curvature', 'lateral acceleration', 'jerk')


@dataclass(frozen=True)
class Rollouts:
    """M rollouts: ``accel_mps2`` and ``curvature_1pm`` [M, ticks] hold during a tick, the rest [M, ticks + 1] is at its
    ends: ``speed_mps``, ``heading_rad``, ``positions_m`` [..., 2].
    """

    accel_mps2: np.ndarray
    curvature_1pm: np.ndarray
    speed_mps: np.ndarray
    heading_rad: np.ndarray
    positions_m: np.ndarray

    @property
    def waypoints_m(self):
        """[M, 6, 2], as a planner gives them."""
        return self.positions_m[:, TICKS_A_STEP::TICKS_A_STEP]

    def excess(self, limits):
        """Greatest share of each limit of :data:`LIMIT_NAMES` that each rollout reaches: [M, 7]."""
        moving_mps = 0.5 * (self.speed_mps[:, 1:] + self.speed_mps[:, :-1])
        jerk = np.diff(self.accel_mps2, axis=1) / DT_S
        figures = [
            self.speed_mps / limits.max_speed_mps,
            -self.speed_mps / limits.max_reverse_speed_mps,
            self.accel_mps2 / limits.max_accel_mps2,
            -self.accel_mps2 / limits.max_decel_mps2,
            np.abs(self.curvature_1pm) / limits.max_curvature_1pm,
            np.abs(self.curvature_1pm) * moving_mps**2 / limits.max_lateral_accel_mps2,
            np.abs(jerk) / limits.max_jerk_mps3,
        ]
        return np.stack([values.max(axis=1) for values in figures], axis=1)

    def select(self, keep):
        """Those of a mask or index [M]."""
        return Rollouts(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def rollout(speed_mps, accel_mps2, curvature_1pm):
    """From initial speeds [M] and controls [M, ticks]. Every tick is an exact arc; its middle speed is exact too."""
    speeds = speed_mps[:, None] + np.concatenate(
        [np.zeros((len(speed_mps), 1)), np.cumsum(accel_mps2, axis=1) * DT_S], axis=1
    )
    arcs = 0.5 * (speeds[:, 1:] + speeds[:, :-1]) * DT_S
    turns = arcs * curvature_1pm
    headings = np.concatenate([np.zeros((len(arcs), 1)), np.cumsum(turns, axis=1)], axis=1)
    along = headings[:, :-1] + 0.5 * turns
    chords = arcs * np.sinc(0.5 * turns / np.pi)
    steps = chords[..., None] * np.stack([np.cos(along), np.sin(along)], axis=-1)
    positions = np.concatenate([np.zeros((len(arcs), 1, 2)), np.cumsum(steps, axis=1)], axis=1)
    return Rollouts(accel_mps2, curvature_1pm, speeds, headings, positions)


def good_rollouts(rng, count, limits):
    """Inside all limits: standing, creeping, cruising, braking to a stop, rolling back; accelerations that change at up
    to the limit of jerk; steering that is constant, swings, or stays at the limit of its speed.
    """
    made, parts = 0, []
    while made < count:
        part = _good_batch(rng, 2 * count, limits)
        part = part.select((part.excess(limits) <= 1.0).all(axis=1))
        parts.append(part)
        made += len(part.speed_mps)
    names = Rollouts.__dataclass_fields__
    return Rollouts(*(np.concatenate([getattr(part, name) for part in parts])[:count] for name in names))


def _good_batch(rng, count, limits):
    speed = np.where(rng.random(count) < 0.1, 0.0, rng.uniform(0.0, 0.97, count) * limits.max_speed_mps)
    speed = np.where(rng.random(count) < 0.2, rng.uniform(0.0, 2.0, count), speed)
    accel = rng.uniform(-limits.max_decel_mps2, limits.max_accel_mps2, count)
    accel = np.where((speed == 0.0) & (rng.random(count) < 0.3), 0.0, accel) * EDGE
    hold = rng.random(count) < 0.2
    jerk_scale = np.where(hold | (accel == 0.0), 0.0, limits.max_jerk_mps3) * EDGE
    pieces = rng.integers(10, 150, count)
    jerk = rng.uniform(-1.0, 1.0, (count, TICKS))
    slowest = np.where(rng.random(count) < 0.5, 0.0, -EDGE * limits.max_reverse_speed_mps)
    accels, now = np.empty((count, TICKS)), speed.copy()
    for i in range(TICKS):
        accel = accel + jerk[np.arange(count), i // pieces] * jerk_scale * DT_S
        accel = np.clip(accel, -EDGE * limits.max_decel_mps2, EDGE * limits.max_accel_mps2)
        # a driver lets go of the pedal in time: towards the end of the range of speeds, at limited jerk
        reserve = EDGE * limits.max_jerk_mps3
        most = np.sqrt(2.0 * reserve * np.maximum(0.0, EDGE * limits.max_speed_mps - now - accel * DT_S))
        least = -np.sqrt(2.0 * reserve * np.maximum(0.0, now + accel * DT_S - slowest))
        accel = np.clip(accel, least, most)
        accels[:, i], now = accel, now + accel * DT_S
    speeds = np.abs(speed[:, None] + np.cumsum(accels, axis=1) * DT_S)
    bound = limits.max_lateral_accel_mps2 / np.maximum(speeds, 0.1) ** 2
    bound = EDGE * np.minimum(limits.max_curvature_1pm, bound)
    return rollout(speed, accels, bound * _steering(rng, count))


def _steering(rng, count):
    """Shares [count, ticks] of the sharpest turn that the speed allows, -1..1."""
    times = (np.arange(TICKS) + 0.5) * DT_S
    constant = np.repeat(rng.uniform(-1.0, 1.0, (count, 1)), TICKS, axis=1)
    swinging = np.sin(rng.uniform(0.5, 6.0, (count, 1)) * times + rng.uniform(0.0, 6.3, (count, 1)))
    jumping = np.repeat(rng.uniform(-1.0, 1.0, (count, 6)), TICKS_A_STEP, axis=1)
    kinds = np.stack([constant, swinging, jumping, np.sign(constant)])
    return kinds[rng.integers(0, 4, count), np.arange(count)]


def bad_rollouts(rng, count, limits, name):
    """One limit exceeded by 10 to 50 %, all others kept.

    The excess lasts so long that waypoints must show it: throughout; over the first step; over the last two steps; or
    over any 1.5 s, which hold two whole steps wherever they lie. Speeds: over a whole step. Jerk: from the start, where
    two steps show it. Turns at walking speed: over at least 2.2 m of path, or 1.1 m from the start.
    """
    factor = rng.uniform(1.1, 1.5, count)
    make = {
        'speed': _too_fast,
        'reverse speed': _too_fast_backwards,
        'acceleration': _accelerates_too_hard,
        'deceleration': _brakes_too_hard,
        'curvature': _turns_too_sharply,
        'lateral acceleration': _turns_too_fast,
        'jerk': _jerks,
    }[name]
    return make(rng, factor, limits)


def _windows(rng, count, longest_s=3.0):
    """Masks [count, ticks] of excess: throughout, the first step, the last two, any 1.5 s or more."""
    begin = np.zeros(count, int)
    length = np.full(count, round(longest_s / DT_S))
    kind = rng.integers(0, 4, count)
    length[kind == 1] = TICKS_A_STEP
    length[kind == 2] = 2 * TICKS_A_STEP
    begin[kind == 2] = TICKS - 2 * TICKS_A_STEP
    any_length = rng.integers(150, round(longest_s / DT_S) + 1, count)
    any_begin = (rng.random(count) * (TICKS - any_length)).astype(int)
    length, begin = np.where(kind == 3, any_length, length), np.where(kind == 3, any_begin, begin)
    tick = np.arange(TICKS)
    return (tick >= begin[:, None]) & (tick < (begin + length)[:, None])


def _ramped(inside, value, jerk):
    """``value`` [M] inside the mask, and beside it the quickest way from and to 0 that ``jerk`` allows."""
    tick = np.arange(TICKS)
    begin = inside.argmax(axis=1)[:, None]
    end = TICKS - inside[:, ::-1].argmax(axis=1)[:, None] - 1
    away = np.maximum(0, np.maximum(begin - tick, tick - end)) * DT_S * jerk
    return np.sign(value)[:, None] * np.maximum(0.0, np.abs(value)[:, None] - away)


def _straight(like):
    return np.zeros_like(like)


def _some_turn(rng, speeds, limits, share=0.9):
    count = len(speeds)
    fastest = np.abs(speeds).max(axis=1)
    bound = np.minimum(limits.max_curvature_1pm, limits.max_lateral_accel_mps2 / np.maximum(fastest, 0.1) ** 2)
    return np.repeat((share * bound * rng.uniform(-1.0, 1.0, count))[:, None], TICKS, axis=1)


def _too_fast(rng, factor, limits):
    speed = factor * limits.max_speed_mps
    late = rng.random(len(factor)) < 0.3
    # braking begins after the first step or not at all
    window = np.arange(TICKS)[None] >= np.where(late, TICKS_A_STEP, TICKS)[:, None]
    accels = np.where(window, -1.0, 0.0) * rng.uniform(0.0, 6.0, (len(factor), 1))
    accels = np.maximum(accels, -0.9 * limits.max_jerk_mps3 * DT_S * np.maximum(0, np.arange(TICKS) - TICKS_A_STEP))
    speeds = speed[:, None] + np.cumsum(accels, axis=1) * DT_S
    return rollout(speed, accels, _some_turn(rng, speeds, limits))


def _too_fast_backwards(rng, factor, limits):
    speed = -factor * limits.max_reverse_speed_mps
    accels = np.zeros((len(factor), TICKS))
    return rollout(speed, accels, _some_turn(rng, speed[:, None], limits))


def _accelerates_too_hard(rng, factor, limits):
    value = factor * limits.max_accel_mps2
    accels = _ramped(_windows(rng, len(factor)), value, EDGE * limits.max_jerk_mps3)
    gain = accels.sum(axis=1) * DT_S
    speed = rng.random(len(factor)) * (EDGE * limits.max_speed_mps - gain)
    speeds = speed[:, None] + np.cumsum(accels, axis=1) * DT_S
    return rollout(speed, accels, _some_turn(rng, speeds, limits))


def _brakes_too_hard(rng, factor, limits):
    value = -factor * limits.max_decel_mps2
    accels = _ramped(_windows(rng, len(factor), longest_s=1.8), value, EDGE * limits.max_jerk_mps3)
    loss = -accels.sum(axis=1) * DT_S
    fits = loss < EDGE * limits.max_speed_mps
    speed = loss + rng.random(len(factor)) * (EDGE * limits.max_speed_mps - loss)
    speeds = speed[:, None] + np.cumsum(accels, axis=1) * DT_S
    return rollout(speed, accels, _some_turn(rng, speeds, limits)).select(fits)


def _side(rng, count):
    return np.where(rng.random(count) < 0.5, -1.0, 1.0)


def _turns_too_sharply(rng, factor, limits):
    count = len(factor)
    curvature = factor * limits.max_curvature_1pm * _side(rng, count)
    fastest = np.sqrt(EDGE * limits.max_lateral_accel_mps2 / np.abs(curvature))
    inside = _windows(rng, count)
    throughout, ticks = inside.all(axis=1), inside.sum(axis=1)
    # of a window that begins anywhere, a step's length may be lost at its ends
    whole_s = np.where(inside[:, 0] | (ticks == 2 * TICKS_A_STEP), ticks, ticks - TICKS_A_STEP) * DT_S
    slowest = np.where(inside[:, 0], 1.1, 2.2) / whole_s
    backwards = throughout & (rng.random(count) < 0.1) & (EDGE * limits.max_reverse_speed_mps > 0.4)
    speed = slowest + rng.random(count) * (fastest - slowest)
    speed = np.where(backwards, -rng.uniform(0.4, EDGE * limits.max_reverse_speed_mps, count), speed)
    other = rng.uniform(-EDGE, EDGE, (count, 1)) * limits.max_curvature_1pm
    return rollout(speed, np.zeros((count, TICKS)), np.where(inside, curvature[:, None], other)).select(
        backwards | (fastest > slowest)
    )


def _turns_too_fast(rng, factor, limits):
    count = len(factor)
    lateral = factor * limits.max_lateral_accel_mps2
    slowest = np.sqrt(lateral / (EDGE * limits.max_curvature_1pm))
    speed = slowest + rng.random(count) * (EDGE * limits.max_speed_mps - slowest)
    accel = rng.uniform(-1.0, 1.0, count) * 3.0
    low, high = slowest - speed, EDGE * limits.max_speed_mps - speed
    accel = np.clip(accel, low / 3.0, high / 3.0)
    accels = np.repeat(accel[:, None], TICKS, axis=1)
    moving = speed[:, None] + (np.arange(TICKS) + 0.5) * DT_S * accel[:, None]
    inside = _windows(rng, count)
    other = rng.uniform(-EDGE, EDGE, (count, 1)) * limits.max_lateral_accel_mps2
    lateral_accels = np.where(inside, (lateral * _side(rng, count))[:, None], other)
    return rollout(speed, accels, lateral_accels / moving**2)


def _jerks(rng, factor, limits):
    """From hard braking to acceleration or the other way, from the start on."""
    count = len(factor)
    jerk = factor * limits.max_jerk_mps3 * _side(rng, count)
    low, high = -EDGE * limits.max_decel_mps2, EDGE * limits.max_accel_mps2
    begin = np.where(jerk > 0.0, low, high)
    accels = np.clip(begin[:, None] + jerk[:, None] * np.arange(TICKS) * DT_S, low, high)
    # gentle from there on, so that the speed stays inside its range
    change = np.cumsum(accels, axis=1) * DT_S
    lowest, highest = np.minimum(change.min(axis=1), 0.0), np.maximum(change.max(axis=1), 0.0)
    room = EDGE * limits.max_speed_mps - (highest - lowest)
    speed = -lowest + rng.random(count) * np.maximum(room, 0.0)
    speeds = speed[:, None] + change
    return rollout(speed, accels, _some_turn(rng, speeds, limits)).select(room > 0.0)

"""Car following along one lane: the intelligent driver model, simulated once and then read at any time.

Source: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and microscopic
simulations", Phys. Rev. E 62 (2000), equations 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

STEP_S = 0.05

HEADWAY_S = 1.3
STANDSTILL_GAP_M = 2.5
COMFORT_ACCEL_MPS2 = 1.6
COMFORT_BRAKE_MPS2 = 2.2
#: Bounds on what any vehicle does; the ego's own motion is checked against them by the tests.
HARDEST_BRAKE_MPS2 = 3.5
HARDEST_ACCEL_MPS2 = 1.8
BRAKE_JERK_MPS3 = 6.0
RELEASE_JERK_MPS3 = 3.0


@dataclass(frozen=True)
class Driver:
    """One vehicle of a lane at time 0: ``progress_m`` of its middle along its own direction, and its wishes.

    From ``slow_from_s`` until ``slow_until_s`` it wants ``slow_mps`` instead of ``cruise_mps``.
    """

    progress_m: float
    length_m: float
    speed_mps: float
    cruise_mps: float
    slow_from_s: float = np.inf
    slow_until_s: float = np.inf
    slow_mps: float = 0.0


@dataclass(frozen=True)
class Hold:
    """Traffic stops at a line while somebody crosses: place along the lane's direction, and when."""

    progress_m: float
    from_s: float
    until_s: float


@dataclass(frozen=True)
class Track:
    """A vehicle's motion along its lane: progress, speed and acceleration [K], one each ``STEP_S`` from time 0."""

    progress_m: np.ndarray
    speed_mps: np.ndarray
    accel_mps2: np.ndarray

    def at(self, time_s: float) -> tuple[float, float, float]:
        """Progress (m), speed (m/s) and acceleration (m/s^2); constant acceleration inside a step."""
        index = min(max(int(time_s // STEP_S), 0), len(self.progress_m) - 1)
        passed_s = time_s - index * STEP_S
        accel = float(self.accel_mps2[index])
        speed = float(self.speed_mps[index]) + accel * passed_s
        progress = float(self.progress_m[index]) + (float(self.speed_mps[index]) + 0.5 * accel * passed_s) * passed_s
        return progress, speed, accel


def drive(
    drivers: Sequence[Driver], hold: Hold | None, limit_mps: Callable[[np.ndarray], np.ndarray], duration_s: float
) -> list[Track]:
    """Simulate one lane.

    Args:
        drivers: in the order of driving, the one in front first.
        hold: where and when the lane is stopped, if it is.
        limit_mps: greatest comfortable speed at progress [N], metres per second.
        duration_s: the tracks cover at least this time.
    """
    if not drivers:
        return []
    progress = np.array([driver.progress_m for driver in drivers])
    speed = np.array([driver.speed_mps for driver in drivers])
    accel = np.zeros(len(drivers))
    half_m = 0.5 * np.array([driver.length_m for driver in drivers])
    cruise = np.array([driver.cruise_mps for driver in drivers])
    slow = np.array([driver.slow_mps for driver in drivers])
    slow_from = np.array([driver.slow_from_s for driver in drivers])
    slow_until = np.array([driver.slow_until_s for driver in drivers])
    steps = int(np.ceil(duration_s / STEP_S)) + 2
    history = np.empty((3, len(drivers), steps))
    for step in range(steps):
        time_s = step * STEP_S
        wanted = np.where((slow_from <= time_s) & (time_s < slow_until), slow, cruise)
        wanted = np.minimum(wanted, limit_mps(progress))
        front = progress + half_m
        gap = np.concatenate([[np.inf], progress[:-1] - half_m[:-1] - front[1:]])
        closing = np.concatenate([[0.0], speed[1:] - speed[:-1]])
        pressure = _pressure(gap, speed, closing)
        if hold is not None and hold.from_s <= time_s < hold.until_s:
            line_gap = hold.progress_m - front
            # Whoever could only stop by emergency braking drives on, as at a traffic light that turns red.
            stops = (line_gap > 0.0) & (speed**2 < 2.0 * 3.0 * np.maximum(line_gap, 0.01))
            pressure = np.maximum(pressure, np.where(stops, _pressure(line_gap, speed, speed), 0.0))
        free = np.maximum(1.0 - (speed / np.maximum(wanted, 0.1)) ** 4, -1.0)
        target = np.clip(COMFORT_ACCEL_MPS2 * (free - pressure), -HARDEST_BRAKE_MPS2, HARDEST_ACCEL_MPS2)
        accel = np.clip(target, accel - BRAKE_JERK_MPS3 * STEP_S, accel + RELEASE_JERK_MPS3 * STEP_S)
        accel = np.maximum(accel, -speed / STEP_S)
        history[:, :, step] = progress, speed, accel
        progress = progress + (speed + 0.5 * accel * STEP_S) * STEP_S
        speed = np.maximum(speed + accel * STEP_S, 0.0)
    return [Track(*history[:, vehicle]) for vehicle in range(len(drivers))]


def _pressure(gap_m: np.ndarray, speed_mps: np.ndarray, closing_mps: np.ndarray) -> np.ndarray:
    """The model's squared ratio of wanted to actual gap, [N]; 0 where nothing is ahead."""
    dynamic = speed_mps * HEADWAY_S + speed_mps * closing_mps / (2.0 * np.sqrt(COMFORT_ACCEL_MPS2 * COMFORT_BRAKE_MPS2))
    wanted = STANDSTILL_GAP_M + np.maximum(dynamic, 0.0)
    return (wanted / np.maximum(gap_m, 0.2)) ** 2

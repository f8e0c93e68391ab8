"""Car following: the intelligent driver model with bounds on what a driver does.

Source: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and microscopic
simulations", Phys. Rev. E 62 (2000), equations 2 and 3.
"""

from __future__ import annotations

import numpy as np

STEP_S = 0.1

HEADWAY_S = 1.3
STANDSTILL_GAP_M = 2.0
COMFORT_ACCEL_MPS2 = 1.6
COMFORT_BRAKE_MPS2 = 2.2
#: Bounds on what any vehicle does; the ego's own motion is checked against them by the tests.
HARDEST_BRAKE_MPS2 = 3.5
HARDEST_ACCEL_MPS2 = 1.8
BRAKE_JERK_MPS3 = 6.0
RELEASE_JERK_MPS3 = 3.0


def pressure(gap_m: np.ndarray, speed_mps: np.ndarray, closing_mps: np.ndarray) -> np.ndarray:
    """The model's squared ratio of wanted to actual gap, [N]; 0 where the gap is infinite."""
    dynamic = speed_mps * HEADWAY_S + speed_mps * closing_mps / (2.0 * np.sqrt(COMFORT_ACCEL_MPS2 * COMFORT_BRAKE_MPS2))
    wanted = STANDSTILL_GAP_M + np.maximum(dynamic, 0.0)
    return (wanted / np.maximum(gap_m, 0.2)) ** 2


def acceleration(
    speed_mps: np.ndarray, wanted_mps: np.ndarray, pressed: np.ndarray, before_mps2: np.ndarray
) -> np.ndarray:
    """Acceleration over the next ``STEP_S`` [N], m/s^2, from what it was in the last; never drives backwards."""
    free = np.maximum(1.0 - (speed_mps / np.maximum(wanted_mps, 0.1)) ** 4, -1.0)
    target = np.clip(COMFORT_ACCEL_MPS2 * (free - pressed), -HARDEST_BRAKE_MPS2, HARDEST_ACCEL_MPS2)
    # What brakes harder than this has not let go of the pedal when it comes to rest, and stops with a jolt.
    target = np.maximum(target, -np.sqrt(2.0 * RELEASE_JERK_MPS3 * speed_mps))
    eased = np.clip(target, before_mps2 - BRAKE_JERK_MPS3 * STEP_S, before_mps2 + RELEASE_JERK_MPS3 * STEP_S)
    return np.maximum(eased, -speed_mps / STEP_S)


def can_stop(speed_mps: float, gap_m: float, brake_mps2: float) -> bool:
    """Whether a vehicle comes to rest before a line ahead of its front without braking harder than this."""
    return gap_m > 0.0 and speed_mps**2 < 2.0 * brake_mps2 * gap_m

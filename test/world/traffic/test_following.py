import numpy as np
import pytest

from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.world.traffic.following import (
    COMFORT_ACCEL_MPS2,
    HARDEST_BRAKE_MPS2,
    HEADWAY_S,
    STANDSTILL_GAP_M,
    STEP_S,
    acceleration,
    can_stop,
    pressure,
)


def follow(speed: float, gap: float, leader_mps: float, steps: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Gap and speed over time behind a leader of constant speed."""
    accel, gaps, speeds = np.zeros(1), [], []
    v = np.array([speed])
    for _ in range(steps):
        accel = acceleration(v, np.array([12.0]), pressure(np.array([gap]), v, v - leader_mps), accel)
        gap += (leader_mps - v[0] - 0.5 * accel[0] * STEP_S) * STEP_S
        v = np.maximum(v + accel * STEP_S, 0.0)
        gaps.append(gap)
        speeds.append(v[0])
    return np.array(gaps), np.array(speeds)


def test_equilibrium_gap_is_the_models():
    gaps, speeds = follow(8.0, 30.0, 6.0)
    assert speeds[-1] == pytest.approx(6.0, abs=1e-3)
    # Treiber et al., equation for the equilibrium gap.
    expected = (STANDSTILL_GAP_M + 6.0 * HEADWAY_S) / np.sqrt(1.0 - (6.0 / 12.0) ** 4)
    assert gaps[-1] == pytest.approx(expected, rel=1e-3)


def test_it_stops_behind_what_stands_without_touching_it():
    gaps, speeds = follow(11.0, 45.0, 0.0)
    assert gaps.min() > 0.5
    assert speeds[-1] < 0.05
    assert np.diff(speeds).min() / STEP_S > -HARDEST_BRAKE_MPS2 - 1e-9


@pytest.mark.parametrize('gap', [12.0, 20.0, 45.0])
def test_it_comes_to_rest_without_a_jolt(gap):
    """A driver lets go of the pedal before the car stands."""
    _, speeds = follow(8.0, gap, 0.0)
    assert speeds[-1] < 0.05
    assert np.abs(np.diff(speeds, n=2)).max() / STEP_S**2 < VehicleLimits().max_jerk_mps3


def test_free_road_is_accelerated_on_and_nobody_reverses():
    accel = np.zeros(2)
    speed = np.array([0.0, 0.0])
    for _ in range(400):
        accel = acceleration(speed, np.array([9.0, 9.0]), np.array([0.0, 50.0]), accel)
        assert accel.max() <= COMFORT_ACCEL_MPS2 + 1e-9
        speed = speed + accel * STEP_S
        assert speed.min() >= -1e-12
    assert speed[0] == pytest.approx(9.0, abs=0.1)
    assert speed[1] == 0.0


def test_stopping_distance_by_hand():
    # 10 m/s at 2.5 m/s^2 takes 20 m.
    assert can_stop(10.0, 20.1, 2.5)
    assert not can_stop(10.0, 19.9, 2.5)
    assert not can_stop(0.0, -0.1, 2.5)

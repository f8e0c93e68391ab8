import math
from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.world.driving.bicycle import STEERING_RATE_RADPS, Bicycle, BicycleState

LIMITS = VehicleLimits()
CAR = Bicycle(LIMITS, wheelbase_m=2.59)
STEP_S = 0.02


def state(speed=5.0, accel=0.0, steering=0.0, x=0.0, y=0.0, heading=0.0):
    return BicycleState(x, y, heading, speed, accel, steering)


def test_a_circle_closes():
    # 8 m radius, 8 m/s: a full turn takes 2 pi seconds.
    driven = CAR.moved(state(8.0, steering=CAR.steering_rad(1.0 / 8.0)), math.pi)
    np.testing.assert_allclose((driven.x_m, driven.y_m, driven.heading_rad), (0.0, 16.0, math.pi), atol=1e-12)
    driven = CAR.moved(driven, math.pi)
    np.testing.assert_allclose((driven.x_m, driven.y_m, driven.heading_rad), (0.0, 0.0, 2.0 * math.pi), atol=1e-12)


def test_many_small_steps_equal_one_and_a_fine_integration():
    start = state(6.0, accel=1.5, steering=0.2, x=3.0, y=-2.0, heading=0.7)
    once = CAR.moved(start, 0.4)
    often = start
    for _ in range(40):
        often = CAR.moved(often, 0.01)
    for name in ('x_m', 'y_m', 'heading_rad', 'speed_mps'):
        assert getattr(once, name) == pytest.approx(getattr(often, name), abs=1e-12)
    # Euler's method needs no knowledge of arcs; its error falls with the step.
    x, y, heading, speed, dt = 3.0, -2.0, 0.7, 6.0, 1e-5
    for _ in range(40_000):
        x, y = x + speed * math.cos(heading) * dt, y + speed * math.sin(heading) * dt
        heading += speed * math.tan(0.2) / 2.59 * dt
        speed += 1.5 * dt
    np.testing.assert_allclose((once.x_m, once.y_m, once.heading_rad), (x, y, heading), atol=2e-5)


def test_a_braking_car_stops_and_stays():
    # From 4 m/s at 2 m/s^2: 4 m in 2 s.
    stopped = CAR.moved(state(4.0, accel=-2.0), 2.0)
    assert (stopped.x_m, stopped.speed_mps, stopped.accel_mps2) == (4.0, 0.0, 0.0)
    assert CAR.moved(state(4.0, accel=-2.0), 60.0).x_m == 4.0
    told = CAR.told(stopped, -8.0, 0.0, STEP_S)
    assert CAR.moved(told, STEP_S).speed_mps == 0.0


def test_no_limit_is_ever_exceeded_whatever_is_wanted():
    rng = np.random.default_rng(0)
    now, reached = state(0.0), np.zeros(6)
    for number in range(20_000):
        if number % 40 == 0:
            accel, steering = (
                rng.choice([-50.0, -3.0, 0.5, 50.0], p=[0.2, 0.1, 0.2, 0.5]),
                rng.choice([-3.0, 0.05, 3.0]),
            )
        told = CAR.told(now, accel, steering, STEP_S)
        after = CAR.moved(told, STEP_S)
        assert after.speed_mps >= 0.0
        values = np.array(
            [
                after.speed_mps / LIMITS.max_speed_mps,
                told.accel_mps2 / LIMITS.max_accel_mps2,
                -told.accel_mps2 / LIMITS.max_decel_mps2,
                after.speed_mps**2 * abs(CAR.curvature_1pm(told)) / LIMITS.max_lateral_accel_mps2,
                abs(CAR.curvature_1pm(told)) / LIMITS.max_curvature_1pm,
                abs(told.steering_rad - now.steering_rad) / (STEERING_RATE_RADPS * STEP_S),
            ]
        )
        reached = np.maximum(reached, values)
        now = after
    assert (reached <= 1.0 + 1e-9).all(), reached
    # ... and all but the top speed are used: a limit that is never met would not be tested.
    assert (reached[1:] > 0.999).all(), reached


def test_within_limits_one_gets_what_one_wants():
    told = CAR.told(state(5.0, accel=1.0, steering=0.1), 1.1, 0.105, STEP_S)
    assert (told.accel_mps2, told.steering_rad) == (1.1, 0.105)


def test_acceleration_builds_up_no_faster_than_the_jerk_limit():
    now = state(5.0)
    for number in range(1, 6):
        now = CAR.told(now, 4.0, 0.0, STEP_S)
        assert now.accel_mps2 == pytest.approx(LIMITS.max_jerk_mps3 * STEP_S * number)


@pytest.mark.parametrize('wanted', [(float('nan'), 0.0), (0.0, float('inf'))])
def test_controls_that_are_not_finite_are_refused(wanted):
    with pytest.raises(ValueError, match='controls are not finite'):
        CAR.told(state(), *wanted, STEP_S)


def test_a_wheelbase_must_be_positive():
    with pytest.raises(ValueError, match=r'wheelbase_m \(0.0\)'):
        replace(CAR, wheelbase_m=0.0)

"""The ego as a kinematic bicycle: what it does when told to accelerate and to steer, within the vehicle's limits.

The rear axle's middle moves along its own heading; the front wheels' angle gives the curvature, ``tan(angle) /
wheelbase``. Source: Rajamani, "Vehicle Dynamics and Control", section 2.2, with the reference point at the rear axle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.world.ego_car import STEERING_RATIO

#: Of the front wheels: 600 degrees a second at the steering wheel.
STEERING_RATE_RADPS = math.radians(600.0) / STEERING_RATIO


@dataclass(frozen=True)
class BicycleState:
    """The rear axle's middle in the world, and the controls that hold from this moment on: ``accel_mps2`` along the
    heading, ``steering_rad`` of the front wheels, left positive.
    """

    x_m: float
    y_m: float
    heading_rad: float
    speed_mps: float
    accel_mps2: float
    steering_rad: float


@dataclass(frozen=True)
class Bicycle:
    """A car with limits: speed, acceleration, jerk, lateral acceleration, curvature, steering rate. It never reverses.

    Args:
        limits: of the vehicle.
        wheelbase_m: between the axles.

    Raises:
        ValueError: ``wheelbase_m`` is not positive.
    """

    limits: VehicleLimits
    wheelbase_m: float

    def __post_init__(self) -> None:
        if not self.wheelbase_m > 0.0:
            raise ValueError(f'wheelbase_m ({self.wheelbase_m}) must be positive')

    def curvature_1pm(self, state: BicycleState) -> float:
        """Of the rear axle's path, left positive."""
        return math.tan(state.steering_rad) / self.wheelbase_m

    def steering_rad(self, curvature_1pm: float) -> float:
        """The wheel angle that gives a curvature."""
        return math.atan(self.wheelbase_m * curvature_1pm)

    def told(self, state: BicycleState, accel_mps2: float, steering_rad: float, step_s: float) -> BicycleState:
        """The state with the controls that come closest to the wanted ones within the limits over ``step_s``.

        Raises:
            ValueError: a wanted control is not finite.
        """
        if not (math.isfinite(accel_mps2) and math.isfinite(steering_rad)):
            raise ValueError(f'controls are not finite: accel_mps2 {accel_mps2}, steering_rad {steering_rad}')
        limits, speed = self.limits, state.speed_mps
        # Steering first, bounded at the present speed; then no faster than that curvature allows. Both bounds hold at
        # the beginning of the step, so the wheels never have to turn back faster than they can.
        lock = self.steering_rad(min(limits.max_curvature_1pm, limits.max_lateral_accel_mps2 / max(speed, 0.1) ** 2))
        reach = STEERING_RATE_RADPS * step_s
        wanted = min(max(steering_rad, -lock), lock)
        steering = state.steering_rad + min(max(wanted - state.steering_rad, -reach), reach)
        bent = abs(math.tan(steering)) / self.wheelbase_m
        fastest = min(limits.max_speed_mps, math.sqrt(limits.max_lateral_accel_mps2 / max(bent, 1e-9)))
        jerk = limits.max_jerk_mps3 * step_s
        accel = min(max(accel_mps2, state.accel_mps2 - jerk), state.accel_mps2 + jerk)
        accel = min(max(accel, -limits.max_decel_mps2), limits.max_accel_mps2, (fastest - speed) / step_s)
        if speed <= 0.0:
            accel = max(accel, 0.0)
        return replace(state, accel_mps2=accel, steering_rad=steering)

    def moved(self, state: BicycleState, passed_s: float) -> BicycleState:
        """The state after ``passed_s`` with its controls held; exact: a circular arc driven at constant acceleration.

        A braking car stops and stays.
        """
        speed, accel = state.speed_mps, state.accel_mps2
        driven_s = min(passed_s, speed / -accel) if accel < 0.0 else passed_s
        arc = (speed + 0.5 * accel * driven_s) * driven_s
        half = 0.5 * arc * self.curvature_1pm(state)
        chord = arc * (math.sin(half) / half if abs(half) > 1e-9 else 1.0)
        stopped = accel < 0.0 and passed_s >= speed / -accel
        return BicycleState(
            state.x_m + chord * math.cos(state.heading_rad + half),
            state.y_m + chord * math.sin(state.heading_rad + half),
            state.heading_rad + 2.0 * half,
            0.0 if stopped else speed + accel * driven_s,
            0.0 if stopped else accel,
            state.steering_rad,
        )

"""A scene whose ego is driven while it is looked at."""

from __future__ import annotations

import math

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.driving.bicycle import Bicycle, BicycleState
from sparseoccvla_ros.world.scene import EgoMotion, Scene, simulate
from sparseoccvla_ros.world.stage import WARM_UP_S, Stage
from sparseoccvla_ros.world.traffic.path import STEP_M, Path

#: Time between two recorded states of the ego; a step of the traffic is five of them.
RECORD_STEP_S = 0.02


class DrivenScene(Scene):
    """A :class:`Scene` up to now: renderer, labels and facts read it like any other.

    Before time 0 the ego drives itself, as everybody does; from then on :meth:`record` says where it is. What the scene
    tells of the route ahead (``command_at``, ``road_at``, ``signal_heads``) belongs to the place on the route beside
    the ego.

    Args:
        stage: best without agents that touch each other, as ``build_scene(...).stage`` has it.
        bicycle: the ego's car.
    """

    def __init__(self, stage: Stage, bicycle: Bicycle) -> None:
        super().__init__(stage, simulate(stage))
        self.simulation.run(WARM_UP_S)
        self._bicycle = bicycle
        s_m, speed, accel = self.simulation.vehicle_at(0, WARM_UP_S)
        x, y, heading, bent = self.route.at(s_m)
        self._states = [BicycleState(x, y, heading, speed, accel, bicycle.steering_rad(bent))]

    @property
    def route(self) -> Path:
        """The path that the ego is to take."""
        return self.stage.traffic[0].vehicle.trip.path

    @property
    def state(self) -> BicycleState:
        """The ego now."""
        return self._states[-1]

    @property
    def now_s(self) -> float:
        """Time of the last recorded state."""
        return (len(self._states) - 1) * RECORD_STEP_S

    def record(self, told: BicycleState) -> None:
        """The ego was given these controls; it is moved on by ``RECORD_STEP_S``."""
        self._states[-1] = told
        self._states.append(self._bicycle.moved(told, RECORD_STEP_S))

    def state_at(self, time_s: float) -> BicycleState:
        """The ego at a time from 0 on; exact up to now, with the controls held beyond."""
        index = min(max(int(time_s / RECORD_STEP_S + 1e-9), 0), len(self._states) - 1)
        return self._bicycle.moved(self._states[index], max(time_s - index * RECORD_STEP_S, 0.0))

    def world_from_ego(self, time_s: float) -> np.ndarray:
        """The ego's pose [4, 4]: under the middle of its rear axle."""
        if time_s < 0.0:
            return super().world_from_ego(time_s)
        state = self.state_at(time_s)
        return transform_from_planar(state.x_m, state.y_m, state.heading_rad)

    def ego_motion(self, time_s: float) -> EgoMotion:
        """Speed, acceleration, yaw rate and steering."""
        if time_s < 0.0:
            return super().ego_motion(time_s)
        state = self.state_at(time_s)
        yaw_rate = state.speed_mps * self._bicycle.curvature_1pm(state)
        return EgoMotion(state.speed_mps, state.accel_mps2, yaw_rate, state.steering_rad)


class RouteProgress:
    """Where beside its route the ego is; looks near the last place only, so that a route may cross itself."""

    BACK_M, AHEAD_M = 10.0, 20.0

    def __init__(self, route: Path, along_m: float) -> None:
        self._route = route
        self.along_m = along_m
        self.left_m = 0.0

    def update(self, x_m: float, y_m: float) -> None:
        """Take the rear axle's place: ``along_m`` is the arc length beside it, ``left_m`` the distance to the left."""
        points = self._route.points_m
        first = min(max(int((self.along_m - self.BACK_M) / STEP_M), 0), len(points) - 2)
        last = min(int((self.along_m + self.AHEAD_M) / STEP_M) + 2, len(points))
        gap = np.array([x_m, y_m]) - points[first:last]
        nearest = first + int(np.hypot(*gap.T).argmin())
        along, across = gap[nearest - first], self._route.tangents[nearest]
        # One step from the sample along its own circle instead of its tangent.
        bent = float(self._route.curvature_per_m[nearest])
        ahead = float(along @ across)
        left = float(across[0] * along[1] - across[1] * along[0])
        self.along_m = nearest * STEP_M + ahead / max(1.0 - bent * left, 0.2)
        x, y, heading, _ = self._route.at(self.along_m)
        self.left_m = -math.sin(heading) * (x_m - x) + math.cos(heading) * (y_m - y)

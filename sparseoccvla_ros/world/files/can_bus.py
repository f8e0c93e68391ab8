"""The ego's motion in the form of the nuScenes CAN bus expansion, which ``nuscenes.can_bus`` of the devkit reads.

Names, units and rates are those of the devkit's ``can_bus/README.md``. The car is ideal: no noise, no bias, no delay.
Accelerations, and the pedals that follow from them, are those of the 0.1 s that end at the stamp: what the driver
decides for the time after it is not known yet.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from sparseoccvla_ros.geometry import translation_and_quat_xyzw
from sparseoccvla_ros.world.ego_car import STEERING_RATIO, WHEEL_RADIUS_M
from sparseoccvla_ros.world.files.names import SceneNames
from sparseoccvla_ros.world.labels.facts import Command
from sparseoccvla_ros.world.scene import Scene
from sparseoccvla_ros.world.stage import WARM_UP_S

Message = dict[str, Any]

POSE_HZ, IMU_HZ, STEERING_HZ, MONITOR_HZ = 50, 100, 100, 2
#: Accelerometers feel the ground's push: at rest they show this upwards.
GRAVITY_MPS2 = 9.81
#: Deceleration and acceleration at the ends of the scales of brake pressure and throttle.
FULL_BRAKE_MPS2, FULL_BRAKE_BAR = 9.0, 126
FULL_THROTTLE_MPS2, FULL_THROTTLE = 4.0, 1000
#: What an electric car's motor takes away when no pedal is pressed.
COASTING_MPS2 = 0.6
ROUTE_STEP_M = 0.5
ROUTE_MARGIN_M = 50.0


def write_can_bus(folder: Path, scene: Scene, names: SceneNames) -> None:
    """Write ``<scene>_{pose,ms_imu,steeranglefeedback,vehicle_monitor,meta,route}.json`` into a folder."""
    messages = {
        'ms_imu': [_imu(scene, names, time_s) for time_s in _times(scene, IMU_HZ)],
        'pose': [_pose(scene, names, time_s) for time_s in _times(scene, POSE_HZ)],
        'steeranglefeedback': [_steering(scene, names, time_s) for time_s in _times(scene, STEERING_HZ)],
        'vehicle_monitor': [_monitor(scene, names, time_s) for time_s in _times(scene, MONITOR_HZ)],
    }
    derived = {'meta': {name: _statistics(rows) for name, rows in messages.items()}, 'route': _route(scene)}
    for name, content in {**messages, **derived}.items():
        (folder / f'{scene.name}_{name}.json').write_text(json.dumps(content))


def _times(scene: Scene, rate_hz: int) -> list[float]:
    return [number / rate_hz for number in range(int(scene.duration_s * rate_hz))]


def _pose(scene: Scene, names: SceneNames, time_s: float) -> Message:
    translation_m, (x, y, z, w) = translation_and_quat_xyzw(scene.world_from_ego(time_s))
    motion = scene.ego_motion(time_s)
    return {
        'accel': _acceleration(scene, time_s),
        'orientation': _rounded(w, x, y, z, digits=9),
        'pos': _rounded(*translation_m, digits=6),
        'rotation_rate': _rounded(0.0, 0.0, motion.yaw_rate_radps),
        'utime': names.stamp_us(time_s),
        'vel': _rounded(motion.speed_mps, 0.0, 0.0),
    }


def _imu(scene: Scene, names: SceneNames, time_s: float) -> Message:
    _, (x, y, z, w) = translation_and_quat_xyzw(scene.world_from_ego(time_s))
    return {
        'linear_accel': _acceleration(scene, time_s),
        'q': _rounded(w, x, y, z, digits=9),
        'rotation_rate': _rounded(0.0, 0.0, scene.ego_motion(time_s).yaw_rate_radps),
        'utime': names.stamp_us(time_s),
    }


def _steering(scene: Scene, names: SceneNames, time_s: float) -> Message:
    return {'utime': names.stamp_us(time_s), 'value': round(_wheel_rad(scene, time_s), 6)}


def _monitor(scene: Scene, names: SceneNames, time_s: float) -> Message:
    motion, command = scene.measured_motion(time_s), scene.command_at(time_s)
    braking_mps2 = max(0.0, -motion.acceleration_mps2 - COASTING_MPS2)
    # A car that stands is held by its brake.
    brake_bar = 20 if motion.speed_mps < 0.05 else round(FULL_BRAKE_BAR * min(1.0, braking_mps2 / FULL_BRAKE_MPS2))
    pushing_mps2 = max(0.0, motion.acceleration_mps2 + 0.01 * motion.speed_mps) if brake_bar == 0 else 0.0
    before_s = max(0.0, time_s - 0.1)
    wheel_rad = _wheel_rad(scene, time_s)
    wheel_radps = (wheel_rad - _wheel_rad(scene, before_s)) / (time_s - before_s) if time_s > before_s else 0.0
    rpm = motion.speed_mps / (2.0 * math.pi * WHEEL_RADIUS_M) * 60.0
    return {
        'available_distance': 200,
        'battery_level': 90,
        'brake': brake_bar,
        'brake_switch': 1 if brake_bar == 0 else 3,
        'gear_position': 7,
        'left_signal': int(command is Command.LEFT),
        'rear_left_rpm': round(rpm, 2),
        'rear_right_rpm': round(rpm, 2),
        'right_signal': int(command is Command.RIGHT),
        'steering': round(math.degrees(wheel_rad), 1),
        'steering_speed': round(math.degrees(wheel_radps), 1),
        'throttle': round(FULL_THROTTLE * min(1.0, pushing_mps2 / FULL_THROTTLE_MPS2)),
        'utime': names.stamp_us(time_s),
        'vehicle_speed': round(3.6 * motion.speed_mps, 2),
        'yaw_rate': round(math.degrees(motion.yaw_rate_radps), 1),
    }


def _wheel_rad(scene: Scene, time_s: float) -> float:
    """Angle of the steering wheel as the CAN bus tells it: to the right is positive there."""
    return -STEERING_RATIO * scene.ego_motion(time_s).steering_rad


def _acceleration(scene: Scene, time_s: float) -> list[float]:
    motion = scene.measured_motion(time_s)
    return _rounded(motion.acceleration_mps2, motion.speed_mps * motion.yaw_rate_radps, GRAVITY_MPS2)


def _route(scene: Scene) -> list[list[float]]:
    """Points of the route, half a metre apart, from 50 m before the scene to 50 m after it (the car starts on it)."""
    route = scene.stage.traffic[0].vehicle.trip.path
    first_m, last_m = (scene.simulation.vehicle_at(0, at_s + WARM_UP_S)[0] for at_s in (0.0, scene.duration_s))
    along_m = np.arange(first_m - ROUTE_MARGIN_M, last_m + ROUTE_MARGIN_M, ROUTE_STEP_M)
    return [[round(value, 3) for value in route.at(at_m)[:2]] for at_m in along_m.tolist()]


def _statistics(rows: list[Message]) -> Message:
    """What the expansion's meta file says of one kind of message."""
    span_s = (rows[-1]['utime'] - rows[0]['utime']) * 1e-6
    statistics = {}
    for key in rows[0]:
        if key == 'utime':
            continue
        values = np.array([row[key] for row in rows], dtype=np.float64)
        statistics[key] = _spread(values)
        if len(rows) > 1:
            statistics[f'{key}_diff'] = _spread(np.diff(values, axis=0))
    return {
        'message_count': len(rows),
        'message_freq': round(len(rows) / span_s, 3) if span_s > 0.0 else 0.0,
        'timespan': span_s,
        'var_stats': statistics,
    }


def _spread(values: np.ndarray) -> Message:
    measures = {'max': np.max, 'mean': np.mean, 'min': np.min, 'std': np.std}
    return {name: np.round(measure(values, axis=0), 6).tolist() for name, measure in measures.items()}


def _rounded(*values: float, digits: int = 6) -> list[float]:
    return [round(float(value), digits) for value in values]

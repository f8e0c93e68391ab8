"""What the ego mainly does in a scene, and whether it did."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from sparseoccvla_ros.world.labels.facts import Reason

if TYPE_CHECKING:
    from sparseoccvla_ros.world.scene import Scene

#: Moments at which a recorded scene is looked at.
STEP_S = 0.25
STANDS_MPS = 0.2


class Manoeuvre(Enum):
    """What the ego mainly does in a scene."""

    DRIVE_ON = 'drive on'
    TURN_LEFT = 'turn left'
    TURN_RIGHT = 'turn right'
    FOLLOW = 'follow a vehicle that slows down'
    RED_LIGHT = 'stop at a red light'
    START = 'wait at a red light, then start'
    ZEBRA = 'let pedestrians cross'
    NARROW = 'pass a narrow place'


def is_shown(scene: Scene) -> bool:
    """Whether a recorded scene shows the manoeuvre of its stage."""
    times_s = np.arange(0.0, scene.duration_s + 1e-9, STEP_S)
    speed = np.array([scene.ego_motion(time_s).speed_mps for time_s in times_s])
    reasons = [scene.reason_at(time_s)[0] for time_s in times_s]
    match scene.stage.manoeuvre:
        case Manoeuvre.DRIVE_ON:
            return True
        case Manoeuvre.TURN_LEFT | Manoeuvre.TURN_RIGHT:
            yaw_rate = [scene.ego_motion(time_s).yaw_rate_radps for time_s in times_s]
            turned_rad = _greatest_change(np.cumsum(yaw_rate) * STEP_S)
            return turned_rad > 1.0 if scene.stage.manoeuvre is Manoeuvre.TURN_LEFT else turned_rad < -1.0
        case Manoeuvre.FOLLOW:
            return Reason.LEADER in reasons and speed.min() < 0.7 * speed.max()
        case Manoeuvre.RED_LIGHT:
            held = [s < STANDS_MPS and r is Reason.RED_LIGHT for s, r in zip(speed, reasons, strict=True)]
            return sum(held) * STEP_S > 1.0
        case Manoeuvre.START:
            return speed[0] < 1.0 and reasons[0] is Reason.RED_LIGHT and speed[-1] > 1.0
        case Manoeuvre.ZEBRA:
            yields = [s for s, r in zip(speed, reasons, strict=True) if r is Reason.PEDESTRIAN]
            return bool(yields) and min(yields) < 0.5 * speed.max()
        case Manoeuvre.NARROW:
            return scene.passes_narrow_place()


def _greatest_change(values: np.ndarray) -> float:
    """The change of greatest size within ten seconds, signed."""
    window = int(10.0 / STEP_S)
    changes = [values[min(i + window, len(values) - 1)] - values[i] for i in range(0, len(values), 2)]
    return max(changes, key=abs)

"""What a planner is given and what it should give: the ego's state, the route's command and the way it then drove."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sparseoccvla_ros.geometry import inverse, yaw_of
from sparseoccvla_ros.world.files.names import SceneNames
from sparseoccvla_ros.world.files.request import KEYFRAME_HZ
from sparseoccvla_ros.world.labels.facts import FUTURE_S
from sparseoccvla_ros.world.scene import Scene

NOTE = (
    'state and command are inputs: the command comes from the route. future is a target only: a model that reads it as '
    'an input has seen the answer.'
)


def write_ego_future(path: Path, scene: Scene, names: SceneNames, keyframes: int) -> None:
    """Write one JSON of a scene's keyframes.

    By sample token: ``stamp_us``; ``command`` (left, right or straight); ``state`` (``speed_mps``,
    ``acceleration_mps2`` of the 0.1 s that end at the stamp, ``yaw_rate_radps``, ``steering_rad``, left positive); and
    ``future`` at the header's ``future_s``: ``position_m`` [6, 2] and ``heading_rad`` [6] in the keyframe's ego frame
    (x forward, y left), with ``valid`` [6] false, and zeros, where the scene has ended.
    """
    samples = {names.sample_token(number): _sample(scene, names, number) for number in range(keyframes)}
    content = {
        'scene': scene.name,
        'note': NOTE,
        'inputs': ['command', 'state'],
        'targets': ['future'],
        'future_s': list(FUTURE_S),
        'samples': samples,
    }
    path.write_text(json.dumps(content))


def _sample(scene: Scene, names: SceneNames, number: int) -> dict[str, object]:
    time_s = number / KEYFRAME_HZ
    motion = scene.measured_motion(time_s)
    ego_from_world = inverse(scene.world_from_ego(time_s))
    valid = [time_s + later_s <= scene.duration_s for later_s in FUTURE_S]
    position_m, heading_rad = np.zeros((len(FUTURE_S), 2)), np.zeros(len(FUTURE_S))
    for step in np.nonzero(valid)[0]:
        ego_from_later = ego_from_world @ scene.world_from_ego(time_s + FUTURE_S[step])
        position_m[step], heading_rad[step] = ego_from_later[:2, 3], yaw_of(ego_from_later)
    return {
        'stamp_us': names.sample_us(number),
        'command': scene.command_at(time_s).value,
        'state': {
            'speed_mps': round(motion.speed_mps, 6),
            'acceleration_mps2': round(motion.acceleration_mps2, 6),
            'yaw_rate_radps': round(motion.yaw_rate_radps, 6),
            'steering_rad': round(motion.steering_rad, 6),
        },
        'future': {
            'position_m': np.round(position_m, 4).tolist(),
            'heading_rad': np.round(heading_rad, 6).tolist(),
            'valid': valid,
        },
    }

"""What the ego's sensors can know of its motion at a moment."""

from __future__ import annotations

from dataclasses import replace

from sparseoccvla_ros.world.scene import EgoMotion, Scene
from sparseoccvla_ros.world.traffic.following import STEP_S


def motion_measured(scene: Scene, time_s: float) -> EgoMotion:
    """The ego's motion with the acceleration of the step of 0.1 s that ends at ``time_s``.

    ``Scene.ego_motion`` gives the acceleration that the driver decided on for the step to come: who reads it as an
    input has seen the future. This one is the gain of speed since 0.1 s before, over 0.1 s.
    """
    motion = scene.ego_motion(time_s)
    gained_mps = motion.speed_mps - scene.ego_motion(time_s - STEP_S).speed_mps
    return replace(motion, acceleration_mps2=gained_mps / STEP_S)

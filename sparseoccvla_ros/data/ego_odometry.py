"""Recorded poses as a vehicle's odometry: a local frame and the velocity a vehicle would have measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sparseoccvla_ros.geometry import inverse, transform_from_planar, yaw_of

TWIST_BASELINE_NS = 20_000_000
"""Shortest time that a velocity is taken over.

nuScenes has a pose per sensor reading, some half a millisecond apart, and their positions carry about 0.1 mm of noise:
in the real keyframe of the tests the difference over 0.5 ms is 0.2 m/s off, which a later difference would turn into
400 m/s^2. Over 20 ms the same noise is 0.005 m/s.
"""


@dataclass(frozen=True, eq=False)
class OdometrySample:
    """Pose and velocity at one time.

    ``odom_from_ego`` [4, 4]; ``velocity_ego_mps`` [3] and ``angular_velocity_ego_radps`` [3] of the vehicle against the
    ground, expressed in the ego frame at ``stamp_ns`` (as nav_msgs/Odometry has it).
    """

    stamp_ns: int
    odom_from_ego: np.ndarray
    velocity_ego_mps: np.ndarray
    angular_velocity_ego_radps: np.ndarray


def level_origin(global_from_ego: np.ndarray) -> np.ndarray:
    """``global_from_odom`` [4, 4] of an odometry frame that starts at this pose: its position and heading, no tilt.

    Without the tilt odom's z axis stays vertical; one degree of the first pose's pitch would put a point 500 m ahead
    9 m off the ground.
    """
    global_from_odom = transform_from_planar(global_from_ego[0, 3], global_from_ego[1, 3], yaw_of(global_from_ego))
    global_from_odom[2, 3] = global_from_ego[2, 3]
    return global_from_odom


def odometry(stamped_poses: Sequence[tuple[int, np.ndarray]], global_from_odom: np.ndarray) -> list[OdometrySample]:
    """Odometry from poses (stamp_ns, ``global_from_ego`` [4, 4]) in any order; a repeated stamp counts once.

    The velocity at a pose comes from this pose and the newest one at least :data:`TWIST_BASELINE_NS` before it: never
    from a later pose. Only the poses of the first 20 ms have no such one and hold the first velocity there is (a
    vehicle that was already moving had one); where there is none at all, it is zero.
    """
    poses = dict(stamped_poses)
    stamps_ns = sorted(poses)
    odom_from_global = inverse(global_from_odom)
    samples: list[OdometrySample] = []
    unmeasured = 0
    reference = 0
    for index, stamp_ns in enumerate(stamps_ns):
        while reference < index and stamps_ns[reference + 1] <= stamp_ns - TWIST_BASELINE_NS:
            reference += 1
        velocity, angular_velocity = np.zeros(3), np.zeros(3)
        earlier_ns = stamps_ns[reference]
        if earlier_ns <= stamp_ns - TWIST_BASELINE_NS:
            velocity, angular_velocity = _twist(poses[earlier_ns], poses[stamp_ns], (stamp_ns - earlier_ns) * 1e-9)
        else:
            unmeasured = index + 1
        samples.append(OdometrySample(stamp_ns, odom_from_global @ poses[stamp_ns], velocity, angular_velocity))
    if unmeasured < len(samples):
        first = samples[unmeasured]
        for index in range(unmeasured):
            held = samples[index]
            samples[index] = OdometrySample(
                held.stamp_ns, held.odom_from_ego, first.velocity_ego_mps, first.angular_velocity_ego_radps
            )
    return samples


def _twist(
    global_from_earlier: np.ndarray, global_from_ego: np.ndarray, seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean velocity and angular velocity between two poses, in the later one's frame."""
    ego_from_global = global_from_ego[:3, :3].T
    velocity = ego_from_global @ (global_from_ego[:3, 3] - global_from_earlier[:3, 3]) / seconds
    # A rotation vector is the same in the frame it starts from and the frame it leads to.
    turn = Rotation.from_matrix(global_from_earlier[:3, :3].T @ global_from_ego[:3, :3])
    return velocity, turn.as_rotvec() / seconds

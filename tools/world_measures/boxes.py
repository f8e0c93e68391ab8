"""Boxes of a data set: what they are, and whether they touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.nuscenes import Annotation
from sparseoccvla_ros.geometry import interpolate, transform_from_planar
from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs

#: Occ3D class of each nuScenes category, as nuScenes' own lidarseg challenge maps them; all others are ``others``.
CLASS_OF_CATEGORY = {
    'human.pedestrian.adult': 'pedestrian',
    'human.pedestrian.child': 'pedestrian',
    'human.pedestrian.construction_worker': 'pedestrian',
    'human.pedestrian.police_officer': 'pedestrian',
    'movable_object.barrier': 'barrier',
    'movable_object.trafficcone': 'traffic_cone',
    'vehicle.bicycle': 'bicycle',
    'vehicle.bus.bendy': 'bus',
    'vehicle.bus.rigid': 'bus',
    'vehicle.car': 'car',
    'vehicle.construction': 'construction_vehicle',
    'vehicle.motorcycle': 'motorcycle',
    'vehicle.trailer': 'trailer',
    'vehicle.truck': 'truck',
}
EGO = 'ego'


@dataclass(frozen=True)
class Contact:
    """Two footprints that overlap ``time_s`` after the scene's first keyframe."""

    scene: str
    time_s: float
    first: str
    second: str


def class_of(category: str) -> str:
    """Occ3D class of a nuScenes category."""
    return CLASS_OF_CATEGORY.get(category, 'others')


def ego_middle(global_from_ego: np.ndarray, ahead_m: float) -> np.ndarray:
    """Pose [4, 4] of the middle of the ego's footprint."""
    return global_from_ego @ transform_from_planar(ahead_m, 0.0, 0.0)


def contacts(
    boxes: Sequence[Annotation], global_from_ego: np.ndarray, ego_box_m: tuple[float, float, float]
) -> list[tuple[str, str]]:
    """Categories of each two footprints that overlap, the ego's among them.

    Args:
        boxes: of one keyframe.
        global_from_ego: [4, 4] at the same time.
        ego_box_m: length, width, and the distance of the middle before the ego frame's origin.
    """
    poses = np.stack([ego_middle(global_from_ego, ego_box_m[2]), *(box.global_from_box for box in boxes)])
    sizes_m = np.array([ego_box_m[:2], *(box.size_wlh_m[[1, 0]] for box in boxes)])
    names = [EGO, *(box.category for box in boxes)]
    return [(names[first], names[second]) for first, second in overlapping_pairs(poses, sizes_m)]


def ego_contacts_between(
    before: Sequence[Annotation],
    after: Sequence[Annotation],
    ego_poses: Sequence[tuple[float, np.ndarray]],
    ego_box_m: tuple[float, float, float],
) -> list[tuple[float, str]]:
    """Who overlaps the ego between two keyframes: (fraction of the way, category).

    Args:
        before, after: boxes of the keyframes; those of both are moved evenly in between, the others are left out.
        ego_poses: (fraction of the way from one keyframe to the next, ``global_from_ego`` [4, 4]).
        ego_box_m: as for :func:`contacts`.
    """
    later = {box.instance_token: box for box in after}
    moving = [(box, later[box.instance_token]) for box in before if box.instance_token in later]
    if not moving:
        return []
    found = []
    sizes_m = np.array([ego_box_m[:2], *(box.size_wlh_m[[1, 0]] for box, _ in moving)])
    for fraction, global_from_ego in ego_poses:
        poses = [interpolate(box.global_from_box, then.global_from_box, fraction) for box, then in moving]
        poses = np.stack([ego_middle(global_from_ego, ego_box_m[2]), *poses])
        touching = overlapping_pairs(poses, sizes_m, rows=np.array([0]))
        found += [(fraction, moving[second - 1][0].category) for _, second in touching]
    return found

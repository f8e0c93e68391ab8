"""Rows of the nuScenes v1.0 tables. Source of names and meanings: the schema of the public nuscenes-devkit."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from sparseoccvla_ros.data.nuscenes import LIDAR
from sparseoccvla_ros.geometry import translation_and_quat_xyzw

Row = dict[str, Any]

VERSION = 'v1.0-world'
TABLES = (
    'attribute',
    'calibrated_sensor',
    'category',
    'ego_pose',
    'instance',
    'log',
    'map',
    'sample',
    'sample_annotation',
    'sample_data',
    'scene',
    'sensor',
    'visibility',
)
#: The 23 nuScenes categories, all present whether or not the world has any yet.
CATEGORY_NAMES = (
    'animal',
    'human.pedestrian.adult',
    'human.pedestrian.child',
    'human.pedestrian.construction_worker',
    'human.pedestrian.personal_mobility',
    'human.pedestrian.police_officer',
    'human.pedestrian.stroller',
    'human.pedestrian.wheelchair',
    'movable_object.barrier',
    'movable_object.debris',
    'movable_object.pushable_pullable',
    'movable_object.trafficcone',
    'static_object.bicycle_rack',
    'vehicle.bicycle',
    'vehicle.bus.bendy',
    'vehicle.bus.rigid',
    'vehicle.car',
    'vehicle.construction',
    'vehicle.emergency.ambulance',
    'vehicle.emergency.police',
    'vehicle.motorcycle',
    'vehicle.trailer',
    'vehicle.truck',
)
#: The 8 nuScenes attributes.
ATTRIBUTES = {
    'cycle.with_rider': 'Somebody rides the cycle.',
    'cycle.without_rider': 'Nobody rides the cycle.',
    'pedestrian.moving': 'The person walks.',
    'pedestrian.sitting_lying_down': 'The person sits or lies.',
    'pedestrian.standing': 'The person stands.',
    'vehicle.moving': 'The vehicle moves.',
    'vehicle.parked': 'The vehicle stands without a driver.',
    'vehicle.stopped': 'The vehicle has a driver and stands.',
}
#: Level of each visibility token and the least share of the object's pixels that are not hidden.
VISIBILITY = {'1': ('v0-40', 0.0), '2': ('v40-60', 0.4), '3': ('v60-80', 0.6), '4': ('v80-100', 0.8)}


def token(*parts: object) -> str:
    """32 hexadecimal digits that depend on nothing but the parts."""
    return hashlib.md5('/'.join(str(part) for part in parts).encode(), usedforsecurity=False).hexdigest()


def visibility_token(share: float) -> str:
    """nuScenes visibility level of an object of whose pixels this share is not hidden."""
    return max(name for name, (_, least) in VISIBILITY.items() if share >= least)


def placement(target_from_source: np.ndarray) -> Row:
    """``translation`` (metres) and ``rotation`` (w, x, y, z) of a pose [4, 4], as nuScenes writes them."""
    translation, (x, y, z, w) = translation_and_quat_xyzw(target_from_source)
    return {
        'translation': [float(value) for value in translation],
        'rotation': [float(w), float(x), float(y), float(z)],
    }


def shared_rows(cameras: list[str]) -> dict[str, list[Row]]:
    """The tables that do not depend on the scenes: sensor, category, attribute, visibility."""
    modalities = dict.fromkeys(cameras, 'camera') | {LIDAR: 'lidar'}
    return {
        'sensor': [
            {'token': token('sensor', name), 'channel': name, 'modality': modality}
            for name, modality in modalities.items()
        ],
        'category': [
            {'token': token('category', name), 'name': name, 'description': f'Synthetic {name}.', 'index': index}
            for index, name in enumerate(CATEGORY_NAMES, start=1)
        ],
        'attribute': [
            {'token': token('attribute', name), 'name': name, 'description': text} for name, text in ATTRIBUTES.items()
        ],
        'visibility': [
            {'token': name, 'level': level, 'description': f'Share of the object that is not hidden: {level[1:]} %.'}
            for name, (level, _) in VISIBILITY.items()
        ],
    }


def link(rows: list[Row]) -> None:
    """Set ``prev`` and ``next`` of rows that are in order of time."""
    for row, before, after in zip(rows, [None, *rows[:-1]], [*rows[1:], None], strict=True):
        row['prev'] = before['token'] if before is not None else ''
        row['next'] = after['token'] if after is not None else ''

"""Label files: which classes are visible, and what is in and beside the ego's place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, GROUND_CLASSES, RANGE_M, VOXEL_M, load_labels

GROUND_LAYER = int((0.0 - RANGE_M[2]) / VOXEL_M)
DRIVEABLE = CLASS_NAMES.index('driveable_surface')
OBSTACLES = np.array([label for label in range(len(CLASS_NAMES)) if label not in GROUND_CLASSES])
#: Beside the ego nothing is looked for beyond this distance.
BESIDE_M = 10.0
#: Obstacles lower than the first or higher than the second value do not count.
BODY_HEIGHT_M = (0.3, 1.5)


@dataclass(frozen=True)
class SceneVoxels:
    """Of a scene's K keyframes: ``visible`` [K, 17] occupied voxels of each class that ``mask_camera`` shows;
    ``in_ego`` [K] obstacle voxels whose middle lies in the ego's footprint; ``free_beside_m`` [K, 2] from the ego's
    left and right side to the nearest obstacle voxel beside it; ``kerb_m`` [K] from the ego's middle to the first
    ground on its right that is not driveable. Distances are inf beyond ``BESIDE_M``.
    """

    visible: np.ndarray
    in_ego: np.ndarray
    free_beside_m: np.ndarray
    kerb_m: np.ndarray


def scene_voxels(
    gts_root: Path, scene: str, sample_tokens: tuple[str, ...], ego_box_m: tuple[float, float, float]
) -> SceneVoxels:
    """Read all label files of a scene.

    Args:
        gts_root: folder of the scenes' folders.
        scene: name.
        sample_tokens: of the keyframes.
        ego_box_m: length, width, and the distance of the middle before the ego frame's origin.

    Raises:
        Occ3DError: a file is missing or not in Occ3D's form.
        ValueError: a file has no camera mask.
    """
    found = [_keyframe(gts_root, scene, token, ego_box_m) for token in sample_tokens]
    return SceneVoxels(*(np.array(values) for values in zip(*found, strict=True)))


def _keyframe(
    gts_root: Path, scene: str, sample_token: str, ego_box_m: tuple[float, float, float]
) -> tuple[np.ndarray, int, tuple[float, float], float]:
    labels = load_labels(gts_root, scene, sample_token)
    if labels.mask_camera is None:
        raise ValueError(f'labels of sample {sample_token} of {scene} have no mask_camera')
    seen = labels.semantics[labels.mask_camera > 0]
    visible = np.bincount(seen, minlength=256)[: len(CLASS_NAMES)]
    length_m, width_m, ahead_m = ego_box_m
    x_m, y_m, z_m = (RANGE_M[axis] + VOXEL_M * (np.arange(count) + 0.5) for axis, count in enumerate((200, 200, 16)))
    alongside = np.abs(x_m - ahead_m) <= 0.5 * length_m
    heights = (z_m >= BODY_HEIGHT_M[0]) & (z_m <= BODY_HEIGHT_M[1])
    obstacle = np.isin(labels.semantics[np.ix_(alongside, np.ones(200, bool), heights)], OBSTACLES)
    in_ego = int(obstacle[:, np.abs(y_m) <= 0.5 * width_m].sum())
    blocked = obstacle.any(axis=(0, 2))
    left_m = _first(blocked & (y_m > 0.5 * width_m), y_m - 0.5 * VOXEL_M - 0.5 * width_m)
    right_m = _first(blocked & (y_m < -0.5 * width_m), -y_m - 0.5 * VOXEL_M - 0.5 * width_m)
    row = labels.semantics[int((ahead_m - RANGE_M[0]) / VOXEL_M), :, GROUND_LAYER]
    beyond = np.isin(row, [label for label in GROUND_CLASSES if label != DRIVEABLE])
    return visible, in_ego, (left_m, right_m), _first(beyond & (y_m < 0.0), -y_m - 0.5 * VOXEL_M)


def _first(there: np.ndarray, distance_m: np.ndarray) -> float:
    nearest_m = float(distance_m[there].min(initial=np.inf))
    return max(nearest_m, 0.0) if nearest_m <= BESIDE_M else np.inf

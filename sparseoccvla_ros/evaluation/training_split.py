"""The scenes that a baseline may learn from."""

from __future__ import annotations

import json

from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables


def training_scenes(tables: NuScenesTables) -> list[str]:
    """Names in the training split of a data set.

    Raises:
        NuScenesError: there is no ``splits.json`` with a training split (the world writes one).
    """
    path = tables.dataroot / 'splits.json'
    try:
        return json.loads(path.read_text(encoding='utf-8'))['train']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NuScenesError(f'{path}: a world with a training split is expected: {error!r}') from error

"""Which scenes are learnt from and which are judged: ``splits.json`` in a data set's folder, as the world writes it."""

from __future__ import annotations

import json

from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables

SPLITS_FILE = 'splits.json'


def split_scenes(tables: NuScenesTables, split: str) -> list[str]:
    """Names of the scenes of a split, at least one.

    Raises:
        NuScenesError: there is no ``splits.json`` with such a split.
    """
    path = tables.dataroot / SPLITS_FILE
    try:
        names = [str(name) for name in json.loads(path.read_text(encoding='utf-8'))[split]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NuScenesError(f'{path}: a list of scenes of split {split!r} is expected: {error!r}') from error
    if not names:
        raise NuScenesError(f'{path} names no scenes of split {split!r}')
    return names

"""Which generator this is: scenes of two generators must not be mixed in one data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from sparseoccvla_ros.resources import share_path


def generator_version() -> str:
    """Sixteen hexadecimal digits of a SHA-256 over the world's sources and the rigs: any edit of them changes it."""
    return digest_of({'world/*.py': Path(__file__).parents[1], 'rig/*.yaml': share_path('config/rig')})


def digest_of(folders: Mapping[str, Path]) -> str:
    """The same of the files below some folders.

    Args:
        folders: by what they are called, ``<name>/<pattern>``; files that match the pattern count, with their path
            below the folder and their bytes. Where the folder lies does not.
    """
    digest = hashlib.sha256()
    for name in sorted(folders):
        folder = folders[name]
        paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob(name.rpartition('/')[2])}
        for relative in sorted(paths):
            content = hashlib.sha256(paths[relative].read_bytes()).hexdigest()
            digest.update(f'{name}\0{relative}\0{content}\n'.encode())
    return digest.hexdigest()[:16]

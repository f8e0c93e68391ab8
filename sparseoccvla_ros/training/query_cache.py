"""Queries of an encoder that does not learn any more, computed once for each keyframe and for its mirror image.

Letters: N keyframes, Q queries, C query width.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

#: Keyframes that are encoded between two notes of how far it is.
BLOCK = 64
#: What the files are of; and the files: queries, and which blocks of keyframes are there.
ABOUT_FILE = 'about.json'
ARRAYS = ('features', 'positions_m', 'done')

#: ``(indices, mirrored) -> (features [b, Q, C], positions_m [b, Q, 3])``.
Encode = Callable[[Sequence[int], bool], tuple[Tensor, Tensor]]


class QueryCache:
    """Features as float16 [N, 2, Q, C] and positions as float32 [N, 2, Q, 3] (metres, ego frame) in two .npy files.

    The second axis: as it is, mirrored left to right. Read through memory maps, which worker processes share.
    """

    def __init__(self, folder: Path, tokens: Sequence[str]) -> None:
        self._place = {token: place for place, token in enumerate(tokens)}
        self._features = np.load(folder / 'features.npy', mmap_mode='r')
        self._positions_m = np.load(folder / 'positions_m.npy', mmap_mode='r')

    def read(self, token: str, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        """Features float32 [Q, C] and positions float32 [Q, 3] of a keyframe."""
        place = self._place[token]
        return (
            self._features[place, int(mirrored)].astype(np.float32),
            np.array(self._positions_m[place, int(mirrored)]),
        )


def fingerprint(weights: dict[str, Tensor], settings: Sequence[str], tokens: Sequence[str]) -> str:
    """What the queries depend on: the encoder's weights, its settings and the keyframes."""
    digest = hashlib.sha256(json.dumps([list(settings), list(tokens)]).encode())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def make_query_cache(folder: Path, key: str, keyframes: int, width: tuple[int, int], mirror: bool) -> None:
    """Make the empty files of N keyframes, or find those that an interrupted run has begun; by one process.

    Args:
        folder: of the files.
        key: of :func:`fingerprint`.
        keyframes: N.
        width: (Q, C).
        mirror: whether mirrored keyframes are wanted too; their half stays empty otherwise.

    Raises:
        ValueError: the folder holds the queries of another encoder or of other keyframes.
        OSError: there is no room for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / ABOUT_FILE
    if about.is_file():
        found = json.loads(about.read_text(encoding='utf-8'))
        if found['key'] != key or mirror > found['mirror']:
            raise ValueError(f'{folder} holds the queries of another encoder or of other keyframes; remove it')
        return
    blocks = -(-keyframes // BLOCK)
    shapes = {
        'features': (np.float16, (keyframes, 2, width[0], width[1])),
        'positions_m': (np.float32, (keyframes, 2, width[0], 3)),
        'done': (np.uint8, (blocks,)),
    }
    for name, (kind, shape) in shapes.items():
        path = folder / f'{name}.npy'
        np.lib.format.open_memmap(path, mode='w+', dtype=kind, shape=shape).flush()
        # a full disk ends a process that writes to a map of blocks that are not there yet: ask for all of them now
        with path.open('r+b') as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    partial = about.with_suffix('.partial')
    partial.write_text(json.dumps({'key': key, 'mirror': mirror}), encoding='utf-8')
    partial.replace(about)


def fill_query_cache(
    folder: Path, tokens: Sequence[str], encode: Encode, process: int = 0, processes: int = 1
) -> QueryCache:
    """Compute what is not there yet of one process' share: every so many-th block of keyframes.

    Args:
        folder: of the files that :func:`make_query_cache` has made.
        tokens: of N keyframes.
        encode: the encoder. It is asked for mirrored keyframes if the files were made for them, whoever fills them.
        process, processes: which share. All is there once every process is done.
    """
    mirror = json.loads((folder / ABOUT_FILE).read_text(encoding='utf-8'))['mirror']
    features, positions_m, done = (np.load(folder / f'{name}.npy', mmap_mode='r+') for name in ARRAYS)
    for block in range(process, len(done), processes):
        if done[block]:
            continue
        indices = range(block * BLOCK, min((block + 1) * BLOCK, len(tokens)))
        for mirrored in (False, True)[: 1 + mirror]:
            found, found_m = encode(indices, mirrored)
            features[indices, int(mirrored)] = found.cpu().to(torch.float16).numpy()
            positions_m[indices, int(mirrored)] = found_m.cpu().float().numpy()
        features.flush()
        positions_m.flush()
        done[block] = 1
        done.flush()
        logger.info('queries of keyframes %d to %d of %d', indices.start + 1, indices.stop, len(tokens))
    return QueryCache(folder, tokens)

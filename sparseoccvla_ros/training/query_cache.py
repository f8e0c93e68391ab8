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


def fill_query_cache(
    folder: Path, key: str, tokens: Sequence[str], width: tuple[int, int], mirror: bool, encode: Encode
) -> QueryCache:
    """Compute what is not there yet; an interrupted run goes on.

    Args:
        folder: of the files.
        key: of :func:`fingerprint`.
        tokens: of N keyframes.
        width: (Q, C).
        mirror: whether mirrored keyframes are wanted too; their half stays empty otherwise.
        encode: the encoder.

    Raises:
        ValueError: the folder holds the queries of another encoder or of other keyframes.
        OSError: there is no room for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_path = folder / 'state.json'
    state = {'key': key, 'mirror': mirror, 'done': 0}
    if state_path.is_file():
        found = json.loads(state_path.read_text(encoding='utf-8'))
        if found['key'] != key or mirror > found['mirror']:
            raise ValueError(f'{folder} holds the queries of another encoder or of other keyframes; remove it')
        state = found
    shapes = {'features': (np.float16, width[1]), 'positions_m': (np.float32, 3)}
    mode = 'r+' if state['done'] else 'w+'
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f'{name}.npy', mode=mode, dtype=kind, shape=(len(tokens), 2, width[0], channels)
        )
        for name, (kind, channels) in shapes.items()
    }
    for name in arrays:
        # a full disk ends a process that writes to a map of blocks that are not there yet: ask for all of them now
        with (folder / f'{name}.npy').open('r+b') as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    for begin in range(state['done'], len(tokens), BLOCK):
        indices = range(begin, min(begin + BLOCK, len(tokens)))
        for mirrored in (False, True)[: 1 + mirror]:
            features, positions_m = encode(indices, mirrored)
            arrays['features'][indices, int(mirrored)] = features.cpu().to(torch.float16).numpy()
            arrays['positions_m'][indices, int(mirrored)] = positions_m.cpu().float().numpy()
        for array in arrays.values():
            array.flush()
        state['done'] = indices.stop
        partial = state_path.with_suffix('.partial')
        partial.write_text(json.dumps(state), encoding='utf-8')
        partial.replace(state_path)
        logger.info('queries of %d of %d keyframes', indices.stop, len(tokens))
    return QueryCache(folder, tokens)

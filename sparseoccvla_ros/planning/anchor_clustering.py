"""K-means over driven futures, per command, to anchors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.cluster.vq import ClusterError, kmeans2

from sparseoccvla_ros.planning.anchors import STEPS, Anchors
from sparseoccvla_ros.runtime.scene import Command

Array = np.ndarray

RESTARTS = 20
ITERATIONS = 100


def cluster_anchors(futures_ego_m: Mapping[Command, Array], modes: int, seed: int) -> Anchors:
    """Anchors of ``modes`` for each command: the means of clusters of futures, nearest end first.

    The same futures in any order and the same seed give the same anchors. Of :data:`RESTARTS` runs from k-means++
    starts the one with the least sum of squared distances is taken; a run that leaves a cluster empty is none.

    Args:
        futures_ego_m: by command [N, 6, 2], the form of :class:`Anchors`.
        modes: clusters of each command, the same for all.
        seed: of the starts.

    Raises:
        ValueError: a command has fewer different futures than modes (named, with the count); wrong shape; not finite;
            or no run left every cluster with a future.
    """
    if modes < 1:
        raise ValueError(f'modes ({modes}) must be at least 1')
    return Anchors(np.stack([_cluster(command, futures_ego_m.get(command), modes, seed) for command in Command]))


def nearest_anchor_m(futures_ego_m: Array, anchors_ego_m: Array) -> Array:
    """Mean distance over the six waypoints from each future [N, 6, 2] to the nearest of the anchors [M, 6, 2]: [N]."""
    offsets = futures_ego_m[:, None] - anchors_ego_m[None]
    return np.linalg.norm(offsets, axis=-1).mean(axis=-1).min(axis=1)


def _cluster(command: Command, futures_ego_m: Array | None, modes: int, seed: int) -> Array:
    futures = np.zeros((0, STEPS, 2)) if futures_ego_m is None else np.asarray(futures_ego_m, dtype=np.float64)
    if futures.ndim != 3 or futures.shape[1:] != (STEPS, 2) or not np.isfinite(futures).all():
        raise ValueError(f'futures of {command.name} must be finite [N, {STEPS}, 2], found {list(futures.shape)}')
    # millimetres, the precision of the file; sorted, so that the order of scenes does not matter
    rows, counts = np.unique(np.round(futures.reshape(len(futures), 2 * STEPS), 3), axis=0, return_counts=True)
    if len(rows) < modes:
        raise ValueError(
            f'command {command.name} has {len(futures)} futures, {len(rows)} different ones; {modes} modes need as many'
        )
    data = np.repeat(rows, counts, axis=0)
    random = np.random.default_rng([seed, int(command)])
    best, least = None, np.inf
    for _ in range(RESTARTS):
        try:
            centres, labels = kmeans2(data, modes, iter=ITERATIONS, minit='++', missing='raise', rng=random)
        except ClusterError:
            continue
        # kmeans2 assigns once more after its last move: a cluster may be empty then, or two be one to the millimetre
        if len(np.unique(labels)) < modes or len(np.unique(np.round(centres, 3), axis=0)) < modes:
            continue
        spread = float(((data - centres[labels]) ** 2).sum())
        if spread < least:
            best, least = centres, spread
    if best is None:
        raise ValueError(f'k-means of {modes} modes left a cluster of {command.name} empty in all {RESTARTS} runs')
    order = np.lexsort((best[:, -1], best[:, -2]))
    return best[order].reshape(modes, STEPS, 2)

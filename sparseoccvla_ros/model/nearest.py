"""Nearest neighbours between point sets, without a matrix of all distances."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor

#: Distances held at once by the search in chunks: two matrices of this many numbers, 64 MiB in float32.
CHUNK_ELEMENTS = 1 << 23


class NotFiniteError(ValueError):
    """A coordinate is no number: a training that diverges, or broken data."""


class PointIndex:
    """A set of points that is asked several times.

    On the CPU a k-d tree (memory and build time linear in the points), elsewhere exact distances in chunks of rows, at
    most 64 MiB at a time in float32. Nothing is differentiable here: an index is what comes out. Of several points at
    the very same distance the chunks give the lowest index, the tree any.

    Args:
        points_m: [M, 3], M >= 1.

    Raises:
        ValueError: no point or another shape.
        NotFiniteError: a coordinate is not finite.
    """

    def __init__(self, points_m: Tensor) -> None:
        if points_m.ndim != 2 or points_m.shape[1] != 3 or not len(points_m):
            raise ValueError(f'expected points [M, 3] with M >= 1, got {tuple(points_m.shape)}')
        _require_finite(points_m)
        self._points_m = points_m.detach()
        # a tree of cells cut in the middle, asked a few times only: less than half the time of one with balanced cells
        self._tree = None
        if points_m.device.type == 'cpu':
            self._tree = cKDTree(self._points_m.numpy(), balanced_tree=False, compact_nodes=False)

    def nearest(self, queries_m: Tensor) -> Tensor:
        """Index of the nearest point to each of [N, 3]: int64 [N].

        Raises:
            NotFiniteError: a coordinate is not finite.
        """
        _require_finite(queries_m)
        if self._tree is None:
            return nearest_in_chunks(queries_m.detach(), self._points_m)
        index = self._tree.query(queries_m.detach().numpy(), workers=torch.get_num_threads())[1]
        return torch.from_numpy(index.astype('int64', copy=False))


def nearest_in_chunks(queries_m: Tensor, points_m: Tensor, chunk_elements: int = CHUNK_ELEMENTS) -> Tensor:
    """Index of the point [M, 3] nearest to each query [N, 3]: int64 [N], the lower index of two at the same distance.

    Coordinates are subtracted, not expanded into a product: at 40 m that would cost float32 its centimetres.
    """
    rows = max(1, chunk_elements // len(points_m))
    found = []
    for queries in queries_m.split(rows):
        squared = (queries[:, None, 0] - points_m[None, :, 0]).square_()
        for axis in (1, 2):
            squared += (queries[:, None, axis] - points_m[None, :, axis]).square_()
        found.append(squared.argmin(dim=1))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.int64, device=queries_m.device)


def _require_finite(points_m: Tensor) -> None:
    if not points_m.isfinite().all():
        raise NotFiniteError(f'{int((~points_m.isfinite()).any(-1).sum())} of {len(points_m)} points are not finite')

"""Reading image features fast: all levels of all views are rows of one table, and a read is one weighted sum of rows.

No intermediate per level, camera or frame is stored, what no camera sees is not read, and the gradient of the table is
made once for all layers that read it. Letters as in :mod:`~sparseoccvla_ros.model.sampling`, whose ``sample_per_level``
is the obvious version; the tests compare both, gradients included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sparseoccvla_ros.model.sampling import ViewChoice

#: Reads of one table at most: one per layer of the encoder.
MAX_READS = 64


@dataclass(frozen=True)
class FeatureTable:
    """All levels of all views as ``rows`` [sum over levels of B * V * h * w * G, C / G], then one of zeros; detached.

    Gradients go through ``token``, which has a slot for every read. In a backward pass each read leaves what it has in
    ``reads`` and marks its slot; the token's own backward, which autograd runs when all of them are done, turns what is
    marked into one gradient. One per layer would cost more than the reads: with 8 frames of 704x256 it has 0.7 GB.
    """

    rows: Tensor
    sizes: tuple[tuple[int, int], ...]
    batch: int
    views: int
    groups: int
    token: Tensor
    reads: list[tuple[Tensor, Tensor, Tensor] | None]


def feature_table(levels: tuple[Tensor, ...], groups: int) -> FeatureTable:
    """Lay out levels [B, V, C, h, w] for :func:`sample`; one copy where they are stored channels-last.

    Raises:
        ValueError: too many texels for one batch (2^31 / groups).
    """
    B, V, C = levels[0].shape[:3]
    count = sum(level.numel() for level in levels) // (C // groups)
    if count >= torch.iinfo(torch.int32).max:  # rows are counted in int32, which is a third faster on a CPU
        raise ValueError(f'{count} feature rows in one batch are not fewer than {torch.iinfo(torch.int32).max}')
    with torch.no_grad():
        parts = [level.permute(0, 1, 3, 4, 2).reshape(-1, C // groups) for level in levels]
        rows = torch.cat([*parts, parts[0].new_zeros(1, C // groups)])
    sizes = tuple((level.shape[3], level.shape[4]) for level in levels)
    reads: list[tuple[Tensor, Tensor, Tensor] | None] = []
    return FeatureTable(rows, sizes, B, V, groups, _Layout.apply(rows, reads, *levels), reads)


def sample(table: FeatureTable, choice: ViewChoice, level_weights: Tensor, *, leave_out: bool | None = None) -> Tensor:
    """Bilinear reads at the chosen places, levels summed by weight.

    Pixel centres of the outermost texels lie on the image's border (align_corners); beyond it features are zero.

    Args:
        table: from :func:`feature_table`.
        choice: for N = Q x G x P points, in that order.
        level_weights: [B, T, Q, G, P, L].
        leave_out: whether what no camera sees is left out of the reads, None: on a CPU. The result is the same.

    Returns:
        [B, Q, G, T * P, C / G], frame-major; zero where no camera sees the point, whatever the features are.

    Raises:
        ValueError: a table is read more than ``MAX_READS`` times.
    """
    B, T, Q, G, P, _ = level_weights.shape
    seen = choice.seen.reshape(-1)
    # a GPU would have to be waited for to count what is seen; there the rest reads the row of zeros
    leave_out = seen.device.type == 'cpu' if leave_out is None else leave_out
    kept = seen.nonzero()[:, 0] if leave_out and not seen.all() else None
    index, weight = _taps(table, choice, level_weights * choice.seen.view(B, T, Q, G, P, 1), kept)
    if not leave_out:
        index = torch.where(seen[:, None], index, len(table.rows) - 1)
    weight = weight.to(table.rows.dtype)
    read = F.embedding_bag(index, table.rows, mode='sum', per_sample_weights=weight)
    read = _Read.apply(read, table.token, table.reads, index, weight.detach())
    if kept is not None:
        read = read.new_zeros(len(seen), read.shape[1]).index_copy(0, kept, read)
    return read.view(B, T, Q, G, P, -1).permute(0, 2, 3, 1, 4, 5).reshape(B, Q, G, T * P, -1)


def _taps(table: FeatureTable, choice: ViewChoice, level_weights: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows of each read and their weights: int32 [M, 4 L], [M, 4 L], for the M reads of B x T x N that are kept."""
    B, T, Q, G, P, L = level_weights.shape
    device = table.rows.device
    # everything is computed as [.., L, M] with the reads innermost: on a CPU, element-wise work over short inner axes
    # costs twice as much
    sizes = torch.tensor(table.sizes, device=device, dtype=torch.int32)  # [L, 2], height and width
    texels = (table.batch * table.views * sizes.prod(dim=1)).int()
    first_row = ((texels.cumsum(0, dtype=torch.int32) - texels) * G)[:, None]
    height, width = sizes[:, :1], sizes[:, 1:]
    image = (torch.arange(B, device=device)[:, None, None] * table.views + choice.view).reshape(-1).int()
    group = torch.arange(G, device=device, dtype=torch.int32)[:, None].expand(B, T, Q, G, P).reshape(-1)
    uv, level_weights = choice.uv.reshape(-1, 2), level_weights.reshape(-1, L)
    if kept is not None:
        image, group, uv, level_weights = image[kept], group[kept], uv[kept], level_weights[kept]
    column, across = _pair(uv[:, 0] * (width - 1), width)  # [2, L, M]
    row, down = _pair(uv[:, 1] * (height - 1), height)
    row = (image * height + row) * (width * G) + (group + first_row)
    index = (row[:, None] + column * G).view(4 * L, -1)  # [2 rows, 2 columns, L, M]
    weight = ((down * level_weights.t())[:, None] * across).view(4 * L, -1)
    return index.t().contiguous(), weight.t().contiguous()


def _pair(place: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The two texels about places [L, M] along an axis of ``size`` [L, 1] texels, and their weights; both [2, L, M].

    A texel outside has weight zero and some index inside.
    """
    corner = place.floor()
    fraction = place - corner
    texel = corner.int()
    texel = torch.stack([texel, texel + 1])
    weight = torch.stack([1.0 - fraction, fraction]) * ((texel >= 0) & (texel < size))
    return texel.clamp(min=0).minimum(size - 1), weight


class _Layout(torch.autograd.Function):
    """From the levels to a table's token; see :class:`FeatureTable`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, reads: list, *levels: Tensor) -> Tensor:
        ctx.rows, ctx.reads, ctx.shapes = rows, reads, [level.shape for level in levels]
        return rows.new_zeros(MAX_READS)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, marked: Tensor) -> tuple[Tensor | None, ...]:
        # what is not marked comes from an earlier pass that asked for other gradients than the levels'
        parts = [ctx.reads[slot] for slot in marked.nonzero()[:, 0].tolist()]
        ctx.reads[:] = [None] * len(ctx.reads)
        gradient_of = rows_gradient_on_cpu if ctx.rows.device.type == 'cpu' else rows_gradient
        gradient = gradient_of(ctx.rows, parts)
        counts = [shape.numel() // ctx.rows.shape[1] for shape in ctx.shapes]
        levels = [
            part.view(B, V, height, width, C).permute(0, 1, 4, 2, 3)
            for part, (B, V, C, height, width) in zip(gradient[:-1].split(counts), ctx.shapes, strict=True)
        ]
        return None, None, *levels


def rows_gradient(rows: Tensor, parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Gradient of the rows [N, K] by the (index [M, taps], weight [M, taps], gradient [M, K]) of all reads."""
    index, weight, gradient = (torch.cat(part) for part in zip(*parts, strict=True))
    with torch.enable_grad():
        rows = rows.detach().requires_grad_()
        read = F.embedding_bag(index, rows, mode='sum', per_sample_weights=weight)
    return torch.autograd.grad(read, rows, gradient)[0]


def rows_gradient_on_cpu(rows: Tensor, parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The same; embedding_bag's own backward sorts all indices first, which takes ten times as long on a CPU."""
    dtype = torch.promote_types(rows.dtype, torch.float32)  # numpy has no bfloat16
    total = np.zeros(rows.shape, dtype=str(dtype).removeprefix('torch.'))
    for index, weight, gradient in parts:
        reads, taps = index.shape
        # each read is a row of a sparse matrix, whose transposed product scatters the gradient
        begins = np.arange(0, reads * taps + 1, taps, dtype=np.int32)
        matrix = csr_array(
            (weight.to(dtype).flatten().numpy(), index.flatten().numpy(), begins), shape=(reads, len(rows))
        )
        total += matrix.T @ gradient.to(dtype).numpy()
    return torch.from_numpy(total).to(rows.dtype)


class _Read(torch.autograd.Function):
    """Hands on what was read; in the backward pass, leaves with the table what its gradient needs."""

    @staticmethod
    def forward(ctx: Any, read: Tensor, token: Tensor, reads: list, index: Tensor, weight: Tensor) -> Tensor:
        if len(reads) == MAX_READS:
            raise ValueError(f'a feature table is read at most {MAX_READS} times')
        ctx.reads, ctx.slot = reads, len(reads)
        reads.append(None)
        ctx.save_for_backward(index, weight)
        return read.view_as(read)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.needs_input_grad[1]:
            return gradient, None, None, None, None
        ctx.reads[ctx.slot] = (*ctx.saved_tensors, gradient)
        mark = gradient.new_zeros(MAX_READS)
        mark[ctx.slot] = 1.0
        return gradient, mark, None, None, None

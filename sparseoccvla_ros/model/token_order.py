"""In which order a scene's occupancy tokens stand before the language model.

Letters: B samples, Q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparseoccvla_ros.model.config import SpaceConfig, TokenOrder

#: Cells per edge of the cube that the space-filling curve runs through, as a power of two: 80 m / 2^8 = 0.3 m, finer
#: than a voxel. Queries in one cell keep the order in which they were produced.
CURVE_BITS = 8


def token_order(positions_m: Tensor, rule: TokenOrder, space: SpaceConfig) -> Tensor | None:
    """Which query stands where.

    Args:
        positions_m: [B, Q, 3], metres, ego frame. May lie outside the space.
        rule: 'as_produced': the encoder's order; 'space_filling': along a Hilbert curve, so that neighbours in the
            sequence are neighbours in space; 'distance': nearest to the ego's origin first.

    Returns:
        int64 [B, Q]: the query at each place of the sequence; None where nothing changes. Ties keep their order.
    """
    if rule == 'as_produced':
        return None
    if rule == 'distance':
        return positions_m.square().sum(dim=-1).argsort(dim=1, stable=True)
    low, high = torch.tensor(space.range_m, device=positions_m.device).view(2, 3)
    edge_m = (high - low).max() / 2**CURVE_BITS  # of one cell: the same along all axes, so that near means near
    cells = ((positions_m - low) / edge_m).floor().long().clamp(0, 2**CURVE_BITS - 1)
    return hilbert_index(cells, CURVE_BITS).argsort(dim=1, stable=True)


def inverse_order(order: Tensor) -> Tensor:
    """The place [B, Q] of each query in a sequence that has query ``order[b, i]`` at place i."""
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def reorder(values: Tensor, order: Tensor | None) -> Tensor:
    """[B, Q, ...] -> the same shape, with ``values[b, order[b, i]]`` at place i."""
    if order is None:
        return values
    return values.gather(1, order.view(*order.shape, *[1] * (values.dim() - 2)).expand_as(values))


def hilbert_index(cells: Tensor, bits: int) -> Tensor:
    """Place along the Hilbert curve of cells of a cube with 2^bits cells an edge.

    Two successive places are always cells with a common face. John Skilling's transposed form (Programming the Hilbert
    curve, AIP Conf. Proc. 707, 2004): undo the excess work of each level, then Gray-encode.

    Args:
        cells: int64 [..., n], each 0 .. 2^bits - 1.

    Returns:
        int64 [...].

    Raises:
        ValueError: a cell lies outside the cube, or the places do not fit into 63 bits.
    """
    axes = list(cells.unbind(-1))
    if len(axes) * bits > 63:
        raise ValueError(f'{len(axes)} axes of {bits} bits do not fit into 63 bits')
    if cells.numel() and (int(cells.min()) < 0 or int(cells.max()) >= 2**bits):
        raise ValueError(f'cells must be in 0..{2**bits - 1}, found {int(cells.min())}..{int(cells.max())}')
    for level in range(bits - 1, 0, -1):
        bit = 1 << level
        low_bits = bit - 1
        for axis, value in enumerate(axes):
            inverted = (value & bit) != 0
            # where the bit is set the lower bits of the first axis are inverted, elsewhere they are exchanged
            exchanged = (axes[0] ^ value) & low_bits
            first = torch.where(inverted, axes[0] ^ low_bits, axes[0] ^ exchanged)
            if axis:
                axes[axis] = torch.where(inverted, value, value ^ exchanged)
            axes[0] = first
    for axis in range(1, len(axes)):
        axes[axis] = axes[axis] ^ axes[axis - 1]
    flipped = torch.zeros_like(axes[0])
    for level in range(bits - 1, 0, -1):
        bit = 1 << level
        flipped = torch.where((axes[-1] & bit) != 0, flipped ^ (bit - 1), flipped)
    axes = [value ^ flipped for value in axes]
    index = torch.zeros_like(axes[0])
    for level in range(bits - 1, -1, -1):
        for value in axes:
            index = (index << 1) | ((value >> level) & 1)
    return index

"""Reading image features at 3D points, over cameras, frames and pyramid levels.

Letters: B samples, T frames, V = T x cameras views (frame-major), Q queries, G channel groups, P points per group,
N = Q x G x P points of a sample, L levels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

#: Depths below this count as behind the camera, metres.
MIN_DEPTH_M = 1e-5


@dataclass(frozen=True)
class ViewChoice:
    """For every point and frame, the one camera that it is read from.

    ``view`` [B, T, N] index into V; ``uv`` [B, T, N, 2] fractions of the image's width and height; ``seen`` bool
    [B, T, N], False where nothing is to be read.
    """

    view: Tensor
    uv: Tensor
    seen: Tensor


@dataclass(frozen=True)
class ViewRule:
    """See :class:`~sparseoccvla_ros.model.config.EncoderConfig` for the two choices."""

    frames: int
    width_px: int
    height_px: int
    unseen: Literal['masked', 'view0'] = 'masked'
    shared: Literal['central', 'first'] = 'central'


def project(points_m: Tensor, image_from_ego: Tensor, rule: ViewRule) -> tuple[Tensor, Tensor]:
    """Points [B, N, 3] into views [B, V, 4, 4]: uv [B, V, N, 2] as fractions of the image, valid bool [B, V, N]."""
    rotation, translation = image_from_ego[..., :3, :3], image_from_ego[..., :3, 3]
    homogeneous = points_m[:, None] @ rotation.transpose(-1, -2) + translation[:, :, None]  # [B, V, N, 3]
    depth_m = homogeneous[..., 2:]
    size_px = homogeneous.new_tensor([rule.width_px, rule.height_px])
    uv = homogeneous[..., :2] / depth_m.clamp(min=MIN_DEPTH_M) / size_px
    inside = ((uv > 0) & (uv < 1)).all(-1)
    return uv, inside & (depth_m[..., 0] > MIN_DEPTH_M)


def choose_views(points_m: Tensor, image_from_ego: Tensor, view_mask: Tensor, rule: ViewRule) -> ViewChoice:
    """Choose for each point the camera of each frame that it is read from.

    Args:
        points_m: [B, N, 3], ego frame of the scene.
        image_from_ego: [B, V, 4, 4], pixels of the network's image.
        view_mask: bool [B, V], False for a camera that is missing; it is never chosen.
    """
    B, N, _ = points_m.shape
    cameras = image_from_ego.shape[1] // rule.frames
    uv, valid = project(points_m, image_from_ego, rule)
    valid = (valid & view_mask[..., None]).view(B, rule.frames, cameras, N)
    uv = uv.view(B, rule.frames, cameras, N, 2)
    order = torch.arange(cameras, 0, -1, device=uv.device, dtype=uv.dtype)[:, None]  # earlier cameras rank higher
    if rule.shared == 'first':
        rank = valid * order
    else:
        margin = 0.5 - (uv.detach() - 0.5).abs().amax(-1)  # > 0 inside, largest in the middle of the image
        rank = torch.where(valid, margin, torch.zeros_like(margin))
    best, camera = rank.max(dim=2)  # [B, T, N]
    seen = best > 0
    if rule.unseen == 'view0':
        available = view_mask.view(B, rule.frames, cameras)
        fallback = (available * order[:, 0]).argmax(dim=2, keepdim=True)  # the first camera that is there
        camera = torch.where(seen, camera, fallback)
        seen = available.any(dim=2, keepdim=True).expand_as(seen)
    chosen = uv.gather(2, camera[:, :, None, :, None].expand(-1, -1, -1, -1, 2))[:, :, 0]  # [B, T, N, 2]
    # far outside reads zero whatever the place; clamped so that a point in the camera's plane gives no overflow
    chosen = torch.where(seen[..., None], chosen, torch.full_like(chosen, 0.5)).clamp(-8.0, 9.0)
    frame = torch.arange(rule.frames, device=camera.device)[:, None]
    return ViewChoice(view=camera + frame * cameras, uv=chosen, seen=seen)


@dataclass(frozen=True)
class FeatureTable:
    """All levels of all views as rows: ``rows`` [sum over levels of B * V * h * w * G, C / G]."""

    rows: Tensor
    sizes: tuple[tuple[int, int], ...]
    batch: int
    views: int
    groups: int


def feature_table(levels: tuple[Tensor, ...], groups: int) -> FeatureTable:
    """Lay out levels [B, V, C, h, w] for :func:`sample`; one copy where they are stored channels-last.

    Raises:
        ValueError: too many texels for one batch (2^31 / groups).
    """
    B, V, C = levels[0].shape[:3]
    rows = torch.cat([level.permute(0, 1, 3, 4, 2).reshape(-1, C // groups) for level in levels])
    if rows.shape[0] > torch.iinfo(torch.int32).max:  # rows are counted in int32, which is a third faster on a CPU
        raise ValueError(f'{rows.shape[0]} feature rows in one batch are more than {torch.iinfo(torch.int32).max}')
    sizes = tuple((level.shape[3], level.shape[4]) for level in levels)
    return FeatureTable(rows, sizes, B, V, groups)


def sample(table: FeatureTable, choice: ViewChoice, level_weights: Tensor) -> Tensor:
    """Bilinear reads at the chosen places, levels summed by weight.

    Pixel centres of the outermost texels lie on the image's border (align_corners); beyond it features are zero.
    Every read is one weighted sum of 4 L table rows, so that no per-level or per-camera intermediate is stored.

    Args:
        table: from :func:`feature_table`.
        choice: for N = Q x G x P points, in that order.
        level_weights: [B, T, Q, G, P, L].

    Returns:
        [B, Q, G, T * P, C / G], frame-major.
    """
    B, T, Q, G, P, L = level_weights.shape
    device = table.rows.device
    # everything is computed as [.., L, N] with the N = B x T x Q x G x P reads innermost: on a CPU, element-wise work
    # over short inner axes costs twice as much
    sizes = torch.tensor(table.sizes, device=device, dtype=torch.int32)  # [L, 2], height and width
    texels = (table.batch * table.views * sizes.prod(dim=1)).int()
    first_row = ((texels.cumsum(0, dtype=torch.int32) - texels) * G)[:, None]
    height, width = sizes[:, :1], sizes[:, 1:]
    column, across = _taps(choice.uv[..., 0].reshape(1, -1) * (width - 1), width)  # [2, L, N]
    row, down = _taps(choice.uv[..., 1].reshape(1, -1) * (height - 1), height)
    image = (torch.arange(B, device=device)[:, None, None] * table.views + choice.view).view(1, -1).int()
    group = torch.arange(G, device=device, dtype=torch.int32)[:, None].expand(B, T, Q, G, P).reshape(1, -1)
    row = (image * height + row) * (width * G) + (group + first_row)
    index = (row[:, None] + column * G).view(4 * L, -1)  # [2 rows, 2 columns, L, N]
    down = down * (level_weights * choice.seen.view(B, T, Q, G, P, 1)).reshape(-1, L).t()
    weight = (down[:, None] * across).view(4 * L, -1).to(table.rows.dtype)
    sampled = F.embedding_bag(
        index.t().contiguous(), table.rows, mode='sum', per_sample_weights=weight.t().contiguous()
    )
    return sampled.view(B, T, Q, G, P, -1).permute(0, 2, 3, 1, 4, 5).reshape(B, Q, G, T * P, -1)


def _taps(place: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The two texels about places [L, N] along an axis of ``size`` [L, 1] texels, and their weights; both [2, L, N].

    A texel outside has weight zero and some index inside.
    """
    corner = place.floor()
    fraction = place - corner
    texel = corner.int()
    texel = torch.stack([texel, texel + 1])
    weight = torch.stack([1.0 - fraction, fraction]) * ((texel >= 0) & (texel < size))
    return texel.clamp(min=0).minimum(size - 1), weight


def sample_per_level(levels: tuple[Tensor, ...], choice: ViewChoice, level_weights: Tensor) -> Tensor:
    """The obvious version of :func:`sample`, kept to test it: one grid_sample per sample, frame, group and level."""
    B, T, Q, G, P, L = level_weights.shape
    sampled = levels[0].new_zeros(B, Q, G, T, P, levels[0].shape[2] // G)
    view = choice.view.view(B, T, Q, G, P)
    uv = choice.uv.view(B, T, Q, G, P, 2)
    seen = choice.seen.view(B, T, Q, G, P)
    for b in range(B):
        for t in range(T):
            for g in range(G):
                for level in range(L):
                    maps = levels[level][b].chunk(G, dim=1)[g]  # [V, C / G, h, w]
                    for v in view[b, t, :, g].unique():
                        reads = F.grid_sample(maps[v, None], uv[b, t, None, :, g] * 2 - 1, align_corners=True)[0]
                        here = (view[b, t, :, g] == v) & seen[b, t, :, g]
                        read = reads.permute(1, 2, 0) * level_weights[b, t, :, g, :, level, None]  # [Q, P, C / G]
                        sampled[b, :, g, t] = sampled[b, :, g, t] + torch.where(here[..., None], read, 0.0)
    return sampled.flatten(3, 4)

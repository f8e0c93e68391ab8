"""Where image features are read for 3D points, over cameras and frames; and the obvious way to read them there.

What the encoder runs is the fast way, :mod:`~sparseoccvla_ros.model.feature_table`.

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
    """Points [B, N, 3] into views [B, V, 4, 4]: uv [B, V, N, 2] as fractions of the image, valid bool [B, V, N].

    Under autocast too in the matrices' own precision: bfloat16 would cost whole pixels.
    """
    rotation, translation = image_from_ego[..., :3, :3], image_from_ego[..., :3, 3]
    with torch.autocast(points_m.device.type, enabled=False):
        points_m = points_m.to(image_from_ego.dtype)
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


def level_volumes(levels: tuple[Tensor, ...], frames: int, groups: int) -> tuple[Tensor, ...]:
    """Lay out levels [B, V, C, h, w] for :func:`sample_per_level`: [B * T * G, C / G, cameras, h, w] each."""
    return tuple(
        level.unflatten(2, (groups, -1)).unflatten(1, (frames, -1)).permute(0, 1, 3, 4, 2, 5, 6).flatten(0, 2)
        for level in levels
    )


def sample_per_level(volumes: tuple[Tensor, ...], choice: ViewChoice, level_weights: Tensor) -> Tensor:
    """The obvious version of ``feature_table.sample``, kept to test and to measure it: one ``grid_sample`` per level.

    The cameras of a frame are the third axis of a volume, so that a camera's number is a coordinate, as in the public
    references (``msmv_sampling_pytorch`` of SparseBEV and OPUS). All features must be finite, missing cameras' too.

    Args:
        volumes: from :func:`level_volumes`.
        choice, level_weights: as for ``sample``.
    """
    B, T, Q, G, P, L = level_weights.shape
    cameras = volumes[0].shape[2]
    slot = choice.view - torch.arange(T, device=choice.view.device)[:, None] * cameras
    slot = slot.to(choice.uv.dtype) / max(cameras - 1, 1)
    place = torch.cat([choice.uv, slot[..., None]], dim=-1) * 2.0 - 1.0  # [B, T, N, 3]
    place = place.view(B, T, Q, G, P, 3).transpose(2, 3).reshape(B * T * G, Q, P, 1, 3)
    weights = (level_weights * choice.seen.view(B, T, Q, G, P, 1)).transpose(2, 3).reshape(B * T * G, 1, Q, P, L)
    sampled = volumes[0].new_zeros(B * T * G, volumes[0].shape[1], Q, P)
    for index in range(L):
        read = F.grid_sample(volumes[index], place.to(volumes[index].dtype), align_corners=True)[..., 0]
        sampled = sampled + read * weights[..., index]
    return sampled.view(B, T, G, -1, Q, P).permute(0, 4, 2, 1, 5, 3).flatten(3, 4)  # [B, Q, G, T * P, C / G]

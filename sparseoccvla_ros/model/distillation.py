"""Distillation of a frozen CLIP into the occupancy queries: where a query lies in the images, what the teacher has
there, and how far the query's feature is from it.

It belongs to training: nothing of it is in the model that is deployed. The teacher itself is in
:mod:`~sparseoccvla_ros.model.clip_teacher`.

Letters: B samples, V cameras, Q queries, C query width, D teacher width, h x w patches of the teacher's map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Points nearer than this, or behind, are not visible in a camera, metres.
MIN_DEPTH_M = 0.1
LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True)
class DistillationConfig:
    """What the queries learn from CLIP. The term's weight belongs to the training's configuration."""

    #: Folder or hub id of a CLIP (its vision tower is used). Patches of 16 px divide both 352 x 128 and 704 x 256.
    teacher: str = 'openai/clip-vit-base-patch16'
    #: The block whose output is the target, counted from the end: -1 is the last. What the last block puts out at the
    #: patches never reached CLIP's own loss, which reads the class token alone; the patches of the block before did,
    #: through that token's attention.
    hidden_layer: int = -2
    #: LayerNorm of student and teacher before the cosine. Off only for the sanity experiment.
    normalize: bool = True

    def __post_init__(self) -> None:
        if not self.teacher:
            raise ValueError('distillation.teacher names no folder or hub id')
        if self.hidden_layer >= 0:
            raise ValueError(f'distillation.hidden_layer counts from the end, -1 the last, got {self.hidden_layer}')


@dataclass(frozen=True)
class CameraViews:
    """Points in every camera: ``uv`` [B, V, Q, 2] fractions of the image's width and height, ``depth_m`` [B, V, Q],
    ``visible`` bool [B, V, Q]; the first two mean nothing where not visible.
    """

    uv: Tensor
    depth_m: Tensor
    visible: Tensor


@torch.no_grad()
def project_to_cameras(
    points_m: Tensor,
    image_from_ego: Tensor,
    view_mask: Tensor,
    width_px: int,
    height_px: int,
    min_depth_m: float = MIN_DEPTH_M,
) -> CameraViews:
    """Project points into all cameras; visible is depth > min_depth_m, 0 <= u < width_px and 0 <= v < height_px.

    :func:`~sparseoccvla_ros.model.sampling.project` has another rule, that of released OPUS checkpoints. Computed in
    float32 or better; what is not a number sees nothing and is not seen. No gradients.

    Args:
        points_m: [B, Q, 3], ego frame.
        image_from_ego: [B, V, 4, 4], ego metres to pixels of the network's image (times depth in metres).
        view_mask: bool [B, V], False for a camera that is missing; it sees nothing.
        width_px: of the network's image. height_px: likewise. min_depth_m: metres.

    Raises:
        ValueError: the shapes do not belong together.
    """
    B, V = view_mask.shape
    if image_from_ego.shape != (B, V, 4, 4) or points_m.shape[0] != B or points_m.shape[2:] != (3,):
        raise ValueError(
            f'view_mask {(B, V)}, image_from_ego {tuple(image_from_ego.shape)} and points_m {tuple(points_m.shape)} '
            'do not belong together'
        )
    dtype = _wide(points_m, image_from_ego)
    rotation, translation = image_from_ego[..., :3, :3].to(dtype), image_from_ego[..., :3, 3].to(dtype)
    # written out, because a matrix product may run in bf16 or TF32, where pixels are off by whole ones
    homogeneous = (rotation[:, :, None] * points_m.to(dtype)[:, None, :, None]).sum(-1)  # [B, V, Q, 3]
    homogeneous = homogeneous + translation[:, :, None]
    depth_m = homogeneous[..., 2]
    size_px = homogeneous.new_tensor([width_px, height_px])
    uv_px = homogeneous[..., :2] / depth_m[..., None].clamp(min=min_depth_m)
    inside = ((uv_px >= 0) & (uv_px < size_px)).all(-1)
    return CameraViews(uv_px / size_px, depth_m, inside & (depth_m > min_depth_m) & view_mask[..., None])


@torch.no_grad()
def sample_teacher(features: Tensor, views: CameraViews) -> tuple[Tensor, Tensor]:
    """The teacher's feature at each point: read bilinearly, averaged over the cameras that see it.

    A patch's feature stands at the middle of its area (fraction u lies at column u * w - 0.5); between there and the
    border the outermost is read. No gradients.

    Args:
        features: [B, V, D, h, w].
        views: of :func:`project_to_cameras`.

    Returns:
        [B, Q, D] in float32 or better, zero where no camera sees the point; and bool [B, Q], whether one does.

    Raises:
        ValueError: features of other samples or cameras than the views.
    """
    B, V, Q = views.visible.shape
    if features.ndim != 5 or features.shape[:2] != (B, V):
        raise ValueError(f'teacher features {tuple(features.shape)} are not [B, V, D, h, w] with B, V = {(B, V)}')
    dtype = _wide(features, views.uv)
    visible = views.visible[..., None]
    grid = torch.where(visible, views.uv.to(dtype) * 2 - 1, 0.0)  # also keeps NaN and overflow out
    reads = F.grid_sample(
        features.to(dtype).flatten(0, 1), grid.flatten(0, 1)[:, None], padding_mode='border', align_corners=False
    )
    reads = reads.view(B, V, -1, Q).transpose(2, 3)  # [B, V, Q, D]
    total = torch.where(visible, reads, 0.0).sum(1)  # not a product: zero times NaN is NaN
    cameras = views.visible.sum(1)  # [B, Q]
    return total / cameras.clamp(min=1)[..., None], cameras > 0


@dataclass(frozen=True)
class DistillationTerm:
    """``loss`` scalar, float32 or better: mean of 1 - cosine over ``visible_points``; zero where there are none."""

    loss: Tensor
    visible_points: int


class DistillationLoss(nn.Module):
    """Cosine distance between projected queries and teacher features, each through its own LayerNorm.

    The projection is the only thing learned here; it is left behind when training ends.
    """

    def __init__(self, config: DistillationConfig, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.normalize = config.normalize
        self.projection = nn.Linear(student_width, teacher_width)

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """1 - cosine of each pair: student [..., C], teacher [..., D] -> [...].

        In float32 or better also under autocast or for bf16 inputs and weights; no gradient to the teacher.
        """
        dtype = _wide(student, self.projection.weight)
        with torch.autocast(student.device.type, enabled=False):
            student = F.linear(student.to(dtype), self.projection.weight.to(dtype), self.projection.bias.to(dtype))
            teacher = teacher.detach().to(dtype)
            if self.normalize:
                student = F.layer_norm(student, student.shape[-1:], eps=LAYER_NORM_EPS)
                teacher = F.layer_norm(teacher, teacher.shape[-1:], eps=LAYER_NORM_EPS)
            return 1.0 - F.cosine_similarity(student, teacher, dim=-1)

    def forward(self, student: Tensor, teacher: Tensor, seen: Tensor) -> DistillationTerm:
        """The term of a batch: every visible point counts the same, whichever sample it is of.

        Args:
            student: query features [B, Q, C].
            teacher: [B, Q, D], of :func:`sample_teacher`.
            seen: bool [B, Q], of :func:`sample_teacher`; other points are left out. Where it is False everywhere the
                loss is zero and so are its gradients.
        """
        distance = self.distance(student[seen], teacher[seen])
        return DistillationTerm(distance.sum() / max(len(distance), 1), len(distance))


def _wide(*tensors: Tensor) -> torch.dtype:
    """The widest of the tensors' number formats, and at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype

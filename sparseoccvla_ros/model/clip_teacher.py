"""The frozen teacher of the distillation: patch features of a CLIP vision tower (arXiv 2103.00020)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel, ImageProcessingMixin
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

from sparseoccvla_ros.model.distillation import DistillationConfig


class ClipTeacher:
    """Images to patch features, always in evaluation mode and without gradients.

    A plain object, no module: whatever holds it, its weights get into no state dict, checkpoint or optimizer, and
    ``train()`` of the holder does not reach it.
    """

    def __init__(self, config: DistillationConfig, device: torch.device | str = 'cpu') -> None:
        """Load the tower in float32, from a local folder or the hub; a whole CLIP's text tower is left out.

        Raises:
            OSError: no such folder or hub id, or (hub only) it has no image processor settings.
            ValueError: it has fewer blocks than ``hidden_layer`` asks for, or weights are missing there (transformers
                itself would fill them in at random).
        """
        tower = CLIPVisionConfig.from_pretrained(config.teacher)
        blocks = tower.num_hidden_layers + 1 + config.hidden_layer
        if blocks < 1:
            raise ValueError(
                f'distillation.hidden_layer ({config.hidden_layer}) exceeds the {tower.num_hidden_layers} blocks of '
                f'{config.teacher}'
            )
        tower.num_hidden_layers = blocks  # blocks after the one that is read are neither loaded nor run
        model, info = CLIPVisionModel.from_pretrained(
            config.teacher, config=tower, dtype=torch.float32, output_loading_info=True
        )
        if info['missing_keys']:
            raise ValueError(f'{config.teacher} lacks weights: {", ".join(sorted(info["missing_keys"]))}')
        self._tower = model.to(device).eval().requires_grad_(False)
        #: Width D of a feature, and edge of a patch in pixels.
        self.width, self.patch_px = tower.hidden_size, tower.patch_size
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in _normalization(config.teacher))
        self._scale, self._offset = 1.0 / (255.0 * std), -mean / std

    @torch.no_grad()
    def extract(self, images: Tensor) -> Tensor:
        """Patch features of images of any size.

        A side that is no multiple of the patch is resized to the nearest one. That keeps fractions of the width and
        height, by which the features are sampled, where cropping or padding would not.

        Args:
            images: uint8 [N, H, W, 3] RGB, on the teacher's device.

        Returns:
            float32 [N, D, h, w] with h = H / patch, w = W / patch (rounded, at least 1); the class token left out.

        Raises:
            ValueError: not uint8 [N, H, W, 3].
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f'expected images uint8 [N, H, W, 3], got {images.dtype} {tuple(images.shape)}')
        N, H, W, _ = images.shape
        rows, columns = (max(1, round(side_px / self.patch_px)) for side_px in (H, W))
        pixels = images.permute(0, 3, 1, 2).float() * self._scale + self._offset
        size_px = (rows * self.patch_px, columns * self.patch_px)
        if size_px != (H, W):
            pixels = F.interpolate(pixels, size=size_px, mode='bilinear', align_corners=False, antialias=True)
        # position embeddings are learned on the checkpoint's square image
        tokens = self._tower(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        return tokens.transpose(1, 2).reshape(N, self.width, rows, columns).float()  # patches are row-major


def _normalization(name_or_path: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of RGB in 0..1: the checkpoint's own where it says, else those CLIP was published with."""
    folder = Path(name_or_path)
    settings = {}
    if not folder.is_dir() or any((folder / name).is_file() for name in (IMAGE_PROCESSOR_NAME, PROCESSOR_NAME)):
        settings, _ = ImageProcessingMixin.get_image_processor_dict(name_or_path)
    return settings.get('image_mean', OPENAI_CLIP_MEAN), settings.get('image_std', OPENAI_CLIP_STD)

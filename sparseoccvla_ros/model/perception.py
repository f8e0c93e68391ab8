"""Cameras to occupancy: the backbone and the encoder, callable apart so that features can be kept over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.backbone import ImageBackbone
from sparseoccvla_ros.model.config import VLAConfig
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput, OccupancyEncoder


class OccupancyPerception(nn.Module):
    """Surround images to occupancy queries and points."""

    def __init__(self, config: VLAConfig) -> None:
        super().__init__()
        self.backbone = ImageBackbone(config.backbone, config.image)
        levels = len(config.backbone.stage_widths)
        self.encoder = OccupancyEncoder(config.encoder, config.image, config.space, config.backbone.fpn_width, levels)

    def extract(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of images uint8 [N, H, W, 3] RGB: levels [N, C, h_l, w_l], finest first, stored channels-last.

        Put frames together by ``torch.cat`` on the first axis and then split it into [B, V], which keeps that layout;
        ``torch.stack`` would not, and the encoder would have to copy.

        Raises:
            ValueError: not uint8 [N, H, W, 3]. Float pixels, which could hold NaN, are never taken.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f'expected images uint8 [N, H, W, 3], got {images.dtype} {tuple(images.shape)}')
        return self.backbone(images)

    def encode(self, levels: tuple[Tensor, ...], image_from_ego: Tensor, view_mask: Tensor) -> EncoderOutput:
        """See :meth:`OccupancyEncoder.forward`."""
        return self.encoder(levels, image_from_ego, view_mask)

"""Cameras to occupancy: the backbone and the encoder, callable apart so that features can be kept over time."""

from __future__ import annotations

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
        """
        return self.backbone(images)

    def encode(self, levels: tuple[Tensor, ...], image_from_ego: Tensor, view_mask: Tensor) -> EncoderOutput:
        """See :meth:`OccupancyEncoder.forward`."""
        return self.encoder(levels, image_from_ego, view_mask)

    def decode_points(self, output: EncoderOutput, score_threshold: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Occupied points of the last layer, one entry per sample.

        Args:
            output: of :meth:`encode`.
            score_threshold: least probability of a point's best class, 0..1.

        Returns:
            per sample: points [M, 3] metres, ego frame, inside the range; labels int64 [M]; scores [M].
        """
        scores, labels = output.logits[-1].sigmoid().flatten(1, 2).max(dim=-1)  # [B, Q * P]
        points_m = output.points_m[-1].flatten(1, 2)
        low_m = self.encoder.low_m.to(points_m.dtype)
        high_m = low_m + self.encoder.size_m.to(points_m.dtype)
        keep = (scores > score_threshold) & ((points_m >= low_m) & (points_m < high_m)).all(-1)
        return [(points_m[b][k], labels[b][k], scores[b][k]) for b, k in enumerate(keep.unbind())]

"""Occupancy at future times from what the language model made of the queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.config import ForecasterConfig
from sparseoccvla_ros.model.occupancy_encoder import EncoderLayer, class_branch, point_branch


class OccupancyForecaster(nn.Module):
    """What becomes of each query, then heads as the encoder's; one set for all horizons, told apart by an embedding.

    Everything stays in the current ego frame.
    """

    def __init__(self, config: ForecasterConfig, query_width: int, language_width: int, classes: int) -> None:
        super().__init__()
        C, self.points = query_width, config.points
        self.motion_scale_m, self.offset_scale_m = config.motion_scale_m, config.offset_scale_m
        self.project = nn.Sequential(nn.LayerNorm(language_width), nn.Linear(language_width, C))
        self.fused_norm = nn.LayerNorm(C)
        self.horizon = nn.Embedding(len(config.horizons_s), C)
        self.trunk = nn.Sequential(nn.Linear(C, C), nn.GELU(), nn.Linear(C, C), nn.LayerNorm(C), nn.GELU())
        self.change = nn.Linear(C, C)
        self.motion = nn.Linear(C, 3)
        self.cls_branch = class_branch(C, classes, config.points)
        self.reg_branch = point_branch(C, config.points)
        nn.init.zeros_(self.motion.weight)  # untrained, nothing moves
        nn.init.zeros_(self.motion.bias)

    def fits(self, layer: EncoderLayer) -> bool:
        """Whether the encoder's last layer has as many points, in the same unit."""
        return (layer.points_out, layer.offset_scale_m) == (self.points, self.offset_scale_m)

    @torch.no_grad()
    def begin_with_present(self, layer: EncoderLayer) -> None:
        """Take over the heads of the encoder's last layer, and no change: at all horizons, what it sees now.

        From there training learns what differs later. It has the encoder's voxels to begin with, which it reaches from
        random weights only after as long a training as the encoder had.

        Raises:
            ValueError: the layer does not fit (:meth:`fits`).
        """
        if not self.fits(layer):
            raise ValueError(
                f'forecaster of {self.points} points in units of {self.offset_scale_m:g} m cannot begin with an '
                f'encoder of {layer.points_out} in units of {layer.offset_scale_m:g} m'
            )
        self.cls_branch.load_state_dict(layer.cls_branch.state_dict())
        self.reg_branch.load_state_dict(layer.reg_branch.state_dict())
        for parameter in (*self.change.parameters(), *self.motion.parameters()):
            parameter.zero_()

    def forward(self, hidden: Tensor, features: Tensor, positions_m: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Forecast all horizons.

        Args:
            hidden: [B, Q, D], the language model's outputs at the occupancy tokens.
            features: [B, Q, C]. positions_m: [B, Q, 3].

        Returns:
            per horizon: points [B, Q, P, 3], metres in the CURRENT ego frame; class logits [B, Q, P, classes].
        """
        fused = self.fused_norm(features + self.project(hidden))
        state = self.trunk(fused[:, None] + self.horizon.weight[:, None])  # [B, H, Q, C]
        query = features[:, None] + self.change(state)
        offset_m = self.offset_scale_m * self.reg_branch(query).unflatten(-1, (self.points, 3))  # [B, H, Q, P, 3]
        centre_m = positions_m[:, None] + self.motion_scale_m * self.motion(state)
        # a query's place is the mean of its points, here as in the encoder
        points_m = centre_m[..., None, :] + offset_m - offset_m.mean(dim=-2, keepdim=True)
        logits = self.cls_branch(query).unflatten(-1, (self.points, -1))
        return tuple(zip(torch.unbind(points_m, 1), torch.unbind(logits, 1), strict=True))

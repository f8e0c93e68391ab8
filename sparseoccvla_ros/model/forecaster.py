"""Occupancy at future times from what the language model made of the queries."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.config import ForecasterConfig


class OccupancyForecaster(nn.Module):
    """One head shared by all horizons, told apart by an embedding. Everything stays in the current ego frame."""

    def __init__(self, config: ForecasterConfig, query_width: int, language_width: int, classes: int) -> None:
        super().__init__()
        C, self.points, self.classes = query_width, config.points, classes
        self.motion_scale_m, self.offset_scale_m = config.motion_scale_m, config.offset_scale_m
        self.project = nn.Sequential(nn.LayerNorm(language_width), nn.Linear(language_width, C))
        self.fused_norm = nn.LayerNorm(C)
        self.horizon = nn.Embedding(len(config.horizons_s), C)
        self.trunk = nn.Sequential(nn.Linear(C, C), nn.GELU(), nn.Linear(C, C), nn.LayerNorm(C), nn.GELU())
        self.motion = nn.Linear(C, 3)
        self.offset = nn.Linear(C, 3 * config.points)
        self.cls = nn.Linear(C, classes * config.points)
        nn.init.zeros_(self.motion.weight)  # untrained, nothing moves
        nn.init.zeros_(self.motion.bias)
        nn.init.constant_(self.cls.bias, -math.log(max(classes - 1, 1)))

    def forward(self, hidden: Tensor, features: Tensor, positions_m: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Forecast all horizons.

        Args:
            hidden: [B, Q, D], the language model's outputs at the occupancy tokens.
            features: [B, Q, C]. positions_m: [B, Q, 3].

        Returns:
            per horizon: points [B, Q, P, 3], metres in the CURRENT ego frame; class logits [B, Q, P, classes].
        """
        B, Q, _ = features.shape
        fused = self.fused_norm(features + self.project(hidden))
        state = self.trunk(fused[:, None] + self.horizon.weight[:, None])  # [B, H, Q, C]
        centre_m = positions_m[:, None] + self.motion_scale_m * self.motion(state)  # [B, H, Q, 3]
        offset_m = self.offset_scale_m * self.offset(state).view(B, -1, Q, self.points, 3)
        logits = self.cls(state).view(B, -1, Q, self.points, self.classes)
        points_m = centre_m[..., None, :] + offset_m
        return tuple(zip(torch.unbind(points_m, 1), torch.unbind(logits, 1), strict=True))

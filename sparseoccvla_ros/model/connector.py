"""From occupancy queries to tokens in the language model's space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparseoccvla_ros.model.config import SpaceConfig

#: Wavelengths of the position encoding: the range divided by 1, 2, 4 ... 128 (80 m down to about 0.6 m).
FREQUENCIES = 8
#: Deviation of a language model's token embeddings (Llama's initializer_range): visual tokens start at that size, so
#: that neither kind drowns the other in the first layer's residual stream.
EMBEDDING_STD = 0.02


class PositionEncoding(nn.Module):
    """Positions in the labelled space to vectors: sines and cosines of their fractions of the range, then an MLP.

    Args:
        space: the labelled space.
        width: of the vectors.
        hidden: of the MLP's inner layer.
    """

    def __init__(self, space: SpaceConfig, width: int, hidden: int) -> None:
        super().__init__()
        range_m = torch.tensor(space.range_m, dtype=torch.float32)
        self.register_buffer('low_m', range_m[:3], persistent=False)
        self.register_buffer('size_m', range_m[3:] - range_m[:3], persistent=False)
        self.register_buffer('frequencies', 2.0 * math.pi * 2.0 ** torch.arange(FREQUENCIES), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(3 * (2 * FREQUENCIES + 1), hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, positions_m: Tensor) -> Tensor:
        """positions [..., 3], metres, ego frame -> [..., width]."""
        fractions = (positions_m - self.low_m) / self.size_m
        phases = (fractions[..., None] * self.frequencies).flatten(-2)  # [..., 3 * FREQUENCIES]
        waves = torch.cat([fractions, phases.sin(), phases.cos()], dim=-1)
        with torch.autocast(waves.device.type, enabled=False):  # bf16 has steps of 0.3 m at the range's far end
            return self.mlp(waves.to(self.mlp[0].weight.dtype))


class Connector(nn.Module):
    """Q_L and the encoding of P_L, to occupancy tokens T_o and global tokens T_g.

    What a query says and where it is meet in the language model's space, each brought to the same size before: at the
    start the encoding is a seventh of the features' size, and a plain sum drowns it (docs/training.md, "Reading
    practice").
    """

    def __init__(self, space: SpaceConfig, query_width: int, language_width: int, global_tokens: int) -> None:
        super().__init__()
        self.position_encoding = PositionEncoding(space, language_width, 2 * language_width)
        self.position_norm = nn.LayerNorm(language_width)
        self.project = nn.Linear(query_width, language_width)
        self.query_norm = nn.LayerNorm(language_width)
        self.fusion = nn.Sequential(
            nn.LayerNorm(language_width), nn.Linear(language_width, language_width), nn.GELU(),
            nn.Linear(language_width, language_width),
        )  # fmt: skip
        self.token_norm = nn.LayerNorm(language_width)
        self.pooling = nn.Linear(query_width, global_tokens)
        self.project_global = nn.Linear(query_width, language_width)
        self.global_norm = nn.LayerNorm(language_width)
        nn.init.constant_(self.token_norm.weight, EMBEDDING_STD)
        nn.init.constant_(self.global_norm.weight, EMBEDDING_STD)

    def forward(self, features: Tensor, positions_m: Tensor) -> tuple[Tensor, Tensor]:
        """features [B, Q, C], positions [B, Q, 3] -> T_o [B, Q, D], T_g [B, G, D].

        T_g is pooled from the query features alone, by one learned weighting of the queries per token.
        """
        tokens = self.query_norm(self.project(features)) + self.position_norm(self.position_encoding(positions_m))
        tokens = self.token_norm(tokens + self.fusion(tokens))
        weights = self.pooling(features).softmax(dim=1)  # [B, Q, G], over the queries
        pooled = weights.transpose(1, 2) @ features  # [B, G, C]
        return tokens, self.global_norm(self.project_global(pooled))

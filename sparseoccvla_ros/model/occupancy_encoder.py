"""The sparse occupancy encoder: queries with points, refined coarse to fine (OPUS, arXiv 2409.09350).

Letters: B samples, V views (frame-major), T frames, Q queries, C query width, P points per query of a layer's input,
G groups. Points are metres in the ego frame of the scene. Modules are named as in released OPUS checkpoints where the
structure is the same; :mod:`~sparseoccvla_ros.model.opus` has the other names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparseoccvla_ros.model.config import EncoderConfig, ImageConfig, SpaceConfig
from sparseoccvla_ros.model.feature_table import FeatureTable, feature_table, sample
from sparseoccvla_ros.model.sampling import ViewRule, choose_views

#: Least logarithm of an attention weight's falloff with distance. e^-50 adds nothing even in float64; below e^-87 lie
#: the subnormal numbers of float32, with which a CPU multiplies matrices ten times slower.
LEAST_FALLOFF = -50.0


@dataclass(frozen=True)
class EncoderOutput:
    """``features`` [B, Q, C]; per layer ``points_m`` [B, Q, P_l, 3] and class ``logits`` [B, Q, P_l, classes]."""

    features: Tensor
    points_m: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]

    @property
    def positions_m(self) -> Tensor:
        """Mean of the last layer's points, [B, Q, 3]."""
        return self.points_m[-1].mean(dim=2)


class AdaptiveSampling(nn.Module):
    """Where a query looks: offsets about its points' centre in units of their spread, and level weights."""

    def __init__(self, config: EncoderConfig, rule: ViewRule, levels: int) -> None:
        super().__init__()
        self.groups, self.points, self.levels = config.groups, config.sample_points, levels
        self.order: Literal['group', 'opus'] = config.level_weights
        self.rule = rule
        self.floor_m = config.offset_scale_m if config.spread == 'floored' else None
        self.sampling_offset = nn.Linear(config.width, config.groups * config.sample_points * 3)
        self.scale_weights = nn.Linear(config.width, config.groups * config.sample_points * levels)
        # an untrained query looks at fixed places within twice its spread
        nn.init.zeros_(self.sampling_offset.weight)
        nn.init.uniform_(self.sampling_offset.bias, -2.0, 2.0)

    def forward(
        self, query: Tensor, points_m: Tensor, table: FeatureTable, image_from_ego: Tensor, view_mask: Tensor
    ) -> Tensor:
        """query [B, Q, C], points [B, Q, P, 3] -> sampled features [B, Q, G, T * points, C_image / G]."""
        places_m, level_weights = self.places(query, points_m)
        choice = choose_views(places_m, image_from_ego, view_mask, self.rule)
        return sample(table, choice, level_weights).to(query.dtype)

    def places(self, query: Tensor, points_m: Tensor) -> tuple[Tensor, Tensor]:
        """Where to read, metres [B, Q * G * points, 3], and the levels' weights [B, T, Q, G, points, L]."""
        B, Q, _ = query.shape
        G, P, T = self.groups, self.points, self.rule.frames
        offset = self.sampling_offset(query).view(B, Q, G * P, 3)
        places_m = (points_m.mean(dim=2, keepdim=True) + offset * self.spread_m(points_m)).view(B, Q * G * P, 3)
        weights = self.scale_weights(query).view(B, Q, G, P, self.levels).softmax(-1)
        if self.order == 'opus':
            frame, group = torch.arange(T)[:, None], torch.arange(G)
            return places_m, weights[:, :, (frame * G + group) // T].transpose(1, 2)
        return places_m, weights[:, None].expand(-1, T, -1, -1, -1, -1)

    def spread_m(self, points_m: Tensor) -> Tensor:
        """Unit of the offsets of points [B, Q, P, 3], along each axis: [B, Q, 1, 3], metres."""
        if self.floor_m is not None:
            return points_m.std(dim=2, keepdim=True, correction=0).clamp(min=self.floor_m)
        if points_m.shape[2] > 1:
            return points_m.std(dim=2, keepdim=True)
        return torch.zeros_like(points_m)  # the unbiased deviation of one point is not a number


class AdaptiveMixing(nn.Module):
    """Mixes sampled features over channels, then over points, by matrices made from the query (AdaMixer)."""

    def __init__(self, config: EncoderConfig, image_width: int, in_points: int) -> None:
        super().__init__()
        self.groups, self.in_points, self.out_points = config.groups, in_points, config.mixing_points
        self.in_channels, self.out_channels = image_width // config.groups, config.width // config.groups
        per_group = self.in_channels * self.out_channels + self.out_points * in_points
        self.parameter_generator = nn.Linear(config.width, config.groups * per_group)
        self.out_proj = nn.Linear(config.groups * self.out_points * self.out_channels, config.width)
        nn.init.zeros_(self.parameter_generator.weight)  # an untrained query mixes by fixed matrices

    def forward(self, sampled: Tensor, query: Tensor) -> Tensor:
        """sampled [B, Q, G, T * points, C_image / G], query [B, Q, C] -> [B, Q, C]."""
        B, Q, G, _, _ = sampled.shape
        parameters = self.parameter_generator(query).view(B * Q, G, -1)
        channel, point = parameters.split(
            [self.in_channels * self.out_channels, self.out_points * self.in_points], dim=-1
        )
        mixed = sampled.flatten(0, 1) @ channel.view(B * Q, G, self.in_channels, self.out_channels)
        mixed = F.relu(F.layer_norm(mixed, mixed.shape[-2:]))
        mixed = point.view(B * Q, G, self.out_points, self.in_points) @ mixed
        mixed = F.relu(F.layer_norm(mixed, mixed.shape[-2:]))
        return query + self.out_proj(mixed.view(B, Q, -1))


class DistanceAttention(nn.Module):
    """Self-attention whose weights fall with distance, by a learned rate per head and query."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.in_proj = nn.Linear(config.width, 3 * config.width)
        self.out_proj = nn.Linear(config.width, config.width)
        self.gen_tau = nn.Linear(config.width, config.attention_heads)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.gen_tau.weight)
        nn.init.uniform_(self.gen_tau.bias, 0.0, 2.0)  # 1/m: from blind to distance to the next few metres

    def forward(self, query: Tensor, centre_m: Tensor) -> Tensor:
        """query [B, Q, C], centres [B, Q, 3] -> [B, Q, C], the identity included."""
        B, Q, C = query.shape
        q, k, v = self.in_proj(query).view(B, Q, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        distance_m = (centre_m[:, :, None] - centre_m[:, None]).norm(dim=-1)  # [B, Q, Q]
        tau = self.gen_tau(query).transpose(1, 2)[..., None]  # [B, heads, Q, 1], of the attending query
        falloff = (-tau * distance_m[:, None]).clamp(min=LEAST_FALLOFF)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=falloff)
        return query + self.out_proj(attended.transpose(1, 2).reshape(B, Q, C))


def class_branch(width: int, classes: int, points: int) -> nn.Sequential:
    """Features [..., width] to the class logits of their points, [..., points * classes]."""
    branch = nn.Sequential(
        nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width),
        nn.ReLU(), nn.Linear(width, classes * points),
    )  # fmt: skip
    # every point has exactly one true class, so an untrained head says 1 in `classes`
    nn.init.constant_(branch[-1].bias, -math.log(max(classes - 1, 1)))
    return branch


def point_branch(width: int, points: int) -> nn.Sequential:
    """Features [..., width] to where their points lie, [..., points * 3]."""
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3 * points)
    )


class EncoderLayer(nn.Module):
    """Position encoding, sampling, mixing, self-attention, feed-forward, class and point heads."""

    def __init__(
        self, config: EncoderConfig, rule: ViewRule, space: SpaceConfig, image_width: int, levels: int, layer: int
    ) -> None:
        super().__init__()
        C, classes = config.width, len(space.classes)
        points_in = config.points_per_layer[max(layer - 1, 0)] if layer else 1
        self.points_out = config.points_per_layer[layer]
        self.offset_scale_m = config.offset_scale_m
        self.position_encoder = nn.Sequential(
            nn.Linear(3 * points_in, C), nn.LayerNorm(C), nn.ReLU(), nn.Linear(C, C), nn.LayerNorm(C), nn.ReLU()
        )
        self.sampling = AdaptiveSampling(config, rule, levels)
        self.mixing = AdaptiveMixing(config, image_width, rule.frames * config.sample_points)
        self.self_attn = DistanceAttention(config)
        self.ffn = nn.Sequential(nn.Linear(C, config.ffn_width), nn.ReLU(), nn.Linear(config.ffn_width, C))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(C), nn.LayerNorm(C), nn.LayerNorm(C)
        self.cls_branch = class_branch(C, classes, self.points_out)
        self.reg_branch = point_branch(C, self.points_out)

    def forward(
        self,
        query: Tensor,
        points_m: Tensor,
        fractions: Tensor,
        table: FeatureTable,
        image_from_ego: Tensor,
        view_mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """query [B, Q, C], points and their fractions of the range [B, Q, P, 3] -> query, new points, logits."""
        with torch.autocast(query.device.type, enabled=False):  # bf16 has steps of 0.3 m at the range's far end
            query = query + self.position_encoder(fractions.flatten(2).to(self.position_encoder[0].weight.dtype))
        query = self.norm1(self.mixing(self.sampling(query, points_m, table, image_from_ego, view_mask), query))
        query = self.norm2(self.self_attn(query, points_m.mean(dim=2)))
        return self.predict(query, points_m)

    def predict(self, query: Tensor, points_m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's end, once the queries know of each other: feed-forward and the heads."""
        query = self.norm3(query + self.ffn(query))
        return query, points_m.mean(dim=2, keepdim=True) + self.offsets_m(query), self.class_logits(query)

    def class_logits(self, query: Tensor) -> Tensor:
        """query [B, Q, C] -> logits of its points [B, Q, P, classes]."""
        return self.cls_branch(query).unflatten(-1, (self.points_out, -1))

    def offsets_m(self, query: Tensor) -> Tensor:
        """query [B, Q, C] -> its points [B, Q, P, 3], metres from the mean of those that came in."""
        return self.offset_scale_m * self.reg_branch(query).unflatten(-1, (self.points_out, 3))


class OccupancyEncoder(nn.Module):
    """Queries over image features; see :class:`EncoderLayer` for one step."""

    def __init__(
        self, config: EncoderConfig, image: ImageConfig, space: SpaceConfig, image_width: int, levels: int
    ) -> None:
        super().__init__()
        self.groups, self.frames, self.width = config.groups, image.frames, config.width
        rule = ViewRule(image.frames, image.width_px, image.height_px, config.unseen_points, config.shared_points)
        self.init_points = nn.Embedding(config.queries, 3)  # fractions of the range
        nn.init.uniform_(self.init_points.weight)
        self.layers = nn.ModuleList(
            EncoderLayer(config, rule, space, image_width, levels, layer)
            for layer in range(len(config.points_per_layer))
        )
        # float64, so that a float64 run of the module is exact: 5.4 m rounded to float32 moves logits by 2e-4
        range_m = torch.tensor(space.range_m, dtype=torch.float64)
        self.register_buffer('low_m', range_m[:3], persistent=False)
        self.register_buffer('size_m', range_m[3:] - range_m[:3], persistent=False)

    @property
    def initial_points_m(self) -> Tensor:
        """Where the queries start, [Q, 1, 3]."""
        fractions = self.init_points.weight
        return (fractions * self.size_m.to(fractions.dtype) + self.low_m.to(fractions.dtype))[:, None]

    @torch.no_grad()
    def sights(self, features: Tensor, positions_m: Tensor, score_threshold: float) -> tuple[Tensor, Tensor]:
        """Where each query sees each class, from what is kept of a scene.

        Args:
            features: [B, Q, C], and positions_m: [B, Q, 3], of the output (metres, ego frame).
            score_threshold: a point whose best class does not score more is of no class, nor is one outside the space.

        Returns:
            the number of the query's points of each class, int64 [B, Q, K], and their means, metres [B, Q, K, 3] (zero
            where there is none). K classes.
        """
        last = self.layers[-1]
        with torch.autocast(features.device.type, enabled=False):  # bf16 has ties, and steps of 0.3 m
            scores = last.class_logits(features.float()).sigmoid()
            offset_m = last.offsets_m(features.float())
            points_m = positions_m.float()[:, :, None] + offset_m - offset_m.mean(dim=2, keepdim=True)
            best, label = scores.max(dim=-1)
            from_low_m = points_m - self.low_m.float()
            inside = ((from_low_m >= 0.0) & (from_low_m < self.size_m.float())).all(dim=-1)
            of_class = F.one_hot(label, scores.shape[-1]) * (inside & (best > score_threshold))[..., None]
            counts = of_class.sum(dim=2)
            return counts, of_class.float().mT @ points_m / counts.clamp(min=1)[..., None]

    def forward(self, levels: tuple[Tensor, ...], image_from_ego: Tensor, view_mask: Tensor) -> EncoderOutput:
        """Encode one scene per sample.

        Args:
            levels: pyramid levels [B, V, C_image, h_l, w_l], V = T x cameras, frame-major.
            image_from_ego: [B, V, 4, 4]: ego metres (of the scene's ego frame) to pixels of the network's image.
            view_mask: bool [B, V], False for views that are missing.

        Raises:
            ValueError: V is no multiple of the frames, or the shapes do not belong together.
        """
        B, V = levels[0].shape[:2]
        if V % self.frames or image_from_ego.shape != (B, V, 4, 4) or view_mask.shape != (B, V):
            raise ValueError(
                f'encoder of {self.frames} frames got features of [B, V] {(B, V)}, image_from_ego '
                f'{tuple(image_from_ego.shape)}, view_mask {tuple(view_mask.shape)}'
            )
        table = feature_table(levels, self.groups)
        points_m = self.initial_points_m.expand(B, -1, -1, -1)
        # the matrix of a missing camera may hold anything; a NaN in it would reach gradients though never the result
        nothing = torch.eye(4, dtype=points_m.dtype, device=points_m.device)
        image_from_ego = torch.where(view_mask[..., None, None], image_from_ego.to(points_m.dtype), nothing)
        low_m, size_m = self.low_m.to(points_m.dtype), self.size_m.to(points_m.dtype)
        query = points_m.new_zeros(B, points_m.shape[1], self.width)
        all_points, all_logits = [], []
        for layer in self.layers:
            points_m = points_m.detach()  # each layer learns from its own loss, not through the next one's sampling
            fractions = (points_m - low_m) / size_m
            query, points_m, logits = layer(query, points_m, fractions, table, image_from_ego, view_mask)
            all_points.append(points_m)
            all_logits.append(logits)
        return EncoderOutput(query, tuple(all_points), tuple(all_logits))

"""What a layer of the occupancy encoder costs, beside the straightforward version of the same computation.

Measured is what the encoder does for a scene: features are laid out once, then :data:`LAYERS` equal layers run on them;
times are per layer. Both versions have the same weights and must give the same numbers before anything is timed. The
straightforward one reads the features with one ``grid_sample`` per pyramid level over all cameras (as public references
do on a CPU) and writes out self-attention with its distance matrix; everything else is the very same modules. Times are
taken in turn within one process, so that a busy machine slows both; the peak of memory is that of a fresh process for
each cell.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparseoccvla_ros.evaluation.process_memory import in_own_process, peak_mib
from sparseoccvla_ros.model.config import EncoderConfig, ImageConfig, SpaceConfig
from sparseoccvla_ros.model.feature_table import FeatureTable, feature_table, sample
from sparseoccvla_ros.model.occupancy_encoder import DistanceAttention, EncoderLayer
from sparseoccvla_ros.model.sampling import ViewRule, choose_views, level_volumes, sample_per_level

Version = Literal['ours', 'straightforward']
VERSIONS: tuple[Version, ...] = ('ours', 'straightforward')
Part = Literal['sampling', 'layer']
PARTS: tuple[Part, ...] = ('sampling', 'layer')

#: Pyramid strides; sizes of OPUS-T, whose second-to-last layer is measured: 32 points a query in, 64 out.
STRIDES = (4, 8, 16, 32)
IMAGE_WIDTH, LAYER, LAYERS = 256, 4, 6
#: Largest difference that counts as the same result, of values about 1.
TOLERANCE = 2e-3


@dataclass(frozen=True)
class Workload:
    """What is measured: one sample of ``queries`` over ``cameras`` x ``frames`` images of 704x256."""

    frames: int
    cameras: int = 6
    queries: int = 600
    device: str = 'cpu'


@dataclass(frozen=True)
class Cell:
    """One row of the table: milliseconds per layer and MiB per scene of both versions."""

    part: Part
    frames: int
    backward: bool
    ours_ms: float
    straightforward_ms: float
    ours_mib: float
    straightforward_mib: float

    @property
    def ratio(self) -> float:
        """Times faster than the straightforward version."""
        return self.straightforward_ms / self.ours_ms


class LayerBench:
    """One encoder layer with random weights, features and points, in both versions."""

    def __init__(self, workload: Workload) -> None:
        torch.manual_seed(0)
        device = torch.device(workload.device)
        config = EncoderConfig(
            queries=workload.queries, width=256, points_per_layer=(1, 4, 16, 32, 64, 128), ffn_width=512
        )
        image, space = ImageConfig(width_px=704, height_px=256, frames=workload.frames), SpaceConfig()
        self.rule = ViewRule(image.frames, image.width_px, image.height_px)
        self.layer = EncoderLayer(config, self.rule, space, IMAGE_WIDTH, len(STRIDES), LAYER).to(device)
        # at their initial zeros the generated matrices would not depend on the query
        torch.nn.init.normal_(self.layer.mixing.parameter_generator.weight, std=0.02)
        torch.nn.init.normal_(self.layer.sampling.sampling_offset.weight, std=0.02)
        views = workload.frames * workload.cameras
        self.levels = tuple(
            torch.randn(views, IMAGE_WIDTH, image.height_px // stride, image.width_px // stride, device=device)
            .to(memory_format=torch.channels_last)[None]
            .requires_grad_()
            for stride in STRIDES
        )
        low, high = torch.tensor(space.range_m, device=device).view(2, 3)
        self.query = torch.randn(1, workload.queries, config.width, device=device).requires_grad_()
        self.fractions = torch.rand(1, workload.queries, 1, 3, device=device) + 0.02 * torch.randn(
            1, workload.queries, config.points_per_layer[LAYER - 1], 3, device=device
        )
        self.points_m = self.fractions * (high - low) + low
        self.image_from_ego = camera_ring(workload.cameras, workload.frames, image).to(device)
        self.view_mask = torch.ones(1, views, dtype=torch.bool, device=device)

    def run(self, part: Part, version: Version, backward: bool) -> Tensor:
        """The part for one scene, and its backward pass if wanted; gives the last layer's result."""
        for leaf in (self.query, *self.levels, *self.layer.parameters()):
            leaf.grad = None
        compute = self._sampled if part == 'sampling' else self._layer
        with torch.set_grad_enabled(backward):
            if version == 'ours':
                features = feature_table(self.levels, self.layer.sampling.groups)
            else:
                features = level_volumes(self.levels, self.rule.frames, self.layer.sampling.groups)
            results = [compute(features) for _ in range(LAYERS)]
        if backward:
            torch.stack([result.sum() for result in results]).sum().backward()
        return results[-1].detach()

    def seconds(self, part: Part, version: Version, backward: bool) -> float:
        """Duration of :meth:`run`, per layer."""
        begin_s = time.perf_counter()
        self.run(part, version, backward)
        if self.query.is_cuda:
            torch.cuda.synchronize(self.query.device)
        return (time.perf_counter() - begin_s) / LAYERS

    def _sampled(self, features: FeatureTable | tuple[Tensor, ...]) -> Tensor:
        return self._read(features, self.query)

    def _read(self, features: FeatureTable | tuple[Tensor, ...], query: Tensor) -> Tensor:
        places_m, weights = self.layer.sampling.places(query, self.points_m)
        choice = choose_views(places_m, self.image_from_ego, self.view_mask, self.rule)
        read = sample if isinstance(features, FeatureTable) else sample_per_level
        return read(features, choice, weights)

    def _layer(self, features: FeatureTable | tuple[Tensor, ...]) -> Tensor:
        layer = self.layer
        if isinstance(features, FeatureTable):
            cameras = self.image_from_ego, self.view_mask
            query, points_m, logits = layer(self.query, self.points_m, self.fractions, features, *cameras)
        else:
            query = self.query + layer.position_encoder(self.fractions.flatten(2))
            query = layer.norm1(layer.mixing(self._read(features, query), query))
            query = layer.norm2(attend_plainly(layer.self_attn, query, self.points_m.mean(dim=2)))
            query, points_m, logits = layer.predict(query, self.points_m)
        return torch.cat([query.flatten(), points_m.flatten(), logits.flatten()])


def attend_plainly(attention: DistanceAttention, query: Tensor, centre_m: Tensor) -> Tensor:
    """:class:`DistanceAttention` with its weights written out, [B, heads, Q, Q]."""
    B, Q, C = query.shape
    heads = attention.heads
    q, k, v = attention.in_proj(query).view(B, Q, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
    distance_m = torch.cdist(centre_m, centre_m, compute_mode='donot_use_mm_for_euclid_dist')
    tau = attention.gen_tau(query).transpose(1, 2)[..., None]
    weights = (q @ k.transpose(-1, -2) / (C // heads) ** 0.5 - tau * distance_m[:, None]).softmax(-1)
    return query + attention.out_proj((weights @ v).transpose(1, 2).reshape(B, Q, C))


def camera_ring(cameras: int, frames: int, image: ImageConfig) -> Tensor:
    """image_from_ego [1, frames * cameras, 4, 4]: 70 degree cameras all around, 1.5 m up, 2 m further back a frame."""
    focal_px = image.width_px / 2.0 / 0.7
    intrinsics = torch.tensor(
        [[focal_px, 0.0, image.width_px / 2.0], [0.0, focal_px, image.height_px / 2.0], [0.0, 0.0, 1.0]]
    )
    yaw = torch.arange(cameras) * (2.0 * torch.pi / cameras)
    zero, one = torch.zeros(cameras), torch.ones(cameras)
    camera_from_ego = torch.stack(
        [yaw.sin(), -yaw.cos(), zero, zero, zero, -one, yaw.cos(), yaw.sin(), zero], dim=1
    ).view(cameras, 3, 3)
    matrices = torch.eye(4).repeat(frames, cameras, 1, 1)
    matrices[..., :3, :3] = intrinsics @ camera_from_ego
    origins_m = torch.stack([-2.0 * torch.arange(frames), torch.zeros(frames), 1.5 * torch.ones(frames)], dim=1)
    matrices[..., :3, 3] = -torch.einsum('nij,tj->tni', matrices[0, :, :3, :3], origins_m)
    return matrices.flatten(0, 1)[None]


def measure(workload: Workload, repeats: int, threads: int) -> list[Cell]:
    """All cells of one workload.

    Raises:
        ArithmeticError: the two versions do not give the same result.
    """
    torch.set_num_threads(threads)
    bench = LayerBench(workload)
    cells = []
    for part in PARTS:
        for backward in (False, True):
            ours, plain = (bench.run(part, version, backward) for version in VERSIONS)
            difference = (ours - plain).abs().max().item()
            if not difference < TOLERANCE:
                raise ArithmeticError(f'{part}: the versions differ by {difference}, more than {TOLERANCE}')
            times = {version: [] for version in VERSIONS}
            for _ in range(repeats):
                for version in VERSIONS:
                    times[version].append(bench.seconds(part, version, backward))
            milliseconds = [1e3 * statistics.median(times[version]) for version in VERSIONS]
            memory = [in_own_process(_peak_here, workload, part, version, backward, threads) for version in VERSIONS]
            cells.append(Cell(part, workload.frames, backward, *milliseconds, *memory))
    return cells


def table(cells: Sequence[Cell]) -> str:
    """The cells as Markdown."""
    lines = [
        '| part | frames | pass | straightforward ms | ours ms | ratio | straightforward MiB | ours MiB |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for cell in cells:
        what = 'forward + backward' if cell.backward else 'forward'
        lines.append(
            f'| {cell.part} | {cell.frames} | {what} | {cell.straightforward_ms:.0f} | {cell.ours_ms:.0f} | '
            f'{cell.ratio:.1f} | {cell.straightforward_mib:.0f} | {cell.ours_mib:.0f} |'
        )
    return '\n'.join(lines)


def _peak_here(workload: Workload, part: Part, version: Version, backward: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    bench = LayerBench(workload)
    return peak_mib(lambda: bench.run(part, version, backward), workload.device)

"""What the encoder's supervision costs at OPUS-T's size: nearest neighbours both ways, for every layer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from sparseoccvla_ros.evaluation.process_memory import in_own_process, peak_mib
from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.nearest import PointIndex, nearest_in_chunks
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.occupancy_loss import OccupancyLoss, OccupancyLossConfig, OccupiedVoxels

QUERIES, POINTS_PER_LAYER, VOXELS = 600, (1, 4, 16, 32, 64, 128), 40_000
#: Timed runs of each; the median counts.
REPEATS = 3


def measure_loss(threads: int) -> list[tuple[str, float, float]]:
    """What, median milliseconds, MiB at the peak: each search alone; all terms of one sample with their gradients."""
    rows = []
    for name in _RUNS:
        rows.append((name, *in_own_process(_cost_here, name, threads)))
    return rows


def loss_table(rows: list[tuple[str, float, float]]) -> str:
    """The rows as Markdown."""
    lines = [f'| {name} | {milliseconds:.0f} | {mib:.0f} |' for name, milliseconds, mib in rows]
    return '\n'.join(['| what | ms | MiB |', '|---|---|---|', *lines])


def _cost_here(name: str, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    run = _RUNS[name]()
    mib = peak_mib(run, 'cpu')  # first, before memory is there to be used again
    seconds = []
    for _ in range(REPEATS):
        begin_s = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin_s)
    return 1e3 * statistics.median(seconds), mib


def _voxels() -> torch.Tensor:
    """Centres on a rough surface, as occupied voxels are."""
    torch.manual_seed(0)
    index = torch.rand(VOXELS, 3) * torch.tensor([200.0, 200.0, 3.0])
    return (index.floor() + 0.5) * 0.4 + torch.tensor([-40.0, -40.0, -1.0])


def _predicted(points: int) -> torch.Tensor:
    """Points about half a metre from the voxels, [points, 3]."""
    voxels = _voxels()
    return voxels[torch.randint(len(voxels), (points,))] + 0.3 * torch.randn(points, 3)


def _search(chunks: bool) -> Callable[[], object]:
    voxels, predicted = _voxels(), _predicted(QUERIES * POINTS_PER_LAYER[-1])
    if chunks:
        return lambda: (nearest_in_chunks(predicted, voxels), nearest_in_chunks(voxels, predicted))
    return lambda: (PointIndex(voxels).nearest(predicted), PointIndex(predicted).nearest(voxels))


def _loss() -> Callable[[], object]:
    space = SpaceConfig()
    voxels = _voxels()
    truth = [OccupiedVoxels(voxels, torch.randint(17, (VOXELS,)), torch.rand(VOXELS) < 0.3)]
    points = tuple(
        _predicted(QUERIES * count).view(1, QUERIES, count, 3).requires_grad_() for count in POINTS_PER_LAYER
    )
    logits = tuple(torch.randn(1, QUERIES, count, 17).requires_grad_() for count in POINTS_PER_LAYER)
    output = EncoderOutput(torch.zeros(1, QUERIES, 1), points, logits)
    loss = OccupancyLoss(OccupancyLossConfig(), space)
    initial = _predicted(QUERIES).view(QUERIES, 1, 3).requires_grad_()
    return lambda: sum(loss(initial, output, truth).values()).backward()


_SIZES = f'{QUERIES * POINTS_PER_LAYER[-1]:,} points, {VOXELS:,} voxels'
_RUNS: dict[str, Callable[[], Callable[[], object]]] = {
    f'nearest neighbours both ways, {_SIZES}: k-d tree': lambda: _search(chunks=False),
    f'nearest neighbours both ways, {_SIZES}: in chunks': lambda: _search(chunks=True),
    'all terms of one sample, six layers, forward + backward': _loss,
}

"""A model small enough to build in every test, and a ring of cameras to look through."""

import math

import pytest
import torch

from sparseoccvla_ros.model.config import VLAConfig, load_model_config

SMALL = {
    'image.width_px': 96,
    'image.height_px': 64,
    'backbone.stem_width': 8,
    'backbone.stage_widths': [8, 8, 16, 16],
    'backbone.fpn_width': 16,
    'encoder.queries': 30,
    'encoder.width': 32,
    'encoder.points_per_layer': [1, 4, 8],
    'encoder.attention_heads': 4,
    'encoder.ffn_width': 32,
    'encoder.mixing_points': 8,
    'language.width': 64,
    'language.ffn_width': 96,
    'language.layers': 2,
    'language.context_length': 256,
    'forecaster.points': 4,
    'planner.width': 32,
    'planner.ffn_width': 32,
}


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Threads that wait for each other cost ten times the work of models this small on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session')
def small() -> VLAConfig:
    """The tiny configuration, smaller still."""
    return load_model_config('tiny', SMALL)


def camera_ring(cameras: int, frames: int, width_px: int = 96, height_px: int = 64) -> torch.Tensor:
    """image_from_ego [1, frames * cameras, 4, 4]: cameras 1.5 m up all around; the frames 0, 1 ... m further back.

    The fields of view (90 degrees) overlap where there are more than four cameras.
    """
    focal_px = width_px / 2.0
    intrinsics = torch.tensor([[focal_px, 0.0, width_px / 2.0], [0.0, focal_px, height_px / 2.0], [0.0, 0.0, 1.0]])
    matrices = []
    for frame in range(frames):
        for camera in range(cameras):
            yaw = 2.0 * math.pi * camera / cameras + 0.1
            cos, sin = math.cos(yaw), math.sin(yaw)
            camera_from_ego = torch.tensor([[sin, -cos, 0.0], [0.0, 0.0, -1.0], [cos, sin, 0.0]])
            origin_ego = torch.tensor([-1.0 * frame, 0.0, 1.5])
            matrix = torch.eye(4)
            matrix[:3, :3] = intrinsics @ camera_from_ego
            matrix[:3, 3] = -intrinsics @ camera_from_ego @ origin_ego
            matrices.append(matrix)
    return torch.stack(matrices)[None]


def random_levels(views: int, width: int, seed: int = 0, batch: int = 1) -> tuple[torch.Tensor, ...]:
    """Pyramid levels [batch, views, width, h, w] of a 96 x 64 image."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(batch, views, width, 64 // stride, 96 // stride, generator=generator) for stride in (4, 8, 16, 32)
    )


@pytest.fixture(scope='session')
def ring():
    """See :func:`camera_ring`."""
    return camera_ring


@pytest.fixture(scope='session')
def levels_of():
    """See :func:`random_levels`."""
    return random_levels

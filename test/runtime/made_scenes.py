"""Scenes made up from their stamps."""

import torch

from sparseoccvla_ros.runtime.scene import SceneQueries


def scene(stamp_ns, config, seed=None):
    """Queries at random places; the same for the same seed, which is the stamp if none is given."""
    generator = torch.Generator().manual_seed(stamp_ns if seed is None else seed)
    Q, C = config.encoder.queries, config.encoder.width
    return SceneQueries(
        stamp_ns=stamp_ns,
        features=torch.randn(Q, C, generator=generator),
        positions_ego=torch.randn(Q, 3, generator=generator) * torch.tensor([15.0, 15.0, 1.0]),
        scores=torch.rand(Q, generator=generator),
        cameras_used=('CAM_FRONT',),
        cameras_missing={},
        temporal=False,
    )

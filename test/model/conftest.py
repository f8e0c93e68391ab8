"""A model small enough to build in every test, a ring of cameras to look through, and the public OPUS fixture."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from sparseoccvla_ros.model.config import EncoderConfig, ImageConfig, SpaceConfig, VLAConfig, load_model_config
from sparseoccvla_ros.model.occupancy_encoder import OccupancyEncoder
from sparseoccvla_ros.model.opus import SPACE_BUFFERS, opus_name

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


def _tensors(path) -> dict[str, torch.Tensor]:
    with np.load(path) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.fixture(scope='session')
def opus_meta(golden_dir) -> dict:
    """Settings that the OPUS fixture was computed with."""
    return json.loads((golden_dir / 'opus_decoder_meta.json').read_text())['config']


@pytest.fixture(scope='session')
def opus_space(opus_meta) -> SpaceConfig:
    """The fixture's labelled space."""
    classes = tuple(f'class {label}' for label in range(opus_meta['num_classes']))
    return SpaceConfig(range_m=tuple(opus_meta['pc_range']), voxel_m=opus_meta['voxel_size'][0], classes=classes)


@pytest.fixture(scope='session')
def opus_outputs(golden_dir) -> dict[str, torch.Tensor]:
    """What the reference's decoder gave."""
    return _tensors(golden_dir / 'opus_decoder_outputs.npz')


@pytest.fixture(scope='session')
def opus_points_m(opus_meta, opus_outputs) -> tuple[torch.Tensor, ...]:
    """The reference's points of each layer [B, Q, P, 3], metres, float64 run."""
    low, high = torch.tensor(opus_meta['pc_range'], dtype=torch.float64).view(2, 3)
    return tuple(
        opus_outputs[f'refine_pts_f64_{layer}'] * (high - low) + low for layer in range(opus_meta['num_layers'])
    )


@pytest.fixture(scope='session')
def opus_inputs(golden_dir, opus_meta) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]:
    """Levels [B, V, C, h, w], image_from_ego [B, V, 4, 4] and view mask, float64."""
    stored = _tensors(golden_dir / 'opus_decoder_inputs.npz')
    scale = stored['feat_scale'].double()
    levels = tuple(stored[f'feat_q_level{level}'].double() * scale for level in range(opus_meta['num_levels']))
    image_from_ego = stored['lidar2img'].double() @ stored['ego2lidar'].double()[:, None]
    return levels, image_from_ego, torch.ones(image_from_ego.shape[:2], dtype=torch.bool)


@pytest.fixture(scope='session')
def opus_encoder(golden_dir, opus_meta, opus_space):
    """Builds our encoder with the fixture's sizes and weights, and the choices that imported checkpoints need."""
    weights = _tensors(golden_dir / 'opus_decoder_weights.npz')
    height_px, width_px = opus_meta['image_hw']
    config = EncoderConfig(
        queries=opus_meta['num_query'],
        width=opus_meta['embed_dims'],
        points_per_layer=tuple(opus_meta['num_refines']),
        groups=opus_meta['num_groups'],
        sample_points=opus_meta['num_points'],
        mixing_points=opus_meta['mixing_out_points'],
        attention_heads=opus_meta['num_heads'],
        ffn_width=opus_meta['feedforward_channels'],
        offset_scale_m=opus_meta['scales'][0],
        level_weights='opus',
        unseen_points='view0',
        shared_points='first',
        spread='unbiased',
    )
    image = ImageConfig(width_px=width_px, height_px=height_px, frames=opus_meta['num_frames'])

    def build(**changes) -> OccupancyEncoder:
        changed = dataclasses.replace(config, **changes)
        encoder = OccupancyEncoder(changed, image, opus_space, opus_meta['embed_dims'], opus_meta['num_levels']).eval()
        encoder.load_state_dict({name: weights[opus_name(name)] for name in encoder.state_dict()})
        assert {opus_name(name) for name in encoder.state_dict()} | set(SPACE_BUFFERS) == set(weights)
        return encoder

    return build

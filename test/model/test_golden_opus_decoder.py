"""The encoder against inputs, weights and outputs of the public OPUS implementation."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from sparseoccvla_ros.model.config import EncoderConfig, ImageConfig, SpaceConfig
from sparseoccvla_ros.model.occupancy_encoder import OccupancyEncoder
from sparseoccvla_ros.model.opus import SPACE_BUFFERS, opus_name
from sparseoccvla_ros.model.sampling import ViewRule, project

pytestmark = pytest.mark.golden

#: Tolerances of the fixture's README.
LOGITS_F64, FRACTIONS_F64, LOGITS_F32, POINTS_F32_M = 1e-4, 2e-6, 1e-2, 5e-3


@pytest.fixture(scope='module')
def meta(golden_dir):
    return json.loads((golden_dir / 'opus_decoder_meta.json').read_text())['config']


@pytest.fixture(scope='module')
def weights(golden_dir):
    with np.load(golden_dir / 'opus_decoder_weights.npz') as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.fixture(scope='module')
def expected(golden_dir):
    with np.load(golden_dir / 'opus_decoder_outputs.npz') as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def encoder_of(meta, weights, **changes) -> OccupancyEncoder:
    """Our encoder with the fixture's sizes and weights, and the choices that imported checkpoints need."""
    height_px, width_px = meta['image_hw']
    config = EncoderConfig(
        queries=meta['num_query'],
        width=meta['embed_dims'],
        points_per_layer=tuple(meta['num_refines']),
        groups=meta['num_groups'],
        sample_points=meta['num_points'],
        mixing_points=meta['mixing_out_points'],
        attention_heads=meta['num_heads'],
        ffn_width=meta['feedforward_channels'],
        offset_scale_m=meta['scales'][0],
        level_weights='opus',
        unseen_points='view0',
        shared_points='first',
    )
    config = dataclasses.replace(config, **changes)
    image = ImageConfig(width_px=width_px, height_px=height_px, frames=meta['num_frames'])
    space = SpaceConfig(range_m=tuple(meta['pc_range']), voxel_m=meta['voxel_size'][0])
    encoder = OccupancyEncoder(config, image, space, meta['embed_dims'], meta['num_levels']).eval()
    theirs = {name: encoder.state_dict()[name].shape for name in encoder.state_dict()}
    encoder.load_state_dict({name: weights[opus_name(name)] for name in theirs})
    assert {opus_name(name) for name in theirs} | set(SPACE_BUFFERS) == set(weights)
    return encoder


@pytest.fixture(scope='module')
def inputs(golden_dir, meta):
    with np.load(golden_dir / 'opus_decoder_inputs.npz') as stored:
        scale = stored['feat_scale'].astype(np.float64)
        levels = tuple(
            torch.from_numpy(stored[f'feat_q_level{level}'].astype(np.float64) * scale)
            for level in range(meta['num_levels'])
        )
        image_from_ego = stored['lidar2img'].astype(np.float64) @ stored['ego2lidar'].astype(np.float64)[:, None]
    image_from_ego = torch.from_numpy(image_from_ego)
    return levels, image_from_ego, torch.ones(image_from_ego.shape[:2], dtype=torch.bool)


@pytest.fixture(scope='module')
def run_f64(meta, weights, inputs):
    """Outputs, and what each layer's modules gave, of a float64 run."""
    encoder = encoder_of(meta, weights).double()
    seen = {}
    for index, layer in enumerate(encoder.layers):
        for name, module in (
            ('query_pos', layer.position_encoder),
            ('sampled_feat', layer.sampling),
            ('after_mixing', layer.norm1),
            ('after_self_attn', layer.norm2),
            ('after_ffn', layer.norm3),
        ):
            key = f'layer{index}_{name}'
            module.register_forward_hook(lambda _m, _i, out, key=key: seen.__setitem__(key, out.detach()))
    with torch.no_grad():
        output = encoder(*inputs)
    return encoder, output, seen


def fractions(encoder: OccupancyEncoder, points_m: torch.Tensor) -> torch.Tensor:
    return (points_m - encoder.low_m) / encoder.size_m


def test_outputs_of_every_layer_in_float64(meta, run_f64, expected):
    encoder, output, _ = run_f64
    for layer in range(meta['num_layers']):
        torch.testing.assert_close(output.logits[layer], expected[f'cls_scores_f64_{layer}'], rtol=0, atol=LOGITS_F64)
        torch.testing.assert_close(
            fractions(encoder, output.points_m[layer]), expected[f'refine_pts_f64_{layer}'], rtol=0, atol=FRACTIONS_F64
        )


def test_every_step_inside_the_layers(meta, run_f64, expected):
    encoder, _, seen = run_f64
    start = fractions(encoder, encoder.initial_points_m)[None]
    torch.testing.assert_close(start, expected['init_points'].double(), rtol=0, atol=1e-6)
    assert len(seen) == 5 * meta['num_layers']
    for key, value in seen.items():
        torch.testing.assert_close(value.float().view(expected[key].shape), expected[key], rtol=1e-5, atol=1e-4)


def test_last_layer_in_float32(meta, weights, inputs, expected):
    levels, image_from_ego, view_mask = inputs
    with torch.no_grad():
        encoder = encoder_of(meta, weights)
        output = encoder(tuple(level.float() for level in levels), image_from_ego.float(), view_mask)
    last = meta['num_layers'] - 1
    torch.testing.assert_close(output.logits[last], expected[f'cls_scores_{last}'], rtol=0, atol=LOGITS_F32)
    points_m = (expected[f'refine_pts_{last}'] * encoder.size_m + encoder.low_m).float()
    torch.testing.assert_close(output.points_m[last], points_m, rtol=0, atol=POINTS_F32_M)


def test_projection_and_visibility(meta, inputs, expected):
    """The stored projections are of the reference's own sampling points: project the points that they came from."""
    _, image_from_ego, _ = inputs
    height_px, width_px = meta['image_hw']
    rule = ViewRule(meta['num_frames'], width_px, height_px)
    views = image_from_ego.shape[1]
    for layer in range(meta['num_layers']):
        uvd = expected[f'sample_uvd_{layer}'].double().flatten(1, 2).flatten(2, 3)  # [B, V, N, 3]
        # recover the points from the view in which each is deepest, then project them into all views
        pixels = uvd[..., :2] * uvd.new_tensor([width_px, height_px])
        homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1) * uvd[..., 2:]
        deepest = uvd[..., 2].argmax(dim=1)  # [B, N]
        batch, points = torch.arange(uvd.shape[0])[:, None], torch.arange(uvd.shape[2])
        ray = torch.cat([homogeneous[batch, deepest, points], torch.ones_like(uvd[:, 0, :, :1])], -1)
        points_m = torch.linalg.solve(image_from_ego[batch, deepest], ray[..., None])[..., :3, 0]
        uv, valid = project(points_m, image_from_ego, rule)
        stored = expected[f'sample_valid_{layer}'].bool().flatten(1, 2).flatten(2, 3)
        assert uv.shape[1] == views
        # recovered through float32 values: a point this near to a border cannot be told
        clear = ((uv.abs() > 1e-3) & ((uv - 1).abs() > 1e-3)).all(-1)
        assert clear.double().mean() > 0.95
        assert torch.equal(valid[clear], stored[clear])
        both = valid & stored
        torch.testing.assert_close(uv[both], uvd[..., :2][both], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    'change', [{'level_weights': 'group'}, {'unseen_points': 'masked'}, {'shared_points': 'central'}], ids=str
)
def test_each_switch_is_live(meta, weights, inputs, expected, change):
    """Without one of the named choices the outputs are not the reference's: none of the switches is dead."""
    levels, image_from_ego, view_mask = inputs
    with torch.no_grad():
        encoder = encoder_of(meta, weights, **change)
        output = encoder(tuple(level.float() for level in levels), image_from_ego.float(), view_mask)
    last = meta['num_layers'] - 1
    difference = (output.logits[last] - expected[f'cls_scores_{last}']).abs().max().item()
    assert difference > 5 * LOGITS_F32
    assert math.isfinite(difference)

"""The encoder against inputs, weights and outputs of the public OPUS implementation."""

import math

import pytest
import torch

from sparseoccvla_ros.model.occupancy_encoder import OccupancyEncoder
from sparseoccvla_ros.model.sampling import ViewRule, project

pytestmark = pytest.mark.golden

#: Tolerances of the fixture's README.
LOGITS_F64, FRACTIONS_F64, LOGITS_F32, POINTS_F32_M = 1e-4, 2e-6, 1e-2, 5e-3


@pytest.fixture(scope='module')
def run_f64(opus_encoder, opus_inputs):
    """Outputs, and what each layer's modules gave, of a float64 run."""
    encoder = opus_encoder().double()
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
        output = encoder(*opus_inputs)
    return encoder, output, seen


def fractions(encoder: OccupancyEncoder, points_m: torch.Tensor) -> torch.Tensor:
    return (points_m - encoder.low_m) / encoder.size_m


def test_outputs_of_every_layer_in_float64(opus_meta, run_f64, opus_outputs):
    encoder, output, _ = run_f64
    for layer in range(opus_meta['num_layers']):
        torch.testing.assert_close(
            output.logits[layer], opus_outputs[f'cls_scores_f64_{layer}'], rtol=0, atol=LOGITS_F64
        )
        torch.testing.assert_close(
            fractions(encoder, output.points_m[layer]),
            opus_outputs[f'refine_pts_f64_{layer}'],
            rtol=0,
            atol=FRACTIONS_F64,
        )


def test_every_step_inside_the_layers(opus_meta, run_f64, opus_outputs):
    encoder, _, seen = run_f64
    start = fractions(encoder, encoder.initial_points_m)[None]
    torch.testing.assert_close(start, opus_outputs['init_points'].double(), rtol=0, atol=1e-6)
    assert len(seen) == 5 * opus_meta['num_layers']
    for key, value in seen.items():
        torch.testing.assert_close(value.float().view(opus_outputs[key].shape), opus_outputs[key], rtol=1e-5, atol=1e-4)


def test_last_layer_in_float32(opus_meta, opus_encoder, opus_inputs, opus_outputs):
    levels, image_from_ego, view_mask = opus_inputs
    with torch.no_grad():
        encoder = opus_encoder()
        output = encoder(tuple(level.float() for level in levels), image_from_ego.float(), view_mask)
    last = opus_meta['num_layers'] - 1
    torch.testing.assert_close(output.logits[last], opus_outputs[f'cls_scores_{last}'], rtol=0, atol=LOGITS_F32)
    points_m = (opus_outputs[f'refine_pts_{last}'] * encoder.size_m + encoder.low_m).float()
    torch.testing.assert_close(output.points_m[last], points_m, rtol=0, atol=POINTS_F32_M)


def test_projection_and_visibility(opus_meta, opus_inputs, opus_outputs):
    """The stored projections are of the reference's own sampling points: project the points that they came from."""
    _, image_from_ego, _ = opus_inputs
    height_px, width_px = opus_meta['image_hw']
    rule = ViewRule(opus_meta['num_frames'], width_px, height_px)
    views = image_from_ego.shape[1]
    for layer in range(opus_meta['num_layers']):
        uvd = opus_outputs[f'sample_uvd_{layer}'].double().flatten(1, 2).flatten(2, 3)  # [B, V, N, 3]
        # recover the points from the view in which each is deepest, then project them into all views
        pixels = uvd[..., :2] * uvd.new_tensor([width_px, height_px])
        homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1) * uvd[..., 2:]
        deepest = uvd[..., 2].argmax(dim=1)  # [B, N]
        batch, points = torch.arange(uvd.shape[0])[:, None], torch.arange(uvd.shape[2])
        ray = torch.cat([homogeneous[batch, deepest, points], torch.ones_like(uvd[:, 0, :, :1])], -1)
        points_m = torch.linalg.solve(image_from_ego[batch, deepest], ray[..., None])[..., :3, 0]
        uv, valid = project(points_m, image_from_ego, rule)
        stored = opus_outputs[f'sample_valid_{layer}'].bool().flatten(1, 2).flatten(2, 3)
        assert uv.shape[1] == views
        # recovered through float32 values: a point this near to a border cannot be told
        clear = ((uv.abs() > 1e-3) & ((uv - 1).abs() > 1e-3)).all(-1)
        assert clear.double().mean() > 0.95
        assert torch.equal(valid[clear], stored[clear])
        both = valid & stored
        torch.testing.assert_close(uv[both], uvd[..., :2][both], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    'change',
    [
        {'level_weights': 'group'},
        {'unseen_points': 'masked'},
        {'shared_points': 'central'},
        {'spread': 'floored'},
    ],
    ids=str,
)
def test_each_switch_is_live(opus_meta, opus_encoder, opus_inputs, opus_outputs, change):
    """Without one of the named choices the outputs are not the reference's: none of the switches is dead."""
    levels, image_from_ego, view_mask = opus_inputs
    with torch.no_grad():
        encoder = opus_encoder(**change)
        output = encoder(tuple(level.float() for level in levels), image_from_ego.float(), view_mask)
    last = opus_meta['num_layers'] - 1
    difference = (output.logits[last] - opus_outputs[f'cls_scores_{last}']).abs().max().item()
    assert difference > 5 * LOGITS_F32
    assert math.isfinite(difference)

"""The encoder against inputs, weights and outputs of the public OPUS implementation."""

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
        layer.sampling.register_forward_hook(
            lambda m, i, _o, key=f'layer{index}_places_m': seen.__setitem__(key, m.places(*i[:2])[0])
        )
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
    start = fractions(encoder, encoder.initial_points_m)
    expected = opus_outputs['init_points'].double()
    torch.testing.assert_close(start.expand_as(expected), expected, rtol=0, atol=1e-6)
    steps = {key: value for key, value in seen.items() if not key.endswith('places_m')}
    assert len(steps) == 5 * opus_meta['num_layers']
    for key, value in steps.items():
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


def test_projection_and_visibility(opus_meta, opus_inputs, run_f64, opus_outputs):
    """Of the encoder's own sampling points, in every view; which view sees a point is exact."""
    _, image_from_ego, _ = opus_inputs
    _, _, seen = run_f64
    height_px, width_px = opus_meta['image_hw']
    rule = ViewRule(opus_meta['num_frames'], width_px, height_px)
    for layer in range(opus_meta['num_layers']):
        stored = opus_outputs[f'sample_uvd_{layer}'].double().flatten(1, 2).flatten(2, 3)  # [B, V, N, 3]
        uv, valid = project(seen[f'layer{layer}_places_m'], image_from_ego, rule)
        assert torch.equal(valid, opus_outputs[f'sample_valid_{layer}'].bool().flatten(1, 2).flatten(2, 3))
        assert valid.any()
        torch.testing.assert_close(uv[valid], stored[..., :2][valid], rtol=0, atol=1e-5)

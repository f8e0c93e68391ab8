"""Images to queries and points: what must not change the result, and what must."""

import dataclasses

import pytest
import torch

from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.vla import build_perception

CAMERAS, FRAMES = 6, 2


@pytest.fixture(scope='module')
def perception(small):
    """With random heads and mixers too: at their initial zeros many differences would not show."""
    perception = build_perception(small, weights=None, seed=3)
    generator = torch.Generator().manual_seed(4)
    for layer in perception.encoder.layers:
        for weight in (layer.sampling.sampling_offset.weight, layer.mixing.parameter_generator.weight):
            weight.data = 0.2 * torch.randn(weight.shape, generator=generator)
    return perception


def encode(perception, levels, matrices, mask=None) -> EncoderOutput:
    mask = torch.ones(matrices.shape[:2], dtype=torch.bool) if mask is None else mask
    with torch.no_grad():
        return perception.encode(levels, matrices, mask)


def assert_same(a: EncoderOutput, b: EncoderOutput, atol: float = 2e-4) -> None:
    torch.testing.assert_close(a.features, b.features, rtol=0, atol=atol)
    for ours, theirs in zip((*a.points_m, *a.logits), (*b.points_m, *b.logits), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def assert_different(a: EncoderOutput, b: EncoderOutput) -> None:
    assert (a.features - b.features).abs().max() > 1e-2


def test_extract_normalizes_and_keeps_images_apart(perception, small):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 64, 96, 3), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        levels = perception.extract(images)
        singles = [perception.extract(image[None]) for image in images]
        mean, std = torch.tensor(small.image.mean), torch.tensor(small.image.std)
        pixels = ((images / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()
        plain = perception.backbone.pyramid(perception.backbone.resnet(pixels).feature_maps)
    assert [tuple(level.shape) for level in levels] == [(3, 16, 16, 24), (3, 16, 8, 12), (3, 16, 4, 6), (3, 16, 2, 3)]
    for index, level in enumerate(levels):
        assert level.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(level, torch.cat([single[index] for single in singles]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(level, plain[index], rtol=1e-4, atol=1e-4)


def test_pixels_that_could_be_nan_are_refused(perception):
    nan = torch.full((1, 64, 96, 3), float('nan'))
    for images in (nan, torch.zeros(1, 3, 64, 96, dtype=torch.uint8), torch.zeros(64, 96, 3, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r'expected images uint8 \[N, H, W, 3\], got torch'):
            perception.extract(images)


def test_features_that_are_nan_show_in_the_output(perception, ring, levels_of):
    """Nothing hides them: the engine refuses such a scene (runtime/finite.py)."""
    levels = levels_of(12, 16)
    for level in levels:
        level[0, 0] = float('nan')
    output = encode(perception, levels, ring(CAMERAS, FRAMES))
    assert output.features.isnan().any()


def test_pyramid_takes_odd_sizes(perception):
    with torch.no_grad():
        levels = perception.extract(torch.zeros(1, 72, 100, 3, dtype=torch.uint8))
    assert [tuple(level.shape[2:]) for level in levels] == [(18, 25), (9, 13), (5, 7), (3, 4)]


@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_sights_are_the_means_of_a_querys_points_by_class(perception, ring, levels_of, dtype):
    """From features and positions alone, as they are stored; in bf16, too, whose ties would go to the first class."""
    output = encode(perception, levels_of(12, 16), ring(CAMERAS, FRAMES))
    scores, labels = output.logits[-1].sigmoid().max(dim=-1)
    threshold = scores.quantile(0.4).item()
    moved_m = torch.tensor([30.0, 0.0, 0.0])  # some of them out of the space
    all_points_m = output.points_m[-1] + moved_m
    with torch.autocast('cpu', dtype or torch.bfloat16, enabled=dtype is not None):
        counts, means_m = perception.encoder.sights(output.features, output.positions_m + moved_m, threshold)
    classes = range(counts.shape[-1])
    low_m, high_m = torch.tensor(SpaceConfig().range_m).split(3)
    inside = ((all_points_m >= low_m) & (all_points_m < high_m)).all(dim=-1)
    mine = [inside & (scores > threshold) & (labels == label) for label in classes]
    assert counts.tolist() == torch.stack(mine, dim=-1).sum(dim=2).tolist()
    assert 0.5 < inside.float().mean() < 0.95
    assert 0.25 < counts.sum() / scores.numel() < 0.55
    for label in classes:
        points_m = all_points_m.masked_fill(~mine[label][..., None], 0.0).sum(dim=2)
        torch.testing.assert_close(means_m[:, :, label] * counts[:, :, label, None], points_m, atol=1e-3, rtol=1e-4)


def test_output_shapes(perception, ring, levels_of):
    output = encode(perception, levels_of(12, 16), ring(CAMERAS, FRAMES))
    assert output.features.shape == (1, 30, 32)
    assert [tuple(points.shape) for points in output.points_m] == [(1, 30, 1, 3), (1, 30, 4, 3), (1, 30, 8, 3)]
    assert [tuple(logits.shape) for logits in output.logits] == [(1, 30, 1, 17), (1, 30, 4, 17), (1, 30, 8, 17)]
    torch.testing.assert_close(output.positions_m, output.points_m[-1].mean(2))


@pytest.mark.parametrize(
    'choice',
    [{'level_weights': 'opus'}, {'unseen_points': 'view0'}, {'shared_points': 'first'}, {'spread': 'unbiased'}],
    ids=str,
)
def test_each_choice_of_the_encoder_is_live(perception, small, ring, levels_of, choice):
    """The golden tests say that OPUS' values are right; here none of the switches is dead."""
    other = build_perception(
        dataclasses.replace(small, encoder=dataclasses.replace(small.encoder, **choice)), weights=None
    )
    other.load_state_dict(perception.state_dict())
    # all around, where neighbours see the same points; and one camera a frame, with points just outside of it
    differences = []
    for views in (list(range(12)), [0, CAMERAS]):
        levels, matrices = levels_of(len(views), 16), ring(CAMERAS, FRAMES)[:, views]
        outputs = [encode(part, levels, matrices).features for part in (perception, other)]
        differences.append((outputs[0] - outputs[1]).abs().max())
    assert max(differences) > 1e-2


@pytest.mark.parametrize(('spread', 'looks_around'), [('floored', True), ('unbiased', False)])
def test_a_query_of_one_point_looks_around_itself(small, ring, levels_of, spread, looks_around):
    """In the first layer, whose deviation is zero: by default its offsets are in units of `offset_scale_m`."""
    config = dataclasses.replace(small, encoder=dataclasses.replace(small.encoder, spread=spread))
    levels, matrices = levels_of(12, 16), ring(CAMERAS, FRAMES)
    logits = []
    for offset in (0.0, 2.0):
        perception = build_perception(config, weights=None)
        perception.encoder.layers[0].sampling.sampling_offset.bias.data.fill_(offset)
        logits.append(encode(perception, levels, matrices).logits[0])
    assert torch.equal(*logits) is not looks_around


@pytest.mark.parametrize('queries', [300, 450, 600, 750, 1200])
def test_number_of_queries_is_configured(small, ring, levels_of, queries):
    config = dataclasses.replace(
        small,
        encoder=dataclasses.replace(small.encoder, queries=queries),
        language=dataclasses.replace(small.language, context_length=2048),
    )
    output = encode(build_perception(config, weights=None), levels_of(12, 16), ring(CAMERAS, FRAMES))
    assert output.features.shape == (1, queries, 32)
    assert output.points_m[-1].shape == (1, queries, 8, 3)
    assert output.features.isfinite().all()


@pytest.mark.parametrize(('cameras', 'frames'), [(1, 1), (4, 1), (6, 8), (9, 3)])
def test_any_number_of_cameras_and_frames(small, ring, levels_of, cameras, frames):
    config = dataclasses.replace(small, image=dataclasses.replace(small.image, frames=frames))
    perception = build_perception(config, weights=None)
    levels, matrices = levels_of(cameras * frames, 16), ring(cameras, frames)
    output = encode(perception, levels, matrices)
    assert output.features.isfinite().all()
    assert_different(output, encode(perception, levels_of(cameras * frames, 16, seed=1), matrices))


def test_batch_equals_singles_with_matrices_of_their_own(perception, ring, levels_of):
    levels = levels_of(12, 16, batch=2)
    other = ring(CAMERAS, FRAMES).clone()
    other[:, :, :2] *= 1.1
    matrices = torch.cat([ring(CAMERAS, FRAMES), other])
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 5] = False
    both = encode(perception, levels, matrices, mask)
    for b in range(2):
        alone = encode(perception, tuple(level[b : b + 1] for level in levels), matrices[b : b + 1], mask[b : b + 1])
        sample = EncoderOutput(
            both.features[b : b + 1],
            tuple(points[b : b + 1] for points in both.points_m),
            tuple(logits[b : b + 1] for logits in both.logits),
        )
        assert_same(alone, sample)


def test_order_of_cameras_does_not_matter(perception, ring, levels_of):
    levels, matrices = levels_of(12, 16), ring(CAMERAS, FRAMES)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    views = torch.cat([order, order + CAMERAS])
    permuted = encode(perception, tuple(level[:, views] for level in levels), matrices[:, views])
    assert_same(encode(perception, levels, matrices), permuted)
    wrong = encode(perception, tuple(level[:, views] for level in levels), matrices)
    assert_different(permuted, wrong)


def test_order_of_frames_does(perception, ring, levels_of):
    levels, matrices = levels_of(12, 16), ring(CAMERAS, FRAMES)
    views = torch.arange(12).roll(CAMERAS)
    swapped = encode(perception, tuple(level[:, views] for level in levels), matrices[:, views])
    assert_different(encode(perception, levels, matrices), swapped)


def test_masked_camera_equals_absent_camera(perception, ring, levels_of):
    levels, matrices = levels_of(12, 16), ring(CAMERAS, FRAMES)
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[0, [2, 2 + CAMERAS]] = False
    masked = encode(perception, levels, matrices, mask)
    absent = encode(perception, tuple(level[:, mask[0]] for level in levels), matrices[:, mask[0]])
    assert_same(masked, absent)
    assert_different(masked, encode(perception, levels, matrices))


def test_the_matrix_of_a_missing_camera_may_hold_anything(perception, ring, levels_of):
    """In the result and in the gradients."""
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[0, [2, 8]] = False
    broken = ring(CAMERAS, FRAMES).clone()
    broken[0, [2, 8]] = float('nan')
    gradients = []
    for matrices in (ring(CAMERAS, FRAMES), broken):
        perception.zero_grad()
        output = perception.encode(levels_of(12, 16), matrices, mask)
        (output.features.sum() + output.logits[-1].sum()).backward()
        gradients.append({name: p.grad.clone() for name, p in perception.named_parameters() if p.grad is not None})
    perception.zero_grad()
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_no_camera_at_all_is_defined(perception, ring, levels_of):
    mask = torch.zeros(1, 12, dtype=torch.bool)
    blind = [encode(perception, levels_of(12, 16, seed=s), ring(CAMERAS, FRAMES), mask) for s in (0, 1)]
    assert_same(*blind, atol=0.0)
    assert blind[0].features.isfinite().all()


def test_points_learn_from_their_own_layer_only(perception, ring, levels_of):
    """Points are detached between layers: the last layer's points do not reach the initial points."""
    output = perception.encode(levels_of(12, 16), ring(CAMERAS, FRAMES), torch.ones(1, 12, dtype=torch.bool))
    output.points_m[-1].sum().backward()
    assert perception.encoder.init_points.weight.grad is None
    assert perception.encoder.layers[0].mixing.out_proj.weight.grad.abs().max() > 0
    perception.zero_grad()


def test_wrong_shapes_are_refused(perception, ring, levels_of):
    with pytest.raises(ValueError, match=r'encoder of 2 frames got features of \[B, V\] \(1, 11\)'):
        encode(perception, levels_of(11, 16), ring(11, 1))
    with pytest.raises(ValueError, match=r'view_mask \(1, 6\)'):
        encode(perception, levels_of(12, 16), ring(6, 2), torch.ones(1, 6, dtype=torch.bool))


def test_bf16_features_stay_close(small, ring):
    images = torch.randint(0, 256, (12, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    outputs = []
    for precision in ('fp32', 'bf16'):
        perception = build_perception(dataclasses.replace(small, precision=precision), weights=None, seed=0)
        with torch.no_grad():
            levels = tuple(level[None] for level in perception.extract(images))
        assert levels[0].dtype == (torch.float32 if precision == 'fp32' else torch.bfloat16)
        outputs.append(encode(perception, levels, ring(CAMERAS, FRAMES)))
    assert outputs[1].features.dtype == torch.float32
    assert (outputs[0].features - outputs[1].features).abs().mean() < 0.05

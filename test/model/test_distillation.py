"""CLIP distillation: geometry and sampling by hand and by property, the loss, and the teacher against transformers."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from sparseoccvla_ros.model import clip_teacher
from sparseoccvla_ros.model.clip_teacher import ClipTeacher
from sparseoccvla_ros.model.distillation import (
    DistillationConfig,
    DistillationLoss,
    project_to_cameras,
    sample_teacher,
)

CAMERAS, WIDTH_PX, HEIGHT_PX = 6, 96, 64
Q, C, D = 40, 24, 16

#: At the ego's origin, looking along x; focal length 8 px, centre (8, 4) of an image of 16 x 8 px: a point (x, y, z)
#: lies at u = 8 - 8 y / x, v = 4 - 8 z / x.
FORWARD_CAMERA = torch.tensor(
    [[8.0, -8.0, 0.0, 0.0], [4.0, 0.0, -8.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64
)
#: Its teacher map, 2 rows of 4 patches, one channel.
SMALL_MAP = torch.tensor([[3.0, 1.0, 2.0, 4.0], [10.0, 20.0, 30.0, 50.0]], dtype=torch.float64)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def scene(ring):
    """Two samples with rigs of their own: points, matrices, mask, teacher maps, student features."""
    matrices = torch.cat([ring(CAMERAS, 1), ring(CAMERAS, 1).roll(1, dims=1)]).double()
    points_m = random(2, Q, 3, seed=1) * torch.tensor([15.0, 15.0, 2.0])
    mask = torch.ones(2, CAMERAS, dtype=torch.bool)
    mask[1, 2] = False
    return points_m, matrices, mask, random(2, CAMERAS, D, 4, 6, seed=2), random(2, Q, C, seed=3)


def sampled(points_m, matrices, mask, features, width_px=WIDTH_PX, height_px=HEIGHT_PX):
    return sample_teacher(features, project_to_cameras(points_m, matrices, mask, width_px, height_px))


def read_small_map(*points_m: tuple[float, float, float]) -> tuple[list[float], list[bool]]:
    points = torch.tensor(points_m, dtype=torch.float64)[None]
    mask = torch.ones(1, 1, dtype=torch.bool)
    feature, seen = sampled(points, FORWARD_CAMERA[None, None], mask, SMALL_MAP[None, None, None], 16, 8)
    return feature[0, :, 0].tolist(), seen[0].tolist()


def new_loss(normalize: bool = True, seed: int = 4) -> DistillationLoss:
    torch.manual_seed(seed)
    return DistillationLoss(DistillationConfig(normalize=normalize), C, D).double()


# --- geometry and sampling ---


def test_bilinear_by_hand():
    """Patches are 4 px wide and high, their middles at 2, 6, 10, 14 px and 2, 6 px."""
    values, seen = read_small_map(
        (4.0, -1.0, 1.0),  # u = 10, v = 2: the middle of patch (0, 2)
        (4.0, 0.0, 0.0),  # u = 8, v = 4: between (1 + 2 + 20 + 30) / 4
        (4.0, 0.5, 0.75),  # u = 7, v = 2.5: row 0.125, column 1.25
        (4.0, 4.0, 2.0),  # u = 0, v = 0: the corner, beyond the outermost middles
        (4.0, -3.75, -1.5),  # u = 15.5, v = 7: beyond the outermost middles of both axes
        (4.0, 3.5, 0.0),  # u = 1, v = 4: beyond on the left, half way between the rows
    )
    assert values == pytest.approx([2.0, 13.25, 0.875 * 1.25 + 0.125 * 22.5, 3.0, 50.0, 6.5], abs=1e-12)
    assert all(seen)


def test_where_the_image_ends():
    """0 <= u < W, 0 <= v < H, depth > 0.1 m."""
    _, seen = read_small_map(
        (4.0, 4.0, 0.0),  # u = 0
        (4.0, 4.001, 0.0),
        (4.0, -4.0, 0.0),  # u = W
        (4.0, -3.999, 0.0),
        (4.0, 0.0, 2.0),  # v = 0
        (4.0, 0.0, 2.001),
        (4.0, 0.0, -2.0),  # v = H
        (4.0, 0.0, -1.999),
        (0.1, 0.0, 0.0),
        (0.11, 0.0, 0.0),
    )
    assert seen == [True, False, False, True, True, False, False, True, False, True]


def test_a_point_behind_every_camera_is_left_out():
    """Mirrored at the camera it would be seen in the middle of the image."""
    values, seen = read_small_map((-4.0, 0.0, 0.0), (0.0, 0.0, 0.0), (4.0, 0.0, 0.0))
    assert seen == [False, False, True]
    assert values[:2] == [0.0, 0.0]


def test_mean_over_the_cameras_that_see_the_point(scene):
    points_m, matrices, mask, features, _ = scene
    views = project_to_cameras(points_m, matrices, mask, WIDTH_PX, HEIGHT_PX)
    together, seen = sample_teacher(features, views)
    total, cameras = torch.zeros_like(together), torch.zeros(2, Q, 1)
    for camera in range(CAMERAS):
        only = torch.zeros_like(mask)
        only[:, camera] = mask[:, camera]
        alone, there = sampled(points_m, matrices, only, features)
        total, cameras = total + alone, cameras + there[..., None]
    assert (cameras == 2).any()
    assert (cameras == 0).any()
    assert torch.equal(seen, cameras[..., 0] > 0)
    torch.testing.assert_close(together, total / cameras.clamp(min=1), rtol=0, atol=1e-12)


def test_batch_equals_singles(scene):
    points_m, matrices, mask, features, student = scene
    teacher, seen = sampled(points_m, matrices, mask, features)
    loss = new_loss()
    whole, parts = loss(student, teacher, seen), []
    for b in range(2):
        one = slice(b, b + 1)
        single, single_seen = sampled(points_m[one], matrices[one], mask[one], features[one])
        assert torch.equal(single_seen, seen[one])
        torch.testing.assert_close(single, teacher[one], rtol=0, atol=1e-12)
        parts.append(loss(student[one], single, single_seen))
    assert 0 < parts[0].visible_points != parts[1].visible_points > 0
    points = whole.visible_points
    assert points == sum(part.visible_points for part in parts)
    mean = sum(part.loss * part.visible_points for part in parts) / points  # of points, not of samples
    torch.testing.assert_close(whole.loss, mean, rtol=0, atol=1e-12)


def test_order_of_cameras_means_nothing(scene):
    points_m, matrices, mask, features, _ = scene
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    here, here_seen = sampled(points_m, matrices, mask, features)
    there, there_seen = sampled(points_m, matrices[:, order], mask[:, order], features[:, order])
    assert torch.equal(here_seen, there_seen)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-12)


def test_a_missing_camera_is_an_absent_one_whatever_it_holds(scene):
    points_m, matrices, mask, features, student = scene
    mask[:] = True
    _, all_seen = sampled(points_m, matrices, mask, features)
    mask[:, 2] = False
    features[:, 2] = float('nan')
    matrices[:, 2] = float('nan')
    rest = [0, 1, 3, 4, 5]
    teacher, seen = sampled(points_m, matrices, mask, features)
    absent, absent_seen = sampled(points_m, matrices[:, rest], mask[:, rest], features[:, rest])
    assert (all_seen & ~seen).any()
    assert torch.equal(seen, absent_seen)
    torch.testing.assert_close(teacher, absent, rtol=0, atol=1e-12)
    loss = new_loss()
    loss(student.requires_grad_(), teacher, seen).loss.backward()
    assert student.grad.isfinite().all()
    assert loss.projection.weight.grad.isfinite().all()


def test_a_bad_number_of_a_camera_in_use_shows(scene):
    points_m, matrices, mask, features, student = scene
    features[0, 0] = float('nan')
    teacher, seen = sampled(points_m, matrices, mask, features)
    assert new_loss()(student, teacher, seen).loss.isnan()


def test_half_precision_inputs_are_projected_in_float32(scene):
    """bf16 knows pixels to half a one only."""
    points_m, matrices, mask, features, _ = scene
    coarse = points_m.bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        views = project_to_cameras(coarse, matrices.float(), mask, WIDTH_PX, HEIGHT_PX)
        teacher, _ = sample_teacher(features.bfloat16(), views)
    exact = project_to_cameras(coarse.double(), matrices, mask, WIDTH_PX, HEIGHT_PX)
    exact_teacher, _ = sample_teacher(features.bfloat16().double(), exact)
    assert teacher.dtype == views.uv.dtype == torch.float32
    assert torch.equal(views.visible, exact.visible)
    near = exact.visible
    torch.testing.assert_close(views.uv[near].double(), exact.uv[near], rtol=0, atol=1e-5)
    torch.testing.assert_close(teacher.double(), exact_teacher, rtol=0, atol=1e-4)


def test_shapes_that_do_not_belong_together(scene):
    points_m, matrices, mask, features, _ = scene
    with pytest.raises(ValueError, match=r'view_mask \(2, 6\), image_from_ego \(2, 5, 4, 4\)'):
        sampled(points_m, matrices[:, :5], mask, features)
    with pytest.raises(ValueError, match=r'points_m \(1, 40, 3\) do not belong'):
        sampled(points_m[:1], matrices, mask, features)
    with pytest.raises(ValueError, match=r'\(6, 2, 16, 4, 6\) are not .* B, V = \(2, 6\)'):
        sampled(points_m, matrices, mask, features.transpose(0, 1))


# --- the loss ---


@pytest.fixture
def pairs():
    """Student, teacher, seen; some points unseen."""
    seen = torch.ones(2, Q, dtype=torch.bool)
    seen[0, ::3] = False
    return random(2, Q, C, seed=5), random(2, Q, D, seed=6), seen


@pytest.mark.parametrize('normalize', [True, False])
def test_loss_by_its_definition(pairs, normalize):
    student, teacher, seen = pairs
    loss, distances = new_loss(normalize), []
    for b, q in seen.nonzero().tolist():
        s = loss.projection.weight @ student[b, q] + loss.projection.bias
        t = teacher[b, q]
        if normalize:
            s, t = ((x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() for x in (s, t))
        distances.append(1 - s @ t / (s.norm() * t.norm()))
    term = loss(student, teacher, seen)
    assert term.visible_points == len(distances) < 2 * Q
    torch.testing.assert_close(term.loss, torch.stack(distances).mean(), rtol=0, atol=1e-12)


def test_scale_and_shift_of_the_teacher(pairs):
    """LayerNorm takes both away; without it the cosine itself takes the scale away, but not the shift."""
    student, teacher, seen = pairs
    scale, shift = random(2, Q, 1, seed=7).exp(), 3.0 * random(2, Q, 1, seed=8)
    for normalize, changes in ((True, False), (False, True)):
        loss = new_loss(normalize)
        plain = loss(student, teacher, seen).loss
        torch.testing.assert_close(loss(student, teacher * scale, seen).loss, plain, rtol=0, atol=1e-12)
        assert (abs(loss(student, teacher + shift, seen).loss - plain) > 0.01) == changes
        assert (abs(loss(student, teacher * scale + shift, seen).loss - plain) > 1e-9) == changes


def test_gradients_go_to_the_student_and_never_to_the_teacher(scene):
    points_m, matrices, mask, features, student = scene
    for leaf in (points_m, matrices, features, student):
        leaf.requires_grad_()
    teacher, seen = sampled(points_m, matrices, mask, features)
    loss = new_loss()
    direct = teacher.clone().requires_grad_()
    loss(student, direct, seen).loss.backward()
    assert (student.grad[seen].abs().sum(-1) > 0).all()
    assert (student.grad[~seen] == 0).all()
    assert loss.projection.weight.grad.abs().sum() > 0
    assert loss.projection.bias.grad.abs().sum() > 0
    for leaf in (points_m, matrices, features, direct):
        assert leaf.grad is None
    assert not teacher.requires_grad


def test_a_step_against_the_gradient_helps(pairs):
    student, teacher, seen = pairs
    loss = new_loss()
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    before = loss(student, teacher, seen).loss
    for _ in range(50):
        optimizer.zero_grad()
        loss(student, teacher, seen).loss.backward()
        optimizer.step()
    assert loss(student, teacher, seen).loss < 0.8 * before


def test_nothing_visible_is_a_zero_with_zero_gradients(scene):
    points_m, matrices, mask, features, student = scene
    mask[:] = False
    teacher, seen = sampled(points_m, matrices, mask, features)
    assert not seen.any()
    loss = new_loss()
    term = loss(student.requires_grad_(), teacher, seen)
    term.loss.backward()
    assert term.visible_points == 0
    assert term.loss == 0
    for gradient in (student.grad, loss.projection.weight.grad, loss.projection.bias.grad):
        assert (gradient == 0).all()


def test_unseen_points_are_left_out_whatever_they_hold(pairs):
    student, teacher, seen = pairs
    plain = new_loss()(student, teacher, seen).loss
    teacher[~seen] = float('nan')
    dirty = student.clone().requires_grad_()
    loss = new_loss()(dirty, teacher, seen).loss
    loss.backward()
    assert torch.equal(loss, plain)
    assert dirty.grad.isfinite().all()


def test_float32_under_autocast_and_for_bf16(pairs):
    student, teacher, seen = pairs
    plain = new_loss().float()(student.float(), teacher.float(), seen).loss
    with torch.autocast('cpu', torch.bfloat16):
        under = new_loss().float()(student.float(), teacher.float(), seen).loss
    assert under.dtype == torch.float32
    assert torch.equal(under, plain)
    coarse = new_loss().bfloat16()
    given = (student.bfloat16().requires_grad_(), teacher.bfloat16(), seen)
    loss = coarse(*given).loss
    loss.backward()
    exact = new_loss()
    exact.load_state_dict(coarse.state_dict())
    assert loss.dtype == torch.float32
    assert abs(loss.item() - exact(given[0].double(), given[1].double(), seen).loss.item()) < 1e-6
    assert given[0].grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ('change', 'message'),
    [({'teacher': ''}, 'names no folder'), ({'hidden_layer': 0}, 'counts from the end, -1 the last, got 0')],
)
def test_config_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        DistillationConfig(**change)


# --- the teacher ---

PATCH_PX, BLOCKS, SQUARE_PX = 16, 3, 64


def tower_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=D,
        intermediate_size=24,
        num_hidden_layers=BLOCKS,
        num_attention_heads=2,
        image_size=SQUARE_PX,
        patch_size=PATCH_PX,
    )


@pytest.fixture
def tower(tmp_path):
    """A random vision tower, and the configuration that names the folder it is saved in."""
    torch.manual_seed(9)
    model = CLIPVisionModel(tower_config()).eval()
    model.save_pretrained(tmp_path)
    return model, DistillationConfig(teacher=str(tmp_path)), tmp_path


def photo(images: int, height_px: int, width_px: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(10)
    return torch.randint(0, 256, (images, height_px, width_px, 3), generator=generator, dtype=torch.uint8)


def by_hand(model, images, hidden_layer=-2, mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD) -> torch.Tensor:
    """transformers' own hidden states of images that need no resizing, as maps."""
    pixels = (images.permute(0, 3, 1, 2) / 255.0 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        out = model(pixel_values=pixels, output_hidden_states=True, interpolate_pos_encoding=True)
    rows, columns = images.shape[1] // PATCH_PX, images.shape[2] // PATCH_PX
    return torch.stack(
        [
            torch.stack([out.hidden_states[hidden_layer][:, 1 + r * columns + c] for c in range(columns)], dim=-1)
            for r in range(rows)
        ],
        dim=-2,
    )


@pytest.mark.parametrize('hidden_layer', [-1, -2, -3])
def test_teacher_equals_transformers_on_a_square_image(tower, hidden_layer):
    model, config, _ = tower
    teacher = ClipTeacher(dataclasses.replace(config, hidden_layer=hidden_layer))
    images = photo(2, SQUARE_PX, SQUARE_PX)
    features = teacher.extract(images)
    assert features.shape == (2, teacher.width, SQUARE_PX // teacher.patch_px, SQUARE_PX // teacher.patch_px)
    torch.testing.assert_close(features, by_hand(model, images, hidden_layer), rtol=0, atol=1e-5)


def test_teacher_on_an_image_that_is_not_square(tower):
    model, config, _ = tower
    images = photo(2, 32, 96)
    features = ClipTeacher(config).extract(images)
    assert features.shape == (2, D, 2, 6)
    torch.testing.assert_close(features, by_hand(model, images), rtol=0, atol=1e-5)


def test_a_size_that_is_no_multiple_of_the_patch_keeps_fractions(tower):
    """100 x 70 px become 6 x 4 patches; a white area is found where it lies in fractions of the image."""
    _, config, _ = tower
    teacher = ClipTeacher(config)
    black = torch.zeros(1, 70, 100, 3, dtype=torch.uint8)
    for row, column in ((0, 0), (2, 4), (3, 5), (1, 2)):
        white = black.clone()
        white[
            :, round(row * 17.5) : round((row + 1) * 17.5), round(column * 100 / 6) : round((column + 1) * 100 / 6)
        ] = 255
        change = (teacher.extract(white) - teacher.extract(black)).norm(dim=1)[0]
        assert change.shape == (4, 6)
        assert divmod(change.argmax().item(), 6) == (row, column)
    assert teacher.extract(black[:, :5, :7]).shape == (1, D, 1, 1)


def test_normalization_of_the_folder(tower):
    model, config, folder = tower
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.4, 0.6]
    settings = {'image_processor_type': 'CLIPImageProcessor', 'image_mean': mean, 'image_std': std}
    (folder / 'preprocessor_config.json').write_text(json.dumps(settings))
    images = photo(1, SQUARE_PX, SQUARE_PX)
    expected = by_hand(model, images, mean=mean, std=std)
    assert (expected - by_hand(model, images)).abs().max() > 0.01
    torch.testing.assert_close(ClipTeacher(config).extract(images), expected, rtol=0, atol=1e-5)


def test_normalization_of_a_hub_id_is_asked_for(monkeypatch):
    answers = {'org/clip': ({'image_mean': [0.1, 0.2, 0.3], 'image_std': [0.5, 0.4, 0.6]}, {})}
    monkeypatch.setattr(clip_teacher.ImageProcessingMixin, 'get_image_processor_dict', answers.__getitem__)
    assert clip_teacher._normalization('org/clip') == ([0.1, 0.2, 0.3], [0.5, 0.4, 0.6])


def test_tower_of_a_whole_clip(tmp_path):
    """As released: text and vision together, in float16."""
    text = {'hidden_size': 8, 'intermediate_size': 8, 'num_hidden_layers': 1, 'num_attention_heads': 2,
            'vocab_size': 8, 'bos_token_id': 0, 'eos_token_id': 1}  # fmt: skip
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=tower_config().to_dict(), projection_dim=8)).eval()
    whole.half().save_pretrained(tmp_path)
    images = photo(1, SQUARE_PX, SQUARE_PX)
    features = ClipTeacher(DistillationConfig(teacher=str(tmp_path))).extract(images)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, by_hand(whole.float().vision_model, images), rtol=0, atol=1e-5)


def test_teacher_that_does_not_fit(tower, tmp_path):
    _, config, folder = tower
    with pytest.raises(ValueError, match=r'hidden_layer \(-4\) exceeds the 3 blocks'):
        ClipTeacher(dataclasses.replace(config, hidden_layer=-4))
    with pytest.raises(OSError, match='nowhere'):
        ClipTeacher(dataclasses.replace(config, teacher=str(tmp_path / 'nowhere')))
    tensors = load_file(folder / 'model.safetensors')
    kept = {name: tensor for name, tensor in tensors.items() if 'layers.1.mlp.fc1.weight' not in name}
    assert len(kept) == len(tensors) - 1
    save_file(kept, folder / 'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(ValueError, match=r'lacks weights: \S*layers\.1\.mlp\.fc1\.weight$'):
        ClipTeacher(config)


def test_images_that_are_none(tower):
    teacher = ClipTeacher(tower[1])
    with pytest.raises(ValueError, match=r'uint8 \[N, H, W, 3\], got torch.float32 \(1, 64, 64, 3\)'):
        teacher.extract(photo(1, 64, 64).float())
    with pytest.raises(ValueError, match=r'got torch.uint8 \(1, 3, 64, 64\)'):
        teacher.extract(photo(1, 64, 64).permute(0, 3, 1, 2))


def test_the_teacher_is_frozen_and_in_nobodys_checkpoint(tower):
    _, config, _ = tower
    loss = new_loss().float()
    loss.teacher = ClipTeacher(config)
    loss.train()
    with_gradients = []
    loss.teacher._tower.register_forward_hook(lambda *_: with_gradients.append(torch.is_grad_enabled()))
    features = loss.teacher.extract(photo(1, 64, 64))
    assert not features.requires_grad
    assert with_gradients == [False]
    assert set(loss.state_dict()) == {'projection.weight', 'projection.bias'}
    assert len(list(loss.parameters())) == 2
    assert not loss.teacher._tower.training
    assert not any(parameter.requires_grad for parameter in loss.teacher._tower.parameters())


def test_from_images_to_the_loss(tower, scene):
    """The four steps as in docs/training.md."""
    points_m, matrices, mask, _, student = scene
    images = photo(2 * CAMERAS, HEIGHT_PX, WIDTH_PX).view(2, CAMERAS, HEIGHT_PX, WIDTH_PX, 3)
    teacher = ClipTeacher(tower[1])
    loss = DistillationLoss(tower[1], C, teacher.width)
    features = teacher.extract(images.flatten(0, 1)).unflatten(0, mask.shape)
    views = project_to_cameras(points_m.float(), matrices.float(), mask, WIDTH_PX, HEIGHT_PX)
    target, seen = sample_teacher(features, views)
    term = loss(student.float(), target, seen)
    assert F.cosine_similarity(target[seen][0], target[seen][-1], dim=0) < 0.999  # targets differ from point to point
    assert 0.5 < term.loss < 1.5
    assert 0 < term.visible_points < 2 * Q

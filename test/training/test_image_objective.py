"""Losses and metrics of single images, against sums by hand."""

import pytest
import torch
from torch.nn import functional as F

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.training.image_objective import ImageObjective, at_cells

WEIGHTS = {'classes_in_image': 1.0, 'depth_in_image': 1.0}
LEVELS = 4
SMALL = {
    'image.width_px': 64,
    'image.height_px': 32,
    'backbone.stem_width': 8,
    'backbone.stage_widths': [8, 8, 16, 16],
    'backbone.fpn_width': 16,
    'encoder.queries': 30,
    'encoder.width': 32,
    'encoder.points_per_layer': [1, 4, 8],
    'encoder.attention_heads': 4,
    'encoder.ffn_width': 32,
    'encoder.mixing_points': 8,
}


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Threads that wait for each other cost ten times the work of models this small on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def objective(**options) -> ImageObjective:
    torch.manual_seed(0)
    return ImageObjective(
        OccupancyPerception(load_model_config('tiny', SMALL)), options.pop('weights', WEIGHTS), **options
    )


def batch(images: int = 2) -> dict[str, torch.Tensor]:
    """Cells of 16x16 pixels: the colour, the class and the depth of each belong together."""
    generator = torch.Generator().manual_seed(1)
    classes = torch.randint(0, 18, (images, 2, 4), generator=generator)
    classes = classes.repeat_interleave(16, 1).repeat_interleave(16, 2)
    image = torch.stack([classes * 14, 255 - classes * 14, (classes % 5) * 50], dim=-1).to(torch.uint8)
    return {'image': image, 'target_class': classes.to(torch.uint8), 'target_depth_m': 1.5 * classes.float()}


def total(terms) -> torch.Tensor:
    return sum(term.value for term in terms.values())


def test_terms_are_means_over_the_labelled_cells_of_each_level():
    model, data = objective().eval(), batch()
    data['target_class'][0, :, :32] = 255
    data['target_depth_m'][1, :16] = 81.0  # beyond what is learnt
    terms = model(data)
    levels = model.perception.extract(data['image'])
    assert set(terms) == {f'{name}.level{i}' for name in WEIGHTS for i in range(LEVELS)}
    for place, level in enumerate(levels):
        stride = 4 * 2**place
        assert level.shape[-2:] == (32 // stride, 64 // stride)
        classes = data['target_class'][:, stride // 2 :: stride, stride // 2 :: stride]
        depth_m = data['target_depth_m'][:, stride // 2 :: stride, stride // 2 :: stride]
        logits = model.heads['classes_in_image'][place](level).permute(0, 2, 3, 1)
        expected = F.cross_entropy(logits[classes != 255], classes[classes != 255].long())
        found = terms[f'classes_in_image.level{place}']
        torch.testing.assert_close(found.value, expected)
        assert found.count == (classes != 255).sum()
        known = (depth_m > 0) & (depth_m <= 80.0)
        said_m = 10.0 * model.heads['depth_in_image'][place](level)[:, 0].exp()
        found = terms[f'depth_in_image.level{place}']
        torch.testing.assert_close(found.value, (said_m.log() - depth_m.log())[known].abs().mean())
        assert found.count == known.sum()
        assert 0 < found.count < known.numel()


def test_cells_take_the_label_at_their_middle():
    labels = torch.arange(40).reshape(1, 5, 8)
    assert at_cells(labels, torch.zeros(1, 3, 5, 8)).tolist() == labels.tolist()
    assert at_cells(labels, torch.zeros(1, 3, 2, 4)).tolist() == [[[9, 11, 13, 15], [25, 27, 29, 31]]]
    assert at_cells(labels, torch.zeros(1, 3, 1, 1)).tolist() == [[[20]]]


def test_what_is_not_labelled_teaches_nothing():
    data = batch()
    data['target_class'][:], data['target_depth_m'][:] = 255, 0.0
    model = objective()
    terms = model(data)
    assert all(term.count == 0 and term.value == 0.0 for term in terms.values())
    total(terms).backward()
    # there, so that processes agree on which gradients there are, and zero
    assert all((parameter.grad == 0.0).all() for parameter in model.heads.parameters())
    assert all(
        parameter.grad is not None and (parameter.grad == 0.0).all()
        for parameter in model.perception.backbone.parameters()
    )
    # one cell with a label: only the features that its own sees change, here the heads' gradient is that cell's alone
    data['target_class'][0, 2, 2] = 3
    model.zero_grad()
    terms = model(data)
    assert [terms[f'classes_in_image.level{i}'].count.item() for i in range(LEVELS)] == [1.0, 0.0, 0.0, 0.0]
    total(terms).backward()
    assert model.heads['classes_in_image'][0].weight.grad.abs().sum() > 0.0
    assert not model.heads['classes_in_image'][1].weight.grad.any()


def test_terms_are_weighted():
    data = batch()
    plain = objective().eval()(data)
    weighted = objective(weights={'classes_in_image': 1.0, 'depth_in_image': 0.5}).eval()(data)
    torch.testing.assert_close(weighted['depth_in_image.level1'].value, 0.5 * plain['depth_in_image.level1'].value)


def test_a_head_alone_needs_its_own_labels_only():
    data = batch()
    del data['target_class']
    model = objective(weights={'depth_in_image': 1.0})
    assert set(model(data)) == {f'depth_in_image.level{i}' for i in range(LEVELS)}
    beginnings = {'.'.join(name.split('.')[:2]) for name, _ in model.named_parameters()}
    assert beginnings == {'perception.backbone', 'perception.encoder', 'heads.depth_in_image'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'weights': {'depth': 1.0}}, 'weights must name some of'),
        ({'weights': {}}, 'weights must name some of'),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        objective(**options)


def test_a_few_steps_learn_a_small_batch():
    data, model = batch(4), objective()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            terms = model(data)
        assert all(term.value.dtype == torch.float32 for term in terms.values())
        losses.append({name: float(terms[f'{name}.level0'].value) for name in WEIGHTS})
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
    first, last = losses[0], losses[-1]
    assert last['classes_in_image'] < 0.6 < 2.0 < first['classes_in_image']
    assert last['depth_in_image'] < 0.3 < first['depth_in_image']

"""Losses and metrics of single images, against sums by hand."""

import math

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


def test_weights_of_terms_and_classes():
    data = batch()
    plain = objective().eval()(data)
    weighted = objective(weights={'classes_in_image': 1.0, 'depth_in_image': 0.5}).eval()(data)
    torch.testing.assert_close(weighted['depth_in_image.level1'].value, 0.5 * plain['depth_in_image.level1'].value)
    data['target_class'][:] = 4
    factors = [1.0] * 18
    factors[4] = 3.0
    plain, weighted = objective().eval()(data), objective(class_weights=factors).eval()(data)
    torch.testing.assert_close(weighted['classes_in_image.level2'].value, 3.0 * plain['classes_in_image.level2'].value)
    assert weighted['classes_in_image.level2'].count == plain['classes_in_image.level2'].count


def test_a_head_alone_needs_its_own_labels_only():
    data = batch()
    del data['target_class']
    model = objective(weights={'depth_in_image': 1.0})
    assert set(model(data)) == {f'depth_in_image.level{i}' for i in range(LEVELS)}
    assert set(model.metrics(data)) == {'log_depth_error'}
    beginnings = {'.'.join(name.split('.')[:2]) for name, _ in model.named_parameters()}
    assert beginnings == {'perception.backbone', 'perception.encoder', 'heads.depth_in_image'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'weights': {'depth': 1.0}}, 'weights must name some of'),
        ({'weights': {}}, 'weights must name some of'),
        ({'class_weights': [1.0] * 17}, '18 positive factors'),
        ({'class_weights': [1.0] * 17 + [0.0]}, '18 positive factors'),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        objective(**options)


def test_a_few_steps_learn_a_small_batch():
    data, model = batch(4), objective()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.eval()
    before = model.metrics(data)
    model.train()
    for _ in range(40):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            terms = model(data)
        assert all(term.value.dtype == torch.float32 for term in terms.values())
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
    after = model.metrics(data)  # in training mode: the running statistics lag behind
    assert before['pixel_accuracy'] < 0.3 < 0.8 < after['pixel_accuracy']
    assert after['mean_iou'] > 0.6
    assert after['log_depth_error'] < 0.3 < before['log_depth_error']


def test_metrics_by_hand():
    """Heads that say class 2 and 20 m everywhere."""
    model, data = objective().eval(), batch(1)
    for name, bias in (('classes_in_image', 10.0 * F.one_hot(torch.tensor(2), 18)), ('depth_in_image', math.log(2.0))):
        torch.nn.init.zeros_(model.heads[name][0].weight)
        model.heads[name][0].bias.data[:] = bias
    data['target_class'][:] = 5
    data['target_class'][:, :8], data['target_class'][:, 24:] = 2, 255
    data['target_depth_m'][:] = 10.0
    data['target_depth_m'][:, :, :32] = 0.0
    metrics = model.metrics(data)
    # of 24 labelled rows 8 are class 2
    assert metrics['pixel_accuracy'] == pytest.approx(1 / 3)
    assert metrics['mean_iou'] == pytest.approx((1 / 3 + 0.0) / 2)
    assert metrics['log_depth_error'] == pytest.approx(math.log(2.0), abs=1e-6)
    data['target_class'][:], data['target_depth_m'][:] = 255, 0.0
    assert all(math.isnan(value) for value in model.metrics(data).values())

"""Loss terms: values worked by hand, and what must not change them."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from sparseoccvla_ros.data.occ3d import FREE, UNLABELLED
from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.occupancy_loss import (
    OccupancyLoss,
    OccupancyLossConfig,
    OccupiedVoxels,
    focal_loss,
    occupied_voxels,
)

SPACE = SpaceConfig(range_m=(-2.0, -2.0, 0.0, 2.0, 2.0, 1.0), voxel_m=0.5, classes=('road', 'car', 'cone'))
CONFIG = OccupancyLossConfig(class_weights=(1.0, 2.0, 4.0), rare_classes=(2,))
CLASSES, QUERIES = 3, 6


def random_output(batch: int, seed: int = 0, layers: int = 2) -> EncoderOutput:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, QUERIES, 2**layer) for layer in range(layers)]
    points = tuple(4.0 * torch.rand(*shape, 3, generator=generator) - 2.0 for shape in shapes)
    logits = tuple(torch.randn(*shape, CLASSES, generator=generator) for shape in shapes)
    return EncoderOutput(torch.zeros(batch, QUERIES, 4), points, logits)


def random_truth(batch: int, seed: int = 1) -> list[OccupiedVoxels]:
    generator = torch.Generator().manual_seed(seed)
    semantics = torch.randint(0, 8, (batch, 8, 8, 2), generator=generator)
    semantics[semantics >= CLASSES] = FREE
    return occupied_voxels(semantics, torch.randint(0, 2, semantics.shape, generator=generator), SPACE)


def initial(seed: int = 2) -> torch.Tensor:
    return 4.0 * torch.rand(QUERIES, 1, 3, generator=torch.Generator().manual_seed(seed)) - 2.0


def one_point(x: float, y: float, z: float, logits: list[float]) -> EncoderOutput:
    return EncoderOutput(
        torch.zeros(1, 1, 4), (torch.tensor([[[[x, y, z]]]]),), (torch.tensor(logits).view(1, 1, 1, CLASSES),)
    )


def test_voxel_centres_labels_and_mask_by_hand():
    semantics = torch.full((1, 8, 8, 2), FREE)
    semantics[0, 0, 0, 0], semantics[0, 7, 3, 1] = 1, 2
    semantics[0, 5, 5, 0], semantics[0, 5, 5, 1] = UNLABELLED, -1
    mask = torch.zeros_like(semantics)
    mask[0, 7, 3, 1] = 1
    (voxels,) = occupied_voxels(semantics, mask, SPACE)
    assert voxels.centres_m.tolist() == [[-1.75, -1.75, 0.25], [1.75, -0.25, 0.75]]
    assert voxels.labels.tolist() == [1, 2]
    assert voxels.seen.tolist() == [False, True]
    assert voxels.free.sum() == 8 * 8 * 2 - 4
    assert not voxels.free[[0, 7, 5, 5], [0, 3, 5, 5], [0, 1, 0, 1]].any()
    (unmasked,) = occupied_voxels(semantics, None, SPACE)
    assert unmasked.seen.all()


def test_terms_by_hand():
    """One point, one car voxel 0.3 m and 0.05 m beside it, not in the camera mask."""
    voxels = [OccupiedVoxels(torch.tensor([[1.0, 0.0, 0.5]]), torch.tensor([1]), torch.tensor([False]))]
    output = one_point(1.3, 0.05, 0.5, [0.0, 0.0, 0.0])
    terms = OccupancyLoss(CONFIG, SPACE)(torch.tensor([[[1.0, 0.0, 0.5]]]), output, voxels)
    assert terms['initial.points'].item() == 0.0
    # smooth L1, beta 0.2: 0.3 - 0.1 along x, 0.05^2 / 0.4 along y; both sides, weight 0.5
    assert terms['layer0.points'].item() == pytest.approx(0.5 * 2 * (0.2 + 0.00625), rel=1e-6)
    # every class at p = 0.5: log 2 * 0.5^2, alpha 0.25 for the true class and 0.75 for others; class weights
    distance = 1.0 + 1.0 / math.hypot(4.0, 4.0)
    by_class = 0.75 * 1.0 + 0.25 * 2.0 + 0.75 * 4.0
    assert terms['layer0.classes'].item() == pytest.approx(2.0 * 0.25 * math.log(2.0) * by_class * distance, rel=1e-6)


@pytest.mark.parametrize(
    ('distance_m', 'label', 'seen', 'weight'),
    [(0.1, 1, True, 1.0), (0.3, 1, True, 5.0), (0.3, 1, False, 1.0), (0.1, 2, True, 10.0), (0.3, 2, False, 1.0)],
)
def test_weight_of_a_voxel(distance_m, label, seen, weight):
    """Missed voxels weigh 5, rare ones 10, and only where the camera mask is set."""
    voxels = OccupiedVoxels(torch.zeros(1, 3), torch.tensor([label]), torch.tensor([seen]))
    assert OccupancyLoss(CONFIG, SPACE).voxel_weights(torch.tensor([distance_m]), voxels).item() == weight


def test_defaults_are_those_of_opus_t():
    """Source: the configuration opus-t_r50_704x256_8f of jbwang1997/OPUS."""
    config = OccupancyLossConfig()
    assert config.class_weights == (10, 5, 10, 5, 5, 10, 10, 5, 10, 5, 5, 1, 5, 1, 1, 2, 1)
    assert (config.class_loss_weight, config.focal_gamma, config.focal_alpha) == (2.0, 2.0, 0.25)
    assert (config.point_loss_weight, config.point_beta_m) == (0.5, 0.2)
    assert (config.missed_beyond_m, config.missed_weight) == (0.2, 5.0)
    assert (config.rare_classes, config.rare_weight) == ((0, 2, 5, 8), 10.0)


def test_focal_loss_without_focus_is_half_of_cross_entropy():
    logits = torch.linspace(-4, 4, 12).view(4, 3)
    target = (torch.arange(12).view(4, 3) % 2).float()
    expected = 0.5 * F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    torch.testing.assert_close(focal_loss(logits, target, gamma=0.0, alpha=0.5), expected)
    assert (focal_loss(logits, target, gamma=2.0, alpha=0.5) < expected).all()


def class_loss(
    config: OccupancyLossConfig, label: int, axis: int = 0, at_m: float = 0.0, free: torch.Tensor | None = None
) -> float:
    """Of one point on an axis, whose classes are at p = 0.5, and one voxel of a class in the origin."""
    free = torch.ones(SPACE.grid_shape, dtype=torch.bool) if free is None else free
    voxels = [OccupiedVoxels(torch.zeros(1, 3), torch.tensor([label]), torch.tensor([True]), free)]
    point = one_point(*(at_m if axis == i else 0.0 for i in range(3)), [0.0] * CLASSES)
    return OccupancyLoss(config, SPACE)(torch.zeros(1, 1, 3), point, voxels)['layer0.classes'].item()


def test_alpha_of_rare_classes_is_their_own():
    at_half = 2.0 * 0.25 * math.log(2.0)
    config = replace(CONFIG, rare_focal_alpha=0.75)
    assert class_loss(config, label=2) == pytest.approx(at_half * (0.75 * 1 + 0.75 * 2 + 0.75 * 4), rel=1e-6)
    assert class_loss(config, label=1) == pytest.approx(at_half * (0.75 * 1 + 0.25 * 2 + 0.25 * 4), rel=1e-6)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_a_point_far_from_every_voxel_is_of_no_class_if_so_chosen(axis):
    near = replace(CONFIG, classless_beyond_m=0.8)
    at_half = 2.0 * 0.25 * math.log(2.0)
    assert class_loss(near, label=1, axis=axis, at_m=0.75) == class_loss(CONFIG, label=1, axis=axis, at_m=0.75)
    assert class_loss(near, label=1, axis=axis, at_m=0.85) == pytest.approx(at_half * 0.75 * (1 + 2 + 4), rel=1e-6)
    by_class = 0.75 * 1 + 0.25 * 2 + 0.75 * 4
    assert class_loss(CONFIG, label=1, axis=axis, at_m=0.85) == pytest.approx(at_half * by_class, rel=1e-6)


def test_only_where_the_labels_say_free():
    """Not in an unlabelled voxel, nor beyond the range, of which the labels know nothing."""
    near = replace(CONFIG, classless_beyond_m=0.8)
    free = torch.ones(SPACE.grid_shape, dtype=torch.bool)
    free[6] = False  # x in 1.0..1.5 m
    losses = {at_m: class_loss(near, 1, 0, at_m, free) for at_m in (0.9, 1.2, 1.6, 2.1, -1.9, -2.1)}
    nothing, of_voxel = class_loss(near, 1, 0, 0.85), class_loss(CONFIG, 1, 0, 0.85)
    assert losses == {0.9: nothing, 1.2: of_voxel, 1.6: nothing, 2.1: of_voxel, -1.9: nothing, -2.1: of_voxel}
    voxels = OccupiedVoxels(torch.zeros(1, 3), torch.tensor([1]), torch.tensor([True]))
    loss = OccupancyLoss(near, SPACE)
    with pytest.raises(ValueError, match='needs to know which voxels are free'):
        loss(torch.zeros(1, 1, 3), one_point(0.0, 0.0, 0.0, [0.0] * CLASSES), [voxels])


@pytest.mark.parametrize(
    ('field', 'value'), [('focal_alpha', 1.5), ('rare_focal_alpha', -0.1), ('classless_beyond_m', 0.0)]
)
def test_an_impossible_number_of_the_class_loss_is_refused(field, value):
    with pytest.raises(ValueError, match=f'{field} must be .*{value}'):
        OccupancyLossConfig(**{field: value})


def test_order_of_queries_and_points_does_not_matter():
    output, truth = random_output(2), random_truth(2)
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    shuffled = EncoderOutput(
        output.features,
        tuple(points[:, order].flip(2) for points in output.points_m),
        tuple(logits[:, order].flip(2) for logits in output.logits),
    )
    loss = OccupancyLoss(CONFIG, SPACE)
    before, after = loss(initial(), output, truth), loss(initial()[order], shuffled, truth)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)
        assert value > 0


def test_batch_is_the_mean_over_points_and_over_voxels():
    """As in OPUS: samples are joined, so a sample's voxels count as often as they are."""
    output, truth = random_output(2), random_truth(2)
    loss = OccupancyLoss(CONFIG, SPACE)
    both = loss(initial(), output, truth)
    singles = [
        loss(
            initial(),
            EncoderOutput(
                output.features[b : b + 1],
                tuple(points[b : b + 1] for points in output.points_m),
                tuple(logits[b : b + 1] for logits in output.logits),
            ),
            truth[b : b + 1],
        )
        for b in range(2)
    ]
    torch.testing.assert_close(
        both['layer1.classes'], (singles[0]['layer1.classes'] + singles[1]['layer1.classes']) / 2
    )
    assert both['layer1.points'] > min(single['layer1.points'] for single in singles)
    assert both['layer1.points'] < max(single['layer1.points'] for single in singles)


def test_a_point_that_is_there_twice_counts_as_one():
    """Terms are means over points, not sums."""
    one, truth = random_output(1), random_truth(1)
    twice = EncoderOutput(
        one.features,
        tuple(points.repeat(1, 1, 2, 1) for points in one.points_m),
        tuple(logits.repeat(1, 1, 2, 1) for logits in one.logits),
    )
    loss = OccupancyLoss(CONFIG, SPACE)
    expected, found = loss(initial(), one, truth), loss(initial(), twice, truth)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_a_sample_without_voxels_pulls_no_point_and_lowers_every_class():
    output = random_output(1)
    for tensor in (*output.points_m, *output.logits):
        tensor.requires_grad_()
    empty = occupied_voxels(torch.full((1, 8, 8, 2), FREE), None, SPACE)
    terms = OccupancyLoss(CONFIG, SPACE)(initial(), output, empty)
    sum(terms.values()).backward()
    for points, logits in zip(output.points_m, output.logits, strict=True):
        assert points.grad.abs().max() == 0.0
        assert (logits.grad > 0).all()
    assert terms['layer0.points'].item() == terms['initial.points'].item() == 0.0


def test_an_empty_sample_in_a_batch_leaves_the_other_as_it_was():
    output, truth = random_output(2), random_truth(1)
    nothing = occupied_voxels(torch.full((1, 8, 8, 2), FREE), None, SPACE)
    terms = OccupancyLoss(CONFIG, SPACE)(initial(), output, [*truth, *nothing])
    assert all(torch.isfinite(value) for value in terms.values())
    assert terms['layer1.points'] > 0


def test_missing_mask_counts_every_voxel_as_seen():
    semantics = torch.full((1, 8, 8, 2), FREE)
    semantics[0, :, 3, 0] = 2
    loss, output = OccupancyLoss(CONFIG, SPACE), random_output(1)
    ones = loss(initial(), output, occupied_voxels(semantics, torch.ones_like(semantics), SPACE))
    none = loss(initial(), output, occupied_voxels(semantics, None, SPACE))
    zeros = loss(initial(), output, occupied_voxels(semantics, torch.zeros_like(semantics), SPACE))
    assert none == ones
    assert zeros['layer0.points'] < ones['layer0.points']


def test_computes_in_float32_under_autocast():
    output, truth = random_output(1), random_truth(1)
    expected = OccupancyLoss(CONFIG, SPACE)(initial(), output, truth)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        under_autocast = OccupancyLoss(CONFIG, SPACE)(initial(), output, truth)
    for name, value in expected.items():
        assert value.dtype == under_autocast[name].dtype == torch.float32
        assert torch.equal(under_autocast[name], value)
    half = EncoderOutput(
        output.features.bfloat16(),
        tuple(points.bfloat16() for points in output.points_m),
        tuple(logits.bfloat16() for logits in output.logits),
    )
    assert OccupancyLoss(CONFIG, SPACE)(initial(), half, truth)['layer0.points'].dtype == torch.float32


def test_what_does_not_belong_together_is_refused():
    loss = OccupancyLoss(CONFIG, SPACE)
    with pytest.raises(ValueError, match='1 samples of ground truth for a batch of 2'):
        loss(initial(), random_output(2), random_truth(1))
    broken = random_output(1)
    broken.points_m[0][0, 0, 0, 0] = float('nan')
    with pytest.raises(ValueError, match='not finite'):
        loss(initial(), broken, random_truth(1))
    with pytest.raises(ValueError, match=r'is not \[B, X, Y, Z\] with \(8, 8, 2\) voxels'):
        occupied_voxels(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), None, SPACE)
    with pytest.raises(ValueError, match='differs from semantics'):
        occupied_voxels(torch.zeros(1, 8, 8, 2, dtype=torch.uint8), torch.zeros(1, 8, 8), SPACE)
    with pytest.raises(ValueError, match=r'must be integers, got torch.float32'):
        occupied_voxels(torch.zeros(1, 8, 8, 2), None, SPACE)
    with pytest.raises(ValueError, match='17 class_weights for 3 classes'):
        OccupancyLoss(OccupancyLossConfig(), SPACE)
    with pytest.raises(ValueError, match='must be labels below 2'):
        OccupancyLossConfig(class_weights=(1.0, 1.0))


def test_drawn_voxels_have_the_loss_of_all_in_the_mean():
    """Rare classes always pull; of the others each stands for those that were not drawn."""
    generator = torch.Generator().manual_seed(0)
    centres_m = torch.rand(300, 3, generator=generator) * 8.0 - 4.0
    labels = torch.randint(17, (300,), generator=generator)
    voxels = OccupiedVoxels(centres_m, labels, torch.ones(300, dtype=torch.bool))
    points_m = torch.rand(1, 20, 1, 3, generator=generator) * 8.0 - 4.0
    output = EncoderOutput(torch.zeros(1, 20, 4), (points_m,), (torch.zeros(1, 20, 1, 17),))
    loss = {n: OccupancyLoss(OccupancyLossConfig(voxels_drawn=n), SpaceConfig()) for n in (None, 40)}
    whole = loss[None](points_m[0], output, [voxels])['layer0.points']
    drawn = torch.stack([loss[40](points_m[0], output, [voxels])['layer0.points'] for _ in range(300)])
    assert drawn.std() > 0
    assert drawn.mean().item() == pytest.approx(whole.item(), abs=4 * drawn.std().item() / 300**0.5)


def test_hidden_voxels_do_not_pull_if_so_chosen_but_are_gone_to():
    """By hand: a point between a seen voxel, 0.3 m away, and a hidden one, 0.1 m away, all on a line."""
    config = OccupancyLossConfig(class_weights=(1.0, 2.0, 4.0), rare_classes=(2,), pulling='seen')
    voxels = [
        OccupiedVoxels(torch.tensor([[0.7, 0, 0.5], [1.1, 0, 0.5]]), torch.tensor([1, 0]), torch.tensor([True, False]))
    ]
    output = one_point(1.0, 0.0, 0.5, [0.0, 0.0, 0.0])
    terms = OccupancyLoss(config, SPACE)(torch.tensor([[[1.0, 0.0, 0.5]]]), output, voxels)
    to_seen, to_hidden = 0.3 - 0.1, 0.1**2 / 0.4  # smooth L1, beta 0.2; the seen one is missed and weighs 5
    assert terms['layer0.points'].item() == pytest.approx(0.5 * (5.0 * to_seen + to_hidden), rel=1e-5)
    everything = OccupancyLoss(CONFIG, SPACE)(torch.tensor([[[1.0, 0.0, 0.5]]]), output, voxels)
    mean = (5.0 * to_seen + to_hidden) / 2
    assert everything['layer0.points'].item() == pytest.approx(0.5 * (mean + to_hidden), rel=1e-5)
    assert terms['layer0.classes'] == everything['layer0.classes']


@pytest.mark.parametrize('drawn', [None, 4])
def test_nothing_seen_pulls_nothing(drawn):
    config = OccupancyLossConfig(class_weights=(1.0, 2.0, 4.0), rare_classes=(2,), pulling='seen', voxels_drawn=drawn)
    voxels = [OccupiedVoxels(torch.tensor([[1.0, 0.0, 0.5]]), torch.tensor([1]), torch.tensor([False]))]
    terms = OccupancyLoss(config, SPACE)(torch.tensor([[[1.0, 0.0, 0.5]]]), one_point(1.1, 0.0, 0.5, [0.0] * 3), voxels)
    assert terms['layer0.points'].item() == pytest.approx(0.5 * 0.1**2 / 0.4, rel=1e-5)


def test_an_unknown_choice_of_pulling_voxels_is_refused():
    with pytest.raises(ValueError, match="'all' or 'seen', got 'none'"):
        OccupancyLossConfig(pulling='none')

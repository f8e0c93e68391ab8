"""Feature sampling: the fast version against the obvious one, and geometry."""

import gc
import weakref

import pytest
import torch

from sparseoccvla_ros.model.feature_table import MAX_READS, feature_table, rows_gradient, rows_gradient_on_cpu, sample
from sparseoccvla_ros.model.sampling import ViewRule, choose_views, level_volumes, project, sample_per_level

FRAMES, CAMERAS, Q, G, P = 2, 6, 12, 4, 3


def rule(**changes) -> ViewRule:
    return ViewRule(**{'frames': FRAMES, 'width_px': 96, 'height_px': 64, **changes})


def random_points(batch: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([30.0, 30.0, 6.0])
    return (torch.rand(batch, Q * G * P, 3, generator=generator) - 0.5) * scale


def level_weights(batch: int, levels: int, frames: int = FRAMES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, frames, Q, G, P, levels, generator=generator).softmax(-1)


@pytest.mark.parametrize('unseen', ['masked', 'view0'])
@pytest.mark.parametrize('shared', ['central', 'first'])
def test_equals_the_obvious_version_gradients_included(ring, levels_of, unseen, shared):
    matrices = ring(CAMERAS, FRAMES).double().expand(2, -1, -1, -1)
    mask = torch.ones(2, FRAMES * CAMERAS, dtype=torch.bool)
    mask[1, 3] = False
    gradients, outputs = [], []
    for version in ('fast', 'obvious'):
        levels = tuple(level.double().requires_grad_() for level in levels_of(FRAMES * CAMERAS, 16, batch=2))
        points = random_points(2).double().requires_grad_()
        weights = level_weights(2, len(levels)).double().requires_grad_()
        choice = choose_views(points, matrices, mask, rule(unseen=unseen, shared=shared))
        assert (~choice.seen).double().mean() > 0.02 or unseen == 'view0'
        if version == 'fast':
            sampled = sample(feature_table(levels, G), choice, weights)
        else:
            sampled = sample_per_level(level_volumes(levels, FRAMES, G), choice, weights)
        (sampled * torch.linspace(-1, 1, sampled.numel()).view_as(sampled)).sum().backward()
        outputs.append(sampled.detach())
        gradients.append([points.grad, weights.grad, *(level.grad for level in levels)])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-11)
    assert outputs[0].abs().mean() > 0.01
    for fast, obvious in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, obvious, rtol=1e-9, atol=1e-10)


def test_gradients_of_several_reads_of_one_table_add_up(ring, levels_of):
    """Layers that read the same features, one after the other: as if each had a table of its own."""
    matrices, mask = ring(CAMERAS, FRAMES).double(), torch.ones(1, FRAMES * CAMERAS, dtype=torch.bool)
    choices = [choose_views(random_points(1, seed).double(), matrices, mask, rule()) for seed in (1, 2, 3)]
    weights = level_weights(1, 4).double()
    gradients = {True: [], False: []}
    for shared in (True, False):
        levels = tuple(level.double().requires_grad_() for level in levels_of(FRAMES * CAMERAS, 16))
        table, total = feature_table(levels, G), 0.0
        for choice in choices:
            read = sample(table if shared else feature_table(levels, G), choice, weights * (1.0 + 0.1 * total))
            total = total + read.square().mean()
        for _ in range(2):  # nothing of the first backward pass is left for the second
            gradients[shared].append(torch.autograd.grad(total, levels, retain_graph=True))
    assert all(level.abs().max() > 0 for level in gradients[False][0])
    for together in gradients[True]:
        torch.testing.assert_close(together, gradients[False][0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_the_gradient_is_the_same_on_a_cpu_and_elsewhere(dtype):
    generator = torch.Generator().manual_seed(4)
    rows = torch.zeros(50, 3, dtype=dtype)
    reads = [
        (
            torch.randint(0, 50, (count, 8), generator=generator, dtype=torch.int32),
            torch.rand(count, 8, generator=generator).to(dtype),
            torch.randn(count, 3, generator=generator).to(dtype),
        )
        for count in (40, 1, 0)
    ]
    expected = rows_gradient(rows.double(), [(i, w.double(), g.double()) for i, w, g in reads]).to(dtype)
    assert expected.abs().max() > 1.0
    torch.testing.assert_close(rows_gradient_on_cpu(rows, reads), expected)


def test_a_backward_pass_for_other_gradients_leaves_nothing_behind(ring, levels_of):
    """As when a training step asks for one term's gradient of the weights first."""
    levels = tuple(level.double().requires_grad_() for level in levels_of(FRAMES * CAMERAS, 16))
    mask = torch.ones(1, FRAMES * CAMERAS, dtype=torch.bool)
    weights = level_weights(1, 4).double().requires_grad_()
    gradients = []
    for ask_before in (False, True):
        table = feature_table(levels, G)
        reads = [
            sample(table, choose_views(random_points(1, seed).double(), ring(6, 2).double(), mask, rule()), weights)
            for seed in (1, 2)
        ]
        if ask_before:
            torch.autograd.grad(reads[0].square().sum(), weights, retain_graph=True)
            torch.autograd.grad(reads[1].square().sum(), levels[0], retain_graph=True)
        gradients.append(torch.autograd.grad(reads[0].square().sum(), levels))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_levels_without_gradients_keep_nothing_of_the_reads(ring, levels_of):
    table, weights = feature_table(levels_of(CAMERAS, 16), G), level_weights(1, 4, frames=1).requires_grad_()
    mask = torch.ones(1, CAMERAS, dtype=torch.bool)
    sample(table, choose_views(random_points(1), ring(CAMERAS, 1), mask, rule(frames=1)), weights).sum().backward()
    assert weights.grad.abs().max() > 0
    assert table.reads == [None]


def test_a_table_has_slots_for_so_many_reads(ring, levels_of):
    table, mask = feature_table(levels_of(CAMERAS, 16), G), torch.ones(1, CAMERAS, dtype=torch.bool)
    choice = choose_views(random_points(1), ring(CAMERAS, 1), mask, rule(frames=1))
    for _ in range(MAX_READS):
        sample(table, choice, level_weights(1, 4, frames=1))
    with pytest.raises(ValueError, match=f'read at most {MAX_READS} times'):
        sample(table, choice, level_weights(1, 4, frames=1))


def test_a_table_is_freed_with_its_last_reference(ring, levels_of):
    """It may hold a gigabyte: it must not wait for the garbage collector in a cycle of references."""
    levels = tuple(level.requires_grad_() for level in levels_of(CAMERAS, 16))
    mask = torch.ones(1, CAMERAS, dtype=torch.bool)
    choice = choose_views(random_points(1), ring(CAMERAS, 1), mask, rule(frames=1))
    gc.disable()
    try:
        table = feature_table(levels, G)
        alive = weakref.ref(table.rows)
        sample(table, choice, level_weights(1, 4, frames=1)).sum().backward()
        del table
        assert alive() is None
    finally:
        gc.enable()


def test_projection_by_hand():
    """A camera at the ego's origin looking along x, focal length 48 px, centre (48, 32): (10, 2, 1) is 2 m to the left
    and 1 m up, so u = 48 - 48 * 2 / 10 and v = 32 - 48 * 1 / 10.
    """
    matrix = torch.tensor(
        [[48.0, -48.0, 0.0, 0.0], [32.0, 0.0, -48.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    )
    points = torch.tensor([[[10.0, 2.0, 1.0], [-10.0, 2.0, 1.0], [10.0, 11.0, 0.0]]])
    uv, valid = project(points, matrix[None, None], rule(frames=1))
    torch.testing.assert_close(uv[0, 0, 0], torch.tensor([38.4 / 96, 27.2 / 64]))
    assert valid[0, 0].tolist() == [True, False, False]


def test_projection_keeps_its_precision_under_autocast(ring):
    points, matrices = random_points(1), ring(CAMERAS, FRAMES)
    uv, valid = project(points, matrices, rule())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        uv_under_autocast, valid_under_autocast = project(points, matrices, rule())
    assert torch.equal(uv, uv_under_autocast)
    assert torch.equal(valid, valid_under_autocast)


def test_ego_motion_leaves_world_fixed_features_where_they_are(ring, levels_of):
    """A moved ego: the points' coordinates change, the cameras' matrices change with them, what is read does not."""
    matrices, levels = ring(CAMERAS, FRAMES).double(), tuple(level.double() for level in levels_of(12, 16))
    points, mask = random_points(1).double(), torch.ones(1, 12, dtype=torch.bool)
    yaw = torch.tensor(0.7, dtype=torch.float64)
    old_from_new = torch.eye(4, dtype=torch.float64)
    old_from_new[:2, :2] = torch.stack([yaw.cos(), -yaw.sin(), yaw.sin(), yaw.cos()]).view(2, 2)
    old_from_new[:3, 3] = torch.tensor([3.0, -1.5, 0.2])
    new_from_old = torch.linalg.inv(old_from_new)
    moved = points @ new_from_old[:3, :3].T + new_from_old[:3, 3]
    table, weights = feature_table(levels, G), level_weights(1, len(levels)).double()
    before = sample(table, choose_views(points, matrices, mask, rule()), weights)
    after = sample(table, choose_views(moved, matrices @ old_from_new, mask, rule()), weights)
    stale = sample(table, choose_views(moved, matrices, mask, rule()), weights)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-9)
    assert (before - stale).abs().max() > 0.1


def test_points_that_no_camera_sees_read_zero(ring, levels_of):
    above, at_the_cameras = ([0.0, 0.0, 50.0], 'masked'), ([0.0, 0.0, 1.5], 'masked')
    for place, unseen in (above, at_the_cameras, ([0.0, 0.0, 50.0], 'view0')):
        points = torch.tensor(place).expand(1, Q * G * P, 3)
        mask = torch.ones(1, CAMERAS, dtype=torch.bool)
        choice = choose_views(points, ring(CAMERAS, 1), mask, rule(frames=1, unseen=unseen))
        sampled = sample(feature_table(levels_of(CAMERAS, 16), G), choice, level_weights(1, 4, frames=1))
        assert sampled.abs().max() == 0.0


@pytest.mark.parametrize('leave_out', [True, False])
def test_missing_cameras_are_never_read(ring, levels_of, leave_out):
    """Their features may be anything, not-a-number included; the second way is what a GPU runs."""
    levels = levels_of(12, 16)
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[0, [0, 4, 7]] = False
    zeroed = tuple(torch.where(mask[..., None, None, None], level, 0.0) for level in levels)
    for level in levels:
        level[0, ~mask[0]] = float('nan')
    for unseen in ('masked', 'view0'):
        choice = choose_views(random_points(1), ring(CAMERAS, FRAMES), mask, rule(unseen=unseen))
        assert mask[0][choice.view[choice.seen]].all()
        assert choice.seen.all() or unseen == 'masked'
        read, expected = (
            sample(feature_table(features, G), choice, level_weights(1, 4), leave_out=leave_out)
            for features in (levels, zeroed)
        )
        assert torch.equal(read, expected)
        assert read.abs().max() > 0.1
    nothing = choose_views(random_points(1), ring(CAMERAS, FRAMES), torch.zeros_like(mask), rule(unseen='view0'))
    assert not nothing.seen.any()
    assert not sample(feature_table(levels, G), nothing, level_weights(1, 4), leave_out=leave_out).any()


def test_points_behind_every_camera_read_zero(ring, levels_of):
    """Three cameras that look ahead; with OPUS' rule the first one is read out of range, where nothing is left."""
    ahead = ring(CAMERAS, 1)[:, [0, 1, 5]]
    points = torch.tensor([-12.0, 3.0, 1.0]).expand(1, Q * G * P, 3)
    mask = torch.ones(1, 3, dtype=torch.bool)
    _, valid = project(points, ahead, rule(frames=1))
    assert not valid.any()
    for unseen in ('masked', 'view0'):
        choice = choose_views(points, ahead, mask, rule(frames=1, unseen=unseen))
        sampled = sample(feature_table(levels_of(3, 16), G), choice, level_weights(1, 4, frames=1))
        assert sampled.abs().max() == 0.0


def test_shared_points_go_to_the_central_camera_or_the_first(ring):
    mask = torch.ones(1, 12, dtype=torch.bool)
    points, matrices = random_points(1), ring(CAMERAS, FRAMES)
    uv, valid = project(points, matrices, rule())
    first = choose_views(points, matrices, mask, rule(shared='first'))
    central = choose_views(points, matrices, mask, rule(shared='central'))
    shared = valid.view(1, FRAMES, CAMERAS, -1).sum(2) > 1
    assert shared.float().mean() > 0.1
    assert (first.view != central.view)[shared].any()
    lowest = valid.view(1, FRAMES, CAMERAS, -1).float().argmax(2) + torch.tensor([0, CAMERAS])[None, :, None]
    assert torch.equal(first.view[first.seen], lowest[first.seen])
    border = (uv - 0.5).abs().amax(-1)
    at_first, at_central = (border.gather(1, choice.view) for choice in (first, central))
    assert (at_central <= at_first)[central.seen].all()

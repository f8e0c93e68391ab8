"""Points to voxels, by hand and by properties."""

import pytest
import torch

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.occupancy_decoding import (
    VoxelRule,
    decode_voxels,
    dense_labels,
    occupied_points,
    voxel_scores,
)

SPACE = SpaceConfig(range_m=(-2.0, -2.0, 0.0, 2.0, 2.0, 2.0), voxel_m=0.5, classes=('road', 'car', 'cone'))
RAW = VoxelRule(close=False)


def logits_of(probabilities: torch.Tensor) -> torch.Tensor:
    return torch.logit(probabilities, eps=1e-6)


def random_scene(batch: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = 4.4 * torch.rand(batch, 40, 1, 3, generator=generator) - 2.2
    points = centres + 0.6 * torch.randn(batch, 40, 8, 3, generator=generator)
    return points, 2.0 * torch.randn(batch, 40, 8, 3, generator=generator)


def test_occupied_points_by_hand():
    """Best class over the threshold, inside the range, per sample."""
    points_m = torch.tensor([[0.0, 0.0, 0.0], [1.9, -1.9, 1.9], [2.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).view(1, 2, 2, 3)
    logits = torch.full((1, 2, 2, 3), -9.0)
    logits[0, 0, 0, 1], logits[0, 0, 1, 2], logits[0, 1, 0, 1], logits[0, 1, 1, 2] = 2.0, 0.1, 9.0, -1.0
    batch = points_m.repeat(2, 1, 1, 1), torch.cat([logits, torch.full_like(logits, -9.0)])
    (points, labels, scores), empty = occupied_points(*batch, SPACE, 0.5)
    assert points.tolist() == points_m[0, 0].tolist()
    assert labels.tolist() == [1, 2]
    torch.testing.assert_close(scores, torch.tensor([2.0, 0.1]).sigmoid())
    assert [tuple(part.shape) for part in empty] == [(0, 3), (0,), (0,)]


def test_scores_of_a_voxel_are_the_mean_of_its_points():
    points = torch.tensor([[0.1, 0.1, 0.1], [0.4, 0.4, 0.4], [0.3, 0.2, 0.1], [-0.1, 0.1, 0.1]]).view(1, 1, 4, 3)
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.7, 0.0], [0.4, 0.3, 0.2], [0.6, 0.8, 0.1]]).view(1, 1, 4, 3)
    (voxels,) = voxel_scores(points, logits_of(scores), SPACE, RAW)  # the third point has no class over 0.5
    assert voxels.index.tolist() == [[3, 4, 0], [4, 4, 0]]
    assert voxels.points.tolist() == [1, 2]
    torch.testing.assert_close(voxels.scores, torch.tensor([[0.6, 0.8, 0.1], [0.5, 0.4, 0.0]]), rtol=0, atol=1e-5)


def test_only_the_first_points_of_a_full_voxel_count():
    points = torch.full((1, 4, 1, 3), 0.25)
    scores = torch.tensor([0.9, 0.7, 0.6, 0.8]).view(1, 4, 1, 1) * torch.tensor([0.0, 1.0, 0.0])
    (voxels,) = voxel_scores(points, logits_of(scores), SPACE, VoxelRule(points_per_voxel=2))
    torch.testing.assert_close(voxels.scores[0, 1], torch.tensor(0.8), rtol=0, atol=1e-5)
    assert voxels.points.tolist() == [2]


def test_points_far_from_their_query_or_outside_are_left_out():
    far = torch.tensor([[-1.9, 0.0, 0.1], [1.9, 0.0, 0.1], [1.9, 0.1, 0.1], [1.9, -0.1, 0.1]]).view(1, 1, 4, 3)
    outside = torch.tensor([[2.0, 0.0, 0.1], [0.0, 0.0, -0.01], [0.0, 0.0, 2.0], [0.0, -2.01, 0.1]]).view(1, 1, 4, 3)
    logits = torch.full((1, 1, 4, 3), 3.0)
    (kept,) = decode_voxels(far, logits, SPACE, VoxelRule(centre_distance_m=1.5, close=False))
    assert kept.index[:, 0].unique().tolist() == [7]
    (nothing,) = decode_voxels(outside, logits, SPACE, RAW)
    assert nothing.index.shape == (0, 3)
    assert nothing.labels.shape == (0,)


def test_closing_fills_a_hole_with_its_neighbours_class():
    """A wall of cars with one voxel missing, away from the border of the grid."""
    space = SpaceConfig(range_m=(-4.0, -4.0, -2.0, 4.0, 4.0, 2.0), voxel_m=0.5, classes=SPACE.classes)
    hole = (6, 6, 4)
    wall = torch.tensor([[x, y, 4] for x in range(4, 9) for y in range(4, 9) if (x, y, 4) != hole])
    points = ((wall + 0.5) * space.voxel_m + torch.tensor(space.range_m[:3])).view(1, -1, 1, 3)
    logits = torch.full((1, len(wall), 1, 3), -4.0)
    logits[..., 1] = 3.0
    (raw,) = decode_voxels(points, logits, space, RAW)
    (closed,) = decode_voxels(points, logits, space, VoxelRule())
    assert raw.index.tolist() == wall.tolist()
    assert {tuple(index) for index in closed.index.tolist()} - {tuple(index) for index in wall.tolist()} == {hole}
    assert (closed.labels == 1).all()


def test_closing_reaches_the_border_from_one_voxel_away():
    """What lies beyond the border is ignored, as in the reference, so that a layer beside the border grows to it."""
    layer = torch.tensor([[x, y, 1] for x in range(2, 5) for y in range(2, 5)])
    points = ((layer + 0.5) * SPACE.voxel_m + torch.tensor(SPACE.range_m[:3])).view(1, -1, 1, 3)
    (closed,) = decode_voxels(points, torch.full((1, 9, 1, 3), 3.0), SPACE, VoxelRule())
    assert closed.index[:, 2].unique().tolist() == [0, 1]


def test_a_voxel_with_a_likely_class_keeps_it():
    points, logits = random_scene(1)
    (scores,) = voxel_scores(points, logits, SPACE, RAW)
    (closed,) = decode_voxels(points, logits, SPACE, VoxelRule())
    labels = dense_labels(closed, SPACE)
    likely = (scores.scores > 0.5).any(dim=1)
    assert likely.sum() > 50
    expected = scores.scores[likely].argmax(dim=1)
    assert torch.equal(labels[tuple(scores.index[likely].t())].long(), expected)
    assert len(closed.index) > likely.sum()


def test_batch_equals_singles():
    points, logits = random_scene(3)
    together = decode_voxels(points, logits, SPACE, VoxelRule())
    for b, sample in enumerate(together):
        (alone,) = decode_voxels(points[b : b + 1], logits[b : b + 1], SPACE, VoxelRule())
        assert torch.equal(sample.index, alone.index)
        assert torch.equal(sample.labels, alone.labels)
        assert len(sample.index) > 50


def test_voxels_are_unique_x_major_and_inside():
    (voxels,) = decode_voxels(*random_scene(1), SPACE, VoxelRule())
    key = (voxels.index * torch.tensor([10000, 100, 1])).sum(1)
    assert (key.diff() > 0).all()
    assert (voxels.index >= 0).all()
    assert (voxels.index < torch.tensor(SPACE.grid_shape)).all()


def test_dense_labels():
    (voxels,) = decode_voxels(*random_scene(1), SPACE, VoxelRule())
    grid = dense_labels(voxels, SPACE)
    assert grid.shape == SPACE.grid_shape
    assert grid.dtype == torch.uint8
    assert (grid != FREE).sum() == len(voxels.index)
    assert torch.equal(grid[tuple(voxels.index.t())].long(), voxels.labels)


def test_impossible_rules_are_refused():
    with pytest.raises(ValueError, match=r'score_threshold must be in 0..1, got 1.5'):
        VoxelRule(score_threshold=1.5)
    with pytest.raises(ValueError, match='must be positive'):
        VoxelRule(points_per_voxel=0)

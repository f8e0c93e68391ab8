"""Forecast supervision: labels brought here by hand, what they cannot know, and where gradients go."""

import math
from dataclasses import replace

import pytest
import torch

from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.forecast_loss import ForecastLoss, ForecastLossConfig, future_voxels
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.occupancy_loss import OccupancyLoss, OccupancyLossConfig, occupied_voxels
from sparseoccvla_ros.model.vla import build_language

SPACE = SpaceConfig(range_m=(-2.0, -2.0, 0.0, 2.0, 2.0, 1.0), voxel_m=0.5, classes=('road', 'car', 'cone'))
OCCUPANCY = OccupancyLossConfig(class_weights=(1.0, 2.0, 4.0), rare_classes=(2,))
CLASSES, QUERIES, POINTS = 3, 6, 4


def pose(x_m: float = 0.0, y_m: float = 0.0, yaw_rad: float = 0.0) -> torch.Tensor:
    """current_ego_from_future_ego of a vehicle that will be at (x, y)."""
    matrix = torch.eye(4)
    matrix[0, 0] = matrix[1, 1] = math.cos(yaw_rad)
    matrix[1, 0], matrix[0, 1] = math.sin(yaw_rad), -math.sin(yaw_rad)
    matrix[0, 3], matrix[1, 3] = x_m, y_m
    return matrix


def random_labels(batch: int, horizons: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    semantics = torch.randint(0, 8, (batch, horizons, 8, 8, 2), generator=generator)
    semantics[semantics >= CLASSES] = FREE
    return semantics, torch.randint(0, 2, semantics.shape, generator=generator)


def random_forecast(batch: int, horizons: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Points beyond the range among them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, QUERIES, POINTS)
    return [
        (
            (6.0 * torch.rand(*shape, 3, generator=generator) - 3.0).requires_grad_(),
            torch.randn(*shape, CLASSES, generator=generator).requires_grad_(),
        )
        for _ in range(horizons)
    ]


def truth_of(semantics, mask, poses, valid=None):
    """Poses as [B][H]."""
    stacked = torch.stack([torch.stack(list(row)) for row in poses])
    valid = torch.ones(stacked.shape[:2], dtype=torch.bool) if valid is None else torch.tensor(valid)
    return future_voxels(semantics, mask, valid, stacked, SPACE)


def loss_of(horizons: int, *weights: float) -> ForecastLoss:
    config = ForecastLossConfig(OCCUPANCY, weights or (1.0,) * horizons)
    return ForecastLoss(config, SPACE, [1.0, 2.0, 3.0][:horizons])


@pytest.mark.parametrize(
    ('motion', 'centre_m'),
    [
        (pose(), (-0.75, 1.25, 0.25)),
        (pose(x_m=1.0), (0.25, 1.25, 0.25)),
        (pose(y_m=-0.6), (-0.75, 0.65, 0.25)),
        (pose(yaw_rad=math.pi / 2), (-1.25, -0.75, 0.25)),  # ahead of the later vehicle is to the left of this one
        (pose(x_m=3.0), None),  # 2.25 m ahead: beyond the range
        (pose(y_m=0.75), None),  # exactly on the upper end of the range, which does not belong to it
    ],
)
def test_a_voxel_of_later_is_brought_into_the_current_ego_frame_or_dropped(motion, centre_m):
    semantics = torch.full((1, 1, 8, 8, 2), FREE)
    semantics[0, 0, 2, 6, 0] = 1  # its middle: (-0.75, 1.25, 0.25)
    mask = torch.zeros_like(semantics)
    mask[0, 0, 2, 6, 0] = 1
    ((future,),) = truth_of(semantics, mask, [[motion]])
    if centre_m is None:
        assert len(future.voxels) == 0
        return
    torch.testing.assert_close(future.voxels.centres_m, torch.tensor([centre_m]))
    assert (future.voxels.labels.tolist(), future.voxels.seen.tolist()) == ([1], [True])


def test_labels_of_later_do_not_know_what_lies_behind_their_range():
    """The vehicle will be 1 m ahead: the last metre of the current range is beyond what it is labelled around it."""
    ((future,),) = truth_of(*random_labels(1, 1), [[pose(x_m=1.0)]])
    points_m = torch.tensor([[-1.1, 0.0, 0.5], [-0.9, 0.0, 0.5], [1.9, 0.0, 0.5], [-5.0, 0.0, 0.5], [5.0, 0.0, 0.5]])
    assert future.knows(points_m, SPACE).tolist() == [False, True, True, False, True]


def test_without_motion_everything_is_known_in_bf16_too():
    """bf16 has 5.40625 for the 5.4 m that the range is high."""
    space = SpaceConfig()
    semantics = torch.full((1, 1, *space.grid_shape), FREE)
    valid, motion = torch.ones(1, 1, dtype=torch.bool), torch.eye(4)[None, None]
    ((future,),) = future_voxels(semantics, None, valid, motion, space)
    points_m = torch.tensor([[0.0, 0.0, 5.4], [39.99, -40.0, 7.0], [-90.0, 3.0, -9.0]])
    with torch.autocast('cpu', torch.bfloat16):
        assert future.knows(points_m, space).all()


def test_what_is_free_is_looked_up_in_the_grid_of_later():
    """The vehicle will be 1 m ahead, turned to the left; a car's voxel 0.5 m before it then, one of unknown label."""
    semantics = torch.full((1, 1, 8, 8, 2), FREE)
    semantics[0, 0, 5, 4, 0] = 1  # (0.75, 0.25, 0.25) then: (0.75, 0.75, 0.25) now
    semantics[0, 0, 1, 4, 0] = 255  # (-1.25, 0.25, 0.25) then: (0.75, -1.25, 0.25) now
    ((future,),) = truth_of(semantics, None, [[pose(x_m=1.0, yaw_rad=math.pi / 2)]])
    torch.testing.assert_close(future.voxels.centres_m, torch.tensor([[0.75, 0.75, 0.25]]))
    points_m = torch.tensor([[0.75, 0.75, 0.3], [0.75, -0.75, 0.3], [0.75, -1.25, 0.3], [0.75, -2.5, 0.3]])
    loss = OccupancyLoss(replace(OCCUPANCY, classless_beyond_m=0.8), SPACE)
    labels, _ = loss.class_targets(points_m, torch.zeros(4, dtype=torch.int64), future.voxels)
    assert labels.tolist() == [1, CLASSES, 1, 1]  # free alone is of no class, neither the unknown nor what lies beyond


@pytest.mark.parametrize('batch', [1, 3])
def test_without_motion_it_is_the_loss_of_the_encoder(batch):
    semantics, mask = random_labels(batch, 1)
    forecast = random_forecast(batch, 1)
    terms = loss_of(1)(forecast, truth_of(semantics, mask, [[pose()]] * batch))
    expected = {'points': 0.0, 'classes': 0.0}
    for b in range(batch):  # a batch is the mean of its samples
        points_m, logits = (part[b : b + 1] for part in forecast[0])
        output = EncoderOutput(torch.zeros(1, QUERIES, 4), (points_m,), (logits,))
        voxels = occupied_voxels(semantics[b], mask[b], SPACE)
        of_encoder = OccupancyLoss(OCCUPANCY, SPACE)(torch.zeros(QUERIES, 1, 3), output, voxels)
        for part in expected:
            expected[part] += of_encoder[f'layer0.{part}'].item() / batch
    assert set(terms) == {'1s.points', '1s.classes'}
    for part, value in expected.items():
        assert terms[f'1s.{part}'].item() == pytest.approx(value, rel=1e-5)


def test_moving_labels_and_points_alike_changes_the_point_term_not():
    """Properties of a frame: whoever moves along sees the same distances."""
    semantics = torch.full((1, 1, 8, 8, 2), FREE)
    semantics[0, 0, 3:5, 3:5] = 1
    near_m = 0.4 * torch.rand(1, QUERIES, POINTS, 3, generator=torch.Generator().manual_seed(0))
    logits = torch.zeros(1, QUERIES, POINTS, CLASSES)
    motion = pose(x_m=0.3, y_m=0.2, yaw_rad=math.pi / 2)  # by right angles: smooth L1 is taken along the axes
    moved_m = near_m @ motion[:3, :3].T + motion[:3, 3]
    still = loss_of(1)([(near_m, logits)], truth_of(semantics, None, [[pose()]]))
    moved = loss_of(1)([(moved_m, logits)], truth_of(semantics, None, [[motion]]))
    assert moved['1s.points'].item() == pytest.approx(still['1s.points'].item(), rel=1e-4)


def test_points_that_the_labels_do_not_know_of_are_left_alone():
    semantics, mask = random_labels(1, 1)
    truth = truth_of(semantics, mask, [[pose(x_m=1.5)]])
    forecast = random_forecast(1, 1)
    known = truth[0][0].knows(forecast[0][0][0].detach(), SPACE)  # [Q, P]
    assert known.any()
    assert not known.all()
    sum(loss_of(1)(forecast, truth).values()).backward()
    for part in forecast[0]:
        touched = (part.grad[0] != 0).any(dim=-1)
        assert not touched[~known].any()
        assert touched[known].all()


def test_where_nothing_is_known_the_terms_and_gradients_are_zero():
    forecast = random_forecast(1, 1)
    terms = loss_of(1)(forecast, truth_of(*random_labels(1, 1), [[pose(x_m=50.0)]]))
    sum(terms.values()).backward()
    assert [term.item() for term in terms.values()] == [0.0, 0.0]
    assert not forecast[0][0].grad.any()


def test_samples_without_labels_at_a_horizon_do_not_count_there():
    semantics, mask = random_labels(2, 2)
    poses = [[pose(x_m=0.4), pose(x_m=0.8)]] * 2
    forecast = random_forecast(2, 2)
    terms = loss_of(2)(forecast, truth_of(semantics, mask, poses, [[True, False], [False, False]]))
    alone = loss_of(2)(
        [(points_m[:1], logits[:1]) for points_m, logits in forecast],
        truth_of(semantics[:1], mask[:1], poses[:1], [[True, False]]),
    )
    assert terms['1s.points'].item() == pytest.approx(alone['1s.points'].item())
    assert terms['2s.points'].item() == terms['2s.classes'].item() == 0.0
    sum(terms.values()).backward()
    assert forecast[0][0].grad[0].any()
    assert not forecast[0][0].grad[1].any()
    assert not forecast[1][0].grad.any()


def test_each_horizon_has_its_weight():
    semantics, mask = random_labels(1, 2)
    poses, forecast = [[pose(), pose(x_m=0.4)]], random_forecast(1, 2)
    truth = truth_of(semantics, mask, poses)
    plain, weighted = loss_of(2)(forecast, truth), loss_of(2, 3.0, 0.5)(forecast, truth)
    for name, term in plain.items():
        factor = {'1s': 3.0, '2s': 0.5}[name.split('.')[0]]
        assert weighted[name].item() == pytest.approx(factor * term.item())


def test_gradients_reach_forecaster_connector_and_language_model(small):
    language = build_language(small, weights=None).train()
    queries = small.encoder.queries
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, queries, small.encoder.width, generator=generator).requires_grad_()
    positions_m = 20.0 * torch.rand(1, queries, 3, generator=generator) - 10.0
    semantics = torch.full((1, 3, *small.space.grid_shape), FREE)
    semantics[:, :, 90:110, 90:110, 2] = 11
    valid, still = torch.ones(1, 3, dtype=torch.bool), torch.eye(4).expand(1, 3, 4, 4)
    prompt = language.scene_prompt(features, positions_m)
    hidden, _ = language.read_scene(prompt)
    forecast = language.forecast(prompt.at_queries(hidden), features, positions_m)
    terms = ForecastLoss(ForecastLossConfig(), small.space, small.forecaster.horizons_s)(
        forecast, future_voxels(semantics, None, valid, still, small.space)
    )
    sum(terms.values()).backward()
    touched = {name for name, p in language.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ('forecaster.motion.weight', 'forecaster.horizon.weight', 'connector.project.weight',
                 'llm.model.layers.0.self_attn.q_proj.weight'):  # fmt: skip
        assert part in touched
    assert features.grad.any()


def test_what_does_not_fit_is_refused():
    semantics, mask = random_labels(1, 2)
    truth = truth_of(semantics, mask, [[pose(), pose()]])
    with pytest.raises(ValueError, match='1 horizon_weights for 2 horizons'):
        loss_of(2, 1.0)
    with pytest.raises(ValueError, match='horizon_weights must be non-negative'):
        ForecastLossConfig(horizon_weights=(1.0, -1.0))
    with pytest.raises(ValueError, match='2 horizons: 1 forecast, 2 with'):
        loss_of(2)(random_forecast(1, 1), truth)
    with pytest.raises(ValueError, match='1 samples of ground truth for a batch of 2'):
        loss_of(2)(random_forecast(2, 2), truth)
    with pytest.raises(ValueError, match='is not finite where there are labels'):
        truth_of(semantics, mask, [[pose(), pose(x_m=math.nan)]])
    truth_of(semantics, mask, [[pose(), pose(x_m=math.nan)]], [[True, False]])  # nobody looks at it
    with pytest.raises(ValueError, match='must be'):
        future_voxels(semantics, mask, torch.ones(1, 3, dtype=torch.bool), torch.eye(4).expand(1, 2, 4, 4), SPACE)
    forecast = random_forecast(1, 2)
    with torch.no_grad():
        forecast[1][0][0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match='predicted points are not finite'):
        loss_of(2)(forecast, truth)

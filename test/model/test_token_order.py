"""Orders of occupancy tokens: permutations, local along the curve, and undone where outputs are read."""

import pytest
import torch

from sparseoccvla_ros.model.config import SpaceConfig
from sparseoccvla_ros.model.token_order import hilbert_index, inverse_order, reorder, token_order

SPACE = SpaceConfig()


def cells_of_cube(bits, axes):
    return torch.cartesian_prod(*[torch.arange(2**bits)] * axes)


@pytest.mark.parametrize(('bits', 'axes'), [(1, 3), (2, 2), (3, 3), (5, 2), (4, 3)])
def test_the_curve_visits_every_cell_once_and_steps_to_a_neighbour(bits, axes):
    cells = cells_of_cube(bits, axes)
    places = hilbert_index(cells, bits)
    assert sorted(places.tolist()) == list(range(len(cells)))
    steps = cells[places.argsort()].diff(dim=0).abs().sum(dim=1)
    assert (steps == 1).all()


def test_the_curve_of_the_plane_by_hand():
    """The first-order curve goes around three sides of the square."""
    cells = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 0]])
    assert hilbert_index(cells, 1).tolist() in ([0, 1, 2, 3], [0, 3, 2, 1])


def test_cells_outside_the_cube_are_refused():
    with pytest.raises(ValueError, match=r'0\.\.7, found -1\.\.8'):
        hilbert_index(torch.tensor([[0, 0, 8], [0, -1, 0]]), 3)
    with pytest.raises(ValueError, match='63 bits'):
        hilbert_index(torch.zeros(1, 4, dtype=torch.long), 16)


def positions(seed=0, batch=2, queries=300):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, queries, 3, generator=generator) - 0.5) * torch.tensor([90.0, 90.0, 8.0])


@pytest.mark.parametrize('rule', ['space_filling', 'distance'])
def test_an_order_is_a_permutation_that_can_be_undone(rule):
    positions_m = positions()
    order = token_order(positions_m, rule, SPACE)
    assert torch.equal(order.sort(dim=1).values, torch.arange(300).expand(2, 300))
    assert not torch.equal(order[0], order[1])
    values = torch.randn(2, 300, 5)
    there = reorder(values, order)
    assert torch.equal(there[1, 7], values[1, order[1, 7]])
    assert torch.equal(reorder(there, inverse_order(order)), values)
    alone = token_order(positions_m[1:], rule, SPACE)
    assert torch.equal(alone[0], order[1])


def test_as_produced_changes_nothing():
    assert token_order(positions(), 'as_produced', SPACE) is None
    values = torch.randn(2, 3, 4)
    assert reorder(values, None) is values


def test_distance_rises_and_ties_keep_their_order():
    positions_m = positions()
    order = token_order(positions_m, 'distance', SPACE)
    assert (reorder(positions_m, order).norm(dim=-1).diff(dim=1) >= 0).all()
    assert token_order(torch.zeros(1, 6, 3), 'distance', SPACE).tolist() == [list(range(6))]
    assert token_order(torch.zeros(1, 6, 3), 'space_filling', SPACE).tolist() == [list(range(6))]


def test_neighbours_along_the_curve_are_near():
    """Steps between successive tokens: far shorter than in a random order, where they average half the space."""
    positions_m = positions().clamp(-40, 40)
    step_m = {
        'produced': positions_m.diff(dim=1).norm(dim=-1).mean(),
        'curve': reorder(positions_m, token_order(positions_m, 'space_filling', SPACE)).diff(dim=1).norm(dim=-1).mean(),
    }
    assert step_m['curve'] < 0.2 * step_m['produced']

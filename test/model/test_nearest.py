"""Both searches against all distances at once."""

import pytest
import torch

from sparseoccvla_ros.model.nearest import PointIndex, nearest_in_chunks


@pytest.fixture(scope='module')
def clouds():
    generator = torch.Generator().manual_seed(0)
    return 80.0 * torch.rand(700, 3, generator=generator) - 40.0, 80.0 * torch.rand(500, 3, generator=generator) - 40.0


def test_equals_all_distances_at_once(clouds):
    queries, points = clouds
    expected = torch.cdist(queries.double(), points.double(), compute_mode='donot_use_mm_for_euclid_dist').argmin(1)
    assert torch.equal(PointIndex(points).nearest(queries), expected)
    for chunk_elements in (1, 501, 1 << 20):  # one row at a time, two, all
        assert torch.equal(nearest_in_chunks(queries, points, chunk_elements), expected)


def test_millimetres_count_at_the_edge_of_the_range():
    """A product of coordinates in float32 would lose them: 40 m squared is exact to 0.1 mm squared only."""
    points = torch.tensor([[39.999, 39.999, 5.0], [40.0, 40.0, 5.0]])
    queries = torch.tensor([[39.9994, 39.9994, 5.0], [39.9996, 39.9996, 5.0]])
    assert PointIndex(points).nearest(queries).tolist() == [0, 1]
    assert nearest_in_chunks(queries, points).tolist() == [0, 1]


def test_no_query_gives_no_index(clouds):
    nothing = torch.zeros(0, 3)
    assert PointIndex(clouds[1]).nearest(nothing).shape == (0,)
    assert nearest_in_chunks(nothing, clouds[1]).shape == (0,)


def test_what_cannot_be_searched_is_refused(clouds):
    with pytest.raises(ValueError, match=r'M >= 1, got \(0, 3\)'):
        PointIndex(torch.zeros(0, 3))
    broken = clouds[0].clone()
    broken[[3, 5], 1] = float('nan')
    with pytest.raises(ValueError, match='2 of 700 points are not finite'):
        PointIndex(broken)
    with pytest.raises(ValueError, match='2 of 700 points are not finite'):
        PointIndex(clouds[1]).nearest(broken)

"""The benchmark of the encoder's layer: that both versions compute the same, and that it says so if they do not."""

import pytest
import torch

from sparseoccvla_ros.evaluation import encoder_cost
from sparseoccvla_ros.evaluation.encoder_cost import PARTS, LayerBench, Workload, measure, table

SMALL = Workload(frames=2, cameras=3, queries=20)


@pytest.fixture(scope='module')
def bench():
    return LayerBench(SMALL)


@pytest.mark.parametrize('part', PARTS)
def test_both_versions_give_the_same_result_and_gradients(bench, part):
    results, gradients = [], []
    for version in encoder_cost.VERSIONS:
        results.append(bench.run(part, version, backward=True))
        gradients.append([leaf.grad.clone() for leaf in (bench.query, *bench.levels)])
    torch.testing.assert_close(*results, rtol=0, atol=encoder_cost.TOLERANCE)
    assert results[0].abs().max() > 0.1
    for ours, plain in zip(*gradients, strict=True):
        assert (ours - plain).norm() < 1e-3 * plain.norm()


def test_most_points_are_seen(bench):
    """Points that no camera sees would cost little and say nothing."""
    sampled = bench.run('sampling', 'ours', backward=False)
    assert (sampled.abs().amax(-1) > 0).float().mean() > 0.4


def test_table_of_all_cells(monkeypatch):
    monkeypatch.setattr(encoder_cost, 'in_own_process', lambda function, *arguments: 7.0)
    cells = measure(SMALL, repeats=1, threads=1)
    assert [(cell.part, cell.backward) for cell in cells] == [(p, b) for p in PARTS for b in (False, True)]
    assert all(cell.ours_ms > 0 and cell.straightforward_ms > 0 for cell in cells)
    lines = table(cells).splitlines()
    assert len(lines) == 2 + len(cells)
    assert len({line.count('|') for line in lines}) == 1


def test_versions_that_differ_are_not_timed(monkeypatch):
    right = encoder_cost.sample
    monkeypatch.setattr(encoder_cost, 'sample', lambda *arguments: 1.01 * right(*arguments))
    with pytest.raises(ArithmeticError, match='sampling: the versions differ by'):
        measure(SMALL, repeats=1, threads=1)

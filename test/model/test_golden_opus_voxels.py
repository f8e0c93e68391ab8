"""Points to voxels against the public OPUS implementation."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sparseoccvla_ros.model.occupancy_decoding import VoxelRule, decode_voxels, voxel_scores

pytestmark = pytest.mark.golden


@pytest.fixture(scope='module')
def rule(opus_meta) -> VoxelRule:
    return VoxelRule(opus_meta['score_thr'], opus_meta['ctr_dist_thr'], close=opus_meta['padding'])


@pytest.fixture(scope='module')
def sets(golden_dir, opus_space):
    """Set name -> points_m, logits and what is stored of it; every set that the file holds."""
    names = json.loads((golden_dir / 'opus_get_occ_meta.json').read_text())
    low, high = (torch.tensor(end) for end in (opus_space.range_m[:3], opus_space.range_m[3:]))
    with np.load(golden_dir / 'opus_get_occ.npz') as file:
        stored = {name: torch.from_numpy(file[name]) for name in file.files}
    assert {name.split('/')[0] for name in stored} == set(names)
    return {
        name: (stored[f'{name}/refine_pts'] * (high - low) + low, stored[f'{name}/cls_scores'], stored)
        for name in names
    }


def by_index(index: torch.Tensor) -> torch.Tensor:
    """Order of voxels [M, 3] by x, then y, then z."""
    x, y, z = index.long().unbind(1)
    return ((x * 10000 + y) * 10000 + z).argsort()


def assert_same_voxels(found, index, labels):
    assert torch.equal(found.index, index.long())
    assert torch.equal(found.labels, labels.long())


def test_mean_scores_of_the_voxels(sets, rule, opus_space):
    for name, (points_m, logits, stored) in sets.items():
        (voxels,) = voxel_scores(points_m, logits, opus_space, rule)
        order = by_index(stored[f'{name}/voxel_xyz'])
        assert torch.equal(voxels.index, stored[f'{name}/voxel_xyz'][order])
        assert torch.equal(voxels.points, stored[f'{name}/voxel_num_points'][order].long())
        expected = stored[f'{name}/voxel_mean_scores'][order]
        torch.testing.assert_close(voxels.scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('close', [True, False])
def test_voxels_and_labels(sets, rule, opus_space, close):
    kind = 'padded' if close else 'unpadded'
    rule = VoxelRule(rule.score_threshold, rule.centre_distance_m, close=close)
    for name, (points_m, logits, stored) in sets.items():
        (found,) = decode_voxels(points_m, logits, opus_space, rule)
        assert_same_voxels(found, stored[f'{name}/occ_loc_{kind}'], stored[f'{name}/sem_pred_{kind}'])


def test_a_batch_gives_what_its_samples_give_alone(sets, rule, opus_space):
    """Where the reference is wrong. The sets are made equally large by queries that say nothing."""
    queries = max(points.shape[1] for points, _, _ in sets.values())
    most = max(points.shape[2] for points, _, _ in sets.values())
    batch = []
    for points_m, logits, _ in sets.values():
        spare = (0, 0, 0, most - points_m.shape[2], 0, queries - points_m.shape[1])
        # a point of its own query's middle moves that middle nowhere
        padded = torch.cat([points_m, points_m.mean(2, keepdim=True).expand(-1, -1, most - points_m.shape[2], -1)], 2)
        padded = F.pad(padded, (0, 0, 0, 0, 0, queries - points_m.shape[1]))
        batch.append((padded, F.pad(logits, spare, value=-20.0)))
    points_m, logits = (torch.cat(part) for part in zip(*batch, strict=True))
    found = decode_voxels(points_m, logits, opus_space, rule)
    for one, (name, (_, _, stored)) in zip(found, sets.items(), strict=True):
        assert_same_voxels(one, stored[f'{name}/occ_loc_padded'], stored[f'{name}/sem_pred_padded'])


def test_decoder_outputs_to_voxels(opus_outputs, opus_points_m, rule, opus_space):
    last = len(opus_points_m) - 1
    points_m, logits = opus_points_m[last].float(), opus_outputs[f'cls_scores_f64_{last}'].float()
    found = decode_voxels(points_m, logits, opus_space, rule)
    for b, one in enumerate(found):
        order = by_index(opus_outputs[f'occ_loc_{b}'])
        assert_same_voxels(one, opus_outputs[f'occ_loc_{b}'][order], opus_outputs[f'sem_pred_{b}'][order])

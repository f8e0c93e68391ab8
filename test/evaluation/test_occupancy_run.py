"""Scoring a data set: what a perfect, a failing and a blind perception get."""

import shutil

import numpy as np
import pytest
import torch

from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.data.occ3d import FREE, RANGE_M, VOXEL_M, load_labels
from sparseoccvla_ros.evaluation.occupancy_run import evaluate_occupancy
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.vla import build_perception
from sparseoccvla_ros.runtime.finite import NonFiniteOutput
from sparseoccvla_ros.runtime.memory import FeatureRing, FrameFeatures
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.world.tables import VERSION
from sparseoccvla_ros.world.writer import WorldRequest, write_world

SCENE, OTHER = 'scene-0001', 'scene-0002'
RULE = VoxelRule(close=False)


@pytest.fixture(scope='module')
def config():
    return load_model_config('tiny', {'image.width_px': 64, 'image.height_px': 32})


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(2, 0, 64, 32, 2, 1.0, None), 1, lambda _: None)
    return root


@pytest.fixture
def root(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / 'data')


class Oracle:
    """Stands in for the engine: one point in the middle of every occupied voxel, its class beyond doubt."""

    def __init__(self, root, fails=False):
        self.cameras, self.device = CAMERAS, torch.device('cpu')
        self.memory = FeatureRing(1, 0.5)
        self.fails, self.remembered = fails, []
        samples = NuScenesTables(root, VERSION).scene(SCENE).samples
        self.semantics = {
            sample.stamp_ns: load_labels(root / 'gts', SCENE, sample.token).semantics for sample in samples
        }

    def encode(self, view, timer):
        if self.fails:
            raise NonFiniteOutput('perception: 3 of 7 values are not finite')
        self.remembered.append(len(self.memory))
        self.memory.store(FrameFeatures(view.stamp_ns, (), np.eye(4), np.ones(6, dtype=bool)))
        semantics = self.semantics[view.stamp_ns]
        index = np.argwhere(semantics != FREE)
        points = torch.from_numpy((index + 0.5) * VOXEL_M + RANGE_M[:3]).float()[None, :, None]
        logits = torch.full((1, len(index), 1, 17), -9.0)
        logits[0, torch.arange(len(index)), 0, torch.from_numpy(semantics[tuple(index.T)]).long()] = 9.0
        return EncoderOutput(torch.zeros(1, len(index), 1), (points,), (logits,)), False


def evaluate(root, engine, config, scenes=(SCENE,)):
    return evaluate_occupancy(NuScenesTables(root, VERSION), scenes, root / 'gts', engine, config, RULE)


def test_perfect_predictions_score_one(written, config):
    summary = evaluate(written, Oracle(written), config).summary()
    assert summary['keyframes'] == summary['keyframes_with_camera_mask'] == 2
    assert summary['failures'] == []
    assert summary['ray_origins'] == 'nominal mount'  # this world has no LIDAR_TOP
    for name in ('camera_mask/miou', 'camera_mask/geometric_iou', 'no_mask/miou', 'rayiou/1m', 'rayiou/mean'):
        assert summary['scores'][name] == 1.0
    assert summary['scores']['no_mask/iou/trailer'] is None  # in no keyframe


def test_every_scene_begins_with_an_empty_memory(written, config):
    """The scenes of nuScenes may follow each other without a gap."""
    oracle = Oracle(written)
    evaluate(written, oracle, config, (SCENE, SCENE))
    assert oracle.remembered == [0, 1, 0, 1]


def test_a_failed_keyframe_counts_as_one_where_nothing_is_found(written, config):
    run = evaluate(written, Oracle(written, fails=True), config)
    scores = run.summary()['scores']
    assert scores['no_mask/geometric_iou'] == scores['camera_mask/miou'] == scores['rayiou/4m'] == 0.0
    assert [failure.reason for failure in run.failures] == [
        'no prediction: perception: 3 of 7 values are not finite'
    ] * 2


def test_a_keyframe_without_labels_is_reported(root, config):
    token, oracle = NuScenesTables(root, VERSION).scene(SCENE).samples[1].token, Oracle(root)
    (root / 'gts' / SCENE / token / 'labels.npz').unlink()
    run = evaluate(root, oracle, config)
    assert [(failure.scene, failure.sample) for failure in run.failures] == [(SCENE, token)]
    assert 'cannot read labels' in run.failures[0].reason
    assert (run.keyframes, run.grid.samples) == (2, 1)


def test_labels_without_camera_mask_count_in_the_whole_grid_only(root, config):
    for path in (root / 'gts' / SCENE).glob('*/labels.npz'):
        semantics = np.load(path)['semantics']
        np.savez_compressed(path, semantics=semantics)
    summary = evaluate(root, Oracle(root), config).summary()
    assert summary['keyframes_with_camera_mask'] == 0
    assert summary['scores']['camera_mask/miou'] is None
    assert summary['scores']['no_mask/miou'] == 1.0
    assert summary['failures'] == []


def test_the_real_engine_remembers_within_a_scene_and_tells_of_missing_cameras(root, config):
    sample = NuScenesTables(root, VERSION).scene(OTHER).samples[0]
    sample.sensors['CAM_BACK'].path.write_bytes(b'broken')
    perception = build_perception(config, weights=None)
    engine = PerceptionEngine(perception, config, torch.device('cpu'), CAMERAS)
    run = evaluate(root, engine, config, (SCENE, OTHER))
    assert (run.keyframes, run.temporal, run.degraded) == (4, 2, 1)
    assert run.failures == []
    assert 0.0 <= run.summary()['scores']['no_mask/geometric_iou'] < 0.2


def test_another_space_is_refused(written, config):
    narrow = load_model_config('tiny', {'space.range_m': [-20.0, -20.0, -1.0, 20.0, 20.0, 5.4]})
    with pytest.raises(ValueError, match='not in the space of Occ3D'):
        evaluate(written, Oracle(written), narrow)

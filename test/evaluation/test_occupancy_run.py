"""Scoring a data set: what a perfect, a failing and a blind perception get."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sparseoccvla_ros.data.nuscenes import CAMERAS, LIDAR, NuScenesTables, SensorFrame
from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE, RANGE_M, VOXEL_M, load_labels
from sparseoccvla_ros.evaluation.constant_occupancy import ConstantMaps
from sparseoccvla_ros.evaluation.occupancy_metrics import OccupancyScore
from sparseoccvla_ros.evaluation.occupancy_run import evaluate_occupancy
from sparseoccvla_ros.evaluation.ray_iou import RayIoU
from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.vla import build_perception
from sparseoccvla_ros.runtime.finite import NonFiniteOutput
from sparseoccvla_ros.runtime.memory import FeatureRing, FrameFeatures
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

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


def evaluate(root, engine, config, scenes=(SCENE,), tables=None):
    tables = tables or NuScenesTables(root, VERSION)
    return evaluate_occupancy(tables, scenes, root / 'gts', engine, config, RULE)


def with_sensors(root, change, scenes=(SCENE,)):
    """Tables in which ``change(index, sensors)`` gives the sensors of each keyframe of ``scenes``."""
    tables = NuScenesTables(root, VERSION)

    def scene(name):
        found = tables.scene(name)
        if name not in scenes:
            return found
        changed = (replace(s, sensors=change(index, s.sensors)) for index, s in enumerate(found.samples))
        return replace(found, samples=tuple(changed))

    return SimpleNamespace(scene=scene)


def with_lidar(poses, ego_from_lidar=None):
    """For :func:`with_sensors`: a LIDAR_TOP at 1 m forward, 2 m up, with these poses of the vehicle."""
    mount = transform_from_planar(1.0, 0.0, 0.0) if ego_from_lidar is None else ego_from_lidar
    mount[2, 3] = 2.0

    def change(index, sensors):
        stamp_ns = next(iter(sensors.values())).stamp_ns
        lidar = SensorFrame('', LIDAR, 'lidar', stamp_ns, None, True, 0, 0, None, mount, poses[index], stamp_ns)
        return {**sensors, LIDAR: lidar}

    return change


def test_perfect_predictions_score_one(written, config):
    summary = evaluate(written, Oracle(written), config).summary()
    assert summary['keyframes'] == summary['keyframes_with_camera_mask'] == 2
    assert summary['failures'] == []
    assert summary['ray_origins'] == 'LIDAR_TOP'
    for name in ('camera_mask/miou', 'camera_mask/geometric_iou', 'no_mask/miou', 'rayiou/1m', 'rayiou/mean'):
        assert summary['scores'][name] == 1.0
    labels = [np.load(path)['semantics'] for path in (written / 'gts' / SCENE).glob('*/labels.npz')]
    present = np.unique(labels)
    for number, name in enumerate(CLASS_NAMES):
        assert summary['scores'][f'no_mask/iou/{name}'] == (1.0 if number in present else None)


def test_constants_are_scored_on_the_same_keyframes(written, config):
    """One map for the whole grid and another within camera masks."""
    tokens = [sample.token for sample in NuScenesTables(written, VERSION).scene(SCENE).samples]
    labels = [load_labels(written / 'gts', SCENE, token) for token in tokens]
    free, first = np.full_like(labels[0].semantics, FREE), labels[0].semantics
    constants = [ConstantMaps('a', '', free, first), ConstantMaps('b', '', first, free)]
    tables = NuScenesTables(written, VERSION)
    run = evaluate_occupancy(
        tables, [SCENE], written / 'gts', Oracle(written, fails=True), config, RULE, constants=constants
    )
    camera, grid = OccupancyScore('camera'), OccupancyScore(None)
    for at in labels:
        camera.add(first, at.semantics, at.mask_camera)
        grid.add(first, at.semantics)
    found = {name: scores.result() for name, scores in run.constants.items()}
    assert found['a']['camera_mask/miou'] == camera.result()['camera_mask/miou'] > 0.2
    assert found['b']['no_mask/miou'] == grid.result()['no_mask/miou'] > 0.2
    assert found['a']['no_mask/miou'] == found['a']['rayiou/mean'] == found['b']['camera_mask/miou'] == 0.0
    assert found['b']['rayiou/mean'] > 0.0
    assert run.scored_scenes == run.constants['a'].grid.by_scene.scenes == [SCENE]


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
    assert (run.keyframes, run.scores.grid.samples) == (2, 1)


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


def test_rays_leave_from_where_the_lidar_was_in_every_keyframe(written, config, monkeypatch):
    """By hand: the vehicle stands at the map's origin, then 10 m ahead of it and turned to the left."""
    added = []
    monkeypatch.setattr(RayIoU, 'add', lambda self, predicted, truth, origins_ego, scene: added.append(origins_ego))
    poses = [np.eye(4), transform_from_planar(10.0, 0.0, np.pi / 2)]
    run = evaluate(written, Oracle(written), config, tables=with_sensors(written, with_lidar(poses)))
    assert run.failures == []
    assert run.summary()['ray_origins'] == 'LIDAR_TOP'
    np.testing.assert_allclose(added[0], [[1.0, 0.0, 2.0], [10.0, 1.0, 2.0]], atol=1e-9)
    np.testing.assert_allclose(added[1], [[0.0, 9.0, 2.0], [1.0, 0.0, 2.0]], atol=1e-9)


def test_scenes_without_lidar_are_counted(written, config):
    def without_lidar(_index, sensors):
        return {name: sensor for name, sensor in sensors.items() if name != LIDAR}

    tables = with_sensors(written, without_lidar, (OTHER,))
    oracle = Oracle(written, fails=True)
    run = evaluate(written, oracle, config, (SCENE, OTHER, SCENE), tables)
    assert (run.scenes, run.nominal_scenes) == (3, 1)
    assert run.summary()['ray_origins'] == 'nominal mount in 1 of 3 scenes, LIDAR_TOP in the others'


def no_sensors(index, sensors):
    return {} if index == 0 else sensors


def pose_not_finite(index, sensors):
    return with_lidar([np.full((4, 4), np.nan), np.eye(4)])(index, sensors)


def mount_not_finite(index, sensors):
    mount = np.full((4, 4), np.nan) if index == 0 else None
    return with_lidar([np.eye(4)] * 2, mount)(index, sensors)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (no_sensors, 'not scored: no key frame of any sensor'),
        (pose_not_finite, 'not scored: its pose is not finite'),
        (mount_not_finite, 'not scored: its pose is not finite'),
    ],
)
def test_a_keyframe_without_pose_is_reported_and_the_others_go_on(written, config, change, reason):
    tables = with_sensors(written, change)
    run = evaluate(written, Oracle(written), config, tables=tables)
    token = tables.scene(SCENE).samples[0].token
    assert [(failure.sample, failure.reason) for failure in run.failures] == [(token, reason)]
    assert (run.keyframes, run.scores.grid.samples, run.scores.camera.samples, run.scores.rays.samples) == (2, 1, 1, 1)
    assert run.summary()['scores']['rayiou/mean'] == 1.0


def test_a_scene_without_any_pose_does_not_end_the_run(written, config):
    tables = with_sensors(written, lambda index, sensors: {}, (OTHER,))
    run = evaluate(written, Oracle(written), config, (OTHER, SCENE), tables)
    assert [failure.scene for failure in run.failures] == [OTHER, OTHER]
    assert (run.keyframes, run.scores.grid.samples, run.scenes) == (4, 2, 1)


def test_a_keyframe_whose_rays_start_nowhere_is_in_none_of_the_scores(written, config):
    """A LiDAR mounted a kilometre ahead."""
    tables = with_sensors(written, with_lidar([np.eye(4)] * 2, transform_from_planar(1000.0, 0.0, 0.0)))
    run = evaluate(written, Oracle(written), config, tables=tables)
    assert len(run.failures) == 2
    assert 'not scored: origins_ego (0, 3)' in run.failures[0].reason
    assert (run.keyframes, run.scores.grid.samples, run.scores.camera.samples, run.scores.rays.samples) == (2, 0, 0, 0)


def test_two_faults_of_a_keyframe_are_one_failure(root, config):
    oracle = Oracle(root, fails=True)
    for path in (root / 'gts' / SCENE).glob('*/labels.npz'):
        path.unlink()
    run = evaluate(root, oracle, config)
    assert len(run.failures) == run.keyframes == 2
    assert 'no prediction: ' in run.failures[0].reason
    assert '; not scored: cannot read labels' in run.failures[0].reason

"""The real keyframe and the synthetic world through the same class."""

import json
from pathlib import Path

import numpy as np
import pytest

from sparseoccvla_ros.data.dataset import Augmentation, KeyframeDataset, SampleRequest
from sparseoccvla_ros.data.image_augmentation import ImageAugmentation
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables, load_lidar_points
from sparseoccvla_ros.data.occ3d import load_labels
from sparseoccvla_ros.data.photometric import PhotometricDistortion
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation
from sparseoccvla_ros.geometry import project_points, transform_points
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

AUGMENTATION = Augmentation(ImageAugmentation(), PhotometricDistortion(), SceneAugmentation(0.5, 0.5, 0.3))
REQUEST = SampleRequest(width_px=96, height_px=32, frames=2)


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> Path:
    """One scene of 3.5 s: seven keyframes, a sweep between each two."""
    root = tmp_path_factory.mktemp('dataset') / 'world'
    write_world(root, WorldRequest(scenes=1, seed=11, width_px=96, height_px=32, sweep_hz=4, seconds=3.5), workers=1)
    return root


@pytest.fixture(scope='module')
def world_tables(world) -> NuScenesTables:
    return NuScenesTables(world, 'v1.0-world')


def forms(item: dict) -> dict[str, tuple]:
    """What each key holds; the number of boxes differs."""
    return {
        key: (value.dtype, value.shape[1:] if 'box' in key else value.shape)
        if isinstance(value, np.ndarray | np.generic)
        else (type(value),)
        for key, value in item.items()
    }


def test_the_world_gives_frames_motion_labels_and_future(world, world_tables):
    request = SampleRequest(96, 32, frames=3, future_labels_s=(1.0, 2.0, 3.0))
    data = KeyframeDataset(world_tables, world_tables.scene_names, request, gts_root=world / 'gts')
    assert len(data) == 7
    scene = world_tables.scene(world_tables.scene_names[0])
    for index in (0, 2, 6):
        item = data[index]
        seen = item['view_mask'].reshape(3, 6)
        assert seen.all(axis=1).tolist() == [True, index >= 1, index >= 2]
        labels = load_labels(world / 'gts', scene.name, item['token'])
        np.testing.assert_array_equal(item['target_semantics'], labels.semantics)
        np.testing.assert_array_equal(item['target_mask_camera'], labels.mask_camera)
        assert item['target_future_labels_valid'].tolist() == [index + 2 * ahead <= 6 for ahead in (1, 2, 3)]
        assert item['target_future_ego_valid'].tolist() == [index + step <= 6 for step in range(1, 7)]
        assert item['ego_state_valid'] == (index >= 2)
    # the path leads to where the vehicle then was
    later = [data.moments[i].global_from_ego[:3, 3] for i in range(1, 7)]
    path_m = data[0]['target_future_ego_xy_m']
    expected = transform_points(np.linalg.inv(data[0]['global_from_ego']), np.array(later))[:, :2]
    np.testing.assert_allclose(path_m, expected, atol=0.02)


@pytest.mark.parametrize('augmentation', [None, AUGMENTATION])
@pytest.mark.nuscenes
def test_real_and_synthetic_samples_have_the_same_form(nuscenes_dir, world, world_tables, tmp_path, augmentation):
    """Labels for the real keyframe are borrowed from the world: what is compared is the form."""
    real_tables = NuScenesTables(nuscenes_dir, 'v1.0-one')
    (sample,) = real_tables.scene('scene-0061').samples
    folder = tmp_path / 'gts' / 'scene-0061' / sample.token
    folder.mkdir(parents=True)
    synthetic_scene = world_tables.scene(world_tables.scene_names[0])
    labels = load_labels(world / 'gts', synthetic_scene.name, synthetic_scene.samples[0].token)
    np.savez_compressed(folder / 'labels.npz', semantics=labels.semantics)
    request = SampleRequest(96, 32, frames=2, future_labels_s=(1.0,))
    options = {'request': request, 'augmentation': augmentation}
    real = KeyframeDataset(real_tables, ['scene-0061'], gts_root=tmp_path / 'gts', **options)[0]
    synthetic = KeyframeDataset(world_tables, world_tables.scene_names, gts_root=world / 'gts', **options)[3]
    assert forms(real) == forms(synthetic)
    assert real['view_mask'].tolist() == [True] * 6 + [False] * 6
    assert len(real['target_box_centre_m']) == 69
    assert not real['ego_state_valid']
    assert not real['target_future_ego_valid'].any()


@pytest.mark.nuscenes
def test_real_lidar_points_fall_on_the_reference_pixels_of_augmented_images(nuscenes_dir):
    """The independent pixels of the full images, carried through each camera's warp."""
    tables = NuScenesTables(nuscenes_dir, 'v1.0-one')
    (sample,) = tables.scene('scene-0061').samples
    reference = json.loads((nuscenes_dir / 'reference.json').read_text())
    lidar = sample.sensors['LIDAR_TOP']
    points_ego = transform_points(lidar.ego_from_sensor, load_lidar_points(lidar)[:, :3].astype(np.float64))
    data = KeyframeDataset(tables, ['scene-0061'], SampleRequest(704, 256), augmentation=AUGMENTATION, seed=1)
    item = data[0]
    # the same draws again, as the documented order says: first the scene, then a warp per camera
    rng = np.random.default_rng([1, 0, 0])
    AUGMENTATION.scene.draw(rng)
    for slot, name in enumerate(CAMERAS):
        fit = AUGMENTATION.image.draw(rng).fit(1600, 900, 704, 256)
        camera = reference['cameras'][name]
        augmented = transform_points(item['augmented_from_ego'], points_ego[camera['point_index']])
        pixels, depth_m = project_points(item['image_from_ego'][slot].astype(np.float64), augmented)
        full = np.column_stack([camera['pixel'], np.ones(len(augmented))])
        np.testing.assert_allclose(pixels, (full @ fit.intrinsics(np.eye(3)).T)[:, :2], atol=2e-3)
        np.testing.assert_allclose(depth_m, camera['depth'], atol=1e-3)

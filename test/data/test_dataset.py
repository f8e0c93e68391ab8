"""Training samples: what is in them, that their parts agree, and that they repeat."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sparseoccvla_ros.data.dataset import Augmentation, KeyframeDataset, SampleRequest, collate
from sparseoccvla_ros.data.image_augmentation import ImageAugmentation
from sparseoccvla_ros.data.keyframes import encoder_inputs, keyframe_view, label_pose
from sparseoccvla_ros.data.nuscenes import NuScenesError
from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, RANGE_M, UNLABELLED, VOXEL_M, Occ3DError
from sparseoccvla_ros.data.photometric import PhotometricDistortion
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation
from sparseoccvla_ros.geometry import inverse, project_points, transform_points
from sparseoccvla_ros.runtime.scene import Command

PAIR = ('CAM_FRONT', 'CAM_BACK')
SCENE = 'scene-0001'
SMALL = SampleRequest(width_px=32, height_px=16, frames=2, cameras=PAIR)
MIRROR = Augmentation(scene=SceneAugmentation(flip_y_probability=1.0))
EVERYTHING = Augmentation(
    ImageAugmentation(rotation_rad=0.1), PhotometricDistortion(), SceneAugmentation(0.5, 0.5, math.radians(30.0))
)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@pytest.fixture
def drive(make_layout, tmp_path):
    """Five keyframes, 0.5 s apart, with labels: one block of cars ahead and to the left, all seen."""
    layout = make_layout(tmp_path / 'data', keyframes=5)
    for number in range(5):
        write_labels(layout, number, mask_camera=np.ones(GRID_SHAPE, bool), mask_lidar=np.ones(GRID_SHAPE, np.uint8))
    return layout


def car_grid(number: int) -> np.ndarray:
    semantics = np.full(GRID_SHAPE, FREE, np.uint8)
    semantics[120 + number : 130 + number, 110:115, 3:7] = 4
    return semantics


def write_labels(layout, number: int, **masks: np.ndarray) -> None:
    folder = layout.root / 'gts' / SCENE / f'sample{number}'
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / 'labels.npz', semantics=car_grid(number), **masks)


def dataset(layout, request: SampleRequest = SMALL, *, labels: bool = True, **options) -> KeyframeDataset:
    gts_root = layout.root / 'gts' if labels else None
    return KeyframeDataset(layout.read(), [SCENE], request, gts_root=gts_root, **options)


def test_without_augmentation_it_is_what_the_running_model_gets(drive):
    data = dataset(drive)
    samples = drive.read().scene(SCENE).samples
    assert len(data) == 5
    for index in range(5):
        frames = [keyframe_view(samples[i], PAIR, 32, 16) if i >= 0 else None for i in (index, index - 1)]
        expected = encoder_inputs(frames, PAIR, 32, 16)
        item = data[index]
        np.testing.assert_array_equal(item['images'], expected.images)
        np.testing.assert_array_equal(item['view_mask'], expected.view_mask)
        np.testing.assert_allclose(item['image_from_ego'], expected.image_from_ego, rtol=1e-5, atol=1e-3)
        np.testing.assert_array_equal(item['target_semantics'], car_grid(index))
        assert item['token'] == samples[index].token
        np.testing.assert_array_equal(item['global_from_ego'], label_pose(samples[index]))
        np.testing.assert_array_equal(item['augmented_from_ego'], np.eye(4))
    np.testing.assert_allclose(item['image_time_s'], [-0.040, -0.015, -0.540, -0.515], atol=1e-6)
    np.testing.assert_array_equal(data[-1]['images'], data[4]['images'])
    with pytest.raises(IndexError):
        data[5]


def test_a_spot_in_the_images_lies_where_the_augmented_projection_says(drive):
    """Images with a bright spot at the pixel of a fixed point of the world; 30 draws of all that moves pixels."""
    point_global = np.array([[135.0, 206.0, 1.2]])
    for calibration in drive.tables['calibrated_sensor']:
        if calibration['camera_intrinsic']:
            calibration['camera_intrinsic'] = [[300.0, 0.0, 160.0], [0.0, 300.0, 90.0], [0.0, 0.0, 1.0]]
    for row in drive.tables['sample_data']:
        if row['width']:
            row['width'], row['height'] = 320, 180
    for frame in drive.read().camera_frames(SCENE):
        camera_from_global = inverse(frame.global_from_ego @ frame.ego_from_sensor)
        x, y, z = transform_points(camera_from_global, point_global)[0]
        u, v = np.arange(320) + 0.5, np.arange(180)[:, None] + 0.5
        off_px2 = (u - (300.0 * x / z + 160.0)) ** 2 + (v - (300.0 * y / z + 90.0)) ** 2
        assert cv2.imwrite(str(frame.path), np.rint(250.0 * np.exp(-off_px2 / 32.0)).astype(np.uint8))
    moving = Augmentation(
        ImageAugmentation((0.8, 1.3), rotation_rad=0.2), scene=SceneAugmentation(0.5, 0.5, rotation_rad=2.0)
    )
    data = dataset(drive, SampleRequest(160, 64, frames=3, cameras=PAIR), augmentation=moving)
    checked = 0
    for epoch in range(10):
        data.set_epoch(epoch)
        for index in (2, 3, 4):
            item = data[index]
            point_ego = transform_points(inverse(item['global_from_ego']), point_global)
            augmented = transform_points(item['augmented_from_ego'], point_ego)
            for image, projection in zip(item['images'], item['image_from_ego'], strict=True):
                pixel, depth_m = project_points(projection.astype(np.float64), augmented)
                if depth_m[0] > 0 and (pixel[0] > 14).all() and (pixel[0] < (146, 50)).all():
                    # without the JPEG's faint noise
                    weights = np.where(image[..., 0] > 8, image[..., 0], 0).astype(np.float64)
                    u, v = np.arange(160) + 0.5, np.arange(64) + 0.5
                    found = np.array([(weights.sum(0) * u).sum(), (weights.sum(1) * v).sum()]) / weights.sum()
                    np.testing.assert_allclose(found, pixel[0], atol=0.25)
                    checked += 1
    assert checked > 60


def test_labels_boxes_path_and_motion_are_mirrored_together(drive):
    plain, mirrored = dataset(drive), dataset(drive, augmentation=MIRROR)
    one, other = plain[1], mirrored[1]
    for name in ('semantics', 'mask_camera', 'mask_lidar'):
        np.testing.assert_array_equal(other[f'target_{name}'], one[f'target_{name}'][:, ::-1])
    sign = np.array([1.0, -1.0])
    np.testing.assert_allclose(other['target_future_ego_xy_m'], one['target_future_ego_xy_m'] * sign, atol=1e-6)
    np.testing.assert_allclose(other['target_future_ego_heading_rad'], -one['target_future_ego_heading_rad'], atol=1e-6)
    np.testing.assert_allclose(other['ego_state'], one['ego_state'] * [1.0, 1.0, -1.0])
    assert one['ego_state'][2] == pytest.approx(0.2, abs=1e-3)
    one, other = plain[0], mirrored[0]
    np.testing.assert_allclose(other['target_box_centre_m'], one['target_box_centre_m'] * [1.0, -1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(other['target_box_heading_rad'], -one['target_box_heading_rad'], atol=1e-6)
    np.testing.assert_array_equal(other['images'], one['images'])


def test_the_same_seed_epoch_and_index_are_the_same_sample_whoever_makes_it(drive):
    data = dataset(drive, augmentation=EVERYTHING, seed=3)
    data.set_epoch(2)
    expected = [data[index] for index in range(5)]
    again = dataset(drive, augmentation=EVERYTHING, seed=3)
    again.set_epoch(2)
    assert all(same(again[index], expected[index]) for index in (4, 0, 2, 2, 1, 3))
    again.set_epoch(3)
    assert not any(np.array_equal(again[index]['images'], expected[index]['images']) for index in range(5))
    another = dataset(drive, augmentation=EVERYTHING, seed=4)
    another.set_epoch(2)
    assert not any(np.array_equal(another[index]['images'], expected[index]['images']) for index in range(5))


def test_workers_give_the_same_batches_and_hear_of_a_new_epoch(drive):
    """Persistent workers hold a copy of the data set that was made in the first epoch."""
    data = dataset(drive, augmentation=EVERYTHING, seed=3)
    loader = DataLoader(data, batch_size=2, num_workers=2, collate_fn=collate, persistent_workers=True)
    for epoch in (0, 5):
        data.set_epoch(epoch)
        batches = list(loader)
        expected = [collate([data[i] for i in batch]) for batch in ((0, 1), (2, 3), (4,))]
        assert len(batches) == 3
        for batch, wanted in zip(batches, expected, strict=True):
            assert batch.keys() == wanted.keys()
            for key in ('images', 'image_from_ego', 'target_semantics', 'ego_state', 'target_future_ego_xy_m'):
                assert torch.equal(batch[key], wanted[key]), key
            assert batch['token'] == wanted['token']


def test_a_batch_has_the_shapes_that_the_model_takes(drive):
    data = dataset(drive, SampleRequest(32, 16, frames=2, cameras=PAIR, future_labels_s=(0.5, 1.0)))
    batch = collate([data[0], data[1], data[2]])
    shapes = {key: tuple(value.shape) for key, value in batch.items() if isinstance(value, torch.Tensor)}
    assert shapes['images'] == (3, 4, 16, 32, 3)
    assert batch['images'].dtype == torch.uint8
    assert shapes['image_from_ego'] == (3, 4, 4, 4)
    assert shapes['view_mask'] == (3, 4)
    assert batch['view_mask'].dtype == torch.bool
    assert shapes['target_semantics'] == (3, *GRID_SHAPE)
    assert shapes['target_future_semantics'] == (3, 2, *GRID_SHAPE)
    assert shapes['target_future_ego_valid'] == (3, 6)
    assert [len(boxes) for boxes in batch['target_box_centre_m']] == [1, 0, 0]
    assert batch['missing'][0] == ((1, 'CAM_FRONT', 'no_frame'), (1, 'CAM_BACK', 'no_frame'))
    assert batch['ego_state_valid'].tolist() == [False, True, True]
    with pytest.raises(ValueError, match='at least one sample'):
        collate([])


def test_future_labels_come_with_the_motion_that_leads_to_them(drive):
    """A voxel of the grid half a second later, through the given matrix, lies where the world has it now."""
    request = SampleRequest(32, 16, cameras=PAIR, future_labels_s=(0.5, 1.0, 2.0))
    samples = drive.read().scene(SCENE).samples
    for augmentation in (None, EVERYTHING):
        item = dataset(drive, request, augmentation=augmentation)[2]
        assert item['target_future_labels_valid'].tolist() == [True, True, False]
        np.testing.assert_allclose(item['target_future_labels_time_s'], [0.5, 1.0, 0.0], atol=1e-6)
        assert (item['target_future_semantics'][2] == UNLABELLED).all()
        assert not item['target_future_mask_camera'][2].any()
        augmented_from_ego = item['augmented_from_ego']
        for ahead in (0, 1):
            point_global = np.array([[130.0, 208.0, 1.0]])
            now = transform_points(augmented_from_ego @ inverse(label_pose(samples[2])), point_global)
            then = transform_points(augmented_from_ego @ inverse(label_pose(samples[3 + ahead])), point_global)
            between = item['target_current_ego_from_future_ego'][ahead].astype(np.float64)
            np.testing.assert_allclose(transform_points(between, then), now, atol=1e-4)
            if augmentation is None:
                np.testing.assert_array_equal(item['target_future_semantics'][ahead], car_grid(3 + ahead))


def test_a_rotated_grid_is_unlabelled_and_unseen_where_nothing_is_known(drive):
    turn = Augmentation(scene=SceneAugmentation(flip_y_probability=0.0, rotation_rad=math.pi))
    data = dataset(drive, augmentation=turn)
    item = data[2]
    seen = item['target_mask_camera'].astype(bool)
    assert 0.8 < seen.mean() < 0.99
    assert (item['target_semantics'][~seen] == UNLABELLED).all()
    middles_m = np.asarray(RANGE_M[:3]) + VOXEL_M * (np.argwhere(item['target_semantics'] == 4) + 0.5)
    back_m = transform_points(inverse(item['augmented_from_ego']), middles_m)
    index = np.floor((back_m - np.asarray(RANGE_M[:3])) / VOXEL_M).astype(int)
    assert len(index) > 150
    assert (car_grid(2)[tuple(index.T)] == 4).all()


def test_labels_without_masks_count_as_seen_everywhere(drive):
    write_labels(drive, 1)
    data = dataset(drive)
    item, with_masks = data[1], data[2]
    assert item['target_mask_camera'].all()
    assert item['target_mask_lidar'].all()
    assert not item['target_has_mask_camera']
    assert with_masks['target_has_mask_camera']
    assert collate([item, with_masks])['target_has_mask_lidar'].tolist() == [False, True]


@pytest.mark.parametrize('cut_short', [False, True])
def test_keyframes_without_labels_are_told_and_nothing_is_labelled(drive, caplog, cut_short):
    file = drive.root / 'gts' / SCENE / 'sample1' / 'labels.npz'
    start = file.read_bytes()[:200]
    file.unlink()
    if cut_short:
        file.write_bytes(start)
    data = dataset(drive)
    assert data.unlabelled == (f'{SCENE}/sample1',)
    assert '1 of 5 keyframes have no labels' in caplog.text
    item = data[1]
    assert not item['target_labels_valid']
    assert (item['target_semantics'] == UNLABELLED).all()
    assert not item['target_mask_camera'].any()
    assert data[0]['target_labels_valid']


def test_a_data_set_without_labels_has_no_label_keys(drive):
    item = dataset(drive, labels=False)[0]
    labels = {key for key in item if 'semantics' in key or 'mask_' in key or 'labels' in key}
    assert labels == set()


def test_broken_labels_are_an_error(drive):
    file = drive.root / 'gts' / SCENE / 'sample1' / 'labels.npz'
    whole = file.read_bytes()
    file.write_bytes(whole[:60] + bytes(40) + whole[100:])
    with pytest.raises(Occ3DError, match=r'sample1.labels\.npz'):
        dataset(drive)[1]


def test_images_that_cannot_be_used_are_masked_with_their_reason_and_change_nothing_else(drive):
    whole = dataset(drive, augmentation=EVERYTHING)[2]
    samples = drive.read().scene(SCENE).samples
    samples[2].sensors['CAM_BACK'].path.unlink()
    samples[1].sensors['CAM_FRONT'].path.write_bytes(b'\xff\xd8 no image')
    item = dataset(drive, augmentation=EVERYTHING)[2]
    assert item['missing'] == ((0, 'CAM_BACK', 'unreadable_file'), (1, 'CAM_FRONT', 'corrupt_image'))
    assert item['view_mask'].tolist() == [True, False, False, True]
    assert not item['images'][[1, 2]].any()
    assert item['image_stamp_ns'][[1, 2]].tolist() == [0, 0]
    for view in (0, 3):
        np.testing.assert_array_equal(item['images'][view], whole['images'][view])
        np.testing.assert_array_equal(item['image_from_ego'][view], whole['image_from_ego'][view])


def test_a_keyframe_without_any_image_is_an_error(drive):
    """A wrong folder must not look like a dark night."""
    for frame in drive.read().scene(SCENE).samples[2].sensors.values():
        if frame.modality == 'camera':
            frame.path.unlink()
    data = dataset(drive)
    with pytest.raises(NuScenesError, match=r"sample2 of scene-0001 has no usable image: .*'unreadable_file'"):
        data[2]
    assert data[3]['view_mask'].tolist() == [True, True, False, False]


def test_commands_are_mirrored_with_the_scene(drive):
    commands = {'sample0': Command.LEFT, 'sample1': Command.STRAIGHT}
    for augmentation, left in ((None, Command.LEFT), (MIRROR, Command.RIGHT)):
        data = dataset(drive, augmentation=augmentation, commands=commands)
        assert [int(data[i]['command']) for i in range(2)] == [left, Command.STRAIGHT]
        assert [bool(data[i]['command_valid']) for i in range(3)] == [True, True, False]
    assert 'command' not in dataset(drive)[0]


def test_what_is_not_a_target_does_not_change_when_the_future_is_cut_off(drive):
    drive_whole = dataset(drive, augmentation=EVERYTHING)[3]
    drive.tables['sample'] = [row for row in drive.tables['sample'] if row['token'] != 'sample4']
    drive.tables['sample_data'] = [
        row
        for row in drive.tables['sample_data']
        if row['sample_token'] != 'sample4' and (row['is_key_frame'] or row['sample_token'] != 'sample3')
    ]
    cut = dataset(drive, augmentation=EVERYTHING)[3]
    inputs = [key for key in cut if not key.startswith('target_')]
    assert {'images', 'image_from_ego', 'ego_state'} <= set(inputs)
    for key in inputs:
        np.testing.assert_array_equal(cut[key], drive_whole[key], err_msg=key)
    assert not np.array_equal(cut['target_future_ego_valid'], drive_whole['target_future_ego_valid'])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'width_px': 0}, 'width_px must be a whole number of at least 1, got 0'),
        ({'height_px': 12.5}, 'height_px must be a whole number of at least 1, got 12.5'),
        ({'frames': 0}, 'frames must be a whole number of at least 1, got 0'),
        ({'frame_interval_s': 0.0}, 'frame_interval_s must be positive, got 0.0'),
        ({'frame_interval_s': math.nan}, 'frame_interval_s must be positive'),
        ({'cameras': ()}, 'cameras must be distinct names'),
        ({'cameras': ('CAM_FRONT', 'CAM_FRONT')}, 'cameras must be distinct names'),
        ({'future_path_s': (-0.5, 0.5)}, 'future_path_s must be positive, the future only'),
        ({'future_labels_s': (1.0, 1.0)}, r'future_labels_s must rise, got \(1.0, 1.0\)'),
    ],
)
def test_impossible_requests_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SampleRequest(**changes)


def test_a_data_set_that_cannot_be_is_refused_at_construction(drive, tmp_path):
    tables = drive.read()
    with pytest.raises(ValueError, match='scenes must be distinct names'):
        KeyframeDataset(tables, [SCENE, SCENE], SMALL)
    with pytest.raises(ValueError, match='scenes must be distinct names, at least one'):
        KeyframeDataset(tables, [], SMALL)
    with pytest.raises(NuScenesError, match=r"no scene 'scene-0009'.*scene-0001"):
        KeyframeDataset(tables, ['scene-0009'], SMALL)
    with pytest.raises(ValueError, match="no keyframe has camera 'CAM_LEFT'; the first one has CAM_BACK, CAM_FRONT"):
        KeyframeDataset(tables, [SCENE], SampleRequest(cameras=('CAM_FRONT', 'CAM_LEFT')))
    with pytest.raises(ValueError, match=r'has labels for none of 5 keyframes.*sample0.labels\.npz'):
        KeyframeDataset(tables, [SCENE], SMALL, gts_root=tmp_path)
    with pytest.raises(ValueError, match=r'future_labels_s is \(1.0,\).* gts_root'):
        KeyframeDataset(tables, [SCENE], SampleRequest(cameras=PAIR, future_labels_s=(1.0,)))
    with pytest.raises(ValueError, match='seed must not be negative, got -1'):
        KeyframeDataset(tables, [SCENE], SMALL, seed=-1)
    with pytest.raises(ValueError, match='epoch must not be negative, got -1'):
        KeyframeDataset(tables, [SCENE], SMALL).set_epoch(-1)

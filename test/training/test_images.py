"""Photographs and their label images stay together, and come in an order of their own."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from sparseoccvla_ros.data.dataset import Augmentation, collate
from sparseoccvla_ros.data.image_augmentation import ImageAugmentation
from sparseoccvla_ros.data.nuscenes import NuScenesError
from sparseoccvla_ros.data.occ3d import UNLABELLED
from sparseoccvla_ros.data.photometric import PhotometricDistortion
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.training.images import image_stream
from sparseoccvla_ros.training.order import StepBatches
from sparseoccvla_ros.training.recipe import DataSettings, OptimizationSettings, Recipe

CONFIG = load_model_config('tiny', {'image.width_px': 64, 'image.height_px': 32})
MOVING = ImageAugmentation(resize=(0.7, 1.5), bottom_cut=(0.0, 0.2), rotation_rad=0.3)
EVERYTHING = Augmentation(image=MOVING, photometric=PhotometricDistortion())
#: A colour of each class; none is black, which is what lies outside an image.
COLOURS = np.stack(np.meshgrid(*[(60, 150, 240)] * 3), axis=-1).reshape(-1, 3)[:18].astype(np.uint8)

SHARP_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def write_images(root: Path, images: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Path:
    """One scene with a keyframe per (RGB, classes, depth in 1/256 m), all of CAM_FRONT."""
    pose = {'translation': [0.0, 0.0, 0.0], 'rotation': [1.0, 0.0, 0.0, 0.0]}
    tables = {
        'scene': [{'token': 's', 'name': 'scene-0001'}],
        'sensor': [{'token': 'c', 'channel': 'CAM_FRONT', 'modality': 'camera'}],
        'calibrated_sensor': [{'token': 'k', 'sensor_token': 'c', 'camera_intrinsic': np.eye(3).tolist(), **pose}],
        'sample': [{'token': f'{n}', 'timestamp': n, 'scene_token': 's'} for n in range(len(images))],
        'ego_pose': [{'token': f'{n}', 'timestamp': n, **pose} for n in range(len(images))],
        'sample_data': [],
    }
    for number, (rgb, classes, depth) in enumerate(images):
        stored = {'samples': (rgb[..., ::-1], 'jpg'), 'semantics': (classes, 'png'), 'depth': (depth, 'png')}
        for folder, (pixels, ending) in stored.items():
            path = root / folder / 'CAM_FRONT' / f'{number}.{ending}'
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), pixels, SHARP_JPEG if ending == 'jpg' else [])
        tables['sample_data'].append(
            {
                'token': f'{number}', 'sample_token': f'{number}', 'ego_pose_token': f'{number}', 'timestamp': number,
                'calibrated_sensor_token': 'k', 'is_key_frame': True, 'width': rgb.shape[1], 'height': rgb.shape[0],
                'filename': f'samples/CAM_FRONT/{number}.jpg',
            }
        )  # fmt: skip
    (root / 'v1.0-world').mkdir()
    for name, rows in tables.items():
        (root / 'v1.0-world' / f'{name}.json').write_text(json.dumps(rows))
    return root


def patches(width_px: int, height_px: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rectangles of classes, painted with their colours, at depths of class + 1 m."""
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 18, (4, 6)).astype(np.uint8)
    classes = cv2.resize(grid, (width_px, height_px), interpolation=cv2.INTER_NEAREST)
    return COLOURS[classes], classes, (classes.astype(np.uint16) + 1) * 256


def ramp(width_px: int, height_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Red rises to the right and green downwards, by 250 in all; the depth image numbers the pixels from 1."""
    u, v = np.meshgrid(np.arange(width_px) + 0.5, np.arange(height_px) + 0.5)
    rgb = np.rint(np.stack([250.0 * u / width_px, 250.0 * v / height_px, np.full_like(u, 99.0)], axis=-1))
    number = np.arange(1, 1 + width_px * height_px, dtype=np.uint16).reshape(height_px, width_px)
    return rgb.astype(np.uint8), np.zeros((height_px, width_px), np.uint8), number


def recipe(root: Path, augmentation: Augmentation | None = None, **data) -> Recipe:
    return Recipe(
        out='out',
        model='tiny',
        terms=('classes_in_image', 'depth_in_image'),
        train=('perception.backbone', 'heads'),
        data=DataSettings(root=str(root), split='', **data),
        optimization=OptimizationSettings(steps=1, batch_size=1),
        augmentation=augmentation or Augmentation(),
        seed=5,
    )


@pytest.fixture
def few(tmp_path) -> Path:
    return write_images(tmp_path, [patches(80, 45, seed) for seed in range(5)])


@pytest.mark.parametrize('size_px', [(96, 54), (192, 108)])
def test_classes_are_what_the_colours_say_under_random_warps(tmp_path, size_px):
    root = write_images(tmp_path, [patches(*size_px, seed) for seed in range(2)])
    stream = image_stream(recipe(root, Augmentation(image=MOVING)), CONFIG)
    checked, outside = 0, []
    for position in range(40):
        item = stream[position]
        assert (item['image'].shape, item['image'].dtype) == ((32, 64, 3), np.uint8)
        classes, depth_m = item['target_class'], item['target_depth_m']
        # surrounded by its own label on all sides, so that no colours are mixed
        around = np.lib.stride_tricks.sliding_window_view(classes, (3, 3))
        inner = np.pad((around == classes[1:-1, 1:-1, None, None]).all(axis=(2, 3)), 1)
        inside = inner & (classes != UNLABELLED)
        distance = np.abs(item['image'][:, :, None].astype(int) - COLOURS).sum(axis=-1)
        np.testing.assert_array_equal(distance.argmin(axis=-1)[inside], classes[inside])
        assert distance.min(axis=-1)[inside].max() < 60
        np.testing.assert_array_equal(depth_m, np.where(classes == UNLABELLED, 0.0, classes + 1.0))
        checked += inside.sum()
        outside.append(item['image'][inner & ~inside])
    assert checked > 20_000
    outside = np.concatenate(outside)
    assert len(outside) > 2_000
    assert outside.mean() < 1.0


def test_labels_are_those_of_the_pixel_at_each_middle(tmp_path):
    """A half of a pixel between image and labels would make 0.6 px of the 0.3 px that rounding has."""
    root = write_images(tmp_path, [ramp(96, 54)])
    # not so small that the photograph is smoothed, and its ramp's ends with it
    stream = image_stream(recipe(root, Augmentation(image=dataclasses.replace(MOVING, resize=(1.1, 1.4)))), CONFIG)
    errors_px = []
    for position in range(30):
        item = stream[position]
        number = np.rint(item['target_depth_m'] * 256.0).astype(int) - 1
        inside = cv2.erode((number >= 0).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        u, v = number % 96 + 0.5, number // 96 + 0.5
        for channel, found in ((0, u * 250.0 / 96), (1, v * 250.0 / 54)):
            scale = 96 / 250 if channel == 0 else 54 / 250
            errors_px.append(((item['image'][..., channel] - found) * scale)[inside])
    assert len(np.concatenate(errors_px)) > 40_000
    for axis in (0, 1):
        errors = np.concatenate(errors_px[axis::2])
        assert np.sqrt((errors**2).mean()) < 0.4


def test_without_augmentation_labels_are_those_of_the_files(tmp_path):
    rgb, classes, depth = patches(64, 36, 1)
    depth[20, 7], depth[21, 7], depth[22, 7] = 0, 1, 65535
    classes[20, 7] = 17
    stream = image_stream(recipe(write_images(tmp_path, [(rgb, classes, depth)])), CONFIG)
    item = stream[3]
    np.testing.assert_array_equal(item['target_class'], classes[4:])  # the top is cut off
    assert item['target_depth_m'].dtype == np.float32
    np.testing.assert_array_equal(item['target_depth_m'], depth[4:] / 256.0)
    assert item['target_depth_m'][16:19, 7].tolist() == [0.0, 1.0 / 256.0, 255.99609375]


def test_a_zoom_keeps_depths(tmp_path):
    depth = np.full((36, 64), 12 * 256, np.uint16)
    root = write_images(tmp_path, [(*patches(64, 36, 1)[:2], depth)])
    stream = image_stream(recipe(root, Augmentation(image=ImageAugmentation(resize=(1.5, 1.5)))), CONFIG)
    assert (stream[0]['target_depth_m'] == 12.0).all()


def test_a_sample_depends_on_seed_and_position_only(few):
    once, again = (image_stream(recipe(few, EVERYTHING), CONFIG) for _ in range(2))
    assert len(once) == 5
    expected = {position: once[position] for position in range(12)}
    for position in reversed(range(12)):
        item = again[position]
        assert item.keys() == {'photograph', 'image', 'target_class', 'target_depth_m'}
        assert all(np.array_equal(item[key], expected[position][key]) for key in item)
    loader = DataLoader(again, batch_sampler=StepBatches(1, 4, 1, 0, 1), num_workers=1, collate_fn=collate)
    batch = next(iter(loader))
    np.testing.assert_array_equal(batch['image'], np.stack([expected[position]['image'] for position in range(4, 8)]))
    other = image_stream(dataclasses.replace(recipe(few, EVERYTHING), seed=6), CONFIG)
    assert any(not np.array_equal(other[position]['image'], expected[position]['image']) for position in range(5))


def test_every_epoch_has_each_image_once_with_other_changes(few):
    plain, changing = image_stream(recipe(few), CONFIG), image_stream(recipe(few, EVERYTHING), CONFIG)
    epochs = [[plain[position]['target_class'].tobytes() for position in range(5 * n, 5 * n + 5)] for n in range(3)]
    assert all(set(epoch) == set(epochs[0]) and len(set(epoch)) == 5 for epoch in epochs)
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]
    drawn = {changing[position]['image'].tobytes() for position in range(20)}
    assert len(drawn) == 20


def test_only_labels_of_the_terms_are_needed(few):
    for path in (few / 'depth/CAM_FRONT').iterdir():
        path.unlink()
    (few / 'depth/CAM_FRONT').rmdir()
    (few / 'depth').rmdir()
    classes_only = dataclasses.replace(recipe(few), terms=('classes_in_image',))
    assert image_stream(classes_only, CONFIG)[0].keys() == {'photograph', 'image', 'target_class'}
    with pytest.raises(FileNotFoundError, match=r'depth is not there: .*world --semantics --depth'):
        image_stream(recipe(few), CONFIG)


def test_missing_labels_are_listed_or_left_out(few):
    (few / 'depth/CAM_FRONT/3.png').unlink()
    (few / 'semantics/CAM_FRONT/0.png').unlink()
    with pytest.raises(FileNotFoundError, match='2 label images of 5 photographs') as error:
        image_stream(recipe(few), CONFIG)
    assert 'semantics/CAM_FRONT/0.png' in str(error.value)
    assert 'depth/CAM_FRONT/3.png' in str(error.value)
    assert len(image_stream(recipe(few, missing_labels='skip'), CONFIG)) == 3
    with pytest.raises(ValueError, match='no image is left'):
        image_stream(recipe(few, cameras=('CAM_BACK',)), CONFIG)


def test_missing_photographs_are_listed_before_the_first_step_or_left_out(few):
    (few / 'samples/CAM_FRONT/2.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of 5 photographs are not there(.|\n)*CAM_FRONT/2\.jpg'):
        image_stream(recipe(few), CONFIG)
    left = image_stream(recipe(few, missing_images='mask'), CONFIG)
    assert len(left) == 4
    assert all('2.jpg' not in left[position]['photograph'] for position in range(4))


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('semantics/CAM_FRONT/0.png', np.full((45, 80), 18, np.uint8), '18 is no class'),
        ('semantics/CAM_FRONT/0.png', np.zeros((45, 79), np.uint8), r'expected uint8 \[45, 80\]'),
        ('depth/CAM_FRONT/0.png', np.zeros((45, 80), np.uint8), 'expected uint16'),
        ('depth/CAM_FRONT/0.png', b'', '0 bytes that are no image'),
        ('samples/CAM_FRONT/0.jpg', b'no photograph', 'unsupported_format'),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    root = write_images(tmp_path, [patches(80, 45, 1)])
    if isinstance(content, bytes):
        (root / name).write_bytes(content)
    else:
        assert cv2.imwrite(str(root / name), content)
    with pytest.raises(NuScenesError, match=message) as error:
        image_stream(recipe(root), CONFIG)[0]
    assert name in str(error.value)


def test_augmentation_of_the_scene_is_refused(few):
    with pytest.raises(ValueError, match=r'augmentation\.scene'):
        image_stream(recipe(few, Augmentation(scene=SceneAugmentation())), CONFIG)

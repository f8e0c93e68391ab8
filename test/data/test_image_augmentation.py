"""Warped images and their intrinsics belong together."""

import math

import numpy as np
import pytest

from sparseoccvla_ros.data.image_augmentation import ImageAugmentation, ImageWarp
from sparseoccvla_ros.sensors.decode import CameraFault
from sparseoccvla_ros.sensors.preprocess import ImageFit

WIDE = ImageAugmentation(resize=(0.7, 1.6), bottom_cut=(0.0, 0.3), flip_probability=0.5, rotation_rad=0.4)
SIZES = (320, 180, 160, 64)


def blob(width_px: int, height_px: int, u_px: float, v_px: float, sigma_px: float) -> np.ndarray:
    """A black image with a bright spot whose middle lies at (u, v), pixels from the corner."""
    u, v = np.arange(width_px) + 0.5, np.arange(height_px)[:, None] + 0.5
    grey = 250.0 * np.exp(-((u - u_px) ** 2 + (v - v_px) ** 2) / (2.0 * sigma_px**2))
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image[..., 0].astype(np.float64)
    u, v = np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5
    return np.array([(weights.sum(axis=0) * u).sum(), (weights.sum(axis=1) * v).sum()]) / weights.sum()


@pytest.mark.parametrize('sizes', [SIZES, (1600, 900, 352, 128), (352, 128, 352, 128), (333, 187, 160, 64)])
def test_without_a_change_it_is_the_fit_of_the_running_model(sizes):
    plain, warped = ImageFit.to(*sizes), ImageWarp().fit(*sizes)
    reduction = plain.decode_reduction
    assert warped.decode_reduction == reduction
    image = np.random.default_rng(1).integers(0, 256, (sizes[1] // reduction, sizes[0] // reduction, 3), np.uint8)
    np.testing.assert_array_equal(warped.apply(image), plain.apply(image))
    intrinsics_px = np.array([[1260.0, 0.0, 800.0], [0.0, 1260.0, 450.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(warped.intrinsics(intrinsics_px), plain.intrinsics(intrinsics_px), rtol=1e-12)


def test_a_spot_lies_where_the_intrinsics_say():
    """The middle of a bright spot, 40 random warps; an error of half a pixel anywhere would be 0.5 px here."""
    rng = np.random.default_rng(2)
    checked = 0
    for _ in range(40):
        u_px, v_px = rng.uniform(60, 260), rng.uniform(80, 160)
        fit = WIDE.draw(rng).fit(*SIZES)
        expected = (fit.intrinsics(np.eye(3)) @ [u_px, v_px, 1.0])[:2]
        if (expected > 12).all() and (expected < (SIZES[2] - 12, SIZES[3] - 12)).all():  # the whole spot is in view
            found = centroid(fit.apply(blob(*SIZES[:2], u_px, v_px, sigma_px=4.0)))
            np.testing.assert_allclose(found, expected, atol=0.1)
            checked += 1
    assert checked > 12


def test_by_hand():
    """320x180 to 160x64 at 1.25 times: 200x112.5 (112) px, the window from (10, 48), then mirrored."""
    fit = ImageWarp(resize=1.25, left=0.25, flip=True).fit(*SIZES)
    u_px, v_px, _ = fit.intrinsics(np.eye(3)) @ [160.0, 150.0, 1.0]
    assert u_px == pytest.approx(160 - (160 * 200 / 320 - 10))
    assert v_px == pytest.approx(150 * 112 / 180 - 48)


def test_a_mirror_of_the_mirrored_image_is_the_image():
    image = np.random.default_rng(3).integers(0, 256, (180, 320, 3), np.uint8)
    plain, mirrored = ImageWarp().fit(*SIZES), ImageWarp(flip=True).fit(*SIZES)
    np.testing.assert_array_equal(mirrored.apply(image)[:, ::-1], plain.apply(image))
    assert mirrored.intrinsics(np.eye(3))[0, 0] < 0.0


def test_what_lies_outside_a_smaller_image_is_black():
    image = np.full((180, 320, 3), 255, np.uint8)
    fit = ImageWarp(resize=0.5, left=0.5).fit(*SIZES)
    warped = fit.apply(image)
    expected = np.zeros((64, 160, 3), np.uint8)
    expected[64 - 45 :, 40:120] = 255
    np.testing.assert_array_equal(warped, expected)
    cut_off = ImageWarp(resize=0.5, bottom_cut=0.95).fit(320, 180, 160, 90)
    assert cut_off.apply(image).any(axis=2).sum() == 2 * 80  # 0.95 of 45 rows, rounded: two are left


def test_ranges_are_kept_and_do_not_shift_what_is_drawn_after():
    rng = np.random.default_rng(4)
    warps = [WIDE.draw(rng) for _ in range(300)]
    assert 0.7 <= min(w.resize for w in warps) < 0.72 < 1.55 < max(w.resize for w in warps) <= 1.6
    assert 0.4 < np.mean([w.flip for w in warps]) < 0.6
    assert max(abs(w.rotation_rad) for w in warps) <= 0.4
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    WIDE.draw(one)
    ImageAugmentation(flip_probability=0.0).draw(other)
    assert one.uniform() == other.uniform()


def test_images_of_another_size_are_refused_as_without_a_warp():
    with pytest.raises(CameraFault, match='wrong_size'):
        ImageWarp(resize=2.0).fit(320, 100, 160, 64)
    with pytest.raises(CameraFault, match='camera info says 320 x 180'):
        ImageWarp().fit(*SIZES).apply(np.zeros((90, 200, 3), np.uint8))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'resize': (1.2, 0.9)}, r'resize must be a range.*\(1.2, 0.9\)'),
        ({'resize': (0.0, 1.0)}, 'resize must be a range'),
        ({'resize': (math.nan, 1.0)}, 'resize must be a range'),
        ({'bottom_cut': (0.0, 1.0)}, 'bottom_cut must be a range'),
        ({'flip_probability': 1.5}, 'flip_probability must be in 0..1, got 1.5'),
        ({'rotation_rad': -0.1}, 'rotation_rad must be in 0..pi, got -0.1'),
    ],
)
def test_impossible_ranges_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ImageAugmentation(**changes)

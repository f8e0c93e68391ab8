"""Changes of colour."""

import colorsys
import math

import numpy as np
import pytest

from sparseoccvla_ros.data.photometric import PhotometricChange, PhotometricDistortion


def noise_source() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


def test_the_default_changes_nothing(image):
    changed = PhotometricChange().apply(image, noise_source())
    np.testing.assert_array_equal(changed, image)
    assert changed is not image


def test_brightness_and_contrast_by_hand():
    image = np.array([[[0, 100, 250]]], np.uint8)
    assert PhotometricChange(brightness=20.0, contrast=1.5).apply(image, noise_source()).tolist() == [[[30, 180, 255]]]
    assert PhotometricChange(brightness=-30.0).apply(image, noise_source()).tolist() == [[[0, 70, 220]]]


@pytest.mark.parametrize(('saturation', 'hue_deg'), [(0.5, 0.0), (1.4, 0.0), (1.0, 18.0), (1.0, -18.0), (0.7, 12.0)])
def test_saturation_and_hue_are_those_of_the_standard_library(image, saturation, hue_deg):
    change = PhotometricChange(saturation=saturation, hue_rad=math.radians(hue_deg))
    expected = []
    for red, green, blue in image.reshape(-1, 3) / 255.0:
        hue, colour, value = colorsys.rgb_to_hsv(red, green, blue)
        expected.append(colorsys.hsv_to_rgb((hue + hue_deg / 360.0) % 1.0, min(1.0, colour * saturation), value))
    found = change.apply(image, noise_source()).reshape(-1, 3)
    np.testing.assert_allclose(found, 255.0 * np.array(expected), atol=0.51)


def test_grey_stays_grey_whatever_the_hue():
    grey = np.full((4, 4, 3), 90, np.uint8)
    changed = PhotometricChange(saturation=1.5, hue_rad=0.3).apply(grey, noise_source())
    np.testing.assert_array_equal(changed, grey)


def test_noise_has_the_asked_strength_and_repeats_with_its_seed():
    grey = np.full((200, 200, 3), 128, np.uint8)
    change = PhotometricChange(noise=4.0)
    noisy = change.apply(grey, noise_source())
    assert noisy.astype(np.float64).std() == pytest.approx(4.0, rel=0.05)
    assert noisy.mean() == pytest.approx(128.0, abs=0.1)
    np.testing.assert_array_equal(noisy, change.apply(grey, noise_source()))


def test_ranges_and_probability_are_kept():
    rng = np.random.default_rng(2)
    changes = [PhotometricDistortion().draw(rng) for _ in range(400)]
    for name, neutral, low, high in (
        ('brightness', 0.0, -32.0, 32.0),
        ('contrast', 1.0, 0.5, 1.5),
        ('saturation', 1.0, 0.5, 1.5),
        ('hue_rad', 0.0, -math.radians(18.0), math.radians(18.0)),
        ('noise', 0.0, 0.0, 4.0),
    ):
        values = np.array([getattr(change, name) for change in changes])
        assert low <= values.min()
        assert values.max() <= high
        assert values.max() - neutral > 0.9 * (high - neutral)
        assert 0.4 < (values != neutral).mean() < 0.6
    assert PhotometricDistortion(probability=0.0).draw(rng) == PhotometricChange()


def test_what_is_drawn_after_does_not_depend_on_the_ranges():
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    PhotometricDistortion().draw(one)
    PhotometricDistortion(noise=0.0, probability=0.0).draw(other)
    assert one.uniform() == other.uniform()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'brightness': -1.0}, 'brightness must be in 0..255, got -1'),
        ({'hue_rad': 18.0}, 'hue_rad must be in'),
        ({'noise': math.nan}, 'noise must be in'),
        ({'probability': 2.0}, 'probability must be in 0..1, got 2'),
        ({'contrast': (1.5, 0.5)}, r'contrast must be a range of factors, lower end first, got \(1.5, 0.5\)'),
        ({'saturation': (-0.5, 1.0)}, 'saturation must be a range'),
    ],
)
def test_impossible_ranges_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PhotometricDistortion(**changes)

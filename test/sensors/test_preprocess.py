"""Image fit: the pixels and the intrinsics move together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sparseoccvla_ros.sensors.decode import CameraFault, decode_compressed
from sparseoccvla_ros.sensors.preprocess import ImageFit

SIZES = [  # camera, network
    (1600, 900, 704, 256),
    (1600, 900, 352, 128),
    (1920, 1080, 704, 256),
    (1280, 1024, 352, 128),
    (1601, 899, 352, 128),
    (352, 128, 352, 128),
    (320, 240, 704, 256),
]


def random_intrinsics(rng: np.random.Generator, width_px: int, height_px: int) -> np.ndarray:
    return np.array(
        [
            [rng.uniform(0.5, 1.2) * width_px, 0.0, rng.uniform(0.45, 0.55) * width_px],
            [0.0, rng.uniform(0.5, 1.2) * width_px, rng.uniform(0.45, 0.55) * height_px],
            [0.0, 0.0, 1.0],
        ]
    )


def project(intrinsics_px: np.ndarray, point_camera: np.ndarray) -> np.ndarray:
    u, v, depth_m = intrinsics_px @ point_camera
    return np.array([u / depth_m, v / depth_m])


@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('reduced', [False, True])
def test_a_point_lands_on_its_picture(sizes, reduced):
    """A dot is drawn where a 3D point projects; after the fit it is found where the fitted intrinsics project it."""
    width_px, height_px, out_width_px, out_height_px = sizes
    fit = ImageFit.to(*sizes)
    rng = np.random.default_rng(7)
    radius_px = 3.0 * max(1.0, width_px / out_width_px)
    v, u = np.mgrid[:height_px, :width_px] + 0.5
    for _ in range(2):
        intrinsics_px = random_intrinsics(rng, width_px, height_px)
        low_px = height_px * (1.0 - out_height_px / fit.scaled_height_px)  # the cut line, in the full image
        pixel = np.array(
            [
                rng.uniform(4 * radius_px, width_px - 4 * radius_px),
                rng.uniform(low_px + 4 * radius_px, height_px - 4 * radius_px),
            ]
        )
        point_camera = np.linalg.inv(intrinsics_px) @ np.array([*pixel, 1.0]) * rng.uniform(2.0, 50.0)
        dot = 250.0 * np.exp(-((u - pixel[0]) ** 2 + (v - pixel[1]) ** 2) / (2.0 * radius_px**2))
        image = np.repeat(dot.astype(np.uint8)[..., None], 3, axis=2)
        if reduced:
            jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1]
            image = decode_compressed(jpeg, reduce=fit.decode_reduction)
        fitted = fit.apply(image)
        assert fitted.shape == (out_height_px, out_width_px, 3)
        weight = np.clip(fitted[..., 0].astype(float) - 20.0, 0.0, None)
        out_v, out_u = np.mgrid[:out_height_px, :out_width_px] + 0.5
        found = np.array([(out_u * weight).sum(), (out_v * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(found, project(fit.intrinsics(intrinsics_px), point_camera), atol=0.25)


@pytest.mark.parametrize('sizes', SIZES)
def test_relative_positions_do_not_change(sizes):
    """u / width, and the distance from the lower edge in widths, are the same before and after the fit."""
    width_px, height_px, out_width_px, out_height_px = sizes
    fit = ImageFit.to(*sizes)
    rng = np.random.default_rng(1)
    for _ in range(20):
        intrinsics_px = random_intrinsics(rng, width_px, height_px)
        point_camera = rng.uniform([-5.0, -5.0, 4.0], [5.0, 5.0, 40.0])
        u, v = project(intrinsics_px, point_camera)
        fitted_u, fitted_v = project(fit.intrinsics(intrinsics_px), point_camera)
        assert fitted_u / out_width_px == pytest.approx(u / width_px, abs=1e-12)
        # the height scales to whole rows: half a row in the whole image at most
        lower, fitted_lower = (height_px - v) * out_width_px / width_px, out_height_px - fitted_v
        assert fitted_lower == pytest.approx(lower, abs=0.5 * abs(height_px - v) / height_px + 1e-9)


def test_nuscenes_to_the_published_size_by_hand():
    """1600x900 to 704x256: factor 0.44, 396 rows, the upper 140 cut."""
    fit = ImageFit.to(1600, 900, 704, 256)
    assert (fit.scaled_height_px, fit.cut_px, fit.decode_reduction) == (396, 140, 2)
    fitted = fit.intrinsics(np.array([[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]]))
    expected = [[557.216, 0.0, 359.172], [0.0, 557.216, 76.26], [0.0, 0.0, 1.0]]
    np.testing.assert_allclose(fitted, expected, atol=1e-9)


@pytest.mark.parametrize(
    ('sizes', 'reduction'),
    [
        ((1600, 900, 704, 256), 2),
        ((1600, 900, 352, 128), 4),
        ((1600, 900, 200, 100), 4),  # 900 is not a multiple of 8: the reduced image would show more than the full one
        ((1600, 896, 200, 100), 8),
        ((1600, 900, 1600, 900), 1),
        ((640, 480, 704, 256), 1),
        ((1601, 899, 352, 128), 1),
    ],
)
def test_the_reduction_keeps_resolution_and_content(sizes, reduction):
    assert ImageFit.to(*sizes).decode_reduction == reduction


def test_an_image_that_fits_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (128, 352, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ImageFit.to(352, 128, 352, 128).apply(image), image)


def test_the_top_is_cut_not_the_bottom():
    image = np.zeros((900, 1600, 3), np.uint8)
    image[-4:] = 255
    fitted = ImageFit.to(1600, 900, 352, 128).apply(image)
    assert fitted[-1].min() > 150
    assert fitted[:-2].max() == 0


@pytest.mark.parametrize('sizes', [(1600, 400, 352, 128), (0, 900, 352, 128), (1600, -1, 352, 128)])
def test_cameras_that_cannot_fill_the_network_are_refused(sizes):
    with pytest.raises(CameraFault) as caught:
        ImageFit.to(*sizes)
    assert caught.value.reason == 'wrong_size'


def test_an_image_of_another_size_is_refused():
    fit = ImageFit.to(1600, 900, 352, 128)
    for shape in ((901, 1600, 3), (450, 800, 3), (128, 352, 3)):
        with pytest.raises(CameraFault) as caught:
            fit.apply(np.zeros(shape, np.uint8))
        assert caught.value.reason == 'wrong_size'
    assert fit.apply(np.zeros((225, 400, 3), np.uint8)).shape == (128, 352, 3)


@pytest.mark.nuscenes
@pytest.mark.parametrize(('out_width_px', 'out_height_px'), [(704, 256), (352, 128)])
def test_the_reduced_decode_gives_the_same_picture(nuscenes_dir, out_width_px, out_height_px):
    paths = sorted(nuscenes_dir.glob('samples/CAM_*/*.jpg'))
    assert len(paths) == 6
    fit = ImageFit.to(1600, 900, out_width_px, out_height_px)
    for path in paths:
        data = path.read_bytes()
        full = fit.apply(decode_compressed(data)).astype(int)
        reduced = fit.apply(decode_compressed(data, reduce=fit.decode_reduction)).astype(int)
        assert np.abs(full - reduced).mean() < 2.5
        # nor is one shifted against the other: a shift by one pixel makes it worse
        shifted = np.abs(full[:, 1:] - reduced[:, :-1]).mean()
        assert np.abs(full - reduced).mean() < 0.5 * shifted

"""Image decoding: what is whole comes out in the right colours, what is not is refused with its reason."""

from __future__ import annotations

import struct
import zlib
from array import array

import cv2
import numpy as np
import pytest

from sparseoccvla_ros.sensors.decode import CameraFault, decode_compressed, decode_raw


def smooth_image(height_px: int = 96, width_px: int = 160) -> np.ndarray:
    """RGB with red growing to the right, green growing downwards and a blue disc."""
    v, u = np.mgrid[:height_px, :width_px]
    blue = np.where((u - width_px / 2) ** 2 + (v - height_px / 2) ** 2 < 400, 200, 30)
    return np.stack([u * 255 // width_px, v * 255 // height_px, blue], axis=-1).astype(np.uint8)


def encoded(image_rgb: np.ndarray, suffix: str = '.jpg') -> bytes:
    return cv2.imencode(suffix, image_rgb[..., ::-1])[1].tobytes()


def reason_of(function, *args, **kwargs) -> str:
    with pytest.raises(CameraFault) as caught:
        function(*args, **kwargs)
    assert caught.value.detail
    return caught.value.reason


def png_header(width_px: int, height_px: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width_px, height_px, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(b'\0' * 10)) + chunk(b'IEND', b'')


def test_png_is_exact_and_jpeg_is_close_in_rgb():
    image = smooth_image()
    np.testing.assert_array_equal(decode_compressed(encoded(image, '.png')), image)
    difference = np.abs(decode_compressed(encoded(image)).astype(int) - image)
    assert difference.mean() < 3.0


@pytest.mark.parametrize(
    'as_buffer', [bytes, bytearray, memoryview, lambda d: array('B', d), lambda d: np.array(array('B', d))]
)
def test_every_buffer_type_is_accepted(as_buffer):
    data = encoded(smooth_image())
    np.testing.assert_array_equal(decode_compressed(as_buffer(data)), decode_compressed(data))


@pytest.mark.parametrize('reduce', [2, 4, 8])
@pytest.mark.parametrize('size', [(96, 160), (90, 150)])
def test_reduced_decode_is_the_area_mean_of_the_full_one(reduce, size):
    image = smooth_image(*size)
    reduced = decode_compressed(encoded(image), reduce=reduce)
    assert reduced.shape == (-(-size[0] // reduce), -(-size[1] // reduce), 3)
    rows, columns = size[0] // reduce, size[1] // reduce
    whole = image[: rows * reduce, : columns * reduce].reshape(rows, reduce, columns, reduce, 3).mean(axis=(1, 3))
    assert np.abs(reduced[:rows, :columns] - whole).mean() < 4.0


def test_exif_orientation_does_not_turn_the_pixels():
    data = encoded(smooth_image())
    # orientation 6: a viewer turns it by 90 degrees
    tiff = b'MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00'
    body = b'Exif\0\0' + tiff
    turned = data[:2] + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (160, 96, 3)
    np.testing.assert_array_equal(decode_compressed(turned), decode_compressed(data))


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('kept', [0.02, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize('fill', [b'', b'\0' * 500])
def test_a_truncated_image_is_refused(suffix, kept, fill):
    data = encoded(smooth_image(), suffix)
    assert reason_of(decode_compressed, data[: int(len(data) * kept)] + fill) == 'corrupt_image'


def test_a_jpeg_truncated_after_a_thumbnail_is_refused():
    """The thumbnail inside the header has an end marker of its own."""
    data = encoded(smooth_image())
    body = b'Exif\0\0' + encoded(smooth_image(16, 16))
    with_thumbnail = data[:2] + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + data[2:]
    np.testing.assert_array_equal(decode_compressed(with_thumbnail), decode_compressed(data))
    assert reason_of(decode_compressed, with_thumbnail[:-2] + bytes(500)) == 'corrupt_image'


def test_padding_after_the_end_is_accepted():
    data = encoded(smooth_image())
    np.testing.assert_array_equal(decode_compressed(data + b'\0' * 4096), decode_compressed(data))


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'', 'corrupt_image'),
        (b'\xff', 'unsupported_format'),
        (b'\xff\xd8', 'corrupt_image'),
        (b'\xff\xd8\xff\xd9', 'corrupt_image'),
        (b'\xff\xd8\xff\xda\x00\x02\xff\xd9', 'corrupt_image'),
        (b'\xff\xd8' + b'\xff\xe0\x00\x00' * 3, 'corrupt_image'),
        (b'\xff\xd8' + b'\x00' * 100, 'corrupt_image'),
        (b'\x89PNG\r\n\x1a\n', 'corrupt_image'),
        (b'GIF89a' + b'\0' * 50, 'unsupported_format'),
        (b'RIFF\x00\x00\x00\x00WEBP', 'unsupported_format'),
    ],
)
def test_what_is_no_image_is_refused(data, reason):
    assert reason_of(decode_compressed, data) == reason


def test_random_bytes_never_raise_anything_else():
    rng = np.random.default_rng(0)
    jpeg, png = encoded(smooth_image(32, 48)), encoded(smooth_image(32, 48), '.png')
    for _ in range(100):
        data = bytearray(rng.choice([jpeg, png]) if rng.uniform() < 0.8 else rng.bytes(200))
        for at in rng.integers(0, len(data), rng.integers(1, 8)):
            data[at] = rng.integers(256)
        try:
            image = decode_compressed(data[: rng.integers(1, len(data) + 1)] if rng.uniform() < 0.3 else data)
        except CameraFault:
            continue
        assert image.dtype == np.uint8
        assert image.ndim == 3


def test_a_bomb_is_refused_by_its_header():
    assert reason_of(decode_compressed, png_header(60_000, 60_000)) == 'image_too_large'
    assert reason_of(decode_compressed, png_header(8_000, 8_000)) == 'image_too_large'
    jpeg = bytearray(encoded(smooth_image()))
    at = jpeg.index(b'\xff\xc0')
    jpeg[at + 5 : at + 9] = struct.pack('>HH', 65_535, 65_535)
    assert reason_of(decode_compressed, jpeg) == 'image_too_large'


def test_an_unknown_reduction_is_an_error():
    with pytest.raises(ValueError, match='reduce must be one of'):
        decode_compressed(encoded(smooth_image()), reduce=3)


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize(
    ('encoding', 'pixel', 'colour'),
    [
        ('rgb8', (255, 0, 0), RED),
        ('bgr8', (255, 0, 0), BLUE),
        ('rgba8', (0, 255, 0, 7), GREEN),
        ('bgra8', (0, 0, 255, 7), RED),
        ('mono8', (255,), WHITE),
    ],
)
def test_raw_colour_order_and_padding(encoding, pixel, colour):
    row = bytes(pixel) * 6
    image = decode_raw((row + b'\x55' * 5) * 4, encoding, 4, 6, len(row) + 5)
    np.testing.assert_array_equal(image, np.broadcast_to(np.array(colour, np.uint8), (4, 6, 3)))
    np.testing.assert_array_equal(image, decode_raw(row * 4, encoding, 4, 6, len(row)))


@pytest.mark.parametrize(
    ('encoding', 'order'), [('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuv422_yuy2', 'yuyv'), ('yuyv', 'yuyv')]
)
@pytest.mark.parametrize(
    ('yuv', 'colour'),
    # ITU-R BT.601, studio range: values worked from the standard's equations
    [((81, 90, 240), RED), ((145, 54, 34), GREEN), ((41, 240, 110), BLUE), ((235, 128, 128), WHITE)],
)
def test_yuv422(encoding, order, yuv, colour):
    y, u, v = yuv
    pair = bytes((u, y, v, y) if order == 'uyvy' else (y, u, y, v))
    image = decode_raw(pair * 3 * 2, encoding, 2, 6, 12)
    assert image.shape == (2, 6, 3)
    assert np.abs(image.astype(int) - colour).max() <= 3


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('colour', [RED, GREEN, BLUE])
def test_bayer(pattern, colour):
    """The pattern's name lists the first row's two filters, then the second row's."""
    level = dict(zip('rgb', colour, strict=True))
    tile = np.array([[level[pattern[0]], level[pattern[1]]], [level[pattern[2]], level[pattern[3]]]], np.uint8)
    image = decode_raw(np.tile(tile, (8, 8)).tobytes(), f'bayer_{pattern}8', 16, 16, 16)
    np.testing.assert_array_equal(image[4:-4, 4:-4], np.broadcast_to(np.array(colour, np.uint8), (8, 8, 3)))


@pytest.mark.parametrize(
    ('size', 'encoding', 'height_px', 'width_px', 'step', 'reason'),
    [
        (48, 'rgb16', 4, 4, 12, 'unsupported_encoding'),
        (48, '', 4, 4, 12, 'unsupported_encoding'),
        (47, 'rgb8', 4, 4, 12, 'wrong_size'),
        (49, 'rgb8', 4, 4, 12, 'wrong_size'),
        (0, 'rgb8', 4, 4, 12, 'wrong_size'),
        (0, 'rgb8', 0, 4, 12, 'wrong_size'),
        (0, 'rgb8', 4, 0, 0, 'wrong_size'),
        (44, 'rgb8', 4, 4, 11, 'wrong_step'),
        (0, 'rgb8', 4, 4, 0, 'wrong_step'),
        (40, 'yuv422', 4, 5, 10, 'wrong_size'),
        (12, 'mono8', 10**9, 4, 4, 'wrong_size'),
        (4, 'bayer_rggb8', 2, 2, 2, 'wrong_size'),
    ],
)
def test_raw_fields_that_disagree_are_refused(size, encoding, height_px, width_px, step, reason):
    assert reason_of(decode_raw, bytes(size), encoding, height_px, width_px, step) == reason


@pytest.mark.nuscenes
def test_real_images_decode_whole_and_truncated_ones_do_not(nuscenes_dir):
    paths = sorted(nuscenes_dir.glob('samples/CAM_*/*.jpg'))
    assert len(paths) == 6
    for path in paths:
        data = path.read_bytes()
        assert decode_compressed(data).shape == (900, 1600, 3)
        assert decode_compressed(data, reduce=4).shape == (225, 400, 3)
        for kept in (0.3, 0.99):
            assert reason_of(decode_compressed, data[: int(len(data) * kept)]) == 'corrupt_image'

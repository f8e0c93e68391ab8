"""Image bytes to RGB arrays, refusing what is not a whole image.

A camera whose image cannot be used counts as missing for its scene; :class:`CameraFault` carries the reason.
"""

from __future__ import annotations

from array import array
from typing import NoReturn

import cv2
import numpy as np

Buffer = bytes | bytearray | memoryview | array | np.ndarray

MAX_SIDE_PX = 16_384
MAX_PIXELS = 36_000_000  # 8K video has 33 million; a bomb of a few bytes can declare 4 billion

_REDUCED_FLAG = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset((0x01, *range(0xD0, 0xD8)))

# names of sensor_msgs/image_encodings: (bytes a pixel, conversion to RGB or None)
_RAW_ENCODINGS: dict[str, tuple[int, int | None]] = {
    'rgb8': (3, None),
    'bgr8': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
    'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2),
    # ROS names the first two pixels of the first two rows, OpenCV's short names another corner of the pattern
    'bayer_rggb8': (1, cv2.COLOR_BayerRGGB2RGB),
    'bayer_bggr8': (1, cv2.COLOR_BayerBGGR2RGB),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGBRG2RGB),
    'bayer_grbg8': (1, cv2.COLOR_BayerGRBG2RGB),
}


class CameraFault(ValueError):  # noqa: N818 (it is the camera's fault, rarely the program's error)
    """One camera's message cannot be used. ``reason`` is a short key for counters, ``detail`` says what was found."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f'{reason}: {detail}')
        self.reason = reason
        self.detail = detail


def decode_compressed(data: Buffer, *, reduce: int = 1) -> np.ndarray:
    """Decode a whole JPEG or PNG.

    EXIF orientation is ignored: the intrinsics belong to the pixels as they are stored. A JPEG carries no checksum, so
    bit errors inside its image data stay unseen; that it is whole (end marker) is checked before decoding, because
    some decoders fill what is missing with grey.

    Args:
        data: the bytes, any buffer.
        reduce: 1, 2, 4 or 8: decode at 1/reduce of the size, rounded up (faster: JPEG leaves out frequencies).

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        CameraFault: ``corrupt_image`` (empty, truncated, broken), ``unsupported_format`` or ``image_too_large`` (by the
            size in its header, before anything is allocated).
        ValueError: ``reduce`` is none of the four.
    """
    if reduce not in _REDUCED_FLAG:
        raise ValueError(f'reduce must be one of {sorted(_REDUCED_FLAG)}, not {reduce}')
    stored = np.frombuffer(data, np.uint8)
    raw = memoryview(stored)
    if raw[:2] == b'\xff\xd8':
        width_px, height_px = _jpeg_size(raw)
    elif raw[:8] == _PNG_SIGNATURE:
        width_px, height_px = _png_size(raw)
    elif not raw:
        _corrupt('empty')
    else:
        raise CameraFault('unsupported_format', f'neither JPEG nor PNG: begins with {bytes(raw[:8]).hex(" ")}')
    if not (0 < width_px <= MAX_SIDE_PX and 0 < height_px <= MAX_SIDE_PX and width_px * height_px <= MAX_PIXELS):
        raise CameraFault(
            'image_too_large', f'{width_px} x {height_px} px; at most {MAX_SIDE_PX} a side, {MAX_PIXELS} in all'
        )
    try:
        image_bgr = cv2.imdecode(stored, _REDUCED_FLAG[reduce] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise CameraFault('corrupt_image', f'decoder: {error}') from error
    expected_shape = (-(-height_px // reduce), -(-width_px // reduce), 3)
    if image_bgr is None or image_bgr.shape != expected_shape:
        found = 'nothing' if image_bgr is None else str(image_bgr.shape)
        _corrupt(f'decoded to {found}, expected {expected_shape}, from {len(raw)} bytes')
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB, dst=image_bgr)


def decode_raw(data: Buffer, encoding: str, height_px: int, width_px: int, step: int) -> np.ndarray:
    """Turn a sensor_msgs/Image's fields into RGB.

    Args:
        data: ``step * height_px`` bytes, any buffer.
        encoding: a name of sensor_msgs/image_encodings (8 bits a channel).
        step: bytes a row, padding included.

    Returns:
        uint8 [H, W, 3], RGB. For ``rgb8`` without padding a view of ``data``.

    Raises:
        CameraFault: ``unsupported_encoding``, ``wrong_size`` (of the buffer or the image) or ``wrong_step``.
    """
    if encoding not in _RAW_ENCODINGS:
        raise CameraFault('unsupported_encoding', f'{encoding!r} is not one of {", ".join(sorted(_RAW_ENCODINGS))}')
    channels, conversion = _RAW_ENCODINGS[encoding]
    if not (0 < width_px <= MAX_SIDE_PX and 0 < height_px <= MAX_SIDE_PX):
        raise CameraFault('wrong_size', f'{width_px} x {height_px} px; sides must be 1..{MAX_SIDE_PX}')
    if channels == 2 and width_px % 2:
        raise CameraFault('wrong_size', f'{encoding} pairs pixels, but the width is {width_px}')
    if step < width_px * channels:
        raise CameraFault('wrong_step', f'step {step} is less than {width_px} px x {channels} bytes ({encoding})')
    stored = np.frombuffer(data, np.uint8)
    if stored.size != step * height_px:
        raise CameraFault(
            'wrong_size', f'{stored.size} bytes, but step {step} x height {height_px} = {step * height_px}'
        )
    pixels = stored.reshape(height_px, step)[:, : width_px * channels].reshape(height_px, width_px, channels)
    if conversion is None:
        return np.ascontiguousarray(pixels)
    if encoding.startswith('bayer') and min(width_px, height_px) < 4:
        raise CameraFault('wrong_size', f'{width_px} x {height_px} px is too small for {encoding}')
    return cv2.cvtColor(np.ascontiguousarray(pixels), conversion)


def _corrupt(detail: str) -> NoReturn:
    raise CameraFault('corrupt_image', detail)


def _jpeg_size(raw: memoryview) -> tuple[int, int]:
    """Width and height, px, from the frame header; checks that scan data and, after it, the end marker are there."""
    size = None
    at = 2
    while at + 4 <= len(raw):
        if raw[at] != 0xFF:
            _corrupt(f'JPEG: no marker at byte {at}')
        marker = raw[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _JPEG_STANDALONE:
            at += 2
            continue
        length = int.from_bytes(raw[at + 2 : at + 4], 'big')
        if marker in _JPEG_FRAME_HEADERS and at + 9 <= len(raw):
            size = int.from_bytes(raw[at + 7 : at + 9], 'big'), int.from_bytes(raw[at + 5 : at + 7], 'big')
        if marker == 0xDA:  # start of scan: inside it 0xff is always escaped, so an end marker is one
            if size is None:
                _corrupt('JPEG: image data before the frame header')
            if bytes(raw[at:]).rfind(b'\xff\xd9') < 0:
                _corrupt(f'JPEG: truncated at {len(raw)} bytes, no end marker')
            return size
        at += 2 + max(length, 2)
    _corrupt(f'JPEG: truncated at {len(raw)} bytes, no image data')


def _png_size(raw: memoryview) -> tuple[int, int]:
    """Width and height, px, from the header chunk; checks that the end chunk is there."""
    if len(raw) < 33 or raw[12:16] != b'IHDR':
        _corrupt('PNG: no header chunk')
    if bytes(raw[-64:]).rfind(b'IEND') < 0:
        _corrupt(f'PNG: truncated at {len(raw)} bytes, no end chunk')
    return int.from_bytes(raw[16:20], 'big'), int.from_bytes(raw[20:24], 'big')

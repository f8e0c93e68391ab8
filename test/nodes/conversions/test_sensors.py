"""Camera messages: a real calibration, hand-made pixels, and every way a CameraInfo can be wrong."""

import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sparseoccvla_ros.nodes.conversions.sensors import CameraCalibration, calibration_from, rgb_from
from sparseoccvla_ros.sensors.decode import CameraFault

#: A typical nuScenes front camera.
K = [1266.417, 0.0, 816.267, 0.0, 1266.417, 491.507, 0.0, 0.0, 1.0]


def camera_info(**changes):
    info = CameraInfo(width=1600, height=900, distortion_model='plumb_bob', d=[0.0] * 5, k=K)
    info.header.frame_id = 'CAM_FRONT_optical'
    info.p = [K[0], 0.0, K[2], 0.0, 0.0, K[4], K[5], 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def test_the_projection_matrix_of_the_rectified_image_rules():
    other = [1000.0, 0.0, 800.0, 0.0, 0.0, 1000.0, 450.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    calibration = calibration_from(camera_info(p=other))
    assert calibration.intrinsics_px[0].tolist() == [1000.0, 0.0, 800.0]
    assert (calibration.width_px, calibration.height_px, calibration.frame_id) == (1600, 900, 'CAM_FRONT_optical')


def test_an_empty_projection_matrix_falls_back_to_k():
    calibration = calibration_from(camera_info(p=[0.0] * 12))
    np.testing.assert_array_equal(calibration.intrinsics_px, np.reshape(K, (3, 3)))


@pytest.mark.parametrize(
    'changes',
    [
        {'width': 0},
        {'k': [0.0] * 9, 'p': [0.0] * 12},
        {'k': [float('nan'), *K[1:]], 'p': [0.0] * 12},
        {'k': [-1266.0, *K[1:]], 'p': [0.0] * 12},
    ],
    ids=['no size', 'all zero', 'nan', 'negative focal length'],
)
def test_a_camera_info_without_a_camera_is_a_fault(changes):
    with pytest.raises(CameraFault) as fault:
        calibration_from(camera_info(**changes))
    assert fault.value.reason == 'camera_info_invalid'


def picture():
    """A 64 x 48 RGB image: red on the left, blue on the right."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 0] = 255
    image[:, 32:, 2] = 255
    return image


def calibrated(width_px=64, height_px=48):
    return CameraCalibration(width_px, height_px, np.diag([50.0, 50.0, 1.0]), 'cam')


def test_a_compressed_image_comes_out_in_rgb_order():
    encoded = cv2.imencode('.jpg', cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR))[1].tobytes()
    message = CompressedImage(format='jpeg', data=array.array('B', encoded))
    image = rgb_from(message, calibrated(), 1)
    assert image.shape == (48, 64, 3)
    assert np.abs(image[24, 8].astype(int) - [255, 0, 0]).max() < 8
    assert np.abs(image[24, 56].astype(int) - [0, 0, 255]).max() < 8
    assert rgb_from(message, calibrated(), 4).shape == (12, 16, 3)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
def test_a_raw_image_with_padded_rows_comes_out_in_rgb_order(encoding):
    pixels = picture() if encoding == 'rgb8' else picture()[:, :, ::-1]
    padded = np.zeros((48, 64 * 3 + 8), np.uint8)
    padded[:, : 64 * 3] = pixels.reshape(48, -1)
    message = Image(height=48, width=64, encoding=encoding, step=200, data=array.array('B', padded.tobytes()))
    np.testing.assert_array_equal(rgb_from(message, calibrated(), 4), picture())


def test_an_image_of_another_size_than_its_camera_info_is_a_fault():
    encoded = cv2.imencode('.jpg', picture())[1].tobytes()
    message = CompressedImage(format='jpeg', data=array.array('B', encoded))
    with pytest.raises(CameraFault) as fault:
        rgb_from(message, calibrated(128, 96), 1)
    assert fault.value.reason == 'camera_info_size_mismatch'
    assert '64 x 48' in fault.value.detail
    assert '128 x 96' in fault.value.detail


def test_a_corrupt_jpeg_is_a_fault():
    encoded = cv2.imencode('.jpg', picture())[1].tobytes()
    message = CompressedImage(format='jpeg', data=array.array('B', encoded[: len(encoded) // 2]))
    with pytest.raises(CameraFault) as fault:
        rgb_from(message, calibrated(), 1)
    assert fault.value.reason == 'corrupt_image'

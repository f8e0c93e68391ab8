import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from tf2_msgs.msg import TFMessage

from sparseoccvla_ros.nodes.static_transforms import StaticTransforms


def stamped(parent, child, translation, quat_xyzw=(0.0, 0.0, 0.0, 1.0)):
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    vector, rotation = message.transform.translation, message.transform.rotation
    vector.x, vector.y, vector.z = map(float, translation)
    rotation.x, rotation.y, rotation.z, rotation.w = quat_xyzw
    return message


#: The rotation of every forward camera: optical z looks along ego x, optical x along ego -y.
OPTICAL_XYZW = (-0.5, 0.5, -0.5, 0.5)


def test_a_chain_of_mounts_gives_the_cameras_place_on_the_vehicle():
    transforms = StaticTransforms()
    transforms.add(
        TFMessage(
            transforms=[
                stamped('roof', 'CAM_FRONT_optical', (0.5, 0.0, 0.1), OPTICAL_XYZW),
                stamped('base_link', 'roof', (1.0, 0.0, 1.4)),
            ]
        )
    )
    ego_from_camera = transforms.lookup('base_link', 'CAM_FRONT_optical')
    # by hand: 2 m ahead of the camera, 1 m to its right, is 3.5 m ahead of the ego, 1 m to its right
    np.testing.assert_allclose(ego_from_camera @ [1.0, 0.0, 2.0, 1.0], [3.5, -1.0, 1.5, 1.0], atol=1e-12)


def test_siblings_are_connected_through_their_parent():
    transforms = StaticTransforms()
    transforms.add(
        TFMessage(transforms=[stamped('base_link', 'a', (1.0, 0, 0)), stamped('base_link', 'b', (0, 2.0, 0))])
    )
    np.testing.assert_allclose(transforms.lookup('a', 'b')[:3, 3], [-1.0, 2.0, 0.0])
    np.testing.assert_allclose(transforms.lookup('a', 'b') @ transforms.lookup('b', 'a'), np.eye(4), atol=1e-12)


def test_unconnected_frames_have_no_transform():
    transforms = StaticTransforms()
    transforms.add(TFMessage(transforms=[stamped('base_link', 'a', (1.0, 0, 0)), stamped('map', 'odom', (0, 0, 0))]))
    assert transforms.lookup('base_link', 'odom') is None
    assert transforms.lookup('base_link', 'nowhere') is None


def test_the_newest_calibration_counts_and_a_loop_does_not_hang():
    transforms = StaticTransforms()
    transforms.add(TFMessage(transforms=[stamped('base_link', 'a', (1.0, 0, 0))]))
    transforms.add(TFMessage(transforms=[stamped('base_link', 'a', (3.0, 0, 0))]))
    np.testing.assert_allclose(transforms.lookup('base_link', 'a')[:3, 3], [3.0, 0.0, 0.0])
    transforms.add(TFMessage(transforms=[stamped('a', 'base_link', (0, 0, 0))]))
    assert transforms.lookup('elsewhere', 'a') is None


def test_a_quaternion_of_zero_length_is_refused():
    with pytest.raises(ValueError, match='zero norm'):
        StaticTransforms().add(TFMessage(transforms=[stamped('base_link', 'a', (0, 0, 0), (0.0, 0.0, 0.0, 0.0))]))

import dataclasses

import pytest
import yaml

from sparseoccvla_ros.data.topics import PresetError, load_preset, preset_names
from sparseoccvla_ros.resources import share_path


def test_default_preset_is_the_documented_interface():
    preset = load_preset('default')
    assert preset.image_topic('CAM_FRONT') == '/CAM_FRONT/image_rect/compressed'
    assert preset.image_msgtype == 'sensor_msgs/msg/CompressedImage'
    assert preset.camera_info_topic('CAM_FRONT') == '/CAM_FRONT/camera_info'
    assert preset.camera_frame_id('CAM_BACK_LEFT') == 'CAM_BACK_LEFT_optical'
    assert (preset.odometry, preset.tf, preset.tf_static) == ('/odom', '/tf', '/tf_static')
    assert (preset.base_frame, preset.odom_frame, preset.pose_source) == ('base_link', 'odom', 'odometry')


def test_raw_preset_differs_only_in_the_images():
    default, raw = dataclasses.asdict(load_preset('default')), dataclasses.asdict(load_preset('default_raw'))
    assert {key for key in default if default[key] != raw[key]} == {'name', 'image', 'image_type'}
    assert load_preset('default_raw').image_topic('CAM_FRONT') == '/CAM_FRONT/image_rect'


# From the converters' sources (docs/data.md), not from our files.
@pytest.mark.parametrize(
    ('name', 'image', 'image_type', 'camera_info', 'odometry', 'odom_frame'),
    [
        (
            'nuscenes_to_ros2bag',
            '/CAM_BACK_LEFT/image_rect_compressed',
            'compressed',
            '/CAM_BACK_LEFT/camera_info',
            '/odom',
            'map',
        ),
        ('nuscenes2bag', '/cam_back_left/raw', 'raw', '/cam_back_left/camera_info', '/odom', 'odom'),
        (
            'nuscenes2mcap',
            '/cam_back_left/image_rect_compressed',
            'compressed',
            '/cam_back_left/camera_info',
            '/odom',
            'map',
        ),
        (
            'nuscenes_to_ros2bag_chris7462',
            '/nuscenes/cam_back_left/image_raw',
            'raw',
            '/nuscenes/cam_back_left/camera_info',
            '/nuscenes/odom',
            'map',
        ),
    ],
)
def test_converter_presets(name, image, image_type, camera_info, odometry, odom_frame):
    preset = load_preset(name)
    assert preset.image_topic('CAM_BACK_LEFT') == image
    assert preset.image_type == image_type
    assert preset.camera_info_topic('CAM_BACK_LEFT') == camera_info
    assert (preset.odometry, preset.odom_frame, preset.base_frame) == (odometry, odom_frame, 'base_link')


def test_every_shipped_preset_loads_and_says_what_it_is_for():
    assert 'default' in preset_names()
    for name in preset_names():
        assert load_preset(name).name == name
        assert share_path(f'config/topics/{name}.yaml').read_text().startswith('# ')


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(PresetError, match=r'nuscenes3bag.*default.*nuscenes2bag'):
        load_preset('nuscenes3bag')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'imag': '/x'}, 'unknown keys imag'),
        ({'image': None}, 'image must be a non-empty string, got None'),
        ({'odometry': 3}, 'odometry must be a non-empty string, got 3'),
        ({'image': '/front/image'}, 'image needs'),
        ({'camera_info': '/{kamera}/info'}, 'camera_info needs'),
        ({'image_type': 'jpeg'}, "compressed, raw, got 'jpeg'"),
        ({'pose_source': 'gps'}, "odometry, tf, got 'gps'"),
        ({'odometry': '/odom topic'}, 'is not a topic name'),
        ({'tf': '/2nd/tf'}, 'is not a topic name'),
        ({'image': '/{camera}/image-raw'}, 'is not a topic name'),
        ({'base_frame': '/base_link'}, 'is not a frame name'),
    ],
)
def test_bad_values_are_named(tmp_path, change, message):
    values = yaml.safe_load(share_path('config/topics/default.yaml').read_text())
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump({**values, **change}))
    with pytest.raises(PresetError, match=message):
        load_preset(path)


def test_missing_key_and_own_file(tmp_path):
    values = yaml.safe_load(share_path('config/topics/default.yaml').read_text())
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump({**values, 'odometry': '/car/odometry'}))
    assert load_preset(path).odometry == '/car/odometry'
    del values['tf']
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(PresetError, match='missing keys tf'):
        load_preset(str(path))


@pytest.mark.parametrize('content', ['image: [', '- a', ''])
def test_malformed_file(tmp_path, content):
    path = tmp_path / 'mine.yaml'
    path.write_text(content)
    with pytest.raises(PresetError, match=r'mine\.yaml'):
        load_preset(path)


def test_absent_file(tmp_path):
    with pytest.raises(PresetError, match=r'none\.yaml'):
        load_preset(tmp_path / 'none.yaml')

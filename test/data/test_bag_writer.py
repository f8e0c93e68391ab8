import dataclasses
import importlib
import json
import struct

import cv2
import numpy as np
import pytest
import yaml
from rosbags.rosbag2.storage_mcap import McapReader

from sparseoccvla_ros.data.bag_reader import BagError, BagReader, decode
from sparseoccvla_ros.data.bag_writer import write_scene_bag
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesError, NuScenesTables
from sparseoccvla_ros.data.topics import load_preset
from sparseoccvla_ros.geometry import transform_from
from sparseoccvla_ros.runtime.scene import Command

START_NS = 1_600_000_000_123_456_000
FIRST_NS = START_NS  # CAM_FRONT fires first


@pytest.fixture
def bag(layout, tmp_path):
    """Path of the small scene's bag with the default preset, and its summary."""
    out = tmp_path / 'bags' / 'small'
    return out, write_scene_bag(layout.read(), 'scene-0001', out, load_preset('default'))


def _messages(path, topic=None):
    with BagReader(path) as reader:
        return list(reader.messages(None if topic is None else [topic]))


def _ros(message):
    """The message as rclpy, the outside judge here, understands the bytes."""
    serialization = pytest.importorskip('rclpy.serialization')
    package, _, name = message.msgtype.split('/')
    return serialization.deserialize_message(message.data, getattr(importlib.import_module(f'{package}.msg'), name))


def test_summary_counts_what_is_in_the_bag(bag):
    path, summary = bag
    messages = _messages(path)
    assert sum(summary.counts.values()) == len(messages)
    for topic, number in summary.counts.items():
        assert number == sum(message.topic == topic for message in messages)
    # 2 cameras x (2 keyframes + 1 sweep); a pose with each of these and with 2 LiDAR sweeps
    assert summary.counts['/CAM_FRONT/image_rect/compressed'] == 3
    assert summary.counts['/odom'] == summary.counts['/tf'] == 8
    assert summary.counts['/tf_static'] == 1
    assert (summary.start_ns, summary.end_ns) == (messages[0].log_stamp_ns, messages[-1].log_stamp_ns)
    assert summary.duration_s == pytest.approx(0.54)


def test_order_is_by_stamp_and_what_others_need_comes_first(bag):
    path, _ = bag
    messages = _messages(path)
    stamps_ns = [message.log_stamp_ns for message in messages]
    assert stamps_ns == sorted(stamps_ns)
    assert [m.topic for m in messages if m.log_stamp_ns == FIRST_NS] == [
        '/tf_static',
        '/odom',
        '/tf',
        '/CAM_FRONT/camera_info',
        '/CAM_FRONT/image_rect/compressed',
    ]
    assert all(m.header_stamp_ns == m.log_stamp_ns for m in messages if not m.topic.startswith('/tf'))


def test_messages_lie_in_the_file_in_the_order_of_time(bag):
    """Readers that stream need no index then; :class:`BagReader` would hide a wrong order by sorting."""
    path, _ = bag
    storage = McapReader(path / 'small.mcap')
    storage.open()
    written = [(connection.topic, stamp_ns) for connection, stamp_ns, _ in storage.messages_scan(storage.connections)]
    storage.close()
    assert written == [(message.topic, message.log_stamp_ns) for message in _messages(path)]


def test_images_are_the_files_bytes_at_their_own_times(layout, bag):
    path, _ = bag
    frames = [f for f in layout.read().camera_frames('scene-0001') if f.channel == 'CAM_BACK']
    messages = _messages(path, '/CAM_BACK/image_rect/compressed')
    assert [m.header_stamp_ns for m in messages] == [f.stamp_ns for f in frames]
    for message, frame in zip(messages, frames, strict=True):
        image = _ros(message)
        assert bytes(image.data) == frame.path.read_bytes()
        assert image.format == 'jpeg'
        assert image.header.frame_id == 'CAM_BACK_optical'


def test_camera_info_has_the_tables_values(bag):
    path, _ = bag
    info = _ros(_messages(path, '/CAM_FRONT/camera_info')[0])
    stamp = info.header.stamp
    assert stamp.sec * 1_000_000_000 + stamp.nanosec == FIRST_NS
    assert (info.width, info.height) == (64, 36)
    assert info.header.frame_id == 'CAM_FRONT_optical'
    assert info.distortion_model == 'plumb_bob'
    np.testing.assert_array_equal(info.d, np.zeros(5))
    np.testing.assert_array_equal(info.k, [60, 0, 32, 0, 60, 18, 0, 0, 1])
    np.testing.assert_array_equal(info.p, [60, 0, 32, 0, 0, 60, 18, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(info.r, np.eye(3).ravel())


def test_the_routes_command_is_there_from_the_start_and_where_it_changes(make_layout, tmp_path):
    """Three keyframes, straight, straight, left, the first of them later than its first camera; a bag without
    ego/<scene>.json has no such topic (see the count of all others).
    """
    layout = make_layout(tmp_path / 'three', keyframes=3)
    samples = sorted(layout.tables['sample'], key=lambda row: row['timestamp'])
    samples[0]['timestamp'] += 20_000
    told = {
        row['token']: {'command': name} for row, name in zip(samples, ('straight', 'straight', 'left'), strict=True)
    }
    (layout.root / 'ego').mkdir()
    (layout.root / 'ego' / 'scene-0001.json').write_text(json.dumps({'inputs': ['command'], 'samples': told}))
    summary = write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', load_preset('default'))
    messages = _messages(tmp_path / 'b', '/driving_command')
    assert [m.header_stamp_ns for m in messages] == [summary.start_ns, 1000 * samples[2]['timestamp']]
    assert [decode(m).command for m in messages] == [Command.STRAIGHT, Command.LEFT]
    first = [m.topic for m in _messages(tmp_path / 'b') if m.log_stamp_ns == summary.start_ns]
    assert first[:3] == ['/tf_static', '/driving_command', '/odom']
    (command,) = [
        topic
        for topic in yaml.safe_load((tmp_path / 'b' / 'metadata.yaml').read_text())['rosbag2_bagfile_information'][
            'topics_with_message_count'
        ]
        if topic['topic_metadata']['name'] == '/driving_command'
    ]
    (qos,) = command['topic_metadata']['offered_qos_profiles']
    assert (qos['durability'], qos['reliability']) == ('transient_local', 'reliable')


def _matrix(transform):
    t, q = transform.translation, transform.rotation
    return transform_from([t.x, t.y, t.z], [q.x, q.y, q.z, q.w])


def test_static_transforms_and_moving_pose_lead_back_to_the_tables(layout, bag):
    path, _ = bag
    frames = layout.read().frames('scene-0001')
    static = {t.child_frame_id: t for t in _ros(_messages(path, '/tf_static')[0]).transforms}
    assert {child: t.header.frame_id for child, t in static.items()} == {
        'CAM_FRONT_optical': 'base_link',
        'CAM_BACK_optical': 'base_link',
        'LIDAR_TOP': 'base_link',
        'odom': 'map',
    }
    front = next(f for f in frames if f.channel == 'CAM_FRONT')
    np.testing.assert_allclose(_matrix(static['CAM_FRONT_optical'].transform), front.ego_from_sensor, atol=1e-12)
    map_from_odom = _matrix(static['odom'].transform)
    odometry = [_ros(m) for m in _messages(path, '/odom')]
    moving = [_ros(m).transforms for m in _messages(path, '/tf')]
    for frame, message, transforms in zip(frames, odometry, moving, strict=True):
        (transform,) = transforms
        assert (transform.header.frame_id, transform.child_frame_id) == ('odom', 'base_link')
        assert (message.header.frame_id, message.child_frame_id) == ('odom', 'base_link')
        assert transform.header.stamp == message.header.stamp
        pose = message.pose.pose
        p, q = pose.position, pose.orientation
        np.testing.assert_allclose([p.x, p.y, p.z], _matrix(transform.transform)[:3, 3], atol=1e-12)
        np.testing.assert_allclose(
            map_from_odom @ transform_from([p.x, p.y, p.z], [q.x, q.y, q.z, q.w]), frame.global_from_ego, atol=1e-9
        )
    first = odometry[0].pose.pose.position
    np.testing.assert_allclose([first.x, first.y, first.z], 0.0, atol=1e-12)
    last = odometry[-1].twist.twist
    assert np.hypot(last.linear.x, last.linear.y) == pytest.approx(5.0, abs=1e-3)
    assert last.angular.z == pytest.approx(0.2)


def test_point_cloud_has_the_files_columns(bag):
    path, _ = bag
    cloud = _ros(_messages(path, '/LIDAR_TOP')[0])
    assert [(f.name, f.offset, f.datatype) for f in cloud.fields] == [
        ('x', 0, 7),
        ('y', 4, 7),
        ('z', 8, 7),
        ('intensity', 12, 7),
        ('ring', 16, 7),
    ]
    assert (cloud.width, cloud.height, cloud.point_step, cloud.row_step) == (4, 1, 20, 80)
    np.testing.assert_array_equal(np.frombuffer(cloud.data, np.float32), np.arange(20))


def test_every_message_survives_rclpy(bag):
    """rclpy reads each message and writes it back to the same size and meaning.

    Not to the same bytes: rclpy leaves what was in memory in the padding, where we write zeros.
    """
    serialization = pytest.importorskip('rclpy.serialization')
    path, _ = bag
    for message in _messages(path):
        theirs = _ros(message)
        written = serialization.serialize_message(theirs)
        assert len(written) == len(message.data), message.topic
        assert serialization.deserialize_message(written, type(theirs)) == theirs, message.topic


def test_metadata_is_what_playback_reads(bag):
    """Field names and values as rosbag2 (Jazzy and later) reads them; /tf_static latched, everything reliable."""
    path, summary = bag
    information = yaml.safe_load((path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert information['version'] == 9
    assert information['storage_identifier'] == 'mcap'
    assert information['relative_file_paths'] == [file['path'] for file in information['files']] == ['small.mcap']
    assert information['compression_format'] == information['compression_mode'] == ''
    assert information['message_count'] == sum(summary.counts.values())
    assert information['starting_time']['nanoseconds_since_epoch'] == FIRST_NS
    for topic in information['topics_with_message_count']:
        metadata = topic['topic_metadata']
        (qos,) = metadata['offered_qos_profiles']
        latched = metadata['name'] == '/tf_static'
        assert qos['durability'] == ('transient_local' if latched else 'volatile')
        assert (qos['reliability'], qos['history'], qos['liveliness']) == ('reliable', 'keep_last', 'automatic')
        assert metadata['serialization_format'] == 'cdr'
        assert metadata['type_description_hash'].startswith('RIHS01_')
        assert topic['message_count'] == summary.counts[metadata['name']]


def test_independent_mcap_reader_agrees(bag):
    reader = pytest.importorskip('mcap.reader')
    decoder = pytest.importorskip('mcap_ros2.decoder')
    path, _ = bag
    ours = _messages(path)
    with (path / 'small.mcap').open('rb') as file:
        opened = reader.make_reader(file, decoder_factories=[decoder.DecoderFactory()])
        theirs = list(opened.iter_decoded_messages())
    assert [(c.topic, m.log_time, m.data) for _, c, m, _ in theirs] == [(m.topic, m.log_stamp_ns, m.data) for m in ours]


# --- presets ----------------------------------------------------------------------------------------------------------


def test_raw_images_are_the_decoded_pixels(layout, tmp_path):
    write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'raw', load_preset('default_raw'))
    image = _ros(_messages(tmp_path / 'raw', '/CAM_FRONT/image_rect')[0])
    file = layout.read().camera_frames('scene-0001')[0].path
    expected_bgr = cv2.imread(str(file))
    assert (image.encoding, image.width, image.height, image.step) == ('rgb8', 64, 36, 192)
    pixels = np.frombuffer(image.data, np.uint8).reshape(36, 64, 3)
    np.testing.assert_array_equal(pixels[..., ::-1], expected_bgr)


def test_preset_names_topics_and_frames(layout, tmp_path):
    """Where poses are in the map frame itself there is no odom frame, and numbers are the tables' own."""
    preset = load_preset('nuscenes_to_ros2bag')
    write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', preset)
    with BagReader(tmp_path / 'b') as reader:
        assert '/CAM_FRONT/image_rect_compressed' in reader.topics
    static = _ros(_messages(tmp_path / 'b', '/tf_static')[0]).transforms
    assert {t.child_frame_id for t in static} == {'CAM_FRONT', 'CAM_BACK', 'LIDAR_TOP'}
    odometry = _ros(_messages(tmp_path / 'b', '/odom')[0])
    assert odometry.header.frame_id == 'map'
    assert (odometry.pose.pose.position.x, odometry.pose.pose.position.y) == (100.0, 200.0)


def test_png_images_are_marked_as_such(tmp_path, make_layout):
    layout = make_layout(tmp_path / 'png', image_suffix='.png')
    write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', load_preset('default'))
    assert _ros(_messages(tmp_path / 'b', '/CAM_FRONT/image_rect/compressed')[0]).format == 'png'


# --- what is missing or wrong -----------------------------------------------------------------------------------------


def test_existing_path_is_never_touched(layout, tmp_path):
    out = tmp_path / 'mine'
    out.mkdir()
    (out / 'precious').write_text('x')
    with pytest.raises(BagError, match='exists already'):
        write_scene_bag(layout.read(), 'scene-0001', out, load_preset('default'))
    assert [path.name for path in out.iterdir()] == ['precious']


@pytest.mark.parametrize('damage', ['missing', 'text', 'empty'])
def test_bad_image_leaves_nothing_behind(layout, tmp_path, damage):
    tables = layout.read()
    file = tables.camera_frames('scene-0001')[3].path
    if damage == 'missing':
        file.unlink()
    else:
        file.write_bytes(b'' if damage == 'empty' else b'not an image')
    with pytest.raises(NuScenesError, match=file.name):
        write_scene_bag(tables, 'scene-0001', tmp_path / 'bags' / 'b', load_preset('default'))
    assert list((tmp_path / 'bags').iterdir()) == []


def test_corrupt_image_cannot_become_a_raw_one(layout, tmp_path):
    tables = layout.read()
    file = tables.camera_frames('scene-0001')[0].path
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(NuScenesError, match=rf'{file.name}.*corrupt_image'):
        write_scene_bag(tables, 'scene-0001', tmp_path / 'b', load_preset('default_raw'))


def test_camera_without_calibration_is_named(layout, tmp_path):
    layout.row('calibrated_sensor', token='k-CAM_BACK')['camera_intrinsic'] = []
    with pytest.raises(NuScenesError, match=r'CAM_BACK.*no camera_intrinsic'):
        write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', load_preset('default'))


def test_scene_without_lidar_files_still_has_its_poses(layout, tmp_path):
    for frame in layout.read().frames('scene-0001'):
        if frame.channel == 'LIDAR_TOP':
            frame.path.unlink()
    summary = write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', load_preset('default'))
    assert '/LIDAR_TOP' not in summary.counts
    assert summary.counts['/odom'] == 8


def test_parent_that_is_a_file(layout, tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(BagError, match='cannot write'):
        write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'file' / 'b', load_preset('default'))


def test_single_keyframe(tmp_path, make_layout):
    layout = make_layout(tmp_path / 'one', keyframes=1)
    summary = write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', load_preset('default'))
    assert summary.counts['/odom'] == 3
    twists = [_ros(m).twist.twist.linear for m in _messages(tmp_path / 'b', '/odom')]
    # poses at 0, 25 and 40 ms: the first holds the second's velocity
    assert twists[0] == twists[1]
    assert np.hypot(twists[2].x, twists[2].y) == pytest.approx(5.0, abs=1e-3)


@pytest.mark.nuscenes
def test_real_keyframe(nuscenes_dir, tmp_path):
    tables = NuScenesTables(nuscenes_dir, 'v1.0-one')
    summary = write_scene_bag(tables, 'scene-0061', tmp_path / 'b', load_preset('default'))
    assert summary.counts['/odom'] == 7
    frames = {frame.channel: frame for frame in tables.camera_frames('scene-0061')}
    for camera in CAMERAS:
        (message,) = _messages(tmp_path / 'b', f'/{camera}/image_rect/compressed')
        assert message.header_stamp_ns == frames[camera].stamp_ns
        assert frames[camera].path.read_bytes() in message.data
    # data/README.md: a straight line through the seven poses gives 9.24 m/s ahead and 0.002 rad/s
    for message in _messages(tmp_path / 'b', '/odom'):
        twist = _ros(message).twist.twist
        assert twist.linear.x == pytest.approx(9.24, abs=0.05)
        assert twist.angular.z == pytest.approx(0.0, abs=0.02)


def test_header_stamp_is_in_the_bytes(bag):
    """CDR by hand: 4 bytes of encapsulation (little endian), seconds, nanoseconds."""
    path, _ = bag
    message = _messages(path, '/odom')[0]
    assert message.data[:2] == b'\x00\x01'
    assert struct.unpack_from('<iI', message.data, 4) == divmod(FIRST_NS, 1_000_000_000)


def test_summary_is_frozen(bag):
    with pytest.raises(dataclasses.FrozenInstanceError):
        bag[1].scene = 'x'

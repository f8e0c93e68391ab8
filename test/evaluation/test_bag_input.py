"""Which images of a bag form a set, and what a bag must hold."""

import pytest

from sparseoccvla_ros.data.bag_reader import BagReader
from sparseoccvla_ros.data.topics import load_preset
from sparseoccvla_ros.evaluation.bag_input import (
    BagInputError,
    CameraSettings,
    camera_sets,
    check_topics,
    likely_preset,
)


@pytest.fixture
def settings(bags):
    return CameraSettings(bags.CAMERAS, 'CAM_FRONT', min_cameras=4, set_timeout_s=0.15, max_spread_s=0.06)


def grouped(path, settings):
    with BagReader(path) as reader:
        messages = list(reader.messages())
        return messages, camera_sets(messages, load_preset('default'), settings)


def test_every_cycle_is_one_set_with_its_own_stamps(bags, settings, tmp_path):
    stamps = bags.write_input_bag(tmp_path / 'bag', sets=5)

    _, sets = grouped(tmp_path / 'bag', settings)

    assert [entry.stamp_ns for entry in sets] == stamps
    for number, entry in enumerate(sets):
        begin_ns = bags.START_NS + number * bags.PERIOD_NS
        expected = {camera: begin_ns + ms * 1_000_000 for camera, ms in bags.OFFSETS_MS.items()}
        assert entry.camera_stamps_ns == expected


def test_publishing_up_to_the_end_of_a_set_gives_its_images_and_none_of_the_next(bags, settings, tmp_path):
    bags.write_input_bag(tmp_path / 'bag', sets=4)

    messages, sets = grouped(tmp_path / 'bag', settings)

    begin = 0
    for entry in sets:
        step = messages[begin : entry.end_index]
        images = [message.header_stamp_ns for message in step if 'image' in message.topic]
        assert sorted(images) == sorted(entry.camera_stamps_ns.values())
        assert messages[entry.last_index].header_stamp_ns == max(images)
        # nor what comes with the next set: its poses and camera_info have later stamps
        assert max(message.log_stamp_ns for message in step) == max(images)
        begin = entry.end_index
    assert begin == len(messages)


def test_a_lost_image_gives_a_partial_set_and_shifts_nothing(bags, settings, tmp_path):
    stamps = bags.write_input_bag(tmp_path / 'bag', sets=5, without=[(2, 'CAM_BACK')])

    _, sets = grouped(tmp_path / 'bag', settings)

    assert [entry.stamp_ns for entry in sets] == stamps
    assert [len(entry.camera_stamps_ns) for entry in sets] == [6, 6, 5, 6, 6]


def topics_of(tmp_path, bags, prefix=''):
    bags.write_input_bag(tmp_path / 'bag', sets=1, topics=prefix)
    with BagReader(tmp_path / 'bag') as reader:
        return dict(reader.topics)


def test_a_complete_bag_passes(bags, settings, tmp_path):
    assert check_topics(topics_of(tmp_path, bags), load_preset('default'), settings) == ()


def test_missing_cameras_are_named_as_long_as_enough_are_left(bags, settings, tmp_path):
    topics = topics_of(tmp_path, bags)
    del topics['/CAM_BACK/camera_info'], topics['/CAM_FRONT_LEFT/image_rect/compressed']

    assert check_topics(topics, load_preset('default'), settings) == ('CAM_FRONT_LEFT', 'CAM_BACK')

    del topics['/CAM_BACK_LEFT/camera_info']
    with pytest.raises(BagInputError, match='/CAM_BACK_LEFT/camera_info'):
        check_topics(topics, load_preset('default'), settings)


@pytest.mark.parametrize('topic', ['/odom', '/tf_static'])
def test_what_every_camera_needs_is_required(bags, settings, tmp_path, topic):
    topics = topics_of(tmp_path, bags)
    del topics[topic]

    with pytest.raises(BagInputError, match=f'expected {topic}  '):
        check_topics(topics, load_preset('default'), settings)


def test_a_topic_of_another_type_does_not_count(bags, settings, tmp_path):
    topics = topics_of(tmp_path, bags) | {'/odom': 'geometry_msgs/msg/PoseStamped'}

    with pytest.raises(BagInputError, match=r'expected /odom  nav_msgs/msg/Odometry \(there, but geometry_msgs'):
        check_topics(topics, load_preset('default'), settings)


def test_the_complaint_lists_what_is_there_and_the_preset_that_fits(bags, settings):
    kinds = {'image_rect_compressed': bags.IMAGE_TYPE, 'camera_info': bags.INFO_TYPE}
    topics = {f'/{camera}/{name}': kind for camera in bags.CAMERAS for name, kind in kinds.items()}
    topics |= {'/odom': bags.ODOMETRY_TYPE, '/tf': bags.TF_TYPE, '/tf_static': bags.TF_TYPE}

    assert likely_preset(topics, bags.CAMERAS) == 'nuscenes_to_ros2bag'
    with pytest.raises(BagInputError) as caught:
        check_topics(topics, load_preset('default'), settings)

    message = str(caught.value)
    assert 'expected /CAM_FRONT/image_rect/compressed  sensor_msgs/msg/CompressedImage' in message
    assert '  /CAM_FRONT/image_rect_compressed  sensor_msgs/msg/CompressedImage' in message
    assert '--topics nuscenes_to_ros2bag' in message


def test_no_preset_is_guessed_for_a_bag_without_cameras(bags):
    assert likely_preset({'/odom': bags.ODOMETRY_TYPE}, bags.CAMERAS) is None

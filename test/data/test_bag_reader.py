import importlib
import struct

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sparseoccvla_ros.data.bag_reader import BagError, BagReader, RawMessage, decode
from sparseoccvla_ros.data.bag_writer import write_scene_bag
from sparseoccvla_ros.data.topics import load_preset
from sparseoccvla_ros.data.typestore import package_typestore


def _time(store, stamp_ns):
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return store.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)


def _header(store, stamp_ns, frame='f'):
    return store.types['std_msgs/msg/Header'](stamp=_time(store, stamp_ns), frame_id=frame)


def _point(store, stamp_ns):
    point = store.types['geometry_msgs/msg/Point'](x=1.0, y=2.0, z=3.0)
    return store.types['geometry_msgs/msg/PointStamped'](header=_header(store, stamp_ns), point=point)


def _write(path, stamped, plugin=StoragePlugin.MCAP, topic='/p', version=9, compression=CompressionMode.NONE):
    """A bag of PointStamped messages: (log_ns, header_ns) each."""
    store = get_typestore(Stores.ROS2_KILTED)
    writer = Writer(path, version=version, storage_plugin=plugin)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(topic, 'geometry_msgs/msg/PointStamped', typestore=store)
        for log_ns, header_ns in stamped:
            data = store.serialize_cdr(_point(store, header_ns), 'geometry_msgs/msg/PointStamped')
            writer.write(connection, log_ns, data)
    return path


@pytest.mark.parametrize('plugin', list(StoragePlugin))
@pytest.mark.parametrize('version', [8, 9])
def test_both_storages_give_the_same_messages(tmp_path, plugin, version):
    path = _write(tmp_path / 'b', [(2_000, 1_500), (5_000, 4_500)], plugin, version=version)
    with BagReader(path) as reader:
        assert reader.topics == {'/p': 'geometry_msgs/msg/PointStamped'}
        assert reader.message_count == 2
        assert (reader.start_ns, reader.duration_s) == (2_000, 3e-6)
        messages = list(reader.messages())
    assert [(m.log_stamp_ns, m.header_stamp_ns) for m in messages] == [(2_000, 1_500), (5_000, 4_500)]
    decoded = decode(messages[0])
    assert (decoded.point.x, decoded.point.z) == (1.0, 3.0)


@pytest.mark.parametrize('compression', [CompressionMode.MESSAGE, CompressionMode.FILE, CompressionMode.STORAGE])
def test_compressed_bags(tmp_path, compression):
    path = _write(tmp_path / 'b', [(n, n) for n in range(100)], compression=compression)
    with BagReader(path) as reader:
        assert [m.header_stamp_ns for m in reader.messages()] == list(range(100))


def test_a_storage_file_alone_is_a_bag_too(tmp_path):
    path = _write(tmp_path / 'b', [(2_000, 1_500)])
    (path / 'metadata.yaml').unlink()
    with BagReader(path / 'b.mcap') as reader:
        assert [m.header_stamp_ns for m in reader.messages()] == [1_500]


def test_messages_can_be_read_twice_and_chosen_by_topic(layout, tmp_path):
    write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', load_preset('default'))
    with BagReader(tmp_path / 'b') as reader:
        everything = list(reader.messages())
        assert list(reader.messages()) == everything
        for topic in reader.topics:
            assert list(reader.messages([topic])) == [m for m in everything if m.topic == topic]
        assert list(reader.messages([])) == []
        with pytest.raises(BagError, match=r'no topic /nothing; it has /CAM_BACK'):
            reader.messages(['/nothing', '/odom'])


def test_transforms_have_no_header_stamp(layout, tmp_path):
    write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', load_preset('default'))
    with BagReader(tmp_path / 'b') as reader:
        stamped = {m.topic: m.header_stamp_ns is not None for m in reader.messages()}
    assert {topic for topic in stamped if not stamped[topic]} == {'/tf', '/tf_static'}


def test_header_stamps_of_unknown_types_are_found_by_their_definition(tmp_path):
    store = get_typestore(Stores.ROS2_KILTED)
    text = 'std_msgs/Header header\nuint8 value'
    store.register(get_types_from_msg(text, 'other_msgs/msg/Odd'))
    store.register(get_types_from_msg('uint8 value\nstd_msgs/Header header', 'other_msgs/msg/Late'))
    with Writer(tmp_path / 'b', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for name in ('Odd', 'Late'):
            msgtype = f'other_msgs/msg/{name}'
            connection = writer.add_connection(f'/{name}', msgtype, typestore=store)
            message = store.types[msgtype](header=_header(store, 7_000_000_001), value=3)
            writer.write(connection, 9, store.serialize_cdr(message, msgtype))
    with BagReader(tmp_path / 'b') as reader:
        stamps_ns = {m.topic: m.header_stamp_ns for m in reader.messages()}
    assert stamps_ns == {'/Odd': 7_000_000_001, '/Late': None}


def test_big_endian_header(tmp_path):
    store = get_typestore(Stores.ROS2_KILTED)
    with Writer(tmp_path / 'b', version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection('/p', 'geometry_msgs/msg/PointStamped', typestore=store)
        data = store.serialize_cdr(_point(store, 12_000_000_034), connection.msgtype, little_endian=False)
        writer.write(connection, 1, data)
    with BagReader(tmp_path / 'b') as reader:
        assert [m.header_stamp_ns for m in reader.messages()] == [12_000_000_034]


def test_relative_topic_names_become_absolute(tmp_path):
    with BagReader(_write(tmp_path / 'b', [(1, 1)], topic='cam_front/raw')) as reader:
        assert list(reader.topics) == ['/cam_front/raw']
        assert [m.topic for m in reader.messages(['/cam_front/raw'])] == ['/cam_front/raw']


# --- clumped logging --------------------------------------------------------------------------------------------------


def test_reordering_by_header_stamp(tmp_path):
    """As nuScenes converters log CAN odometry: half a second of it at once, with the next keyframe."""
    clump = [(500, stamp) for stamp in range(0, 500, 20)] + [(stamp, stamp) for stamp in range(0, 501, 83)]
    path = _write(tmp_path / 'b', sorted(clump))
    with BagReader(path) as reader:
        logged = [m.header_stamp_ns for m in reader.messages()]
        ordered = [m.header_stamp_ns for m in reader.messages(reorder_ns=500)]
    assert logged != sorted(logged)
    assert ordered == sorted(logged)


def test_reordering_keeps_the_order_of_equal_stamps(layout, tmp_path):
    write_scene_bag(layout.read(), 'scene-0001', tmp_path / 'b', load_preset('default'))
    with BagReader(tmp_path / 'b') as reader:
        assert list(reader.messages(reorder_ns=10**9)) == list(reader.messages())


# --- this package's own messages --------------------------------------------------------------------------------------


def _recorded(name, data):
    return RawMessage(f'/{name}', f'sparseoccvla_ros/msg/{name}', 0, None, data)


def test_own_messages_are_known_and_equal_to_the_generated_ones():
    serialization = pytest.importorskip('rclpy.serialization')
    own = pytest.importorskip('sparseoccvla_ros.msg')
    message = own.OccupancyQueries()
    message.header.stamp.sec, message.header.frame_id = 12, 'base_link'
    message.cameras_used = ['CAM_FRONT', 'CAM_BACK']
    message.count, message.dim, message.temporal = 2, 3, True
    message.positions = [1.0, 2.0, 3.0, 4.0, 5.0, 6.5]
    decoded = decode(_recorded('OccupancyQueries', serialization.serialize_message(message)))
    assert (decoded.header.stamp.sec, decoded.header.frame_id) == (12, 'base_link')
    assert decoded.cameras_used == ['CAM_FRONT', 'CAM_BACK']
    assert (decoded.count, decoded.dim, decoded.temporal) == (2, 3, True)
    np.testing.assert_array_equal(decoded.positions, [1.0, 2.0, 3.0, 4.0, 5.0, 6.5])


def test_every_own_message_round_trips_through_rclpy(project_root):
    serialization = pytest.importorskip('rclpy.serialization')
    own = pytest.importorskip('sparseoccvla_ros.msg')
    names = [path.stem for path in (project_root / 'msg').glob('*.msg')]
    assert 'PlannedTrajectory' in names
    for name in names:
        message_class = getattr(own, name)
        decoded = decode(_recorded(name, serialization.serialize_message(message_class())))
        ours = bytes(package_typestore().serialize_cdr(decoded, f'sparseoccvla_ros/msg/{name}'))
        assert serialization.deserialize_message(ours, message_class) == message_class(), name


def test_padding_after_an_empty_last_sequence():
    """Alignment to 8 after the length of an empty float64 sequence, as rmw_fastrtps writes it."""
    store = get_typestore(Stores.ROS2_KILTED)
    state = store.types['sensor_msgs/msg/JointState'](
        header=_header(store, 5, 'abc'), name=[], position=np.zeros(0), velocity=np.zeros(0), effort=np.zeros(0)
    )
    exact = bytes(store.serialize_cdr(state, 'sensor_msgs/msg/JointState'))
    for padding in (b'', b'\x70\x80\x7b\x51'):
        decoded = decode(RawMessage('/x', 'sensor_msgs/msg/JointState', 0, 5, exact + padding))
        assert decoded.header.frame_id == 'abc'
        assert len(decoded.effort) == 0


def test_bytes_of_another_type_are_refused():
    with pytest.raises(BagError, match=r'/DrivingCommand: not a sparseoccvla_ros/msg/DrivingCommand'):
        decode(_recorded('DrivingCommand', bytes(100)))
    with pytest.raises(BagError, match='other_msgs/msg/Odd is neither'):
        decode(RawMessage('/x', 'other_msgs/msg/Odd', 0, None, bytes(8)))


# --- what is not a readable bag ---------------------------------------------------------------------------------------


def test_absent_and_not_a_bag(tmp_path):
    with pytest.raises(BagError, match='does not exist'):
        BagReader(tmp_path / 'none')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(BagError, match='not a bag: no metadata'):
        BagReader(tmp_path / 'folder')
    (tmp_path / 'notes.txt').write_text('x')
    with pytest.raises(BagError, match=r'notes\.txt is not a bag'):
        BagReader(tmp_path / 'notes.txt')


def test_missing_metadata_names_the_way_out(tmp_path):
    path = _write(tmp_path / 'b', [(1, 1)])
    (path / 'metadata.yaml').unlink()
    with pytest.raises(BagError, match=r'no metadata\.yaml.*reindex.*b\.mcap'):
        BagReader(path)


@pytest.mark.parametrize(
    'content', ['', '[', 'a: 1', 'rosbag2_bagfile_information: {version: 99}', 'rosbag2_bagfile_information: 3']
)
def test_malformed_metadata(tmp_path, content):
    path = _write(tmp_path / 'b', [(1, 1)])
    (path / 'metadata.yaml').write_text(content)
    with pytest.raises(BagError, match='cannot be read as a bag'):
        BagReader(path)


def test_missing_storage_file(tmp_path):
    path = _write(tmp_path / 'b', [(1, 1)])
    (path / 'b.mcap').unlink()
    with pytest.raises(BagError, match=r'b\.mcap'):
        BagReader(path)


@pytest.mark.parametrize('plugin', list(StoragePlugin))
@pytest.mark.parametrize('part', [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_file(tmp_path, plugin, part):
    path = _write(tmp_path / 'b', [(n, n) for n in range(3000)], plugin)
    (file,) = [file for file in path.iterdir() if file.suffix in ('.mcap', '.db3')]
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(BagError, match=r'cannot be read as a bag|is damaged'), BagReader(path) as reader:
        list(reader.messages())


@pytest.mark.parametrize('compression', [CompressionMode.NONE, CompressionMode.STORAGE])
def test_overwritten_bytes_give_an_error_or_messages_but_nothing_else(tmp_path, compression):
    path = _write(tmp_path / 'b', [(n, n) for n in range(100)], compression=compression)
    intact = (path / 'b.mcap').read_bytes()
    refused = 0
    for seed in range(50):
        content = bytearray(intact)
        rng = np.random.default_rng(seed)
        for place in rng.integers(0, len(content), 20):
            content[place] = rng.integers(256)
        (path / 'b.mcap').write_bytes(content)
        try:
            with BagReader(path) as reader:
                list(reader.messages())
        except BagError:
            refused += 1
    assert refused > 0


def _mcap(path, encoding):
    """A minimal MCAP file with one channel, by the specification: what a program that is not ROS writes."""

    def text(value):
        return struct.pack('<I', len(value)) + value.encode()

    def record(opcode, content):
        return struct.pack('<BQ', opcode, len(content)) + content

    schema = record(0x03, struct.pack('<H', 1) + text('foxglove.CompressedImage') + text(encoding) + text(''))
    channel = record(
        0x04, struct.pack('<HH', 1, 1) + text('/cam_front/image_rect_compressed') + text(encoding) + text('')
    )
    message = record(0x05, struct.pack('<HIQQ', 1, 0, 5, 5) + b'x')
    statistics = record(0x0B, struct.pack('<QHIIIIQQI', 1, 1, 1, 0, 0, 0, 5, 5, 10) + struct.pack('<HQ', 1, 1))
    start = b'\x89MCAP0\r\n' + record(0x01, text('') + text('test'))
    data = start + schema + channel + message + record(0x0F, struct.pack('<I', 0))
    footer = record(0x02, struct.pack('<QQI', len(data), 0, 0))
    path.write_bytes(data + schema + channel + statistics + footer + b'\x89MCAP0\r\n')
    return path


@pytest.mark.parametrize('encoding', ['protobuf', 'json'])
def test_foreign_encoding_is_named_with_the_workaround(tmp_path, encoding):
    with pytest.raises(BagError, match=rf'encoded as {encoding}\..*nuscenes2mcap.*sparseoccvla bag'):
        BagReader(_mcap(tmp_path / 'nuscenes.mcap', encoding))


def test_foreign_encoding_in_a_bag_folder(tmp_path):
    path = _write(tmp_path / 'b', [(1, 1)])
    _mcap(path / 'b.mcap', 'protobuf')
    with pytest.raises(BagError, match='encoded as protobuf'):
        BagReader(path)


def test_foreign_encoding_named_only_by_the_metadata(tmp_path):
    path = _write(tmp_path / 'b', [(1, 1)], StoragePlugin.SQLITE3)
    metadata = path / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('serialization_format: cdr', 'serialization_format: protobuf'))
    with pytest.raises(BagError, match='protobuf'):
        BagReader(path)


def test_topic_with_two_types(tmp_path):
    store = get_typestore(Stores.ROS2_KILTED)
    with Writer(tmp_path / 'b', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for msgtype in ('std_msgs/msg/Bool', 'std_msgs/msg/String'):
            writer.add_connection('/x', msgtype, typestore=store)
    with pytest.raises(BagError, match=r'/x has two types, std_msgs/msg/Bool and std_msgs/msg/String'):
        BagReader(tmp_path / 'b')


def test_message_too_short_for_its_header(tmp_path):
    store = get_typestore(Stores.ROS2_KILTED)
    with Writer(tmp_path / 'b', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/p', 'geometry_msgs/msg/PointStamped', typestore=store)
        writer.write(connection, 1, b'\x00\x01\x00\x00')
    with BagReader(tmp_path / 'b') as reader, pytest.raises(BagError, match='4 bytes is too short'):
        list(reader.messages())


def test_empty_bag(tmp_path):
    with BagReader(_write(tmp_path / 'b', [])) as reader:
        assert (reader.message_count, reader.start_ns, reader.duration_s) == (0, 0, 0.0)
        assert list(reader.messages()) == []


def test_reader_module_needs_no_ros():
    module = importlib.import_module('sparseoccvla_ros.data.bag_reader')
    assert 'rclpy' not in vars(module)

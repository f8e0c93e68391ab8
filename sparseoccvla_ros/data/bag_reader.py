"""Reads rosbag2 bags (MCAP and sqlite3) as serialized messages, ready to be published or decoded, without ROS."""

from __future__ import annotations

import heapq
import struct
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw  # rosbags reads sqlite3 with it, and lets its errors through
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import get_types_from_msg

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from sparseoccvla_ros.data.mcap_probe import mcap_encodings
from sparseoccvla_ros.data.ros_messages import NS_PER_S
from sparseoccvla_ros.data.typestore import package_typestore
from sparseoccvla_ros.resources import PACKAGE

# What rosbags lets through on bytes that are not what they should be: its own checks, the libraries that unpack for it
# (lz4: RuntimeError), and reading on from there, down to ord() of nothing and to allocating an absurd length.
_BROKEN = (
    ReaderError,
    apsw.Error,
    zstd.ZstdError,
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    RuntimeError,
    OverflowError,
    MemoryError,
)

_WORKAROUND = (
    'It holds no ROS messages (foxglove/nuscenes2mcap writes such files), so neither this nor `ros2 bag play` can read '
    'it; write the scene with `sparseoccvla bag` instead'
)


class BagError(ValueError):
    """A bag cannot be read or written; the message says what to do where something can be done."""


@dataclass(frozen=True)
class RawMessage:
    """One recorded message. ``data`` is CDR with its encapsulation header, as a raw publisher takes it.

    ``log_stamp_ns`` is when it was recorded, ``header_stamp_ns`` its header's stamp (None for types that do not begin
    with a header, such as tf2_msgs/TFMessage).
    """

    topic: str
    msgtype: str
    log_stamp_ns: int
    header_stamp_ns: int | None
    data: bytes


def decode(message: RawMessage) -> Any:
    """The message as an object with the fields of its definition, arrays as ndarrays; no ROS needed.

    Raises:
        BagError: a type that neither ROS nor this package defines, or bytes that do not fit its definition.
    """
    store = package_typestore()
    if message.msgtype not in store.fielddefs:
        raise BagError(f'{message.topic}: {message.msgtype} is neither a standard ROS type nor of {PACKAGE}')
    try:
        return store.deserialize_cdr(message.data, message.msgtype)
    except SerdeError as error:
        # rmw_fastrtps aligns an empty sequence of 8-byte numbers, also as the last field (SceneStatus.drop_counts): 4
        # bytes that belong to nothing, where rosbags accepts 3.
        try:
            return store.deserialize_cdr(message.data[:-4], message.msgtype)
        except SerdeError:
            raise BagError(f'{message.topic}: not a {message.msgtype}: {error}') from error


class BagReader:
    """A bag, opened: the folder with ``metadata.yaml``, or a single ``.mcap`` or ``.db3`` file.

    Use it as a context manager, or close it. Topic names recorded without a leading slash (ROS 1 converters) get one,
    as playback in the root namespace would give them.

    Raises:
        BagError: not a bag, no metadata, an encoding other than CDR, truncated, or one topic with two types.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._reader = _opened(self.path)
        self._connections = list(self._reader.connections)
        self.topics: dict[str, str] = {}
        for connection in self._connections:
            topic = _absolute(connection.topic)
            if self.topics.setdefault(topic, connection.msgtype) != connection.msgtype:
                self.close()
                raise BagError(f'{self.path}: {topic} has two types, {self.topics[topic]} and {connection.msgtype}')
        self._stamped = {msgtype: _begins_with_header(connection) for msgtype, connection in self._by_type().items()}

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        if self._reader.is_open:
            self._reader.close()

    @property
    def message_count(self) -> int:
        """Number of messages in the bag."""
        return self._reader.message_count

    @property
    def start_ns(self) -> int:
        """Log stamp of the first message, 0 for an empty bag."""
        return self._reader.start_time if self.message_count else 0

    @property
    def duration_s(self) -> float:
        """Time between the first and the last log stamp, 0 for an empty bag."""
        # rosbags counts one nanosecond more, because its end is exclusive.
        return (self._reader.duration - 1) / NS_PER_S if self.message_count else 0.0

    def messages(self, topics: Collection[str] | None = None, *, reorder_ns: int = 0) -> Iterator[RawMessage]:
        """Messages in the order of their log stamps.

        Args:
            topics: only these (absolute names); None gives all. A name the bag does not have is an error.
            reorder_ns: where positive, messages come in the order of their header stamps (log stamps where there is
                none) instead, as long as none was logged more than this after its header stamp. It repairs converters
                that log measurements in clumps.

        Raises:
            BagError: an unknown topic, or a broken file; the messages before the break have been given out by then.
        """
        if topics is not None and (unknown := sorted(set(topics) - self.topics.keys())):
            raise BagError(f'{self.path} has no topic {", ".join(unknown)}; it has {", ".join(sorted(self.topics))}')
        in_log_order = self._in_log_order(topics)
        return in_log_order if reorder_ns <= 0 else _reordered(in_log_order, reorder_ns)

    def _in_log_order(self, topics: Collection[str] | None) -> Iterator[RawMessage]:
        chosen = [c for c in self._connections if topics is None or _absolute(c.topic) in topics]
        if not chosen:
            return  # for rosbags an empty choice means all
        recorded = self._reader.messages(chosen)
        while True:
            try:
                connection, log_stamp_ns, content = next(recorded)
            except StopIteration:
                return
            except _BROKEN as error:
                raise BagError(f'{self.path} is damaged: {error}') from error
            header_stamp_ns = _header_stamp_ns(content) if self._stamped[connection.msgtype] else None
            topic = _absolute(connection.topic)
            yield RawMessage(topic, connection.msgtype, log_stamp_ns, header_stamp_ns, bytes(content))

    def _by_type(self) -> dict[str, Connection]:
        return {connection.msgtype: connection for connection in self._connections}


def _opened(path: Path) -> Reader:
    if not path.exists():
        raise BagError(f'{path} does not exist')
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        stored = sorted(file.name for kind in ('*.mcap', '*.db3') for file in path.glob(kind))
        if not stored:
            raise BagError(f'{path} is not a bag: no metadata.yaml and no .mcap or .db3 file in it')
        raise BagError(
            f'{path} has no metadata.yaml (a recording that was not closed?); run `ros2 bag reindex`, or give '
            f'{path / stored[0]} itself'
        )
    if path.is_file() and path.suffix not in ('.mcap', '.db3'):
        raise BagError(f'{path} is not a bag: expected a folder with metadata.yaml, or a .mcap or .db3 file')
    for file in [path] if path.is_file() else sorted(path.glob('*.mcap')):
        if file.suffix == '.mcap' and (foreign := sorted(mcap_encodings(file) - {'cdr'})):
            raise BagError(f'{file} is encoded as {", ".join(foreign)}. {_WORKAROUND}')
    try:
        reader = Reader(path)
        reader.open()
    except OSError as error:
        raise BagError(f'cannot read {path}: {error}') from error
    except _BROKEN as error:
        hint = 'if it was cut off or not closed, `mcap recover` or `ros2 bag reindex` may save it'
        raise BagError(f'{path} cannot be read as a bag: {error} ({hint})') from error
    return reader


def _reordered(messages: Iterator[RawMessage], reorder_ns: int) -> Iterator[RawMessage]:
    waiting: list[tuple[int, int, RawMessage]] = []
    arrival = count()  # keeps the order of equal stamps, and messages out of comparisons
    for message in messages:
        stamp_ns = message.log_stamp_ns if message.header_stamp_ns is None else message.header_stamp_ns
        heapq.heappush(waiting, (stamp_ns, next(arrival), message))
        while waiting[0][0] <= message.log_stamp_ns - reorder_ns:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _absolute(topic: str) -> str:
    return topic if topic.startswith('/') else f'/{topic}'


def _begins_with_header(connection: Connection) -> bool:
    definitions = package_typestore().fielddefs
    if connection.msgtype not in definitions and connection.msgdef.format == MessageDefinitionFormat.MSG:
        definitions = get_types_from_msg(connection.msgdef.data, connection.msgtype)
    if connection.msgtype not in definitions:
        return False
    _, members = definitions[connection.msgtype]
    # members: (name, (kind, type)); a nested type is given by its name
    return bool(members) and members[0][1][1] == 'std_msgs/msg/Header'


def _header_stamp_ns(content: bytes) -> int:
    """Stamp of a message that begins with a header: after four bytes of encapsulation, seconds and nanoseconds."""
    if len(content) < 12:
        raise BagError(f'a message of {len(content)} bytes is too short for its header')
    byte_order = '<' if content[1] & 1 else '>'
    sec, nanosec = struct.unpack_from(f'{byte_order}iI', content, 4)
    return sec * NS_PER_S + nanosec

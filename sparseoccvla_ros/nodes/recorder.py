"""Records what the stack publishes into a rosbag2 (MCAP), byte for byte."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from nav_msgs.msg import Path as PathMessage
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from sparseoccvla_ros.data.typestore import package_typestore
from sparseoccvla_ros.msg import (
    OccupancyForecast,
    OccupancyQueries,
    PlannedTrajectory,
    ReasoningTokens,
    SceneStatus,
)

#: Every output of the stack in the root namespace.
OUTPUTS: Mapping[str, type[Any]] = {
    '/scene_status': SceneStatus,
    '/occupancy_queries': OccupancyQueries,
    '/occupancy': PointCloud2,
    '/occupancy_grid': OccupancyGrid,
    '/forecast': OccupancyForecast,
    '/reasoning_tokens': ReasoningTokens,
    '/trajectory': PlannedTrajectory,
    '/path': PathMessage,
    '/markers': MarkerArray,
    '/diagnostics': DiagnosticArray,
}

#: Reliable and unlimited: a recorder that loses a message is worth nothing, and memory bounds it.
RECORDED = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)

Listener = Callable[[str, bytes], None]


class Recorder:
    """Context manager: subscribes to every output and writes the serialized bytes as they come.

    ``stamp_ns`` gives the time that a message is recorded at (the replay's clock); ``listener``, called after a
    message is written, gets its topic and bytes. Both run on the executor's thread. What comes after the
    block is left is not recorded.
    """

    def __init__(self, node: Node, path: Path, stamp_ns: Callable[[], int], listener: Listener) -> None:
        self._node = node
        self._stamp_ns = stamp_ns
        self._listener = listener
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._lock = threading.Lock()
        self._open = False
        self._readers: dict[str, Subscription] = {}
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Recorder:
        self._writer.open()
        self._open = True
        typestore = package_typestore()
        for topic, kind in OUTPUTS.items():
            connection = self._writer.add_connection(topic, _type_name(kind), typestore=typestore)
            callback = self._callback(topic, connection)
            self._readers[topic] = self._node.create_subscription(kind, topic, callback, RECORDED, raw=True)
        return self

    def unmatched(self) -> list[str]:
        """Outputs of which this side knows no publisher yet, so that what is published would be lost."""
        return [topic for topic, reader in self._readers.items() if not reader.get_publisher_count()]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._open = False
            self._writer.close()

    def _callback(self, topic: str, connection: Any) -> Callable[[bytes], None]:
        def record(data: bytes) -> None:
            with self._lock:
                if not self._open:
                    return
                self._writer.write(connection, self._stamp_ns(), data)
                self.counts[topic] += 1
            self._listener(topic, data)

        return record


def _type_name(kind: type[Any]) -> str:
    """``package/msg/Name`` of a message class."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'

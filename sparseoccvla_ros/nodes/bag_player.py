"""Publishes a bag's serialized messages into the topics that the stack reads, with /clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from sparseoccvla_ros.data.bag_reader import RawMessage
from sparseoccvla_ros.data.topics import COMMAND_TOPIC, TopicPreset
from sparseoccvla_ros.msg import DrivingCommand

#: Bag time between two /clock messages.
CLOCK_PERIOD_NS = 10_000_000
#: Images go to best-effort readers through a bounded shared segment; published back to back, six of 150 kB
#: could overrun it. A reader's transport thread needs about 1 ms for one.
IMAGE_PACE_S = 0.002
NS_PER_S = 1_000_000_000

MESSAGE_TYPES: Mapping[str, type[Any]] = {
    'sensor_msgs/msg/CompressedImage': CompressedImage,
    'sensor_msgs/msg/Image': Image,
    'sensor_msgs/msg/CameraInfo': CameraInfo,
    'nav_msgs/msg/Odometry': Odometry,
    'tf2_msgs/msg/TFMessage': TFMessage,
    'sparseoccvla_ros/msg/DrivingCommand': DrivingCommand,
}

#: Reliable serves reliable and best-effort readers alike; unlimited, because a replay must not lose anything.
PLAYED = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_ALL,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def played_topics(topics: Mapping[str, str], preset: TopicPreset, cameras: Iterable[str]) -> dict[str, str]:
    """Those of a bag's topics that the stack reads under ``preset``, with their types."""
    wanted = [preset.odometry, preset.tf, preset.tf_static, COMMAND_TOPIC]
    for camera in cameras:
        wanted += [preset.image_topic(camera), preset.camera_info_topic(camera)]
    return {topic: topics[topic] for topic in wanted if topics.get(topic) in MESSAGE_TYPES}


class BagPlayer:
    """Publishers for the topics of a bag, and the replay's clock.

    Args:
        node: owns the publishers.
        topics: what to publish, from :func:`played_topics`.
        preset: says which topics are images, and which hold static transforms.
        cameras: the stack's cameras.
        start_ns: bag time to begin with.
    """

    def __init__(
        self, node: Node, topics: Mapping[str, str], preset: TopicPreset, cameras: Sequence[str], start_ns: int
    ) -> None:
        self._images = {preset.image_topic(camera) for camera in cameras}
        self._infos = {preset.camera_info_topic(camera) for camera in cameras}
        self._latched = {preset.tf_static, COMMAND_TOPIC}
        self._static = preset.tf_static
        self._publishers: dict[str, Publisher] = {
            topic: node.create_publisher(MESSAGE_TYPES[kind], topic, LATCHED if topic in self._latched else PLAYED)
            for topic, kind in topics.items()
        }
        self._clock = node.create_publisher(Clock, '/clock', PLAYED)
        self.now_ns = start_ns
        self._clock_ns = start_ns - CLOCK_PERIOD_NS

    @property
    def topics(self) -> tuple[str, ...]:
        """What is published, without /clock."""
        return tuple(self._publishers)

    def is_image(self, message: RawMessage) -> bool:
        """Whether this is a camera's image."""
        return message.topic in self._images

    def unheard(self) -> list[str]:
        """Image topics that nobody listens to yet."""
        return [
            topic
            for topic, publisher in self._publishers.items()
            if topic in self._images and not publisher.get_subscription_count()
        ]

    def introduce(self, messages: Iterable[RawMessage]) -> None:
        """Publish what must be known before the first image: all static transforms, each camera's first camera_info.

        Recorders write latched messages when they happened to arrive, which may be after the first image.
        """
        introduced: set[str] = set()
        self._tell_time(self.now_ns)
        for message in messages:
            if message.topic == self._static or (message.topic in self._infos and message.topic not in introduced):
                introduced.add(message.topic)
                self._publishers[message.topic].publish(message.data)

    def publish(self, message: RawMessage) -> None:
        """Publish one message as it is, and the clock before it. Static transforms have been introduced already."""
        self._tell_time(message.log_stamp_ns)
        if message.topic == self._static:
            return
        self._publishers[message.topic].publish(message.data)
        if message.topic in self._images:
            time.sleep(IMAGE_PACE_S)

    def wait_until(self, log_stamp_ns: int, due_s: float, look_around: Callable[[], None]) -> None:
        """Sleep until the steady clock shows ``due_s``, with /clock running on towards ``log_stamp_ns``."""
        begin_s, begin_ns = time.monotonic(), self.now_ns
        while (remaining_s := due_s - time.monotonic()) > 0:
            look_around()
            share = (time.monotonic() - begin_s) / (due_s - begin_s)
            self._tell_time(begin_ns + round(share * (log_stamp_ns - begin_ns)))
            time.sleep(min(remaining_s, CLOCK_PERIOD_NS / NS_PER_S))

    def _tell_time(self, bag_ns: int) -> None:
        self.now_ns = max(self.now_ns, bag_ns)
        if self.now_ns - self._clock_ns >= CLOCK_PERIOD_NS:
            self._clock_ns = self.now_ns
            sec, nanosec = divmod(self.now_ns, NS_PER_S)
            self._clock.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))


def numbered(messages: Iterable[RawMessage], player: BagPlayer) -> Iterator[tuple[int, RawMessage]]:
    """The bag's messages that ``player`` publishes, each with its place among ALL messages of the bag."""
    topics = set(player.topics)
    return ((index, message) for index, message in enumerate(messages) if message.topic in topics)

"""The synchronizer as a message filter: order, threads, time-outs, chains."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage

from sparseoccvla_ros.nodes.camera_filter import ApproximateTimeCameraFilter, CameraFilter
from sparseoccvla_ros.nodes.conversions.basic import header_from

CAMERAS = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT')
OFFSETS_NS = (0, 8_000_000, 16_000_000)
PERIOD_NS = 83_333_333
BASE_NS = 1_533_151_603_512_404_000

needs_message_filters = pytest.mark.skipif(
    importlib.util.find_spec('message_filters') is None,
    reason='message_filters is not installed (it comes with a ROS installation)',
)


class Source:
    """A filter upstream, as small as can be."""

    def __init__(self):
        self.callbacks = []

    def registerCallback(self, callback, *args):  # noqa: N802
        self.callbacks.append((callback, args))
        return len(self.callbacks) - 1

    def signal(self, message):
        for callback, args in self.callbacks:
            callback(message, *args)


class StillNode:
    """Only what the filter asks of a node; its timer runs when the test says so."""

    def __init__(self):
        self.timers = []

    def create_timer(self, period_s, callback, clock):
        self.timers.append(SimpleNamespace(period_s=period_s, fire=callback, clock=clock))
        return self.timers[-1]

    def destroy_timer(self, timer):
        self.timers.remove(timer)


def message_at(stamp_ns: int) -> CompressedImage:
    return CompressedImage(header=header_from(stamp_ns, 'camera'), format='jpeg')


def cycle(number: int) -> dict[str, CompressedImage]:
    return {
        camera: message_at(BASE_NS + number * PERIOD_NS + offset)
        for camera, offset in zip(CAMERAS, OFFSETS_NS, strict=True)
    }


def filter_and_sets(**kwargs):
    sets = []
    camera_filter = CameraFilter(StillNode(), CAMERAS, 'CAM_FRONT', **kwargs)
    camera_filter.registerCallback(sets.append)
    return camera_filter, sets


def test_sets_hold_the_messages_and_the_reference_stamp():
    camera_filter, sets = filter_and_sets()
    for number in range(3):
        messages = cycle(number)
        for camera, message in messages.items():
            assert len(sets) == number
            camera_filter.add(camera, message)
        assert all(sets[number].items[camera] is message for camera, message in messages.items())
        assert sets[number].stamp_ns == BASE_NS + number * PERIOD_NS + OFFSETS_NS[1]
        assert sets[number].stamps_ns['CAM_FRONT_RIGHT'] == BASE_NS + number * PERIOD_NS + OFFSETS_NS[2]
        assert sets[number].complete
        assert sets[number].header.stamp == messages['CAM_FRONT'].header.stamp


def test_callback_arguments_follow_the_set_and_handles_differ():
    camera_filter, _ = filter_and_sets()
    seen = []
    handles = [
        camera_filter.registerCallback(lambda *a: seen.append(a), 'one', 2),
        camera_filter.registerCallback(print),
    ]
    assert len(set(handles)) == 2
    for camera, message in cycle(0).items():
        camera_filter.add(camera, message)
    assert seen[0][1:] == ('one', 2)


@pytest.mark.parametrize('by_name', [True, False])
def test_filters_connect_upstream(by_name):
    camera_filter, sets = filter_and_sets()
    sources = {camera: Source() for camera in CAMERAS}
    camera_filter.connectInput(sources if by_name else list(sources.values()))
    for camera, message in cycle(0).items():
        sources[camera].signal(message)
    assert [list(s.items) for s in sets] == [list(CAMERAS)]
    assert sets[0].items['CAM_FRONT_RIGHT'].header.stamp == cycle(0)['CAM_FRONT_RIGHT'].header.stamp


@pytest.mark.parametrize('filters', [[], [Source()] * 2, [Source()] * 4, {'CAM_FRONT': Source()}])
def test_filters_that_are_not_one_for_each_camera_are_refused(filters):
    camera_filter, _ = filter_and_sets()
    with pytest.raises(ValueError, match='one for each'):
        camera_filter.connectInput(filters)


def test_the_timer_hands_out_what_is_overdue():
    now_s = [100.0]
    camera_filter, sets = filter_and_sets(timeout_s=0.2, now_s=lambda: now_s[0])
    for camera, message in cycle(0).items():
        camera_filter.add(camera, message)
    messages = cycle(1)
    for camera in CAMERAS[:2]:
        camera_filter.add(camera, messages[camera])
    timer = camera_filter._node.timers[0]
    assert timer.period_s < 0.2
    assert timer.clock.clock_type == rclpy.clock.ClockType.STEADY_TIME
    now_s[0] += 0.19
    timer.fire()
    assert len(sets) == 1
    now_s[0] += 0.02
    timer.fire()
    assert sets[1].missing == ('CAM_FRONT_RIGHT',)
    camera_filter.add('CAM_FRONT_RIGHT', messages['CAM_FRONT_RIGHT'])
    assert camera_filter.drops == {'late': 1}


def test_a_callback_may_add_and_register():
    """No lock is held in a callback, and sets keep their order even when one is made inside another's callback."""
    camera_filter = CameraFilter(StillNode(), CAMERAS, 'CAM_FRONT')
    seen = []

    def on_set(camera_set):
        if len(seen) == 0:
            seen.append(camera_set.stamp_ns)
            for camera, message in cycle(1).items():
                camera_filter.add(camera, message)
            assert camera_filter.drops == {}
            camera_filter.registerCallback(lambda s: None)
            assert len(seen) == 1
        else:
            seen.append(camera_set.stamp_ns)

    camera_filter.registerCallback(on_set)
    for camera, message in cycle(0).items():
        camera_filter.add(camera, message)
    assert seen == [BASE_NS + OFFSETS_NS[1], BASE_NS + PERIOD_NS + OFFSETS_NS[1]]


def test_an_exception_in_a_callback_loses_one_set_and_no_lock():
    camera_filter = CameraFilter(StillNode(), CAMERAS, 'CAM_FRONT')
    seen = []

    def on_set(camera_set):
        seen.append(camera_set.stamp_ns)
        if len(seen) == 1:
            raise ArithmeticError('user code')

    camera_filter.registerCallback(on_set)
    messages = cycle(0)
    for camera in CAMERAS[:2]:
        camera_filter.add(camera, messages[camera])
    with pytest.raises(ArithmeticError):
        camera_filter.add(CAMERAS[2], messages[CAMERAS[2]])
    for camera, message in cycle(1).items():
        camera_filter.add(camera, message)
    assert len(seen) == 2


def test_a_slow_callback_does_not_hold_up_other_threads_and_order_is_kept():
    camera_filter = CameraFilter(StillNode(), CAMERAS, 'CAM_FRONT')
    inside, go_on, seen = threading.Event(), threading.Event(), []

    def on_set(camera_set):
        if not seen:
            inside.set()
            assert go_on.wait(5.0)
        seen.append(camera_set.stamp_ns)

    camera_filter.registerCallback(on_set)

    def feed(number):
        for camera, message in cycle(number).items():
            camera_filter.add(camera, message)

    slow = threading.Thread(target=feed, args=(0,))
    slow.start()
    assert inside.wait(5.0)
    for number in (1, 2, 3):
        feed(number)  # would block here if the lock were held
    assert seen == []
    go_on.set()
    slow.join(5.0)
    assert seen == [BASE_NS + n * PERIOD_NS + OFFSETS_NS[1] for n in range(4)]


def test_many_threads_lose_nothing():
    camera_filter, sets = filter_and_sets(timeout_s=60.0)
    count = 200
    barrier = threading.Barrier(len(CAMERAS))

    def feed(camera, offset_ns):
        for number in range(count):
            barrier.wait(10.0)  # the cameras stay within one cycle of each other, as real ones do
            camera_filter.add(camera, message_at(BASE_NS + number * PERIOD_NS + offset_ns))

    threads = [threading.Thread(target=feed, args=pair) for pair in zip(CAMERAS, OFFSETS_NS, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert [s.stamp_ns for s in sets] == [BASE_NS + n * PERIOD_NS + OFFSETS_NS[1] for n in range(count)]
    assert all(s.complete for s in sets)


def test_after_destroy_nothing_is_called():
    camera_filter, sets = filter_and_sets()
    camera_filter.destroy()
    for camera, message in cycle(0).items():
        camera_filter.add(camera, message)
    assert sets == []
    assert camera_filter._node.timers == []


def test_over_real_topics_with_a_dead_camera():
    """Real publishers, subscriptions and the steady timer: a camera that stays silent is named in each set."""
    context = rclpy.context.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('camera_filter_test', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        camera_filter = CameraFilter(node, CAMERAS, 'CAM_FRONT', timeout_s=0.1)
        sets = []
        camera_filter.registerCallback(sets.append)
        publishers = {}
        for camera in CAMERAS[:2]:
            publishers[camera] = node.create_publisher(CompressedImage, f'{camera}/image', 10)
            node.create_subscription(
                CompressedImage,
                f'{camera}/image',
                lambda message, camera=camera: camera_filter.add(camera, message),
                10,
            )
        deadline_s = time.monotonic() + 20.0
        while any(p.get_subscription_count() == 0 for p in publishers.values()):
            assert time.monotonic() < deadline_s
            executor.spin_once(timeout_sec=0.05)
        for number in range(3):
            messages = cycle(number)
            for camera, publisher in publishers.items():
                publisher.publish(messages[camera])
            while len(sets) < number + 1:
                assert time.monotonic() < deadline_s
                executor.spin_once(timeout_sec=0.05)
        assert [s.stamp_ns for s in sets] == [BASE_NS + n * PERIOD_NS + OFFSETS_NS[1] for n in range(3)]
        assert all(s.missing == ('CAM_FRONT_RIGHT',) for s in sets)
        camera_filter.destroy()
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_approximate_time_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'message_filters', None)
    with pytest.raises(ImportError, match='sync: approximate_time needs message_filters'):
        ApproximateTimeCameraFilter(CAMERAS, 'CAM_FRONT')


@needs_message_filters
def test_approximate_time_gives_the_same_complete_sets():
    ours, our_sets = filter_and_sets()
    theirs, their_sets = ApproximateTimeCameraFilter(CAMERAS, 'CAM_FRONT', max_spread_s=0.03), []
    theirs.registerCallback(their_sets.append)
    for number in range(20):
        for camera, message in cycle(number).items():
            ours.add(camera, message)
            theirs.add(camera, message)
    assert len(their_sets) == 20
    assert [(s.stamp_ns, s.stamps_ns, s.missing) for s in our_sets] == [
        (s.stamp_ns, s.stamps_ns, s.missing) for s in their_sets
    ]
    assert theirs.drops == {}
    with pytest.raises(ValueError, match='not one of'):
        theirs.add('CAM_UP', cycle(0)['CAM_FRONT'])


@needs_message_filters
def test_approximate_time_survives_an_exception_in_a_callback():
    theirs, seen = ApproximateTimeCameraFilter(CAMERAS, 'CAM_FRONT', max_spread_s=0.03), []

    def on_set(camera_set):
        seen.append(camera_set)
        if len(seen) == 1:
            raise ArithmeticError('user code')

    theirs.registerCallback(on_set)
    messages = cycle(0)
    for camera in CAMERAS[:2]:
        theirs.add(camera, messages[camera])
    with pytest.raises(ArithmeticError):
        theirs.add(CAMERAS[2], messages[CAMERAS[2]])
    for camera, message in cycle(1).items():
        theirs.add(camera, message)
    assert len(seen) == 2


@needs_message_filters
def test_it_stands_inside_a_message_filters_chain():
    """Their filters upstream, their Cache and TimeSynchronizer downstream."""
    message_filters = importlib.import_module('message_filters')
    upstream = {camera: message_filters.SimpleFilter() for camera in CAMERAS}
    camera_filter, _ = filter_and_sets()
    camera_filter.connectInput(upstream)
    cache = message_filters.Cache(camera_filter, 5)
    matched = []
    exact = message_filters.TimeSynchronizer([camera_filter, upstream['CAM_FRONT']], 5)
    exact.registerCallback(lambda camera_set, front: matched.append((camera_set, front)))
    for number in range(3):
        for camera, message in cycle(number).items():
            upstream[camera].signalMessage(message)
    assert [s.stamp_ns for s in cache.cache_msgs] == [BASE_NS + n * PERIOD_NS + OFFSETS_NS[1] for n in range(3)]
    assert [front is camera_set.items['CAM_FRONT'] for camera_set, front in matched] == [True] * 3

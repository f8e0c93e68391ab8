"""Which frames the encoder sees, and what clears them."""

import numpy as np
import pytest
import torch

from sparseoccvla_ros.runtime.memory import FeatureRing, FrameFeatures

START_NS = 1_532_402_927_000_000_000


def ns(seconds):
    return START_NS + round(seconds * 1e9)


def frame(stamp_ns):
    return FrameFeatures(stamp_ns, (torch.zeros(1),), np.eye(4)[None], np.ones(1, bool))


def run(ring, stamps_s):
    """Feed scenes; per scene the ages of the frames it sees, seconds (None: an empty place)."""
    seen = []
    for t in stamps_s:
        ring.advance(ns(t))
        ages = [None if f is None else round((ns(t) - f.stamp_ns) * 1e-9, 3) for f in ring.earlier(ns(t)).frames]
        seen.append(ages)
        ring.store(frame(ns(t)))
    return seen


def test_12_hz_input_is_seen_half_a_second_apart():
    seen = run(FeatureRing(3, 0.5), [i / 12 for i in range(40)])
    assert seen[0] == [None, None, None]
    assert seen[4][0] == 0.333  # nothing older yet, and within a third of the interval of its place
    assert seen[6] == [0.5, None, None]
    assert seen[12] == [0.5, 1.0, None]
    assert all(ages == [0.5, 1.0, 1.5] for ages in seen[18:])


def test_2_hz_input_uses_every_frame():
    assert run(FeatureRing(2, 0.5), [0.0, 0.5, 1.0, 1.5]) == [[None, None], [0.5, None], [0.5, 1.0], [0.5, 1.0]]


@pytest.mark.parametrize('rate_hz', [2.0, 5.0, 7.3, 12.0, 20.0, 60.0])
def test_frames_lie_near_their_places_and_memory_is_bounded(rate_hz):
    rng = np.random.default_rng(int(rate_hz))
    stamps = np.cumsum(rng.uniform(0.95, 1.05, size=400) / rate_hz)
    ring = FeatureRing(7, 0.5, tolerance_s=0.15)
    lengths = []
    for ages in (run(ring, [t])[0] for t in stamps):
        lengths.append(len(ring))
        present = [age for age in ages if age is not None]
        for place, age in enumerate(ages, start=1):
            assert age is None or abs(age - 0.5 * place) <= 0.15
        assert len(set(present)) == len(present)  # no frame twice
    assert None not in ages
    assert max(lengths) <= ring.capacity
    # As far back as the last place and no further.
    assert lengths[-1] <= 3.65 * min(rate_hz * 1.06, 20.0) + 1


def test_the_nearest_frame_is_taken():
    ring = FeatureRing(1, 0.5, tolerance_s=0.2)
    assert run(ring, [0.0, 0.1, 0.28, 0.65])[-1] == [0.55]
    assert run(FeatureRing(1, 0.5, tolerance_s=0.01), [0.0, 0.1, 0.28, 0.65])[-1] == [None]


def test_empty_places_say_why():
    ring = FeatureRing(2, 0.5)
    run(ring, [0.0])
    ring.advance(ns(0.5))
    history = ring.earlier(ns(0.5))
    assert history.reasons == ('', 'no frame 1.00 s earlier')


def test_gap_and_backward_jump_clear():
    ring = FeatureRing(1, 0.5, max_gap_s=1.5)
    run(ring, [0.0, 0.5])
    assert ring.advance(ns(2.0)) == ''  # 1.5 s, the limit itself
    ring.store(frame(ns(2.0)))
    assert ring.advance(ns(3.6)) == 'gap between scenes'
    assert len(ring) == 0
    ring.store(frame(ns(3.6)))
    assert ring.advance(ns(3.5)) == 'clock jumped back'
    assert ring.earlier(ns(3.5)).frames == (None,)
    assert ring.clears == {'gap between scenes': 1, 'clock jumped back': 1}


def test_a_stamp_twice_clears_and_is_counted():
    ring = FeatureRing(1, 0.5)
    run(ring, [0.0, 0.5])
    assert ring.advance(ns(0.5)) == 'duplicate stamp'
    assert len(ring) == 0
    assert ring.clears == {'duplicate stamp': 1}
    ring.clear()
    assert ring.advance(ns(0.5)) == ''  # a new start, not a duplicate


def test_single_frame_models_keep_nothing():
    ring = FeatureRing(0, 0.5)
    assert run(ring, [0.0, 0.5]) == [[], []]
    assert len(ring) == 0


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        ({'earlier_frames': -1}, 'earlier_frames'),
        ({'tolerance_s': 0.25}, 'tolerance_s'),
        ({'max_gap_s': 0.4}, 'max_gap_s'),
    ],
)
def test_impossible_settings_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        FeatureRing(**({'earlier_frames': 1, 'frame_interval_s': 0.5} | arguments))

"""The newest stamp, ages and backward jumps."""

import pytest

from sparseoccvla_ros.runtime.clock import NewestStamp

DAY_NS = 1_532_402_927_000_000_000


def test_ages_count_from_the_newest_stamp_seen():
    newest = NewestStamp(max_backward_s=2.0)
    assert newest.age_s(DAY_NS) == 0.0  # nothing seen: nothing is old
    assert not newest.observe(DAY_NS)
    assert not newest.observe(DAY_NS - 500_000_000)  # another input, a little late
    assert newest.newest_ns == DAY_NS
    assert newest.age_s(DAY_NS - 250_000_000) == pytest.approx(0.25)
    assert newest.age_s(DAY_NS + 1) == 0.0


def test_a_jump_back_starts_time_again():
    newest = NewestStamp(max_backward_s=2.0)
    newest.observe(DAY_NS)
    assert not newest.observe(DAY_NS - 2_000_000_000)
    assert newest.observe(DAY_NS - 2_000_000_001)
    assert newest.newest_ns == DAY_NS - 2_000_000_001
    assert newest.jumps == 1
    assert not newest.observe(DAY_NS)  # forward again: a late message of the old lap is not a second jump


def test_limit_must_be_positive():
    with pytest.raises(ValueError, match='max_backward_s'):
        NewestStamp(max_backward_s=0.0)

"""The newest stamp of all inputs, ages and backward jumps."""

import pytest

from sparseoccvla_ros.runtime.clock import InputClock

DAY_NS = 1_532_402_927_000_000_000
SECOND_NS = 1_000_000_000


def test_ages_count_from_the_newest_stamp_of_any_input():
    clock = InputClock()
    assert clock.age_s(DAY_NS) == 0.0  # nothing seen: nothing is old
    clock.observe('CAM_FRONT', DAY_NS)
    clock.observe('odometry', DAY_NS + SECOND_NS // 2)
    clock.observe('CAM_FRONT', DAY_NS - SECOND_NS // 2)  # a little disorder
    assert clock.age_s(DAY_NS) == pytest.approx(0.5)
    assert clock.age_s(DAY_NS + SECOND_NS) == 0.0


def test_a_jump_back_starts_time_again_for_all_and_is_told_once():
    clock, told = InputClock(), []
    clock.on_jump(lambda: told.append('first'))
    clock.on_jump(lambda: told.append('second'))
    clock.observe('odometry', DAY_NS)
    clock.observe('CAM_FRONT', DAY_NS)
    clock.observe('odometry', DAY_NS - SECOND_NS)
    assert told == []
    clock.observe('odometry', DAY_NS - SECOND_NS - 1000)
    clock.observe('CAM_FRONT', DAY_NS - SECOND_NS - 1000)
    assert told == ['first', 'second']
    assert clock.age_s(DAY_NS - 2 * SECOND_NS) == pytest.approx(1.0, abs=1e-5)


def test_an_input_that_lags_behind_another_is_no_jump():
    clock, told = InputClock(), []
    clock.on_jump(lambda: told.append('jump'))
    clock.observe('odometry', DAY_NS)
    for i in range(20):
        clock.observe('CAM_FRONT', DAY_NS - (20 - i) * SECOND_NS)
    assert told == []

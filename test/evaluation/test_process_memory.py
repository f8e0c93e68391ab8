"""Peak memory of a call, against what it is known to hold."""

import numpy as np

from sparseoccvla_ros.evaluation.process_memory import in_own_process, peak_mib


def peak_of_ones(mebibytes: int) -> float:
    return peak_mib(lambda: np.ones(mebibytes * 2**20, dtype=np.uint8), 'cpu')


def test_peak_counts_what_is_freed_again_and_nothing_from_before():
    np.ones(512 * 2**20, dtype=np.uint8)  # an earlier, higher peak
    for mebibytes in (100, 60):  # large enough that the allocator gives them back
        assert abs(peak_of_ones(mebibytes) - mebibytes) < 8


def test_a_process_of_its_own_gives_the_result_back():
    assert in_own_process(abs, -3) == 3

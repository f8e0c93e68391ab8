import numpy as np

from sparseoccvla_ros.world.traffic.following import (
    HARDEST_ACCEL_MPS2,
    HARDEST_BRAKE_MPS2,
    STANDSTILL_GAP_M,
    Driver,
    Hold,
    drive,
)


def no_limit(progress_m: np.ndarray) -> np.ndarray:
    return np.full_like(progress_m, 30.0)


def test_alone_it_reaches_its_wish_and_keeps_it():
    (track,) = drive([Driver(0.0, 4.5, 0.0, 10.0)], None, no_limit, 60.0)
    assert 9.8 < track.at(60.0)[1] <= 10.0
    assert track.accel_mps2.max() <= HARDEST_ACCEL_MPS2


def test_it_stops_before_the_line_and_goes_when_released():
    (track,) = drive([Driver(0.0, 4.0, 12.0, 12.0)], Hold(80.0, 0.0, 20.0), no_limit, 30.0)
    progress, speed, _ = track.at(19.9)
    # The front is half a length ahead of the middle.
    assert 80.0 - STANDSTILL_GAP_M - 2.5 < progress + 2.0 < 80.0
    assert speed < 0.1
    assert track.at(28.0)[0] > 85.0
    assert (np.diff(track.progress_m) >= 0.0).all()


def test_who_cannot_stop_in_time_drives_on():
    (track,) = drive([Driver(0.0, 4.0, 12.0, 12.0)], Hold(10.0, 0.0, 20.0), no_limit, 10.0)
    assert track.speed_mps.min() > 11.0


def test_a_queue_never_touches_and_never_brakes_harder_than_its_limit():
    front = Driver(60.0, 11.0, 12.0, 12.0, slow_from_s=2.0, slow_until_s=12.0, slow_mps=0.1)
    queue = [front, *(Driver(60.0 - 17.0 * place, 4.5, 12.0, 13.0) for place in range(1, 5))]
    tracks = drive(queue, None, no_limit, 25.0)
    for (ahead, first), (behind, second) in zip(
        zip(tracks, queue, strict=True), zip(tracks[1:], queue[1:], strict=False), strict=False
    ):
        gap_m = ahead.progress_m - behind.progress_m - 0.5 * (first.length_m + second.length_m)
        assert gap_m.min() > 0.5
    accel = np.stack([track.accel_mps2 for track in tracks])
    assert accel.min() >= -HARDEST_BRAKE_MPS2
    assert accel.min() < -1.0


def test_reading_between_the_steps_is_smooth():
    (track,) = drive([Driver(0.0, 4.0, 9.0, 9.0)], Hold(60.0, 0.0, 9.0), no_limit, 12.0)
    times = np.arange(-0.05, 12.0, 0.003)
    progress, speed, accel = np.array([track.at(float(time_s)) for time_s in times]).T
    np.testing.assert_allclose(np.diff(progress) / 0.003, 0.5 * (speed[1:] + speed[:-1]), atol=2e-3)
    assert np.abs(np.diff(speed)).max() < 0.003 * 4.0
    # Our own bound, worked out again: 3.5 m/s^2 is what a tyre on a wet road holds.
    assert np.abs(accel).max() <= 3.5

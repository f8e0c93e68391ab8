import numpy as np
import pytest

from sparseoccvla_ros.world.city import harbour
from sparseoccvla_ros.world.drawing.lens import Lens
from sparseoccvla_ros.world.look import look_at

GREY = np.full((128, 352, 3), 110, dtype=np.uint8)
NOISE_ONLY = Lens(gain_spread=0.0, blur_px=0.0, vignette=0.0)


def look(time_of_day='day', weather='clear'):
    return look_at(np.random.default_rng(0), harbour(), time_of_day, weather)


def test_a_perfect_lens_changes_nothing():
    perfect = Lens(gain_spread=0.0, blur_px=0.0, shot_noise=0.0, read_noise=0.0, vignette=0.0)
    image = np.random.default_rng(0).integers(0, 256, (128, 352, 3), dtype=np.uint8)
    np.testing.assert_array_equal(perfect.expose(image, look(), np.random.default_rng(1)), image)


def test_the_noise_has_the_stated_strength_and_grows_as_it_gets_darker():
    spreads = []
    for time_of_day in ('day', 'dusk', 'night'):
        seen = NOISE_ONLY.expose(GREY, look(time_of_day), np.random.default_rng(1)).astype(float)
        assert seen.mean() == pytest.approx(110.0, abs=0.1)
        spreads.append(seen.std())
    # sqrt(2.2^2 110 / 255 + 0.8^2) and rounding to whole steps, sqrt(1 / 12).
    assert spreads[0] == pytest.approx((2.2**2 * 110.0 / 255.0 + 0.8**2 + 1.0 / 12.0) ** 0.5, rel=0.03)
    assert spreads[0] < spreads[1] < spreads[2]


def test_blur_spreads_a_point_and_keeps_its_light():
    image = np.zeros((128, 352, 3), dtype=np.uint8)
    image[60, 200] = 255
    blurred = Lens(0.0, 1.0, 0.0, 0.0, 0.0).expose(image, look(), np.random.default_rng(0)).astype(float)
    assert blurred[..., 0].sum() == pytest.approx(255.0, rel=0.1)
    # The peak of a Gaussian of 1 px: 1 / (2 pi).
    assert blurred[60, 200, 0] == pytest.approx(255.0 / (2.0 * np.pi), rel=0.1)


def test_corners_lose_the_stated_share():
    dimmed = Lens(0.0, 0.0, 0.0, 0.0, 0.2).expose(GREY, look(), np.random.default_rng(0)).astype(float)
    assert dimmed[0, 0, 0] == pytest.approx(88.0, abs=2.0)
    assert dimmed[64, 176, 0] == 110.0


def test_rain_marks_the_image_and_the_seed_decides_where():
    clean = Lens(0.0, 0.0, 0.0, 0.0, 0.0)
    image = np.zeros((128, 352, 3), dtype=np.uint8)
    one, again, other = (clean.expose(image, look(weather='rain'), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert 0.005 < (one.max(axis=2) > 10).mean() < 0.25
    assert not clean.expose(image, look(), np.random.default_rng(1)).any()
    # A wide even surface stays what it is, streaks aside.
    assert np.median(clean.expose(GREY, look(weather='rain'), np.random.default_rng(1))) == 110

from collections import Counter

import numpy as np
import pytest

from sparseoccvla_ros.world.city import harbour
from sparseoccvla_ros.world.look import TIMES_OF_DAY, WEATHERS, draw_look, look_at


def test_times_and_weathers_come_in_their_shares_and_independently():
    rng = np.random.default_rng(5)
    looks = [draw_look(rng, harbour()) for _ in range(4000)]
    counts = Counter((look.time_of_day, look.weather) for look in looks)
    for time_of_day, hour_share in (('day', 0.5), ('dusk', 0.25), ('night', 0.25)):
        for weather, weather_share in (('clear', 0.6), ('rain', 0.2), ('fog', 0.2)):
            # Five standard deviations of the least likely count are 0.017.
            assert counts[time_of_day, weather] / 4000 == pytest.approx(hour_share * weather_share, abs=0.03)


@pytest.mark.parametrize('weather', WEATHERS)
def test_it_gets_darker_from_day_to_night_and_lamps_come_on(weather):
    looks = [look_at(np.random.default_rng(1), harbour(), time_of_day, weather) for time_of_day in TIMES_OF_DAY]
    light = [sum(look.ambient) + sum(look.sun) * look.towards_sun[2] for look in looks]
    assert light == sorted(light, reverse=True)
    assert light[2] < 0.4 * light[0]
    assert looks[0].lamps < looks[1].lamps < looks[2].lamps


def test_weather_shows():
    for seed in range(20):
        clear, rain, fog = (look_at(np.random.default_rng(seed), harbour(), 'day', weather) for weather in WEATHERS)
        assert np.linalg.norm(clear.towards_sun) == pytest.approx(1.0)
        assert clear.towards_sun[2] > 0.0
        assert 35.0 <= fog.haze_m <= 90.0 < rain.haze_m < clear.haze_m
        assert max(fog.sun) == max(rain.sun) == 0.0 < max(clear.sun)
        assert clear.wetness == fog.wetness == 0.0 < rain.wetness <= 1.0


def test_a_look_is_a_function_of_its_seed():
    first, again, other = (draw_look(np.random.default_rng(seed), harbour()) for seed in (7, 7, 8))
    assert first.haze_m == again.haze_m
    np.testing.assert_array_equal(first.towards_sun, again.towards_sun)
    assert first.haze_m != other.haze_m


def test_an_unknown_weather_is_refused():
    with pytest.raises(ValueError, match='snow'):
        look_at(np.random.default_rng(0), harbour(), 'day', 'snow')

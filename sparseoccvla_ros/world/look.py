"""Time of day and weather: what the light, the air and the ground of a scene look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.world.city import City, Colour

TIMES_OF_DAY = ('day', 'dusk', 'night')
WEATHERS = ('clear', 'rain', 'fog')
TIME_OF_DAY_SHARES = (0.5, 0.25, 0.25)
WEATHER_SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Look:
    """Light and weather of one scene; colours are RGB, 1 is white in full daylight.

    ``towards_sun`` [3] unit vector from the ground to the sun (at night the moon), world axes; ``brightness`` factor on
    everything; ``sun`` light on a surface that faces it, ``ambient`` light from everywhere else; ``sky_high``,
    ``sky_low`` colours of the sky overhead and at the horizon, to which things fade within about ``haze_m``;
    ``wetness`` of the ground 0..1; ``lamps`` strength of headlights, street lamps and windows 0..1.
    """

    time_of_day: str
    weather: str
    towards_sun: np.ndarray
    brightness: float
    sun: Colour
    ambient: Colour
    sky_high: Colour
    sky_low: Colour
    haze_m: float
    wetness: float
    lamps: float


@dataclass(frozen=True)
class _Light:
    sun: Colour
    ambient: Colour
    sky_high: Colour
    sky_low: Colour


_NONE = (0.0, 0.0, 0.0)
_CLEAR = {
    'day': _Light((0.64, 0.62, 0.57), (0.51, 0.52, 0.56), (0.36, 0.56, 0.84), (0.80, 0.87, 0.93)),
    'dusk': _Light((0.95, 0.52, 0.24), (0.27, 0.27, 0.35), (0.23, 0.30, 0.50), (0.92, 0.62, 0.42)),
    'night': _Light((0.04, 0.045, 0.06), (0.15, 0.155, 0.18), (0.014, 0.02, 0.045), (0.08, 0.08, 0.10)),
}
_OVERCAST = {
    'day': _Light(_NONE, (0.74, 0.76, 0.79), (0.56, 0.59, 0.63), (0.74, 0.76, 0.78)),
    'dusk': _Light(_NONE, (0.37, 0.38, 0.42), (0.26, 0.28, 0.33), (0.40, 0.41, 0.44)),
    'night': _Light(_NONE, (0.15, 0.152, 0.17), (0.03, 0.03, 0.035), (0.10, 0.095, 0.09)),
}
#: Height of the sun (at night: the moon) above the horizon.
_ELEVATIONS_RAD = {'day': (0.6, 1.1), 'dusk': (0.16, 0.30), 'night': (0.5, 1.1)}
_HAZE_M = {'clear': (350.0, 500.0), 'rain': (130.0, 220.0), 'fog': (35.0, 90.0)}


def draw_look(rng: np.random.Generator, city: City) -> Look:
    """A time of day and a weather, drawn independently of each other."""
    time_of_day = TIMES_OF_DAY[rng.choice(len(TIMES_OF_DAY), p=TIME_OF_DAY_SHARES)]
    weather = WEATHERS[rng.choice(len(WEATHERS), p=WEATHER_SHARES)]
    return look_at(rng, city, time_of_day, weather)


def look_at(rng: np.random.Generator, city: City, time_of_day: str, weather: str) -> Look:
    """The look of a city at one of ``TIMES_OF_DAY`` in one of ``WEATHERS``.

    Raises:
        ValueError: unknown time of day or weather.
    """
    if time_of_day not in TIMES_OF_DAY or weather not in WEATHERS:
        raise ValueError(f'no look for {time_of_day!r}, {weather!r}; expected {TIMES_OF_DAY} and {WEATHERS}')
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(*_ELEVATIONS_RAD[time_of_day])
    flat, up = np.cos(elevation), np.sin(elevation)
    brightness = rng.uniform(0.92, 1.12)
    light = (_CLEAR if weather == 'clear' else _OVERCAST)[time_of_day]
    sky_high, sky_low = light.sky_high, light.sky_low
    if (time_of_day, weather) == ('day', 'clear'):
        sky_high, sky_low = city.sky_high, city.sky_low
    return Look(
        time_of_day=time_of_day,
        weather=weather,
        towards_sun=np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, up]),
        brightness=brightness,
        sun=light.sun,
        ambient=light.ambient,
        sky_high=sky_low if weather == 'fog' else sky_high,
        sky_low=sky_low,
        haze_m=rng.uniform(*_HAZE_M[weather]),
        wetness=rng.uniform(0.7, 1.0) if weather == 'rain' else 0.0,
        lamps=max({'day': 0.0, 'dusk': 0.5, 'night': 1.0}[time_of_day], 0.0 if weather == 'clear' else 0.35),
    )

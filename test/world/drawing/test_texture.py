import colorsys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.street_furniture import lamp, traffic_light
from sparseoccvla_ros.world.bodies.thing import Lamps, State, Thing
from sparseoccvla_ros.world.bodies.two_wheelers import motorcycle
from sparseoccvla_ros.world.bodies.vehicles import bus, car, tractor, trailer, truck
from sparseoccvla_ros.world.city import harbour
from sparseoccvla_ros.world.drawing.render import Renderer
from sparseoccvla_ros.world.look import TIMES_OF_DAY, WEATHERS, look_at
from sparseoccvla_ros.world.streets.centreline import Centreline
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import Street

PLACE_M = (150.0, 96.0)
BODY_FROM_OPTICAL = np.array(((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)))
FRONT = np.eye(4)
FRONT[:3, :3], FRONT[:3, 3] = BODY_FROM_OPTICAL, (1.7, 0.0, 1.5)
#: The front camera of a nuScenes car at 352x128: 1266 px of 1600.
CAMERA = PinholeCamera(
    'CAM_FRONT', 352, 128, np.array(((278.5, 0.0, 176.0), (0.0, 278.5, 50.0), (0.0, 0.0, 1.0))), FRONT
)


def _same(state, time_s):
    return state


def picture(
    shape, lamps=Lamps.NONE, ahead_m=15.0, time_of_day='day', weather='clear', still=False, sun=None, turn_rad=0.0
):
    """What the front camera of an ego on a straight road sees of a thing ``ahead_m`` before its rear axle."""
    plan = Plan((Street(Centreline(np.zeros(4000), (10.0, 100.0)), 2, 3.4, 0.0, 0.0, 0.0, 3.0),))
    pose = transform_from_planar(PLACE_M[0] + ahead_m, PLACE_M[1], turn_rad)
    things = (Thing(shape, partial(_same, State(pose, 0.0, lamps)), still=still, annotated=False),)
    look = look_at(np.random.default_rng(2), harbour(), time_of_day, weather)
    look = replace(look, towards_sun=np.asarray(sun)) if sun is not None else look
    renderer = Renderer(SimpleNamespace(things=things, city=harbour(), look=look, plan=plan))
    return renderer.render(CAMERA, transform_from_planar(*PLACE_M, 0.0), 0.0)


def changed(one, other):
    return np.abs(one.rgb.astype(int) - other.rgb.astype(int)).max(axis=2) > 40


@pytest.mark.parametrize('make', [car, truck, bus, trailer, partial(motorcycle, ridden=True)])
@pytest.mark.parametrize('time_of_day', TIMES_OF_DAY)
def test_brake_lamps_are_seen_from_behind_at_15_m(make, time_of_day):
    for seed in range(4):
        shape = make(np.random.default_rng(seed))
        ahead_m = 15.0 + 0.5 * shape.size_m[0]
        dark = picture(shape, ahead_m=ahead_m, time_of_day=time_of_day)
        lit = picture(shape, Lamps.BRAKE, ahead_m, time_of_day)
        red = (lit.rgb[..., 0] > 180) & (lit.rgb[..., 1] < 150)
        assert (changed(dark, lit) & red).sum() >= 6


@pytest.mark.parametrize('make', [car, truck, bus])
def test_indicators_are_amber_and_on_their_side(make):
    shape = make(np.random.default_rng(1))
    ahead_m = 15.0 + 0.5 * shape.size_m[0]
    dark = picture(shape, ahead_m=ahead_m)
    for lamps, left in ((Lamps.LEFT, True), (Lamps.RIGHT, False)):
        lit = picture(shape, lamps, ahead_m)
        amber = changed(dark, lit) & (lit.rgb[..., 0] > 180) & (lit.rgb[..., 2] < 140)
        columns = np.nonzero(amber)[1]
        assert len(columns) >= 4
        assert ((columns < 176) == left).all()


def test_from_the_front_a_braking_lorry_looks_like_any_other():
    shape = tractor(np.random.default_rng(0))
    one, other = (picture(shape, lamps, 20.0, turn_rad=np.pi) for lamps in (Lamps.NONE, Lamps.BRAKE))
    assert not changed(one, other).any()


@pytest.mark.parametrize(('lamp_on', 'channel', 'height_m'), [(Lamps.RED, 0, 3.25), (Lamps.GREEN, 1, 2.53)])
@pytest.mark.parametrize('time_of_day', TIMES_OF_DAY)
def test_a_signal_shows_the_lamp_that_is_lit_where_it_belongs(lamp_on, channel, height_m, time_of_day):
    shape = traffic_light(np.random.default_rng(0))
    dark, lit = picture(shape, ahead_m=20.0, time_of_day=time_of_day), picture(shape, lamp_on, 20.0, time_of_day)
    rows, columns = np.nonzero(changed(dark, lit) & (lit.rgb.argmax(axis=2) == channel) & (lit.rgb.max(axis=2) > 180))
    assert len(rows) >= 6
    forward_m = 20.0 - 0.42 - 1.7
    assert rows.mean() + 0.5 == pytest.approx(50.0 - 278.5 * (height_m - 1.5) / forward_m, abs=1.0)
    assert columns.mean() + 0.5 == pytest.approx(176.0, abs=1.0)


@pytest.mark.parametrize('weather', WEATHERS)
def test_night_is_darker_than_dusk_and_dusk_than_day(weather):
    shape = car(np.random.default_rng(0))
    means = [picture(shape, time_of_day=time_of_day, weather=weather).rgb.mean() for time_of_day in TIMES_OF_DAY]
    assert means[0] > 1.2 * means[1] > 1.5 * means[2]
    # Headlights show the road nearby even then.
    night = picture(shape, ahead_m=60.0, time_of_day='night', weather=weather).rgb
    assert night[110:, 120:230].mean() > 25.0


def test_fog_hides_what_rain_and_clear_air_show():
    shape = bus(np.random.default_rng(3))
    contrasts = []
    for weather in WEATHERS:
        capture = picture(shape, ahead_m=90.0, weather=weather)
        body = capture.rgb[capture.thing == 0].astype(float)
        contrasts.append(body.std(axis=0).mean())
    assert contrasts[0] > contrasts[1] > contrasts[2]


@pytest.mark.parametrize('turn_rad', [0.0, 0.6, np.pi])
def test_the_paint_of_a_car_can_be_told_from_its_picture(turn_rad):
    hues = {'red': 0.0, 'yellow': 0.13, 'green': 0.38, 'blue': 0.62}
    seen = set()
    for seed in range(40):
        shape = car(np.random.default_rng(seed))
        if shape.paint in seen:
            continue
        seen.add(shape.paint)
        capture = picture(shape, ahead_m=12.0, turn_rad=turn_rad)
        pixels = capture.rgb[capture.thing == 0] / 255.0
        hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels])
        # The word's hue covers more of the body than any other word's.
        vivid = hsv[(hsv[:, 1] > 0.6) & (hsv[:, 2] > 0.12)]
        away = {word: np.abs((vivid[:, 0] - hue + 0.5) % 1.0 - 0.5) for word, hue in hues.items()}
        counts = {word: int((distance < 0.07).sum()) for word, distance in away.items()}
        if shape.paint in hues:
            assert max(counts, key=counts.get) == shape.paint
            assert counts[shape.paint] > 0.3 * len(pixels)
        elif shape.paint != 'brown':
            assert max(counts.values()) < 0.2 * len(pixels)
    assert seen >= {*hues, 'white', 'black', 'grey'}


def test_a_shadow_falls_away_from_the_sun_by_day_only():
    shape = bus(np.random.default_rng(0))
    # From the left of the road: the shadow lies to the right of the bus.
    sun = np.array((0.0, 0.6, 0.8))
    clear = picture(shape, ahead_m=25.0, sun=sun).rgb.astype(float).mean(axis=2)
    other = picture(shape, ahead_m=25.0, sun=sun * (1.0, -1.0, 1.0)).rgb.astype(float).mean(axis=2)
    foggy = [
        picture(shape, ahead_m=25.0, weather='fog', sun=sun * (1.0, side, 1.0)).rgb.astype(int) for side in (1.0, -1.0)
    ]
    darker = (clear < 0.75 * other)[60:75]
    assert np.nonzero(darker)[1].mean() > 186.0
    # Faces do not know where the sun is either.
    assert np.abs(foggy[0] - foggy[1]).max() <= 1


def test_a_street_lamp_lights_the_road_below_it_at_night():
    shape = lamp(1.0)
    lit, dark = (picture(shape, ahead_m=ahead_m, time_of_day='night').rgb.astype(float) for ahead_m in (26.0, 120.0))
    # The pool lies around 24 m before the camera, 1.5 m below it.
    row = int(50.0 + 278.5 * 1.5 / 24.3)
    assert lit[row, 150:200].mean() > 1.3 * dark[row, 150:200].mean()


def test_rain_mirrors_a_brake_lamp_in_the_road():
    shape = car(np.random.default_rng(0))
    wet, dry = (
        [picture(shape, lamps, 14.0, 'night', weather).rgb.astype(int) for lamps in (Lamps.NONE, Lamps.BRAKE)]
        for weather in ('rain', 'clear')
    )
    ground = slice(84, 96), slice(150, 205)
    assert (wet[1] - wet[0])[ground][..., 0].mean() > (dry[1] - dry[0])[ground][..., 0].mean() + 2.0


def test_a_picture_is_the_same_each_time():
    shape = car(np.random.default_rng(0))
    for time_of_day, weather in (('day', 'clear'), ('night', 'rain')):
        one, other = (picture(shape, Lamps.BRAKE, time_of_day=time_of_day, weather=weather) for _ in range(2))
        np.testing.assert_array_equal(one.rgb, other.rgb)


def test_at_night_tail_lights_tell_a_driven_car_from_a_parked_one():
    shape = car(np.random.default_rng(0))
    driven, parked = (picture(shape, time_of_day='night', still=still).rgb for still in (False, True))
    red = [((rgb[..., 0] > 100) & (rgb[..., 1] < 0.5 * rgb[..., 0])).sum() for rgb in (driven, parked)]
    assert red[0] >= 10
    assert red[1] == 0

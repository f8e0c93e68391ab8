from types import SimpleNamespace

import numpy as np
import pytest

from sparseoccvla_ros.geometry import inverse, transform_points
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.thing import BARRIER, BICYCLE, CAR, PEDESTRIAN, Lamps, Shape, State, Thing
from sparseoccvla_ros.world.drawing.render import Renderer
from sparseoccvla_ros.world.labels.extraction import (
    KeyframeTokens,
    View,
    attribute_of,
    boxed_things,
    keyframe_facts,
    sightings,
)
from sparseoccvla_ros.world.labels.facts import FUTURE_S, KeyframeFacts
from sparseoccvla_ros.world.labels.what_if import WhatIf
from sparseoccvla_ros.world.rig import Rig
from sparseoccvla_ros.world.scene import Scene

TIMES_S = (6.0, 6.5, 18.0)


class Numbered(dict):
    def __missing__(self, index: int) -> str:
        return f'thing {index}'


def views_at(scene: Scene, rig: Rig, renderer: Renderer, time_s: float) -> list[View]:
    views = []
    for item in rig.cameras:
        taken_s = time_s + item.trigger_offset_s
        world_from_ego = scene.world_from_ego(taken_s)
        views.append(View(item.camera, world_from_ego, renderer.render(item.camera, world_from_ego, taken_s)))
    return views


@pytest.fixture(scope='module')
def scene(scenes) -> Scene:
    return scenes[0]


@pytest.fixture(scope='module')
def views(scene, rig) -> dict[float, list[View]]:
    renderer = Renderer(scene)
    return {time_s: views_at(scene, rig, renderer, time_s) for time_s in TIMES_S}


@pytest.fixture(scope='module')
def facts(scene, views) -> dict[float, KeyframeFacts]:
    what_if = WhatIf(scene)
    return {
        time_s: keyframe_facts(
            scene, time_s, seen, sightings(seen), KeyframeTokens('scene', str(time_s), 0, Numbered()), what_if
        )
        for time_s, seen in views.items()
    }


def picture(width_px: int, height_px: int) -> View:
    camera = PinholeCamera('CAM_FRONT', width_px, height_px, np.eye(3), np.eye(4))
    thing = np.full((height_px, width_px), -1, dtype=np.int32)
    unit = width_px // 352
    thing[10 * unit : 20 * unit, 100 * unit : 120 * unit] = 3
    thing[10 * unit : 20 * unit, 104 * unit : 106 * unit] = 0
    return View(camera, np.eye(4), SimpleNamespace(thing=thing))


@pytest.mark.parametrize('size', [(352, 128), (704, 256)])
def test_places_in_images_are_told_as_in_the_full_image(size):
    seen = sightings([picture(*size)])
    assert list(seen) == [0, 3]
    # The full image is 1600x900, at 352 pixels 198 high, of which the upper 70 are cropped.
    assert seen[0].visible_px == {'CAM_FRONT': 20}
    assert seen[3].visible_px == {'CAM_FRONT': 180}
    assert seen[3].seen_px == 180 * size[0] ** 2 // 352**2
    assert seen[0].pixel_px['CAM_FRONT'] == pytest.approx((105.0 / 0.22, 85.0 / 0.22))
    assert seen[0].box_px['CAM_FRONT'] == pytest.approx((104 / 0.22, 80 / 0.22, 106 / 0.22, 90 / 0.22))
    assert seen[3].box_px['CAM_FRONT'] == pytest.approx((100 / 0.22, 80 / 0.22, 120 / 0.22, 90 / 0.22))


def test_pixels_are_scaled_by_the_width_however_much_of_the_top_is_cropped():
    whole = picture(352, 198)
    assert sightings([whole])[3].visible_px == {'CAM_FRONT': 180}
    lower = View(whole.camera, whole.world_from_ego, SimpleNamespace(thing=whole.capture.thing[:64]))
    assert sightings([lower])[3].visible_px == {'CAM_FRONT': 180}


def test_what_is_seen_lies_inside_the_projected_box(facts, rig):
    scale = 352.0 / 1600.0
    cameras = {item.camera.name: item.camera for item in rig.cameras}
    checked = 0
    for item in facts[6.0].objects:
        if item.attribute not in ('vehicle.parked', '') or item.distance_m < 4.0:
            continue  # images are up to 43 ms older than the keyframe, but what stands still moves with the ego only
        length, width, height = item.size_m
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (0, 1)]) * (
            length / 2,
            width / 2,
            height,
        )
        cos, sin = np.cos(item.heading_rad), np.sin(item.heading_rad)
        corners[:, :2] = corners[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + item.position_m
        for name, bounds in item.box_px.items():
            camera = cameras[name]
            points = transform_points(inverse(camera.ego_from_camera), corners)
            if (points[:, 2] < 1.0).any():
                continue
            pixels = (points / points[:, 2:]) @ camera.intrinsics_px.T
            full = (pixels[:, :2] + (0.0, 900.0 * scale - 128.0)) / scale
            slack_px = 12.0 + 0.6 / points[:, 2].min() * 1266.0  # a pixel of the image, and 0.5 m of the ego's way
            assert (full.min(axis=0) - slack_px <= bounds[:2]).all(), (item.category, name)
            assert (full.max(axis=0) + slack_px >= bounds[2:]).all(), (item.category, name)
            checked += 1
    assert checked >= 5


def test_futures_are_what_happens_next(facts, scene):
    now, later = facts[6.0], facts[6.5]
    now_from_later = inverse(scene.world_from_ego(6.0)) @ scene.world_from_ego(6.5)
    assert np.allclose(now.ego.future_m[0], now_from_later[:2, 3])
    assert now.ego.future_speed_mps[0] == later.ego.speed_mps
    by_token = {item.instance_token: item for item in later.objects}
    moving = 0
    for item in now.objects:
        assert item.future_m.shape == (len(FUTURE_S), 2)
        if item.instance_token in by_token:
            then = by_token[item.instance_token]
            place = transform_points(now_from_later, np.array([[*then.position_m, 0.0]]))[0, :2]
            assert np.allclose(item.future_m[0], place, atol=1e-9)
            mean_mps = 0.5 * (item.velocity_mps + now_from_later[:2, :2] @ then.velocity_mps)
            assert np.allclose(item.future_m[0] - item.position_m, 0.5 * mean_mps, atol=0.35)
            moving += np.hypot(*item.velocity_mps) > 1.0
    assert moving >= 1


def test_at_the_end_of_a_scene_the_future_is_short(facts):
    last = facts[18.0]
    assert last.ego.future_m.shape == (4, 2)
    assert last.ego.future_heading_rad.shape == last.ego.future_speed_mps.shape == (4,)
    assert all(item.future_m.shape == (4, 2) for item in last.objects)
    assert last.outcomes == {}
    assert len(facts[6.0].outcomes) == 5


def test_ground_and_indices(facts, scene, views):
    for time_s, one in facts.items():
        assert sum(one.ground.values()) == pytest.approx(1.0)
        assert one.ground['driveable_surface'] > 0.3
        boxed = boxed_things(scene, time_s, sightings(views[time_s]))
        assert [item.instance_token for item in one.objects] == [f'thing {index}' for index in boxed]
        for outcome in one.outcomes.values():
            assert outcome.hits is None or 0 <= outcome.hits < len(one.objects)
            assert (outcome.time_s is None) == (
                outcome.hits is None and not outcome.hits_other and outcome.ends_on == 'driveable_surface'
            )
        reason, thing = scene.reason_at(time_s)
        assert one.ego.reason is reason
        assert one.ego.reason_object == (boxed.index(thing) if thing in boxed else None)


def thing(category: str, label: int, *, parked: bool = False, still: bool = False, lamps: Lamps = Lamps.NONE) -> Thing:
    shape = Shape(label, (1.0, 1.0, 1.0), (), category)
    return Thing(shape, lambda _: State(np.eye(4), 0.0, lamps), still=still, annotated=True, parked=parked)


@pytest.mark.parametrize(
    ('what', 'speed_mps', 'attribute'),
    [
        (thing('vehicle.car', CAR), 3.0, 'vehicle.moving'),
        (thing('vehicle.car', CAR), 0.0, 'vehicle.stopped'),
        (thing('vehicle.car', CAR, parked=True, still=True), 0.0, 'vehicle.parked'),
        (thing('vehicle.bicycle', BICYCLE), 0.0, 'cycle.with_rider'),
        (thing('vehicle.bicycle', BICYCLE, still=True), 0.0, 'cycle.without_rider'),
        (thing('human.pedestrian.child', PEDESTRIAN), 1.2, 'pedestrian.moving'),
        (thing('human.pedestrian.adult', PEDESTRIAN), 0.0, 'pedestrian.standing'),
        (thing('movable_object.barrier', BARRIER, still=True), 0.0, ''),
    ],
)
def test_attributes(what, speed_mps, attribute):
    assert attribute_of(what, speed_mps) == attribute

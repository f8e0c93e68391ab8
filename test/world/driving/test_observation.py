from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.world.drawing.lens import Lens
from sparseoccvla_ros.world.driving.closed_loop import ClosedLoop
from sparseoccvla_ros.world.driving.drivers import follow_route
from sparseoccvla_ros.world.driving.observation import Observer
from sparseoccvla_ros.world.labels.facts import Command
from sparseoccvla_ros.world.rig import load_rig


@pytest.fixture(scope='module')
def driven():
    """A second of driving, and cameras."""
    loop = ClosedLoop.of(3, 1, 4.0)
    rig = load_rig(share_path('config/rig/nuscenes.yaml'), 176, 64, vehicle=0, seed=3)
    observer = Observer(loop.scene, rig)
    first = observer.observe(0.0)
    for _ in range(10):
        loop.step(follow_route(loop))
    return loop, rig, observer, first


def test_each_camera_looks_at_its_own_time_from_where_the_ego_was(driven):
    loop, rig, observer, _ = driven
    seen = observer.observe(0.93)
    assert [shot.camera.name for shot in seen.shots] == [item.camera.name for item in rig.cameras]
    for shot, item in zip(seen.shots, rig.cameras, strict=True):
        assert shot.time_s == pytest.approx(0.93 + item.trigger_offset_s)
        np.testing.assert_array_equal(shot.world_from_ego, loop.scene.world_from_ego(shot.time_s))
        assert shot.capture.rgb.shape == (64, 176, 3)
    np.testing.assert_array_equal(seen.world_from_ego, loop.scene.world_from_ego(0.93))
    assert seen.motion == loop.scene.measured_motion(0.93)
    assert isinstance(seen.command, Command)
    assert not np.array_equal(seen.world_from_ego, seen.shots[0].world_from_ego)


def test_the_past_looks_the_same_as_when_it_was_now(driven):
    _, _, observer, first = driven
    again = observer.observe(0.0)
    for before, after in zip(first.shots, again.shots, strict=True):
        np.testing.assert_array_equal(before.capture.rgb, after.capture.rgb)
    moved = observer.observe(1.0)
    assert (np.abs(moved.shots[0].capture.rgb.astype(int) - first.shots[0].capture.rgb) > 8).mean() > 0.05


def test_a_lens_changes_the_images_alone_and_its_noise_is_of_its_scene_camera_and_time(driven):
    loop, rig, observer, first = driven
    exact = [shot.capture for shot in first.shots]

    def noises(seed, time_s=0.0):
        shots = Observer(loop.scene, rig, Lens(), seed).observe(time_s).shots
        return [shot.capture for shot in shots]

    seen = noises((3, 1))
    for before, after in zip(exact, seen, strict=True):
        change = np.abs(after.rgb.astype(float) - before.rgb)
        assert 0.5 < change.mean() < 40.0
        np.testing.assert_array_equal(after.depth_m, before.depth_m)
    for before, after in zip(seen, noises((3, 1)), strict=True):
        np.testing.assert_array_equal(before.rgb, after.rgb)
    assert not np.array_equal(seen[0].rgb, noises((3, 2))[0].rgb)
    # The same grey wall through all cameras at two times: no noise is like another.
    flat = np.full((64, 176, 3), 120, dtype=np.uint8)
    observer = Observer(loop.scene, rig, Lens(), (3, 1))
    observer._renderer = SimpleNamespace(render=lambda *_: replace(exact[0], rgb=flat))
    images = [shot.capture.rgb for time_s in (0.0, 0.5) for shot in observer.observe(time_s).shots]
    assert len({image.tobytes() for image in images}) == 12


def test_labels_are_those_of_the_place_that_the_ego_has_reached(driven):
    loop, _, observer, first = driven
    truth = observer.labels(observer.observe(1.0))
    assert truth.semantics.shape == (200, 200, 16)
    assert truth.mask_camera.sum() > 10_000
    # The ego stands on the road: the voxel under it, and under where it was a second ago.
    was = np.linalg.inv(loop.scene.world_from_ego(1.0)) @ loop.scene.world_from_ego(0.0)
    for x, y in ((0.0, 0.0), was[:2, 3]):
        assert truth.semantics[int((x + 40.0) / 0.4), int((y + 40.0) / 0.4), 2] == 11
    assert not np.array_equal(truth.semantics, observer.labels(first).semantics)

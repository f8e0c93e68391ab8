"""The perception engine: what the model is given, and what comes out of the real one."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sparseoccvla_ros.geometry import inverse, project_points, transform_from_planar, transform_points
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.runtime.finite import NonFiniteOutput
from sparseoccvla_ros.runtime.occupancy import SelfFilter
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.sensors.camera import CameraView, SurroundView

CAMERAS = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT', 'CAM_BACK', 'CAM_BACK_LEFT')
YAW_RAD = dict(zip(CAMERAS, np.radians([55.0, 0.0, -55.0, -110.0, 180.0, 110.0]), strict=True))
OPTICAL_TO_BODY = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
INTRINSICS = np.array([[250.0, 0, 176], [0, 250, 64], [0, 0, 1]])
START_NS = 1_532_402_927_000_000_000
# Cameras fire one after the other, as on the real rig.
OFFSET_S = dict(zip(CAMERAS, [-0.008, 0.0, 0.008, 0.016, 0.025, 0.035], strict=True))


def ns(seconds):
    return START_NS + round(seconds * 1e9)


def odom_from_ego(t):
    """A turn at 8 m/s."""
    return transform_from_planar(100 + 40 * math.sin(0.2 * t), 5 + 40 * (1 - math.cos(0.2 * t)), 0.2 * t)


def surround(t, *, cameras=CAMERAS, odometry=True, seed=None):
    """A camera cycle at time t with random images, made from ``seed`` (default: from t)."""
    rng = np.random.default_rng(round(t * 1000) + 10_000 if seed is None else seed)
    images = {name: rng.integers(0, 256, (128, 352, 3), dtype=np.uint8) for name in CAMERAS}
    views = tuple(
        CameraView(
            name=name,
            stamp_ns=ns(t + OFFSET_S[name]),
            image=images[name],
            intrinsics_px=INTRINSICS,
            ego_from_camera=transform_from_planar(1.5, 0.0, YAW_RAD[name]) @ OPTICAL_TO_BODY,
            odom_from_ego=odom_from_ego(t + OFFSET_S[name]) if odometry else None,
        )
        for name in cameras
    )
    missing = {name: 'no image' for name in CAMERAS if name not in cameras}
    return SurroundView(ns(t), odom_from_ego(t) if odometry else None, views, missing)


class Recorder:
    """The model's API, recording what it is given; each image's feature is its first pixel."""

    def __init__(self, features=1.0):
        self.features = features
        self.extracted = []
        self.encoded = []

    def extract(self, images):
        self.extracted.append(len(images))
        return (images[:, 0, 0].float()[:, :, None, None],)

    def encode(self, levels, image_from_ego, view_mask):
        self.encoded.append((levels, image_from_ego, view_mask))
        points, logits = torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 1, 17)
        return EncoderOutput(torch.full((1, 2, 4), self.features), (points,), (logits,))


def recording_engine(config, cpu, **recorder):
    model = Recorder(**recorder)
    return model, PerceptionEngine(model, config, cpu, CAMERAS)


def test_the_backbone_runs_once_per_new_frame(config, cpu):
    model, engine = recording_engine(config, cpu)
    scenes = [engine.process(surround(i / 12)) for i in range(13)]
    assert model.extracted == [6] * 13
    assert [scene.temporal for scene in scenes] == [False] * 4 + [True] * 9
    levels, _, view_mask = model.encoded[12]
    assert view_mask.all()
    # The second frame is the one 0.5 s before: the seventh of thirteen.
    earlier = torch.cat([torch.from_numpy(camera.image[0, 0].copy())[None] for camera in surround(6 / 12).views])
    torch.testing.assert_close(levels[0][0, 6:, :, 0, 0], earlier.float())


def test_a_point_of_the_world_lands_on_its_pixel_in_every_view(config, cpu):
    """Every camera with the ego pose of its own time, now and half a second earlier, checked through odom."""
    model, engine = recording_engine(config, cpu)
    engine.process(surround(0.0))
    engine.process(surround(0.5))
    _, projections, view_mask = model.encoded[1]
    rng = np.random.default_rng(0)
    points_now_ego = np.concatenate([rng.uniform(-30, 30, (50, 2)), rng.uniform(-1, 4, (50, 1))], axis=1)
    points_odom = transform_points(odom_from_ego(0.5), points_now_ego)
    slot = 0
    for frame_s in (0.5, 0.0):
        for name in CAMERAS:
            points_then_ego = transform_points(inverse(odom_from_ego(frame_s + OFFSET_S[name])), points_odom)
            ego_from_camera = transform_from_planar(1.5, 0.0, YAW_RAD[name]) @ OPTICAL_TO_BODY
            points_camera = transform_points(inverse(ego_from_camera), points_then_ego)
            ahead = points_camera[:, 2] > 1.0
            by_hand = 250.0 * points_camera[ahead, :2] / points_camera[ahead, 2:] + [176.0, 64.0]
            pixels, depth_m = project_points(projections[0, slot].double().numpy(), points_now_ego[ahead])
            np.testing.assert_allclose(pixels, by_hand, atol=0.02)  # float32 projections
            np.testing.assert_allclose(depth_m, points_camera[ahead, 2], atol=1e-4)
            slot += 1
    assert view_mask.shape == (1, 12)


def test_missing_cameras_are_masked_in_their_slots(config, cpu):
    model, engine = recording_engine(config, cpu)
    scene = engine.process(surround(0.0, cameras=('CAM_FRONT', 'CAM_BACK')))
    levels, _, view_mask = model.encoded[0]
    assert view_mask[0].tolist() == [False, True, False, False, True, False] + [False] * 6
    view = surround(0.0)
    torch.testing.assert_close(levels[0][0, 4, :, 0, 0], torch.from_numpy(view.views[4].image[0, 0].copy()).float())
    assert not levels[0][0, [0, 2, 3, 5]].any()
    assert model.extracted == [2]
    assert scene.cameras_used == ('CAM_FRONT', 'CAM_BACK')
    assert set(scene.cameras_missing) == set(CAMERAS) - {'CAM_FRONT', 'CAM_BACK'}
    engine.process(surround(0.5))
    assert model.encoded[1][2][0].tolist() == [True] * 6 + [False, True, False, False, True, False]


def test_without_odometry_single_frames_go_on(config, cpu):
    model, engine = recording_engine(config, cpu)
    assert not engine.process(surround(0.0)).temporal
    assert not engine.process(surround(0.5, odometry=False)).temporal
    assert model.encoded[1][2][0].tolist() == [True] * 6 + [False] * 6
    scene = engine.process(surround(1.0))
    assert not scene.temporal  # the frame half a second ago has no pose
    assert engine.process(surround(1.5)).temporal


@pytest.mark.parametrize(('second_s', 'reason'), [(5.0, 'gap between scenes'), (-1.0, 'clock jumped back')])
def test_gaps_and_jumps_clear_the_memory(config, cpu, second_s, reason):
    _, engine = recording_engine(config, cpu)
    engine.process(surround(0.0))
    assert not engine.process(surround(second_s)).temporal
    assert engine.memory.clears == {reason: 1}


def test_non_finite_output_is_an_error_and_clears_the_memory(config, cpu):
    model, engine = recording_engine(config, cpu)
    engine.process(surround(0.0))
    model.features = math.nan
    with pytest.raises(NonFiniteOutput, match='perception: 8 of'):
        engine.process(surround(0.5))
    model.features = 1.0
    assert len(engine.memory) == 0
    assert not engine.process(surround(1.0)).temporal


def _with_image(view, image):
    return dataclasses.replace(view, views=(dataclasses.replace(view.views[0], image=image), *view.views[1:]))


def test_what_does_not_fit_is_named(config, cpu):
    _, engine = recording_engine(config, cpu)
    view = surround(0.0)
    with pytest.raises(ValueError, match=r'CAM_FRONT_LEFT is uint8 \(64, 352, 3\)'):
        engine.process(_with_image(view, np.zeros((64, 352, 3), np.uint8)))
    with pytest.raises(ValueError, match='float32'):
        engine.process(_with_image(view, np.zeros((128, 352, 3), np.float32)))
    with pytest.raises(ValueError, match='no camera'):
        engine.process(dataclasses.replace(view, views=()))
    stranger = dataclasses.replace(view.views[0], name='CAM_ROOF')
    with pytest.raises(ValueError, match='CAM_ROOF'):
        engine.process(dataclasses.replace(view, views=(stranger,)))
    with pytest.raises(ValueError, match='distinct'):
        PerceptionEngine(Recorder(), config, cpu, ('A', 'A'))
    with pytest.raises(ValueError, match='score_threshold'):
        PerceptionEngine(Recorder(), config, cpu, CAMERAS, 1.5)


def test_real_model_with_memory_equals_the_model_called_on_both_frames(config, cpu, perception):
    engine = PerceptionEngine(perception, config, cpu, CAMERAS, 0.3)
    engine.process(surround(0.0))
    recorder, shadow = recording_engine(config, cpu)
    for t in (0.0, 0.5):
        shadow.process(surround(t))
    _, projections, view_mask = recorder.encoded[1]
    scene = engine.process(surround(0.5))
    images = np.stack([view.image for t in (0.5, 0.0) for view in surround(t).views])
    with torch.inference_mode():
        levels = tuple(level[None] for level in perception.extract(torch.from_numpy(images)))
        output = perception.encode(levels, projections, view_mask)
    assert scene.temporal
    torch.testing.assert_close(scene.features, output.features[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scene.positions_ego, output.positions_m[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scene.scores, output.logits[-1][0].sigmoid().flatten(1).amax(1), atol=1e-4, rtol=1e-4)
    # And the memory matters: the same frame alone gives something else.
    alone = PerceptionEngine(perception, config, cpu, CAMERAS, 0.3).process(surround(0.5))
    assert not torch.allclose(alone.features, scene.features, atol=1e-3)


def test_points_inside_the_vehicle_are_left_out(config, cpu, perception):
    everything = PerceptionEngine(perception, config, cpu, CAMERAS, 0.0).process(surround(0.0)).occupancy
    box = SelfFilter((-10.0, -10.0, -1.0), (10.0, 10.0, 3.0))
    found = PerceptionEngine(perception, config, cpu, CAMERAS, 0.0, self_filter=box).process(surround(0.0)).occupancy
    kept = box.apply(everything)
    assert 0 < len(kept.labels) < len(everything.labels)
    np.testing.assert_allclose(found.points_ego, kept.points_ego, atol=1e-5)
    np.testing.assert_array_equal(found.labels, kept.labels)


def test_real_model_output_is_typed_timed_and_repeatable(config, cpu, perception):
    scenes = []
    for _ in range(2):
        engine = PerceptionEngine(perception, config, cpu, CAMERAS, 0.2)
        scenes.append([engine.process(surround(t)) for t in (0.0, 0.5)][-1])
    first, again = scenes
    Q, C = config.encoder.queries, config.encoder.width
    assert (first.features.shape, first.positions_ego.shape, first.scores.shape) == ((Q, C), (Q, 3), (Q,))
    assert {first.features.dtype, first.positions_ego.dtype, first.scores.dtype} == {torch.float32}
    assert not first.features.requires_grad
    assert torch.equal(first.features, again.features)
    occupancy = first.occupancy
    assert occupancy.points_ego.shape == (len(occupancy.labels), 3)
    assert (occupancy.points_ego.dtype, occupancy.labels.dtype) == (np.float32, np.uint8)
    assert (occupancy.scores > 0.2).all()
    assert set(first.stage_ms) == {'backbone', 'encoder', 'decode_points'}
    assert all(duration > 0 for duration in first.stage_ms.values())


def test_a_missing_cameras_image_has_no_influence_on_the_real_model(config, cpu, perception):
    """What a missing camera's slot holds must not matter, and the order in which cameras come neither."""
    some = ('CAM_FRONT', 'CAM_BACK_LEFT')
    one = PerceptionEngine(perception, config, cpu, CAMERAS).process(surround(0.0, cameras=some, seed=3))
    two = PerceptionEngine(perception, config, cpu, CAMERAS).process(surround(0.0, cameras=some[::-1], seed=3))
    torch.testing.assert_close(one.features, two.features, atol=1e-5, rtol=1e-5)
    full = PerceptionEngine(perception, config, cpu, CAMERAS).process(surround(0.0, seed=3))
    assert not torch.allclose(one.features, full.features, atol=1e-3)

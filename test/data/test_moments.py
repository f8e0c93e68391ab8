"""What belongs to a keyframe: never something later, never something of another scene."""

import numpy as np
import pytest

from sparseoccvla_ros.data.keyframes import label_frame, label_pose
from sparseoccvla_ros.data.moments import earlier_frame, scene_moments
from sparseoccvla_ros.geometry import inverse, transform_points, yaw_of

PAIR = ('CAM_FRONT', 'CAM_BACK')
SPEED_MPS, YAW_RATE_RADPS = 5.0, 0.2  # of the layout's car
OPTIONS = {
    'cameras': PAIR,
    'frames': 3,
    'frame_interval_s': 0.5,
    'future_path_s': (0.5, 1.0),
    'future_keyframes_s': (0.5, 1.0),
    'boxes': False,
}


def moments_of(layout, **changes):
    return scene_moments(layout.read(), 'scene-0001', **{**OPTIONS, **changes})


def ages_s(moment, camera: int) -> list[float | None]:
    current, *earlier = (row[camera] for row in moment.camera_frames)
    return [frame and (current.stamp_ns - frame.stamp_ns) * 1e-9 for frame in earlier]


@pytest.fixture
def drive(make_layout, tmp_path):
    """Five keyframes, 0.5 s apart; a sweep 80 ms after each but the last."""
    return make_layout(tmp_path / 'data', keyframes=5)


def test_frames_lie_the_interval_apart_and_end_with_the_scene(drive):
    found = [ages_s(moment, 0) for moment in moments_of(drive)]
    assert found == [[None, None], [pytest.approx(0.5), None], *[[pytest.approx(0.5), pytest.approx(1.0)]] * 3]


def test_sweeps_serve_where_they_are_nearer(drive):
    """0.42 s back lies the sweep of the keyframe before; 0.25 s back lies nothing."""
    assert ages_s(moments_of(drive, frame_interval_s=0.42)[2], 1) == [pytest.approx(0.42), pytest.approx(0.92)]
    assert ages_s(moments_of(drive, frame_interval_s=0.25)[2], 1) == [None, pytest.approx(0.5)]


@pytest.mark.parametrize('interval_s', [0.03, 0.08, 0.2, 0.42, 0.5, 0.7])
def test_frames_are_older_than_the_current_one_and_all_different(drive, interval_s):
    for moment in moments_of(drive, frames=5, frame_interval_s=interval_s):
        for camera in range(2):
            stamps_ns = [row[camera].stamp_ns for row in moment.camera_frames if row[camera]]
            assert stamps_ns == sorted(set(stamps_ns), reverse=True)
            assert all(row[camera].channel == PAIR[camera] for row in moment.camera_frames if row[camera])
            for place, row in enumerate(moment.camera_frames[1:], 1):
                if row[camera]:
                    age_s = (stamps_ns[0] - row[camera].stamp_ns) * 1e-9
                    assert abs(age_s - place * interval_s) <= interval_s / 3.0


def test_without_a_current_frame_the_age_counts_from_the_keyframe(drive):
    history = [frame for frame in drive.read().frames('scene-0001') if frame.channel == 'CAM_BACK']
    stamp_ns = history[4].stamp_ns
    found = earlier_frame(history, None, stamp_ns, 0.5, 0.1)
    assert found is history[2]
    assert earlier_frame([], None, stamp_ns, 0.5, 0.1) is None


def test_nothing_comes_from_another_scene(drive):
    """The last two keyframes become a scene of their own, 0.5 s after the other's end."""
    for token in ('sample3', 'sample4'):
        drive.row('sample', token=token)['scene_token'] = 'scene-b'
    drive.tables['scene'].append({'token': 'scene-b', 'name': 'scene-0002', 'log_token': 'log'})
    tables = drive.read()
    second = scene_moments(tables, 'scene-0002', **OPTIONS)
    assert [ages_s(moment, 0) for moment in second] == [[None, None], [pytest.approx(0.5), None]]
    first = moments_of(drive)
    assert [moment.future_keyframes for moment in first] == [(1, 2), (2, None), (None, None)]
    assert [moment.future_ego_valid.tolist() for moment in first] == [[True, True], [True, False], [False, False]]
    assert second[0].ego_state is None


def test_what_a_model_sees_does_not_change_when_the_future_is_cut_off(drive):
    """Keyframe 3 of the whole scene, and where the recording ended with it."""
    whole = moments_of(drive)[3]
    drive.tables['sample'] = [row for row in drive.tables['sample'] if row['token'] != 'sample4']
    drive.tables['sample_data'] = [
        row
        for row in drive.tables['sample_data']
        if row['sample_token'] != 'sample4' and (row['is_key_frame'] or row['sample_token'] != 'sample3')
    ]
    cut = moments_of(drive)[3]
    assert not cut.future_ego_valid.any()
    assert whole.future_ego_valid.any()
    tokens = [[[frame and frame.token for frame in row] for row in m.camera_frames] for m in (whole, cut)]
    assert tokens[0] == tokens[1]
    assert (whole.token, whole.stamp_ns) == (cut.token, cut.stamp_ns)
    np.testing.assert_array_equal(whole.global_from_ego, cut.global_from_ego)
    for name in ('stamp_ns', 'speed_mps', 'accel_mps2', 'yaw_rate_radps'):
        assert getattr(whole.ego_state, name) == getattr(cut.ego_state, name)


def test_the_motion_is_that_of_the_car(drive):
    first, *others = moments_of(drive)
    assert first.ego_state is None  # its poses span 40 ms
    for moment in others:
        assert moment.ego_state.speed_mps == pytest.approx(SPEED_MPS, abs=1e-3)
        assert moment.ego_state.yaw_rate_radps == pytest.approx(YAW_RATE_RADPS, abs=1e-3)
        assert moment.ego_state.accel_mps2 == pytest.approx(0.0, abs=0.02)


def test_the_future_path_is_the_circle(drive):
    """From the keyframe's pose: radius 25 m, 0.1 rad further each half second; chords between poses are 8 mm off."""
    moment = moments_of(drive)[1]
    radius_m, turns_rad = SPEED_MPS / YAW_RATE_RADPS, np.array([0.1, 0.2])
    expected = radius_m * np.stack([np.sin(turns_rad), 1.0 - np.cos(turns_rad)], axis=1)
    np.testing.assert_allclose(moment.future_ego_xy_m, expected, atol=0.04)
    np.testing.assert_allclose(moment.future_ego_heading_rad, turns_rad, atol=2e-3)
    ended = moments_of(drive)[4]
    assert not ended.future_ego_valid.any()
    assert not ended.future_ego_xy_m.any()


def test_boxes_are_in_the_keyframes_ego_frame_with_their_velocity(drive):
    """The layout's box, seen again half a second later 1 m further along x and 0.5 m along y of the map."""
    again = dict(drive.tables['sample_annotation'][0], token='a1', sample_token='sample1')
    again['translation'] = [111.0, 203.5, 0.8]
    alone = dict(again, token='a2', instance_token='i1')
    drive.tables['sample_annotation'] += [again, alone]
    drive.tables['instance'].append({'token': 'i1', 'category_token': 'c0'})
    moments = moments_of(drive, boxes=True)
    sample = drive.read().scene('scene-0001').samples[1]
    ego_from_global = inverse(label_pose(sample))
    boxes = moments[1].boxes
    np.testing.assert_allclose(boxes.centre_m[0], transform_points(ego_from_global, np.array([111.0, 203.5, 0.8])))
    np.testing.assert_allclose(boxes.size_lwh_m[0], [4.5, 2.0, 1.6])
    ego_yaw_rad = yaw_of(label_frame(sample).global_from_ego)
    assert boxes.heading_rad[0] == pytest.approx(0.5 * np.pi - ego_yaw_rad)
    cos, sin = np.cos(ego_yaw_rad), np.sin(ego_yaw_rad)
    np.testing.assert_allclose(boxes.velocity_mps[0], [2.0 * cos + sin, -2.0 * sin + cos], atol=1e-9)
    assert boxes.velocity_known.tolist() == [True, False]
    assert not boxes.velocity_mps[1].any()
    assert boxes.category == ('vehicle.car', 'vehicle.car')
    assert boxes.instance_token == ('i0', 'i1')
    assert moments[4].boxes.centre_m.shape == (0, 3)
    assert moments[4].boxes.velocity_mps.shape == (0, 2)


def test_the_keyframe_itself_is_never_its_own_future(drive):
    """0.1 s ahead the nearest keyframe is the current one, and it does not count."""
    assert moments_of(drive, future_keyframes_s=(0.1, 0.45))[1].future_keyframes == (None, 2)

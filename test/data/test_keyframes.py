"""Keyframes as the model takes them."""

import json

import numpy as np
import pytest

from sparseoccvla_ros.data.keyframes import encoder_inputs, keyframe_view, label_pose
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesError, NuScenesTables, Sample, load_lidar_points
from sparseoccvla_ros.geometry import inverse, project_points, transform_points

PAIR = ('CAM_FRONT', 'CAM_BACK')
WIDTH_PX, HEIGHT_PX = 32, 16


def samples(tables):
    return tables.scene('scene-0001').samples


def test_images_and_intrinsics_are_fitted_together(tables):
    view = keyframe_view(samples(tables)[0], PAIR, WIDTH_PX, HEIGHT_PX)
    assert [camera.name for camera in view.views] == list(PAIR)
    assert not view.missing
    for camera in view.views:
        assert camera.image.shape == (HEIGHT_PX, WIDTH_PX, 3)
        # 64 x 36 px: half the width, then the upper 2 of 18 rows are cut
        np.testing.assert_allclose(camera.intrinsics_px, [[30, 0, 16], [0, 30, 7], [0, 0, 1]])


def test_the_reference_pose_is_the_lidars(tables):
    sample = samples(tables)[1]
    np.testing.assert_array_equal(label_pose(sample), sample.sensors['LIDAR_TOP'].global_from_ego)
    cameras = {name: sample.sensors[name] for name in PAIR}
    blind = Sample(sample.token, cameras['CAM_BACK'].stamp_ns + 1000, cameras)
    np.testing.assert_array_equal(label_pose(blind), cameras['CAM_BACK'].global_from_ego)
    with pytest.raises(NuScenesError, match='no key frame of any sensor'):
        label_pose(Sample('bare', 0, {}))


def test_a_camera_that_cannot_be_used_is_missing_with_its_reason(layout):
    rows = layout.tables['sample_data']
    front, back = (next(row for row in rows if row['token'].startswith(name)) for name in PAIR)
    (layout.root / front['filename']).write_bytes(b'\xff\xd8 no image')
    (layout.root / back['filename']).unlink()
    view = keyframe_view(samples(layout.read())[0], (*PAIR, 'CAM_LEFT'), WIDTH_PX, HEIGHT_PX)
    assert view.views == ()
    assert view.missing == {'CAM_FRONT': 'corrupt_image', 'CAM_BACK': 'unreadable_file', 'CAM_LEFT': 'no_frame'}


def test_a_fixed_point_lies_where_each_frame_and_camera_saw_it(tables):
    """Every image has its own pose: project a point of the world by hand, and through the stacked projections."""
    keyframes = samples(tables)[::-1]
    frames = [keyframe_view(sample, PAIR, WIDTH_PX, HEIGHT_PX) for sample in keyframes]
    inputs = encoder_inputs(frames, PAIR, WIDTH_PX, HEIGHT_PX)
    point_global = np.array([[125.0, 204.0, 1.0]])
    point_ego = transform_points(inverse(label_pose(keyframes[0])), point_global)
    for frame, sample in enumerate(keyframes):
        for slot, name in enumerate(PAIR):
            sensor = sample.sensors[name]
            camera_from_global = inverse(sensor.global_from_ego @ sensor.ego_from_sensor)
            x, y, z = transform_points(camera_from_global, point_global)[0]
            expected = [30.0 * x / z + 16.0, 30.0 * y / z + 7.0]
            matrix = inputs.image_from_ego[2 * frame + slot].astype(np.float64)
            np.testing.assert_allclose(project_points(matrix, point_ego)[0][0], expected, atol=1e-3)
    np.testing.assert_array_equal(inputs.images[0], frames[0].views[0].image)
    np.testing.assert_array_equal(inputs.images[3], frames[1].views[1].image)
    assert inputs.view_mask.all()


def test_frames_and_cameras_that_are_not_there_are_masked(layout):
    front = next(row for row in layout.tables['sample_data'] if row['token'].startswith('CAM_FRONT'))
    (layout.root / front['filename']).unlink()
    frame = keyframe_view(samples(layout.read())[0], PAIR, WIDTH_PX, HEIGHT_PX)
    inputs = encoder_inputs([frame, None], PAIR, WIDTH_PX, HEIGHT_PX)
    assert inputs.view_mask.tolist() == [False, True, False, False]
    assert not inputs.images[[0, 2, 3]].any()
    assert np.isfinite(inputs.image_from_ego).all()
    with pytest.raises(ValueError, match='current frame and its pose must be there'):
        encoder_inputs([None, frame], PAIR, WIDTH_PX, HEIGHT_PX)


@pytest.mark.nuscenes
def test_real_lidar_points_fall_on_the_reference_pixels_of_the_fitted_images(nuscenes_dir):
    """From the labels' ego frame into 704x256 images: scaled by 0.44, and the upper 140 of 396 rows cut."""
    (sample,) = NuScenesTables(nuscenes_dir, 'v1.0-one').scene('scene-0061').samples
    reference = json.loads((nuscenes_dir / 'reference.json').read_text())
    inputs = encoder_inputs([keyframe_view(sample, CAMERAS, 704, 256)], CAMERAS, 704, 256)
    lidar = sample.sensors['LIDAR_TOP']
    points_ego = transform_points(lidar.ego_from_sensor, load_lidar_points(lidar)[:, :3].astype(np.float64))
    for slot, name in enumerate(CAMERAS):
        camera = reference['cameras'][name]
        pixels, depth_m = project_points(
            inputs.image_from_ego[slot].astype(np.float64), points_ego[camera['point_index']]
        )
        expected = np.array(camera['pixel']) * 0.44 - [0.0, 140.0]
        np.testing.assert_allclose(pixels, expected, atol=2e-3)
        np.testing.assert_allclose(depth_m, camera['depth'], atol=1e-3)

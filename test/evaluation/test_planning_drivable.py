"""Drivable areas: shapes drawn by hand, a map expansion in nuScenes' form, and a world's map image."""

import json

import cv2
import numpy as np
import pytest

from sparseoccvla_ros.data.nuscenes import NuScenesError, NuScenesTables
from sparseoccvla_ros.evaluation.planning_drivable import DrivableMaps, draw_drivable
from sparseoccvla_ros.geometry import transform_from_planar

SQUARE = np.array([[0.0, 0.0], [20.0, 0.0], [20.0, 10.0], [0.0, 10.0]])
HOLE = np.array([[5.0, 2.0], [8.0, 2.0], [8.0, 5.0], [5.0, 5.0]])


def cell(x_m, y_m):
    """Row and column of a place in the ego frame."""
    return round((y_m + 50.0) / 0.1), round((x_m + 50.0) / 0.1)


def test_a_square_with_a_hole():
    raster = draw_drivable([(SQUARE, [HOLE])], np.eye(4))
    assert raster[cell(10.0, 8.0)] == raster[cell(0.0, 0.0)] == raster[cell(4.5, 3.0)] == 1
    assert raster[cell(6.0, 3.0)] == raster[cell(-1.0, 5.0)] == raster[cell(21.0, 5.0)] == 0
    assert raster.sum() == 201 * 101 - 31 * 31


def test_it_turns_with_the_ego():
    """From (0, 10) looking down the map's -y axis: the square lies ahead and to the left."""
    raster = draw_drivable([(SQUARE, [])], transform_from_planar(0.0, 10.0, -np.pi / 2))
    assert raster[cell(5.0, 10.0)] == 1
    assert raster[cell(5.0, -1.0)] == raster[cell(11.0, 10.0)] == raster[cell(-1.0, 10.0)] == 0
    assert abs(int(raster.sum()) - 201 * 101) < 5


@pytest.mark.parametrize('centre_m', [(50.0, 0.0), (-50.0, 0.0), (0.0, 50.0), (0.0, -50.0), (50.0, 50.0)])
def test_a_hole_across_the_border_is_a_bay(centre_m):
    """It takes nothing from another polygon, and its shore is land."""
    everywhere = np.array([[-90.0, -90.0], [90.0, -90.0], [90.0, 90.0], [-90.0, 90.0]])
    hole = np.array([[-5.0, -5.0], [5.0, -5.0], [5.0, 5.0], [-5.0, 5.0]]) + centre_m
    raster = draw_drivable([(everywhere, [hole])], np.eye(4))
    inside = np.array(centre_m) * 0.95
    assert raster[cell(*inside)] == 0
    assert raster[cell(*(np.array(centre_m) * 0.85))] == 1
    assert raster[cell(0.0, 0.0)] == 1
    assert draw_drivable([(everywhere, []), (everywhere, [hole])], np.eye(4)).all()


def test_what_is_out_of_range_is_not_there():
    assert not draw_drivable([(SQUARE + 100.0, [HOLE + 100.0])], np.eye(4)).any()


def layout(root, version, map_rows):
    folder = root / version
    folder.mkdir(parents=True)
    rows = {name: [] for name in ('sample', 'sample_data', 'ego_pose', 'calibrated_sensor', 'sensor')}
    rows['scene'] = [{'token': 's', 'name': 'scene-0001', 'log_token': 'l', 'description': ''}]
    rows['log'] = [{'token': 'l', 'location': 'boston-seaport'}]
    rows['map'] = map_rows
    for name, content in rows.items():
        (folder / f'{name}.json').write_text(json.dumps(content))
    return NuScenesTables(root, version)


def test_a_map_expansion(tmp_path):
    tables = layout(tmp_path, 'v1.0-mini', [])
    assert DrivableMaps(tables).around('scene-0001', np.eye(4)) is None
    points = [*SQUARE, *HOLE]
    expansion = {
        'node': [{'token': str(i), 'x': x, 'y': y} for i, (x, y) in enumerate(points)],
        'polygon': [
            {'token': 'p', 'exterior_node_tokens': list('0123'), 'holes': [{'node_tokens': list('4567')}]},
            {'token': 'other', 'exterior_node_tokens': list('4567'), 'holes': []},
        ],
        'drivable_area': [{'token': 'd', 'polygon_tokens': ['p']}],
    }
    folder = tmp_path / 'maps' / 'expansion'
    folder.mkdir(parents=True)
    path = folder / 'boston-seaport.json'
    path.write_text(json.dumps(expansion))
    pose = transform_from_planar(3.0, 2.0, 0.4)
    drawn = DrivableMaps(tables).around('scene-0001', pose)
    np.testing.assert_array_equal(drawn, draw_drivable([(SQUARE, [HOLE])], pose))


def test_a_broken_expansion_is_named(tmp_path):
    tables = layout(tmp_path, 'v1.0-mini', [])
    (tmp_path / 'maps' / 'expansion').mkdir(parents=True)
    (tmp_path / 'maps' / 'expansion' / 'boston-seaport.json').write_text('{"node": []}')
    with pytest.raises(NuScenesError, match=r'boston-seaport\.json is not a map expansion'):
        DrivableMaps(tables).around('scene-0001', np.eye(4))


def test_a_worlds_image(tmp_path):
    """0.1 m a pixel, the map's (0, 0) in the lower left corner."""
    tables = layout(tmp_path, 'v1.0-world', [{'log_tokens': ['l'], 'filename': 'maps/m.png'}])
    image = np.zeros((400, 600), dtype=np.uint8)
    image[400 - 100 :, :200] = 255  # x 0..20 m, y 0..10 m
    (tmp_path / 'maps').mkdir()
    assert cv2.imwrite(str(tmp_path / 'maps' / 'm.png'), image)
    pose = transform_from_planar(10.0, 5.0, np.pi / 2)
    drawn = DrivableMaps(tables).around('scene-0001', pose)
    expected = draw_drivable([(SQUARE, [])], pose)
    # pixels are drawn by their middles, polygons with their rim
    assert np.count_nonzero(drawn != expected) <= 2 * (200 + 100) + 8
    assert drawn[cell(4.0, 9.0)] == 1
    assert drawn[cell(6.0, 9.0)] == drawn[cell(4.0, 11.0)] == 0


def test_nuscenes_own_map_images_are_not_taken_for_roads(tmp_path):
    """They contain the sidewalks."""
    tables = layout(tmp_path, 'v1.0-mini', [{'log_tokens': ['l'], 'filename': 'maps/m.png'}])
    (tmp_path / 'maps').mkdir()
    assert cv2.imwrite(str(tmp_path / 'maps' / 'm.png'), np.full((10, 10), 255, dtype=np.uint8))
    assert DrivableMaps(tables).around('scene-0001', np.eye(4)) is None

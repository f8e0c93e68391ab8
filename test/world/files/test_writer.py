import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparseoccvla_ros.data.nuscenes import CAMERAS, LIDAR, NuScenesTables, load_lidar_points
from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE
from sparseoccvla_ros.geometry import inverse, transform_points
from sparseoccvla_ros.world.files.scene_writer import LENS_STREAM, LIDAR_STREAM
from sparseoccvla_ros.world.files.tables import TABLES
from sparseoccvla_ros.world.files.writer import WorldRequest, parse_city, parse_size, write_world
from sparseoccvla_ros.world.manoeuvre import Manoeuvre
from sparseoccvla_ros.world.rig import RIG_STREAM
from sparseoccvla_ros.world.stage import build_stage


def rows(root: Path, table: str) -> list[dict]:
    return json.loads((root / 'v1.0-world' / f'{table}.json').read_text())


def test_another_seed_gives_other_images(world, tmp_path, digests, monkeypatch):
    seeds, make = [], np.random.default_rng
    monkeypatch.setattr(np.random, 'default_rng', lambda seed: seeds.append(np.atleast_1d(seed)) or make(seed))
    write_world(tmp_path / 'other', WorldRequest(1, 8, 96, 32, 2, 1.0), workers=1)
    # Purposes come first in seeds, since numpy takes [1, 5] and [1, 5, 0] for the same.
    assert {LENS_STREAM, LIDAR_STREAM, RIG_STREAM} <= {int(seed[0]) for seed in seeds}
    assert not set(digests(tmp_path / 'other').values()) & {
        value for name, value in digests(world).items() if name.endswith('.jpg')
    }


def test_every_reference_in_the_tables_leads_somewhere(world):
    tables = {name: rows(world, name) for name in TABLES}
    tokens = {name: {row['token'] for row in table} for name, table in tables.items()}
    for name, table in tables.items():
        assert len(tokens[name]) == len(table), name
        for row in table:
            for key, value in row.items():
                target = {'first_sample': 'sample', 'last_sample': 'sample'}.get(key.removesuffix('_token'))
                target = target or ('sample_annotation' if 'annotation_token' in key else key.removesuffix('_token'))
                if key.endswith('_token'):
                    assert value in tokens[target], (name, key)
                if key in ('prev', 'next') and value:
                    assert value in tokens[name]
            for value in row.get('attribute_tokens', []):
                assert value in tokens['attribute']
    for row in tables['sample_data']:
        if row['fileformat'] == 'pcd':
            assert len((world / row['filename']).read_bytes()) % 20 == 0
            continue
        image = cv2.imread(str(world / row['filename']))
        assert image.shape == (row['height'], row['width'], 3) == (32, 96, 3)
        assert row['filename'].startswith('samples/' if row['is_key_frame'] else 'sweeps/')
    for row in tables['map']:
        assert (world / row['filename']).is_file()
        assert set(row['log_tokens']) <= tokens['log']


def test_our_reader_serves_it(world):
    tables = NuScenesTables(world, 'v1.0-world')
    assert tables.scene_names == ('scene-0001', 'scene-0002', 'scene-0003')
    scene = tables.scene('scene-0001')
    assert [sample.stamp_ns - scene.samples[0].stamp_ns for sample in scene.samples] == [0, 500_000_000, 1_000_000_000]
    first = scene.samples[0]
    assert set(first.sensors) == {*CAMERAS, LIDAR}
    offsets = np.array([first.sensors[name].stamp_ns - first.stamp_ns for name in CAMERAS])
    assert first.sensors[LIDAR].stamp_ns == first.stamp_ns
    assert offsets.min() == -43_000_000
    assert offsets.max() == 0
    frames = tables.camera_frames('scene-0001')
    assert len(frames) == 30
    fronts = [frame for frame in frames if frame.channel == 'CAM_FRONT']
    assert np.diff([frame.stamp_ns for frame in fronts]).tolist() == [250_000_000] * 4
    assert [frame.is_key_frame for frame in fronts] == [True, False, True, False, True]
    # Each image has the ego's pose of its own time: the cameras of one cycle differ where the car moves.
    moved = inverse(first.sensors['CAM_FRONT_LEFT'].global_from_ego) @ first.sensors['CAM_BACK_LEFT'].global_from_ego
    assert moved[0, 3] > 0.0 or 'wait' in scene.description


def test_boxes_move_as_their_attributes_say(world):
    names = {row['token']: row['name'] for row in rows(world, 'attribute')}
    boxes = {row['token']: row for row in rows(world, 'sample_annotation')}
    assert len(boxes) > 20
    for row in boxes.values():
        following = boxes.get(row['next'])
        if following is None:
            continue
        moved_m = np.linalg.norm(np.subtract(following['translation'], row['translation']))
        attribute = names[row['attribute_tokens'][0]] if row['attribute_tokens'] else None
        if attribute in ('vehicle.parked', 'cycle.without_rider'):
            assert moved_m < 1e-6
        assert row['size'][2] == pytest.approx(2.0 * row['translation'][2])


def test_labels_are_written_in_occ3d_form(world):
    for sample in rows(world, 'sample'):
        path = next(world.glob(f'gts/*/{sample["token"]}/labels.npz'))
        with np.load(path) as labels:
            assert set(labels.files) == {'semantics', 'mask_camera', 'mask_lidar'}
            for name in labels.files:
                assert labels[name].shape == GRID_SHAPE
                assert labels[name].dtype == np.uint8
            assert labels['semantics'].max() == FREE
            assert set(np.unique(labels['mask_camera'])) == {0, 1}


def test_an_existing_folder_is_left_alone(world, small, digests):
    before = digests(world)
    with pytest.raises(FileExistsError, match='exists; nothing is overwritten'):
        write_world(world, small)
    assert digests(world) == before


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'scenes': 0}, 'scenes is 0; 1 to 10000 expected'),
        ({'seed': -1}, 'seed is -1; 0 to 4294967295 expected'),
        ({'sweep_hz': 5}, 'sweep_hz is 5; one of 2, 4, 6, 8, 10, 12 expected'),
        ({'seconds': 0.5}, 'seconds is 0.5; 1 to 300 expected'),
        ({'seconds': float('nan')}, 'seconds is nan; 1 to 300 expected'),
        ({'width_px': 8}, 'size is 8x128; a width of 32 to 3200 px'),
        ({'height_px': 300}, 'image height 300 px is impossible at width 352 px: at most 198 px expected'),
        ({'questions_per_keyframe': 0}, 'questions_per_keyframe is 0; at least 1 expected'),
        ({'city': 'oz'}, "unknown city 'oz'; expected one of harbour, oldtown, suburb"),
    ],
)
def test_impossible_parameters_are_refused_with_the_value(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        WorldRequest(**{'scenes': 1, 'seed': 0} | change)


def test_equal_options_give_equal_tokens():
    one = WorldRequest(1, 7, 352, 128, 2, 20)
    for same in (WorldRequest(1, 7, 352, 128, 2, 20.0), WorldRequest(*np.array([1, 7, 352, 128, 2]), np.float64(20.0))):
        assert json.dumps(same.options()) == json.dumps(one.options())
    assert type(one.seconds) is float
    with pytest.raises(ValueError, match=r'seed is 7\.5; a whole number expected'):
        WorldRequest(1, 7.5)


def test_sizes_are_read_from_text():
    assert parse_size('704x256') == (704, 256)
    for text in ('704', '704x', '704X256', '-1x5', '7.5x2', ''):
        with pytest.raises(ValueError, match='WIDTHxHEIGHT in pixels expected'):
            parse_size(text)


def test_towns_are_asked_for_by_name_or_number():
    assert [parse_city(text) for text in ('suburb', '1', '3', '1,suburb')] == [
        'suburb',
        'harbour',
        'suburb',
        'harbour,suburb',
    ]
    with pytest.raises(ValueError, match="city is 'harbour,harbour'; each town once expected"):
        parse_city('1,harbour')
    with pytest.raises(ValueError, match=r'city is 4; one of 1 \(harbour\), 2 \(oldtown\), 3 \(suburb\) expected'):
        parse_city('4')
    with pytest.raises(ValueError, match="unknown city 'oz'"):
        parse_city('oz')


def test_scenes_visit_the_towns_asked_for_and_show_every_manoeuvre_in_each():
    stages = [build_stage(3, index, 2.0, 'harbour,suburb') for index in range(16)]
    shown = {(stage.city.name, stage.manoeuvre) for stage in stages}
    assert shown == {(town, manoeuvre) for town in ('harbour', 'suburb') for manoeuvre in Manoeuvre}


def test_lidar_points_are_those_of_the_boxes(world):
    """Points inside a box are as many as its row says, but for the ground below it and what else reaches into it."""
    tables = NuScenesTables(world, 'v1.0-world')
    counted = agreed = 0
    for sample in tables.scene('scene-0001').samples:
        frame = sample.sensors[LIDAR]
        assert frame.read_bytes()
        points = load_lidar_points(frame)
        assert len(points) > 10_000
        assert set(np.unique(points[:, 4])) <= set(range(32))
        world_points = transform_points(frame.global_from_ego @ frame.ego_from_sensor, points[:, :3].astype(np.float64))
        for box in tables.annotations(sample):
            local = transform_points(inverse(box.global_from_box), world_points)
            width, length, height = box.size_wlh_m
            inside = (np.abs(local) <= 0.51 * np.array([length, width, height])).all(axis=1)
            inside &= world_points[:, 2] > 0.01
            counted += 1
            agreed += abs(int(inside.sum()) - box.lidar_points) <= max(2.0, 0.02 * box.lidar_points)
    assert counted > 30
    assert agreed >= 0.95 * counted


def test_depth_and_class_images_lie_beside_the_photographs(world):
    keyframes = [row for row in rows(world, 'sample_data') if row['is_key_frame'] and row['fileformat'] == 'jpg']
    assert len(list(world.glob('depth/*/*.png'))) == len(list(world.glob('semantics/*/*.png'))) == len(keyframes)
    for row in keyframes[:12]:
        name = row['filename'].removeprefix('samples/').replace('.jpg', '.png')
        depth = cv2.imread(str(world / 'depth' / name), cv2.IMREAD_UNCHANGED)
        classes = cv2.imread(str(world / 'semantics' / name), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        assert depth.shape == classes.shape == (32, 96)
        # Sky has no depth; the lowest row of pixels shows something near.
        assert ((depth == 0) == (classes == FREE)).all()
        assert 0 < depth[-1].min() < 25 * 256

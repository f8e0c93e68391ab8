import json
import re

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from sparseoccvla_ros.cli.bag import bag
from sparseoccvla_ros.data.bag_reader import BagReader

POSE = {'translation': [1.0, 2.0, 0.0], 'rotation': [1.0, 0.0, 0.0, 0.0]}


@pytest.fixture
def run():
    """Runs ``bag`` with options given as keywords, as the command line would."""
    app = typer.Typer()
    app.command()(bag)

    def invoke(**options):
        return CliRunner().invoke(app, [word for key, value in options.items() for word in (f'--{key}', str(value))])

    return invoke


@pytest.fixture
def one_image(tmp_path):
    """The smallest data set there is: one image of one camera."""
    root = tmp_path / 'data'
    tables = {
        'scene': [{'token': 'S', 'name': 'scene-0001'}],
        'sample': [{'token': 'A', 'scene_token': 'S', 'timestamp': 5}],
        'sensor': [{'token': 'C', 'channel': 'CAM_FRONT', 'modality': 'camera'}],
        'calibrated_sensor': [
            {'token': 'K', 'sensor_token': 'C', 'camera_intrinsic': [[9.0, 0, 8], [0, 9.0, 4], [0, 0, 1]], **POSE}
        ],
        'ego_pose': [{'token': 'P', 'timestamp': 5, **POSE}],
        'sample_data': [
            {
                'token': 'D',
                'sample_token': 'A',
                'ego_pose_token': 'P',
                'calibrated_sensor_token': 'K',
                'timestamp': 5,
                'is_key_frame': True,
                'width': 16,
                'height': 8,
                'filename': 'samples/CAM_FRONT/a.jpg',
            }
        ],
    }
    (root / 'samples' / 'CAM_FRONT').mkdir(parents=True)
    assert cv2.imwrite(str(root / 'samples' / 'CAM_FRONT' / 'a.jpg'), np.zeros((8, 16, 3), np.uint8))
    (root / 'v1.0-x').mkdir()
    for name, rows in tables.items():
        (root / 'v1.0-x' / f'{name}.json').write_text(json.dumps(rows))
    return root


def test_writes_the_bag_and_says_what_is_in_it(run, one_image, tmp_path):
    out = tmp_path / 'out'
    result = run(data=one_image, version='v1.0-x', scene='scene-0001', out=out)
    assert result.exit_code == 0, result.output
    assert re.search(r'/CAM_FRONT/image_rect/compressed\D+1\b', result.output)
    assert 'scene-0001' in result.output
    with BagReader(out) as reader:
        assert set(reader.topics) == {
            '/CAM_FRONT/image_rect/compressed',
            '/CAM_FRONT/camera_info',
            '/odom',
            '/tf',
            '/tf_static',
        }


def test_topics_takes_a_preset_or_a_file(run, one_image, tmp_path, project_root):
    result = run(data=one_image, version='v1.0-x', scene='scene-0001', out=tmp_path / 'a', topics='nuscenes2bag')
    assert result.exit_code == 0, result.output
    with BagReader(tmp_path / 'a') as reader:
        assert '/cam_front/raw' in reader.topics
    own = tmp_path / 'own.yaml'
    text = (project_root / 'config' / 'topics' / 'default.yaml').read_text()
    own.write_text(text.replace('/odom', '/car/odometry'))
    result = run(data=one_image, version='v1.0-x', scene='scene-0001', out=tmp_path / 'b', topics=own)
    assert result.exit_code == 0, result.output
    with BagReader(tmp_path / 'b') as reader:
        assert '/car/odometry' in reader.topics


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'scene': 'scene-0002'}, 'scene-0001'),
        ({'version': 'v1.0-mini'}, 'v1.0-x'),
        ({'data': '/nonexistent'}, '/nonexistent'),
        ({'topics': 'nosuch'}, 'nuscenes_to_ros2bag'),
        ({'out': 'EXISTING'}, 'exists already'),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(run, one_image, tmp_path, change, named):
    options = {'data': one_image, 'version': 'v1.0-x', 'scene': 'scene-0001', 'out': tmp_path / 'out', **change}
    if options['out'] == 'EXISTING':
        options['out'] = one_image
    result = run(**options)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith('error: ')
    assert named in line


def test_a_missing_image_is_exit_code_2_and_leaves_no_bag(run, one_image, tmp_path):
    (one_image / 'samples' / 'CAM_FRONT' / 'a.jpg').unlink()
    result = run(data=one_image, version='v1.0-x', scene='scene-0001', out=tmp_path / 'out')
    assert result.exit_code == 2
    assert 'a.jpg' in result.stderr
    assert not (tmp_path / 'out').exists()


def test_required_options(run):
    assert run(data='x').exit_code == 2


@pytest.mark.nuscenes
def test_real_keyframe(run, nuscenes_dir, tmp_path):
    result = run(data=nuscenes_dir, version='v1.0-one', scene='scene-0061', out=tmp_path / 'bag')
    assert result.exit_code == 0, result.output
    with BagReader(tmp_path / 'bag') as reader:
        assert sum('image_rect/compressed' in topic for topic in reader.topics) == 6

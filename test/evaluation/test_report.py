"""report.html: complete, self-contained, escaped, and drawn where the geometry says."""

import base64
import html.parser
import re

import cv2
import numpy as np
import pytest

from sparseoccvla_ros.data.bag_reader import BagReader
from sparseoccvla_ros.data.occ3d import PALETTE_RGB
from sparseoccvla_ros.data.topics import load_preset
from sparseoccvla_ros.evaluation.bag_input import CameraSettings, camera_sets
from sparseoccvla_ros.evaluation.replay_summary import AnswerRecord, read_outputs, summarize
from sparseoccvla_ros.evaluation.report import shown_sets, write_report
from sparseoccvla_ros.evaluation.report_scenes import SceneMaterial, collect_scenes
from sparseoccvla_ros.evaluation.scene_figures import birds_eye_uri, camera_picture_uri, trajectory_lines
from sparseoccvla_ros.runtime.scene import OccupancyPoints

HOSTILE = '<script>alert(1)</script> "quoted" & {{ 7 * 7 }}'
WEIGHTS = 'untrained (seed 0)'


@pytest.fixture(scope='module')
def replayed(bags, tmp_path_factory):
    """Ten sets, one refused trajectory; (folder, preset, sets, outputs)."""
    folder = tmp_path_factory.mktemp('replayed')
    stamps = bags.write_input_bag(folder / 'in', sets=10)
    bags.write_output_bag(folder / 'out', stamps, {stamps[3]: f'collision: {HOSTILE}'})
    settings = CameraSettings(bags.CAMERAS, 'CAM_FRONT', min_cameras=4, set_timeout_s=0.15, max_spread_s=0.06)
    with BagReader(folder / 'in') as reader:
        sets = camera_sets(reader.messages(), load_preset('default'), settings)
    return folder, load_preset('default'), sets, read_outputs(folder / 'out')


@pytest.fixture(scope='module')
def report(replayed):
    folder, preset, sets, outputs = replayed
    answers = [
        AnswerRecord('What is ahead?', HOSTILE, True, '', sets[3].stamp_ns, 312, 7, 41.1, 903.2),
        AnswerRecord(HOSTILE, '', False, f'busy {HOSTILE}', 0, 0, 0, 0.0, 0.0),
    ]
    model = {'name': 'tiny', 'weights': WEIGHTS, 'device': 'cpu', 'precision': 'fp32'}
    config = {'bag': 'a bag', 'topics': 'default', 'arrangement': 'composed', 'rate': 0.0, 'model': model}
    summary = summarize(outputs, published_sets=10, answers=answers, sensor_to_trajectory_ms=[120.0], config=config)
    write_report(
        folder / 'report.html',
        input_bag=folder / 'in',
        output_bag=folder / 'out',
        preset=preset,
        sets=sets,
        outputs=outputs,
        summary=summary,
    )
    return (folder / 'report.html').read_text(encoding='utf-8')


class Tags(html.parser.HTMLParser):
    """Collects elements with their attributes, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ''
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(report):
    tags = Tags(report)

    assert not {'script', 'link', 'iframe', 'object'} & {tag for tag, _ in tags.found}
    addresses = [attrs[name] for _, attrs in tags.found for name in ('src', 'href') if name in attrs]
    assert len(addresses) == 6 * 7  # six cameras and a bird's-eye view for each of six scenes
    assert all(address.startswith('data:image/') for address in addresses)
    assert 'url(' not in report
    assert '@import' not in report


def test_texts_from_outside_are_shown_as_they_are_and_never_interpreted(report):
    assert '<script' not in report
    assert Tags(report).text.count(HOSTILE) >= 4  # answer twice, question, message, reason


def test_untrained_weights_are_said_in_words(report):
    assert 'Untrained weights.' in Tags(report).text


def test_the_strip_has_a_cell_per_set_with_its_state(report):
    cells = [attrs['class'] for tag, attrs in Tags(report).found if tag == 'i' and attrs.get('title')]

    assert cells == ['valid'] * 3 + ['invalid'] + ['valid'] * 6


def test_latency_rows_are_the_summarys(report):
    assert re.search(r'<td>decode</td><td class="num">14\.5</td>', report)
    assert re.search(r'<td>sensor_to_trajectory</td><td class="num">120\.0</td>', report)


def test_shown_scenes_hold_the_asked_ones_and_span_the_run(replayed):
    _, _, sets, _ = replayed

    shown = shown_sets(sets, [sets[3].stamp_ns])

    assert len(shown) == 6
    assert [shown[0], shown[-1]] == [sets[0], sets[-1]]
    assert sets[3] in shown
    assert shown_sets(sets[:2], []) == sets[:2]
    assert shown_sets([], []) == []


def picture(uri):
    data = np.frombuffer(base64.b64decode(uri.split(',')[1]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB).astype(int)


def test_points_are_drawn_where_the_moving_camera_saw_them(replayed, bags):
    """A point 10 m ahead of the SCENE's ego. CAM_BACK_RIGHT, exposed 17 ms later at 5 m/s, has come 0.085 m closer."""
    folder, preset, sets, outputs = replayed
    scene = collect_scenes(folder / 'in', folder / 'out', preset, [sets[2]], outputs.trajectories)[0]

    moved = scene.pictures['CAM_BACK_RIGHT'].camera_from_ego
    standing = np.linalg.inv(bags.ego_from_camera('CAM_BACK_RIGHT'))
    np.testing.assert_allclose(moved @ [0.085, 0, 1.5, 1], standing @ [0, 0, 1.5, 1], atol=1e-9)

    # CAM_FRONT is the scene's reference: focal 100 px of 160, so at 520 px width u = 260 - 325 y / x, v from 1.5 m up
    scene.occupancy = OccupancyPoints(
        np.array([[10.0, 2.0, 0.0]], np.float32), np.array([4], np.uint8), np.array([0.9], np.float32)
    )
    bare = picture(camera_picture_uri(scene.pictures['CAM_FRONT'], None))
    drawn = picture(camera_picture_uri(scene.pictures['CAM_FRONT'], scene.occupancy))
    changed = np.abs(drawn - bare).sum(axis=2) > 150
    rows, columns = np.nonzero(changed)
    assert len(rows) > 20
    assert abs(columns.mean() - (260 - 32.5 * 2.0)) < 3
    assert abs(rows.mean() - (146 + 32.5 * 1.5)) < 3


def test_points_behind_a_camera_are_not_drawn(replayed):
    folder, preset, sets, outputs = replayed
    scene = collect_scenes(folder / 'in', folder / 'out', preset, [sets[0]], outputs.trajectories)[0]
    behind = OccupancyPoints(np.array([[-10.0, 0, 1.5]], np.float32), np.array([4], np.uint8), np.ones(1, np.float32))

    front = scene.pictures['CAM_FRONT']

    assert camera_picture_uri(front, behind) == camera_picture_uri(front, None)


def test_birds_eye_has_forward_up_and_left_left():
    points = np.array([[20.0, 0.0, 0.0], [0.0, 10.0, 0.0]], np.float32)
    occupancy = OccupancyPoints(points, np.array([4, 7], np.uint8), np.ones(2, np.float32))

    image = picture(birds_eye_uri(SceneMaterial(0, occupancy=occupancy)))

    assert image.shape == (800, 800, 4)  # 80 m at 10 px/m
    assert image[200, 400, :3].tolist() == PALETTE_RGB[4].tolist()
    assert image[400, 300, :3].tolist() == PALETTE_RGB[7].tolist()
    assert image[:, :, 3].sum() == 2 * 4 * 255


def test_grid_cells_lie_under_the_points(replayed, bags):
    folder, preset, sets, outputs = replayed
    scene = collect_scenes(folder / 'in', folder / 'out', preset, [sets[0]], outputs.trajectories)[0]
    scene.occupancy = None

    image = picture(birds_eye_uri(scene))

    # obstacle cell: x from 10.0 to 10.4 m, y from -0.8 to 0.8 m
    rows, columns = np.nonzero((image[:, :, 0] == 88) & (image[:, :, 3] == 255))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (296, 299, 392, 407)


def test_trajectories_come_into_the_scenes_ego_frame(replayed, bags):
    folder, preset, sets, outputs = replayed
    scene = collect_scenes(folder / 'in', folder / 'out', preset, [sets[4]], outputs.trajectories)[0]

    lines = trajectory_lines(scene)

    # 5 m/s straight on: (right, down) in metres at 0.5 s steps, from the vehicle
    expected = [(0.0, 0.0), *((0.0, -2.5 * step) for step in range(1, 7))]
    np.testing.assert_allclose(lines['dots'], expected, atol=0.011)
    assert [line['feasible'] for line in lines['candidates']] == [True, False]
    assert lines['candidates'][1]['points'].split()[-1].split(',')[0] == '-7.2'  # 0.8 t^2 to the left


def test_without_poses_there_is_a_report_without_lines(bags, tmp_path):
    scene = SceneMaterial(0, trajectory=bags.trajectory(bags.START_NS, ''))

    assert trajectory_lines(scene) is None

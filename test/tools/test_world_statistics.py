"""tools/world_statistics.py against motions, boxes, labels and questions made by hand."""

import math
from collections import Counter

import numpy as np
import pytest
from world_measures.boxes import contacts, ego_contacts_between
from world_measures.ego import Track, manoeuvres_of, motion_of
from world_measures.occupancy import scene_voxels
from world_measures.questions import counts, kind_figures, overlaps
from world_statistics import BEGIN, END, question_verdicts, with_statistics

from sparseoccvla_ros.data.nuscenes import Annotation
from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE, GRID_SHAPE
from sparseoccvla_ros.geometry import transform_from_planar

EGO_BOX_M = (4.0, 2.0, 1.0)


def arc(radius_m: float, angle_rad: float, speed_mps: float = 5.0, straight_m: float = 20.0) -> Track:
    """Straight on, along a circle (to the left where the angle is positive), straight on."""
    bent_m = radius_m * abs(angle_rad)
    time_s = np.arange(0.0, (2 * straight_m + bent_m) / speed_mps, 0.01)
    inside_m = np.clip(speed_mps * time_s - straight_m, 0.0, bent_m)
    heading_rad = math.copysign(1.0, angle_rad) * inside_m / radius_m
    steps_m = speed_mps * 0.01 * np.stack([np.cos(heading_rad), np.sin(heading_rad)], axis=1)
    return Track(time_s, np.cumsum(steps_m, axis=0), heading_rad).every(10)


def speeds(speed_mps: np.ndarray) -> Track:
    """Straight on with these speeds, 0.1 s each."""
    place_m = np.concatenate([[0.0], np.cumsum(0.1 * np.asarray(speed_mps))])
    return Track(0.1 * np.arange(len(place_m)), np.stack([place_m, 0 * place_m], axis=1), 0 * place_m)


def box(x_m: float, y_m: float, yaw_rad: float = 0.0, token: str = 'a') -> Annotation:
    """A car of 4 x 2 m."""
    pose, size_wlh_m = transform_from_planar(x_m, y_m, yaw_rad), np.array([2.0, 4.0, 1.5])
    return Annotation(token, token, 'vehicle.car', pose, size_wlh_m, 0, 0)


def pair(kind: str, answer: str, split: str = 'train', **others: object) -> dict:
    """A pair; its key is the answer."""
    content = {'scene_token': split, 'template': 0, 'wording': 'How many?', 'question': 'How many?'}
    return {'kind': kind, 'answer': answer, 'key': answer, 'split': split, **content, **others}


def test_circle_has_its_lateral_acceleration_and_curvature():
    motion = motion_of(arc(10.0, 3.0))
    middle = slice(60, 80)
    assert motion.speed_mps == pytest.approx(np.full(len(motion.speed_mps), 5.0), abs=0.02)
    assert motion.lateral_mps2[middle] == pytest.approx(np.full(20, 2.5), abs=0.01)
    assert motion.curvature_1pm[middle] == pytest.approx(np.full(20, 0.1), abs=0.001)
    assert np.abs(motion.sideways_mps).max() < 0.05


def test_slip_and_jerk_are_seen():
    drifting = Track(np.arange(3) * 0.1, np.array([[0.0, 0.0], [1.0, 0.2], [2.0, 0.4]]), np.zeros(3))
    assert motion_of(drifting).sideways_mps == pytest.approx([2.0, 2.0])
    motion = motion_of(speeds(np.array([5.0, 5.0, 5.1, 5.3, 5.5])))
    assert motion.acceleration_mps2 == pytest.approx([0.0, 1.0, 2.0, 2.0], abs=1e-6)
    assert motion.jerk_mps3 == pytest.approx([10.0, 10.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ('track', 'left', 'right'),
    [(arc(8.0, 1.57), True, False), (arc(8.0, -1.57), False, True), (arc(60.0, 1.57), False, False)],
    ids=['left turn', 'right turn', 'bend'],
)
def test_turns_are_not_bends(track, left, right):
    found = manoeuvres_of(track, motion_of(track))
    assert (found.turns_left, found.turns_right, found.stops) == (left, right, False)


@pytest.mark.parametrize(
    ('speed_mps', 'stops', 'starts'),
    [
        ([2.0] * 5 + [0.0] * 12, True, False),
        ([0.0] * 12 + [2.0] * 5, False, True),
        ([2.0] * 5 + [0.0] * 9 + [2.0] * 5, False, False),
    ],
    ids=['stop', 'start', 'short stop'],
)
def test_stops_last_a_second(speed_mps, stops, starts):
    track = speeds(np.array(speed_mps))
    found = manoeuvres_of(track, motion_of(track))
    assert (found.stops, found.starts) == (stops, starts)


def test_contacts_of_footprints():
    ego = np.eye(4)
    # Corner to corner with one that is turned by 45 degrees: half its diagonal reach is (4 + 2) / sqrt(8) = 2.12 m.
    turned = math.pi / 4
    assert contacts([box(20.0, 0.0, token='a'), box(22.0 + 2.11, 0.0, turned, 'b')], ego, EGO_BOX_M)
    assert not contacts([box(20.0, 0.0, token='a'), box(22.0 + 2.13, 0.0, turned, 'b')], ego, EGO_BOX_M)
    # The ego's footprint reaches from -1 to 3 m.
    assert contacts([box(4.9, 0.0)], ego, EGO_BOX_M) == [('ego', 'vehicle.car')]
    assert contacts([box(5.1, 0.0), box(-3.1, 0.0, token='b')], ego, EGO_BOX_M) == []


def test_contact_between_keyframes():
    before, after = [box(1.0, -10.0)], [box(1.0, 10.0)]
    ego_poses = [(fraction, np.eye(4)) for fraction in (0.2, 0.5, 0.8)]
    assert ego_contacts_between(before, after, ego_poses, EGO_BOX_M) == [(0.5, 'vehicle.car')]
    assert ego_contacts_between(before, [], ego_poses, EGO_BOX_M) == []


def test_voxels_that_are_seen_and_beside_the_ego(tmp_path):
    semantics = np.full(GRID_SHAPE, FREE, np.uint8)
    semantics[:, :, 2] = CLASS_NAMES.index('driveable_surface')
    semantics[:, :90, 2] = CLASS_NAMES.index('sidewalk')
    # x = 1.0 to 1.4 m; y = 4.0 to 4.4 m and -2.4 to -2.0 m; above the ground.
    semantics[102, 110, 4] = CLASS_NAMES.index('car')
    semantics[102, 94, 4] = CLASS_NAMES.index('pedestrian')
    mask_camera = np.zeros(GRID_SHAPE, np.uint8)
    mask_camera[102, 110] = 1
    mask_camera[:3, 100, 2] = 1
    folder = tmp_path / 'scene-0001' / 'token'
    folder.mkdir(parents=True)
    np.savez_compressed(folder / 'labels.npz', semantics=semantics, mask_camera=mask_camera, mask_lidar=mask_camera)
    found = scene_voxels(tmp_path, 'scene-0001', ('token',), EGO_BOX_M)
    assert Counter(dict(zip(CLASS_NAMES, found.visible[0].tolist(), strict=True))) == Counter(
        driveable_surface=4, car=1
    )
    assert found.in_ego.tolist() == [0]
    assert found.free_beside_m[0] == pytest.approx([3.0, 1.0])
    assert found.kerb_m[0] == pytest.approx(4.0)
    semantics[102, 100, 4] = CLASS_NAMES.index('vegetation')
    np.savez_compressed(folder / 'labels.npz', semantics=semantics, mask_camera=mask_camera, mask_lidar=mask_camera)
    assert scene_voxels(tmp_path, 'scene-0001', ('token',), EGO_BOX_M).in_ego.tolist() == [1]


def test_priors_are_by_kind_and_split():
    pairs = [pair('count', f'{number} cars.') for number in (0, 1, 2, 3, 3)] + [pair('motion', 'It moves.', 'val')]
    count, motion = kind_figures(pairs)
    assert (count.pairs, count.answers, count.top_answer, count.answer_share) == (5, 4, '3 cars.', 0.4)
    assert (motion.split, motion.key_share) == ('val', 1.0)
    assert counts(pairs, 'train') == {'0': 1, '1': 1, '2': 1, '3': 2}


def test_wording_that_val_shares_is_told():
    train = [pair('count', f'{number} cars.') for number in range(4)]
    val = [
        pair('count', f'{number} cars.', 'val', template=4, wording='Count!', question='Count!') for number in range(4)
    ]
    known = [pair('count', f'{number} cars.', 'val', template=4, wording='How many?') for number in range(4)]
    assert all(verdict.met for verdict in question_verdicts(train + val, kind_figures(train + val)))
    assert {item.what: item.shared for item in overlaps(train + known)}['wordings (slots open)'] == 1
    missed = [verdict for verdict in question_verdicts(train + known, kind_figures(train + known)) if not verdict.met]
    assert [verdict.requirement for verdict in missed] == ['val shares no scene, template or wording with train']


def test_page_keeps_what_is_around_the_statistics():
    page = f'# Title\n{BEGIN}\nold\n{END}\nend\n'
    assert with_statistics(page, 'new') == f'# Title\n{BEGIN}\n\nnew\n\n{END}\nend\n'
    with pytest.raises(ValueError, match='lacks'):
        with_statistics('# Title\n', 'new')

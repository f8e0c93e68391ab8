"""Rays through small grids: worked by hand, against every voxel tried one by one, and as properties of RayIoU."""

import itertools
import math

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE
from sparseoccvla_ros.evaluation.ray_iou import RayIoU, cast_rays, lidar_ray_directions, scene_ray_origins
from sparseoccvla_ros.geometry import transform_from_planar

BUS, CAR, TRUCK = CLASS_NAMES.index('bus'), CLASS_NAMES.index('car'), CLASS_NAMES.index('truck')
UNIT = {'low_m': (0.0, 0.0, 0.0), 'voxel_m': 1.0}
AHEAD = np.array([[1.0, 0.0, 0.0]])


def row(length=12, **labels_at):
    """A row of free voxels along x; ``car=5`` puts a car into voxel 5."""
    grid = np.full((length, 1, 1), FREE, dtype=np.uint8)
    for name, voxel in labels_at.items():
        grid[voxel] = CLASS_NAMES.index(name)
    return grid


def random_grid(rng, shape=(6, 5, 4), occupied=0.2):
    return np.where(rng.random(shape) < occupied, rng.integers(0, FREE, shape), FREE).astype(np.uint8)


def random_directions(rng, count):
    directions = rng.normal(size=(count, 3))
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def nearest_voxel(grid, origin, direction, low_m, voxel_m):
    """Label and distance where the ray leaves: each voxel tried by itself as a box, no walk."""
    best = (math.inf, math.inf, FREE)
    grid_leave = math.inf
    for axis in range(3):
        if direction[axis] != 0:
            side = low_m[axis] + (grid.shape[axis] * voxel_m if direction[axis] > 0 else 0.0)
            grid_leave = min(grid_leave, (side - origin[axis]) / direction[axis])
    for voxel in itertools.product(*map(range, grid.shape)):
        if grid[voxel] == FREE:
            continue
        enter, leave = 0.0, math.inf
        for axis in range(3):
            near = low_m[axis] + voxel[axis] * voxel_m - origin[axis]
            ends = sorted((near / direction[axis], (near + voxel_m) / direction[axis]))
            enter, leave = max(enter, ends[0]), min(leave, ends[1])
        if enter < leave:
            best = min(best, (enter, leave, int(grid[voxel])))
    return (FREE, grid_leave) if best[2] == FREE else (best[2], best[1])


def test_casting_equals_trying_every_voxel():
    rng = np.random.default_rng(0)
    low_m, voxel_m = (-1.2, 0.3, -0.7), 0.4
    grids = [random_grid(rng), random_grid(rng), random_grid(rng)]
    directions = random_directions(rng, 120)
    hits = 0
    for fraction in ((0.52, 0.53, 0.56), (0.03, 0.93, 0.27)):
        origin = np.array(low_m) + np.array(fraction) * np.array(grids[0].shape) * voxel_m
        labels, distances_m = cast_rays(grids, origin, directions, low_m, voxel_m)
        assert labels.dtype == np.uint8
        assert distances_m.dtype == np.float32
        for g, grid in enumerate(grids):
            expected = [nearest_voxel(grid, origin, direction, low_m, voxel_m) for direction in directions.tolist()]
            assert labels[g].tolist() == [label for label, _ in expected]
            np.testing.assert_allclose(distances_m[g], [distance for _, distance in expected], rtol=0, atol=2e-5)
            hits += np.count_nonzero(labels[g] != FREE)
    assert 0.2 < hits / (2 * 3 * len(directions)) < 0.8


def walk(grid, start, end):
    """Label and distance of one ray by a walk over single voxels, in voxel units and Python's own numbers."""
    ray = [e - s for s, e in zip(start, end, strict=True)]
    length = math.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
    ray = [r / length for r in ray]
    voxel = [math.floor(s) for s in start]
    step = [1 if r >= 0 else -1 for r in ray]
    crossing = [(v + (r > 0) - s) / r if r else math.inf for v, s, r in zip(voxel, start, ray, strict=True)]
    while True:
        axis = min((2, 1, 0), key=lambda i: crossing[i])  # min keeps the first of equal ones
        label, left = grid[tuple(voxel)], crossing[axis]
        voxel[axis] += step[axis]
        crossing[axis] += step[axis] / ray[axis]
        if label != FREE or not 0 <= voxel[axis] < grid.shape[axis]:
            return int(label), left


def test_casting_equals_a_walk_with_many_equal_boundaries():
    """Small whole numbers as directions, from voxel corners and middles: exact, ties included."""
    rng = np.random.default_rng(3)
    directions = [d for d in itertools.product((-2, -1, 0, 1, 2), repeat=3) if any(d)]
    hits = 0
    for origin in itertools.product((3.0, 3.25, 3.5), (3.0, 3.5), (2.5, 2.75)):
        grid = random_grid(rng, (8, 8, 6), 0.05)
        labels, distances_m = cast_rays([grid], origin, directions, **UNIT)
        ends = np.array(directions) + origin
        expected = [walk(grid, origin, end) for end in ends.tolist()]
        assert labels[0].tolist() == [label for label, _ in expected]
        np.testing.assert_array_equal(distances_m[0], np.float32([left for _, left in expected]))
        hits += np.count_nonzero(labels != FREE)
    assert hits > 200


def test_each_grid_and_each_ray_is_as_if_alone():
    rng = np.random.default_rng(1)
    grids = [random_grid(rng), random_grid(rng)]
    directions = random_directions(rng, 50)
    together = cast_rays(grids, (2.5, 2.1, 1.3), directions, **UNIT)
    for g, grid in enumerate(grids):
        alone = cast_rays([grid], (2.5, 2.1, 1.3), directions, **UNIT)
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_array_equal(ours[g], theirs[0])
    order = rng.permutation(len(directions))[:20]
    some = cast_rays(grids, (2.5, 2.1, 1.3), directions[order], **UNIT)
    np.testing.assert_array_equal(some[0], together[0][:, order])
    np.testing.assert_array_equal(some[1], together[1][:, order])


@pytest.mark.parametrize(
    ('grid', 'origin_x', 'direction_x', 'label', 'distance_m'),
    [
        (row(8, car=5), 0.25, 1.0, CAR, 2.75),  # voxel 5 of 0.5 m ends at 3.0 m: the distance is where the ray leaves
        (row(8, car=5), 3.75, -1.0, CAR, 1.25),
        (row(8, car=0), 0.25, 1.0, CAR, 0.25),  # the origin's own voxel
        (row(8), 0.25, 1.0, FREE, 3.75),  # the grid's end
        (row(8), 0.25, -1.0, FREE, 0.25),
        (row(8, car=5, bus=6), 0.25, 5.0, CAR, 2.75),  # the first; a direction's length is nothing
        (row(8, car=5), -0.75, 1.0, CAR, 3.75),  # from outside
        (row(8, car=0), -0.25, -1.0, FREE, 0.25),  # away from it: just outside is not inside
        (row(8, car=5), 4.75, 1.0, FREE, 0.25),  # from outside and away: the end of the origin's own voxel
    ],
)
def test_distances_worked_by_hand(grid, origin_x, direction_x, label, distance_m):
    labels, distances_m = cast_rays([grid], (origin_x, 0.25, 0.25), AHEAD * direction_x, (0.0, 0.0, 0.0), 0.5)
    assert labels.tolist() == [[label]]
    assert distances_m.tolist() == [[pytest.approx(distance_m)]]


@pytest.mark.parametrize(
    ('direction', 'first', 'last'),
    [
        ((1, 1, 0), (0, 1, 0), (1, 0, 0)),  # y before x
        ((1, 0, 1), (0, 0, 1), (1, 0, 0)),  # z before x
        ((0, 1, 1), (0, 0, 1), (0, 1, 0)),  # z before y
        ((1, 1, 1), (0, 1, 1), (1, 0, 1)),  # z first, then y before x
    ],
)
def test_equal_boundaries(direction, first, last):
    grid = np.full((2, 2, 2), FREE, dtype=np.uint8)
    grid[first], grid[last] = CAR, BUS
    labels, distances_m = cast_rays([grid], (0.5, 0.5, 0.5), [direction], **UNIT)
    assert labels.tolist() == [[CAR]]
    # it is left at the very moment it is entered
    assert distances_m[0, 0] == pytest.approx(0.5 * math.sqrt(sum(direction)), abs=1e-6)
    # and the other one of the two is not on the way at all
    grid[first] = FREE
    assert cast_rays([grid], (0.5, 0.5, 0.5), [direction], **UNIT)[0].tolist() == [[FREE]]


def test_rays_see_all_around():
    rays = lidar_ray_directions()
    assert rays.shape == (39 * 360, 3)
    assert rays.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0, rtol=0, atol=1e-6)
    by_pitch = rays.reshape(39, 360, 3)
    # the ground 1 m below is met at 1, 2, ..., 10 m
    down = by_pitch[:10, 0]
    np.testing.assert_allclose(down[:, 0] / -down[:, 2], np.arange(1, 11), rtol=1e-5)
    assert by_pitch[5, 90].tolist() == pytest.approx([0.0, by_pitch[5, 0, 0], by_pitch[5, 0, 2]], abs=1e-6)
    pitches_rad = np.arcsin(by_pitch[:, 0, 2])
    np.testing.assert_allclose(np.diff(pitches_rad[8:]), pitches_rad[9] - pitches_rad[8], rtol=0, atol=1e-6)
    assert pitches_rad[-2] < 0.21 <= pitches_rad[-1]


def straight_drive(frames, heading_rad=0.0, start_m=(0.0, 0.0)):
    """1 m per frame."""
    cos, sin = math.cos(heading_rad), math.sin(heading_rad)
    return np.stack(
        [transform_from_planar(start_m[0] + i * cos, start_m[1] + i * sin, heading_rad) for i in range(frames)]
    )


EGO_FROM_LIDAR = np.array([[0.0, -1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 1.0]])


def test_origins_of_a_straight_drive():
    origins = scene_ray_origins(straight_drive(100), EGO_FROM_LIDAR)
    assert len(origins) == 100
    # from the first frame 1, 2, ..., 38 m (39 is no longer inside); indices 0, 5.3, 10.6, 15.9, 21.1, 26.4, 31.7, 37
    np.testing.assert_allclose(origins[0][:, 0], [1, 6, 12, 17, 22, 27, 33, 38])
    np.testing.assert_allclose(origins[0][:, 1:], [[0.0, 2.0]] * 8)
    # from the middle 39 m back to 39 m ahead, both left out
    np.testing.assert_allclose(origins[50][[0, -1], 0], [-38, 38])
    # few frames: all of them
    np.testing.assert_allclose(scene_ray_origins(straight_drive(3), EGO_FROM_LIDAR)[1][:, 0], [0, 1, 2])


def test_origins_do_not_depend_on_the_map():
    here = scene_ray_origins(straight_drive(30), EGO_FROM_LIDAR)
    there = scene_ray_origins(straight_drive(30, 2.1, (1200.0, -300.0)), np.repeat(EGO_FROM_LIDAR[None], 30, axis=0))
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-9)


def rays_ahead(*samples):
    """RayIoU of rows [predicted, true] seen along +x from the middle of their first voxel, 1 m voxels."""
    score = RayIoU(AHEAD, **UNIT)
    for predicted, truth in samples:
        score.add(predicted, truth, [[0.5, 0.5, 0.5]])
    return score


def test_thresholds_are_strict():
    result = rays_ahead((row(car=6), row(car=5))).result()
    assert result == {'rayiou/1m': 0.0, 'rayiou/2m': 1.0, 'rayiou/4m': 1.0, 'rayiou/mean': pytest.approx(2 / 3)}
    assert rays_ahead((row(car=7), row(car=5))).result()['rayiou/2m'] == 0.0
    assert rays_ahead((row(car=3), row(car=5))).result()['rayiou/4m'] == 1.0


def test_scores_worked_by_hand():
    score = rays_ahead(
        (row(car=5), row(car=5)),  # right
        (row(), row(car=5)),  # a car missed
        (row(truck=5), row(car=5)),  # a car taken for a truck: the truck is only predicted, and counts as 0
        (row(car=5), row(bus=5)),
        (row(car=5), row()),  # the truth is free: not counted, however wrong
        (row(bus=5), np.where(row(car=5) == CAR, 255, FREE)),  # nor where it is unlabelled
    )
    ious = score.class_iou()[0]
    assert ious[[BUS, CAR, TRUCK]].tolist() == [0.0, 1 / 4, 0.0]
    assert np.count_nonzero(~np.isnan(ious)) == 3
    assert score.result()['rayiou/mean'] == pytest.approx(1 / 12)
    assert score.samples == 6
    assert score.counts.sum() == 4


def surrounded(rng, shape=(8, 8, 6)):
    """Walls of random classes all around: no ray is free."""
    grid = random_grid(rng, shape)
    wall = np.ones(shape, dtype=bool)
    wall[1:-1, 1:-1, 1:-1] = False
    return np.where(wall, rng.integers(0, 3, shape), grid).astype(np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(2)


ORIGINS = np.array([[4.1, 3.7, 2.9], [3.3, 4.6, 2.2]])


def test_swapping_the_sides_changes_nothing_where_every_ray_hits(rng):
    one, other = surrounded(rng), surrounded(rng)
    directions = random_directions(rng, 300)
    scores = []
    for predicted, truth in ((one, other), (other, one)):
        score = RayIoU(directions, **UNIT)
        score.add(predicted, truth, ORIGINS)
        scores.append(score)
    np.testing.assert_array_equal(scores[0].counts, scores[1].counts.T)
    np.testing.assert_array_equal(scores[0].class_iou(), scores[1].class_iou())
    assert 0.0 < scores[0].result()['rayiou/mean'] < 1.0


def test_perfect_prediction_scores_one(rng):
    truth = surrounded(rng)
    score = RayIoU(random_directions(rng, 300), **UNIT)
    score.add(truth, truth.copy(), ORIGINS)
    assert set(score.result().values()) == {1.0}


def test_counts_are_summed_over_samples_and_origins(rng):
    directions = random_directions(rng, 200)
    truth, predicted = surrounded(rng), surrounded(rng)
    together, apart = RayIoU(directions, **UNIT), RayIoU(directions, **UNIT)
    together.add(predicted, truth, ORIGINS)
    for origin in ORIGINS[::-1]:
        apart.add(predicted, truth, origin[None])
    assert together.counts.sum() == len(ORIGINS) * len(directions)
    assert together.result() == apart.result()
    np.testing.assert_array_equal(together.counts, apart.counts)


@pytest.mark.filterwarnings('error')
def test_without_occupied_truth_there_is_no_score():
    for score in (RayIoU(AHEAD, **UNIT), rays_ahead((row(car=5), row()), (row(), row()))):
        assert set(score.result()) == {'rayiou/1m', 'rayiou/2m', 'rayiou/4m', 'rayiou/mean'}
        assert all(math.isnan(value) for value in score.result().values())


def test_occ3d_grid_and_lidar_rays_by_default():
    """A wall of cars 10 m ahead: y = -40..40 of the default grid, seen from the ego's place."""
    truth = np.full((200, 200, 16), FREE, dtype=np.uint8)
    truth[125] = CAR
    score = RayIoU()
    score.add(truth, truth, [[0.0, 0.0, 1.8]])
    assert score.result()['rayiou/mean'] == 1.0
    labels, distances_m = cast_rays([truth], (0.01, 0.01, 1.81), [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    assert labels.tolist() == [[CAR, FREE]]
    np.testing.assert_allclose(distances_m, [[10.39, 40.01]], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'predicted': row(11)}, 'one shape'),
        ({'predicted': row()[0], 'truth': row()[0]}, r'one shape \[X, Y, Z\]'),
        ({'predicted': row().astype(np.float32)}, 'grid has dtype float32'),
        ({'truth': row().astype(np.int64) - 300}, 'not within 0..255'),
        ({'predicted': np.full((12, 1, 1), 18, np.uint8)}, 'predicted labels 18..18'),
        ({'origins_ego': np.zeros((0, 3))}, 'at least one origin'),
        ({'origins_ego': np.zeros(3)}, r'\[O, 3\]'),
        ({'origins_ego': np.zeros((1, 2))}, r'must be \[3\]'),
        ({'origins_ego': [[0.5, math.nan, 0.5]]}, 'not near the grid'),
        ({'origins_ego': [[1e30, 0.5, 0.5]]}, 'not near the grid'),
        ({'origins_ego': [[900.0, 900.0, 900.0]]}, 'not near the grid'),
        ({'origins_ego': [[0.5, 0.5, 0.5], [math.inf, 0.5, 0.5]]}, 'not near the grid'),
    ],
)
def test_bad_input_is_refused_and_counts_nothing(changes, message):
    score = RayIoU(AHEAD, **UNIT)
    sample = {'predicted': row(car=5), 'truth': row(car=5), 'origins_ego': [[0.5, 0.5, 0.5]]}
    with pytest.raises(ValueError, match=message):
        score.add(**sample | changes)
    assert score.counts.sum() == score.correct.sum() == score.samples == 0


@pytest.mark.parametrize('directions', [[[0.0, 0.0, 0.0]], [[math.nan, 0.0, 1.0]], [1.0, 0.0, 0.0], [[1.0, 0.0]]])
def test_bad_directions_are_refused(directions):
    with pytest.raises(ValueError, match='direction'):
        cast_rays([row()], (0.5, 0.5, 0.5), directions, **UNIT)


def test_bad_poses_are_refused():
    drive = straight_drive(3)
    with pytest.raises(ValueError, match=r'need \[F, 4, 4\]'):
        scene_ray_origins(drive[0], EGO_FROM_LIDAR)
    with pytest.raises(ValueError, match=r'need \[F, 4, 4\]'):
        scene_ray_origins(drive, drive[:2])
    with pytest.raises(ValueError, match='not finite'):
        scene_ray_origins(drive * math.nan, EGO_FROM_LIDAR)

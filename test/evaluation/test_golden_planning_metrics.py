"""Planning metrics against rasters, flags and averages of the public implementations."""

import json

import numpy as np
import pytest

from sparseoccvla_ros.evaluation.planning_drivable import draw_drivable, leaves_drivable
from sparseoccvla_ros.evaluation.planning_metrics import (
    PlanningScore,
    PlanningTruth,
    any_up_to,
    at_step,
    mean_up_to,
)
from sparseoccvla_ros.evaluation.planning_raster import LIDAR_AHEAD_M, CoarseGrid, FineGrid, FutureObjects
from sparseoccvla_ros.geometry import quat_xyzw_from_wxyz, transform_from

pytestmark = pytest.mark.golden

#: Tolerances of the fixtures' README, metres: as computed, and where the reference sums in float32.
L2_M, SUMMED_L2_M = 1e-6, 1e-5
#: Averages of flags are float32 there.
RATE = 1e-6
#: Of all cells, those whose corner is rounded the other way in float32: none in the set at hand.
BORDERLINE_CELLS = 1e-5
#: The README's depth below which rasters and exact geometry may differ.
BORDERLINE_DEPTH_M = 0.1
SECONDS = (1, 2, 3)
VEHICLES_VAD, HUMANS_VAD, VEHICLES_OMNIDRIVE = range(14, 24), range(2, 9), range(8, 18)


def arrays(golden_dir, name):
    with np.load(golden_dir / name) as stored:
        return {key: stored[key] for key in stored.files}


@pytest.fixture(scope='module')
def totals(golden_dir):
    return json.loads((golden_dir / 'planning_totals.json').read_text())


@pytest.fixture(scope='module')
def vad(golden_dir):
    return arrays(golden_dir, 'planning_vad.npz')


@pytest.fixture(scope='module')
def stp3(golden_dir):
    return arrays(golden_dir, 'planning_stp3.npz')


@pytest.fixture(scope='module')
def omnidrive(golden_dir):
    return arrays(golden_dir, 'planning_omnidrive.npz')


@pytest.fixture(scope='module')
def rasters(golden_dir):
    return arrays(golden_dir, 'planning_omnidrive_rasters.npz')


@pytest.fixture(scope='module')
def roads(golden_dir):
    return json.loads((golden_dir / 'planning_omnidrive.json').read_text())


def forward_left(right_forward):
    return np.stack([right_forward[..., 1], -right_forward[..., 0]], axis=-1).astype(np.float64)


def near(ours, theirs):
    """Rasters alike but for borderline cells."""
    assert ours.shape == theirs.shape
    return np.count_nonzero(ours != theirs) <= BORDERLINE_CELLS * theirs.size


def upto(steps, t):
    return mean_up_to(np.asarray(steps, dtype=np.float64))[:, 2 * t - 1].mean()


def vad_objects(vad, sample):
    """Future boxes around the LiDAR."""
    boxes, feats = (vad[f'in/{name}'][sample, : vad['in/n_boxes'][sample]] for name in ('boxes', 'feats'))
    steps = vad['in/pred'].shape[1]
    moved = np.cumsum(feats[:, : 2 * steps].reshape(-1, steps, 2), axis=1) + boxes[:, None, :2]
    yaw = -(boxes[:, 6:7] + np.float32(np.pi / 2)) + np.cumsum(feats[:, -steps:], axis=1)
    kind = feats[:, 27].astype(int)
    return FutureObjects(
        centre_m=forward_left(moved).transpose(1, 0, 2),
        heading_rad=yaw.T.astype(np.float64) - np.pi / 2,
        valid=feats[:, 2 * steps : 3 * steps].T == 1,
        length_m=boxes[:, 4].astype(np.float64),
        width_m=boxes[:, 3].astype(np.float64),
        vehicle=np.isin(kind, VEHICLES_VAD),
        human=np.isin(kind, HUMANS_VAD),
        seen_now=np.ones(len(kind), dtype=bool),
    )


def test_vad_rasters(vad):
    grid = CoarseGrid('vad')
    columns = vad['raster/occupancy_packed'].shape[2]
    for sample, packed in enumerate(vad['raster/occupancy_packed']):
        objects = vad_objects(vad, sample)
        vehicles, humans = grid.draw(objects, objects.vehicle), grid.draw(objects, objects.human)
        assert near(vehicles | humans, np.unpackbits(packed, axis=-1, count=columns))
        for raster, name in ((vehicles, 'vehicle'), (humans, 'human')):
            np.testing.assert_allclose(raster.sum(axis=(1, 2)), vad[f'out/{name}_area'][sample], rtol=0.01)


def test_vad_steps(vad):
    grid = CoarseGrid('vad')
    truth_m, plan_m = forward_left(vad['in/gt']), forward_left(vad['in/pred'])
    for sample, packed in enumerate(vad['raster/occupancy_packed']):
        raster = np.unpackbits(packed, axis=-1, count=packed.shape[1])
        excused = grid.box_collides(truth_m[sample], raster)
        np.testing.assert_array_equal(excused, vad['out/step_gt_box_collision'][sample])
        collides = grid.box_collides(plan_m[sample], raster) & ~excused
        np.testing.assert_array_equal(collides, vad['out/step_box_collision'][sample])


def test_vad_from_boxes_to_averages(vad, totals):
    """The whole way, in the ego frame: the LiDAR is ahead of its origin."""
    score, flags, distances_m = PlanningScore(), [], []
    for sample, (truth, plan) in enumerate(zip(vad['in/gt'], vad['in/pred'], strict=True)):
        around_lidar = vad_objects(vad, sample)
        objects = FutureObjects(
            **{**vars(around_lidar), 'centre_m': around_lidar.centre_m + np.array([LIDAR_AHEAD_M, 0.0])}
        )
        happened = PlanningTruth(forward_left(truth), objects, None)
        score.add(happened, forward_left(plan))
        figures = happened.measure(forward_left(plan))
        distances_m.append(figures.distance_m)
        flags.append(figures.collisions['vad/collision'])
    np.testing.assert_allclose(distances_m, vad['out/L2_at'], rtol=0, atol=L2_M)
    np.testing.assert_allclose(mean_up_to(np.array(distances_m)), vad['out/L2_avg_up_to'], rtol=0, atol=SUMMED_L2_M)
    allowed = RATE + np.count_nonzero(np.array(flags) != vad['out/step_box_collision']) / len(flags)
    assert allowed < 0.05
    result, stored = score.result(), totals['vad']
    for t in SECONDS:
        assert result[f'vad/l2/{t}s'] == pytest.approx(stored[f'plan_L2_{t}s'], abs=SUMMED_L2_M)
        assert result[f'uniad/l2/{t}s'] == pytest.approx(stored[f'at_L2_{t}s'], abs=SUMMED_L2_M)
        assert result[f'vad/collision/{t}s'] == pytest.approx(stored[f'plan_obj_box_col_{t}s'], abs=allowed)
        at = at_step(np.array(flags))[:, 2 * t - 1].mean()
        assert at == pytest.approx(stored[f'at_obj_box_col_{t}s'], abs=allowed)


def test_vads_centre_point_looks_at_a_wrong_place(vad, totals):
    """Half an offset where a whole one belongs: its figures are reproduced here to show the fault, and nowhere else."""
    flags, right_place = [], []
    steps = np.arange(vad['in/pred'].shape[1])
    for sample, packed in enumerate(vad['raster/occupancy_packed']):
        raster = np.unpackbits(packed, axis=-1, count=packed.shape[1])
        right, forward = vad['in/pred'][sample].T
        half = np.float32(49.75 / 2)
        rows, columns = ((half - forward) / np.float32(0.5)).astype(int), ((half + right) / np.float32(0.5)).astype(int)
        inside = (rows >= 0) & (rows < len(raster[0])) & (columns >= 0) & (columns < len(raster[0]))
        hit = raster[steps, rows.clip(0, len(raster[0]) - 1), columns.clip(0, len(raster[0]) - 1)] > 0
        excused = vad['out/step_gt_box_collision'][sample]
        flags.append(hit & inside & ~excused)
        right_place.append(CoarseGrid('vad').centre_collides(forward_left(vad['in/pred'][sample]), raster) & ~excused)
        assert not (
            right_place[-1] & ~CoarseGrid('vad').box_collides(forward_left(vad['in/pred'][sample]), raster)
        ).any()
    np.testing.assert_array_equal(flags, vad['out/step_centre_collision'])
    for t in SECONDS:
        assert upto(flags, t) == pytest.approx(totals['vad'][f'plan_obj_col_{t}s'], abs=RATE)
        at = np.array(flags)[:, 2 * t - 1].mean()
        assert at == pytest.approx(totals['vad'][f'at_obj_col_{t}s'], abs=RATE)
    assert (np.array(flags) != np.array(right_place)).any()


def test_stp3(stp3, totals):
    grid = CoarseGrid('stp3')
    truth_m, plan_m = forward_left(stp3['in/gt']), forward_left(stp3['in/pred'])
    distances_m = np.linalg.norm(plan_m - truth_m, axis=-1)
    np.testing.assert_allclose(distances_m, stp3['out/L2_at'], rtol=0, atol=L2_M)
    boxes, centres = [], []
    for sample, packed in enumerate(stp3['in/occupancy_packed']):
        raster = np.unpackbits(packed, axis=-1, count=packed.shape[1])
        excused = grid.box_collides(truth_m[sample], raster)
        np.testing.assert_array_equal(excused, stp3['out/step_gt_box_collision'][sample])
        boxes.append(grid.box_collides(plan_m[sample], raster) & ~excused)
        centres.append(grid.centre_collides(plan_m[sample], raster) & ~excused)
    np.testing.assert_array_equal(boxes, stp3['out/step_box_collision'])
    np.testing.assert_array_equal(centres, stp3['out/step_centre_collision'])

    ours = {'L2': distances_m, 'obj_col': np.array(centres), 'obj_box_col': np.array(boxes)}
    per_step = [key for key in stp3 if '_per_step_T' in key]
    assert per_step
    for key in per_step:
        name, _, steps = key.removeprefix('out/').partition('_per_step_T')
        mean = ours[name][:, : int(steps)].mean(axis=0)
        np.testing.assert_allclose(mean, stp3[key], rtol=0, atol=SUMMED_L2_M if name == 'L2' else RATE)
    for t in SECONDS:
        for name, steps in ours.items():
            tolerance = SUMMED_L2_M if name == 'L2' else RATE
            assert upto(steps, t) == pytest.approx(totals['stp3'][f'plan_{name}_{t}s'], abs=tolerance)
            at = at_step(steps)[:, 2 * t - 1].mean()
            assert at == pytest.approx(totals['stp3'][f'at_{name}_{t}s'], abs=tolerance)


def test_stp3_boxes_drawn_meet_the_ego_where_vads_do(vad):
    """The two layouts are one grid seen from two sides: they differ in borderline cells only."""
    stp3, mirrored = CoarseGrid('stp3'), CoarseGrid('vad')
    different = total = 0
    for sample, plan in enumerate(vad['in/pred']):
        objects = vad_objects(vad, sample)
        one, other = (
            grid.box_collides(forward_left(plan), grid.draw(objects, objects.vehicle)) for grid in (stp3, mirrored)
        )
        different += np.count_nonzero(one != other)
        total += one.sum() + other.sum()
    assert total > 0
    assert different < 0.35 * total


def omnidrive_objects(stored, sample):
    """Boxes at t = 0 and at the steps."""
    n = stored['in/n_boxes'][sample]
    boxes = stored['in/boxes'][sample, :n]
    moved = np.cumsum(stored['in/fut_delta_xy'][sample, :n], axis=1) + boxes[:, None, :2]
    turned = np.cumsum(stored['in/fut_delta_yaw'][sample, :n], axis=1) + boxes[:, None, 6]
    vehicle = np.isin(stored['in/class_idx'][sample, :n], VEHICLES_OMNIDRIVE)
    return FutureObjects(
        centre_m=np.concatenate([boxes[:, None, :2], moved], axis=1).transpose(1, 0, 2),
        heading_rad=np.concatenate([boxes[:, None, 6], turned], axis=1).T,
        valid=np.vstack([np.ones((1, n)), stored['in/fut_mask'][sample, :n].T]) == 1,
        length_m=boxes[:, 3],
        width_m=boxes[:, 4],
        vehicle=vehicle,
        human=~vehicle,
        seen_now=np.ones(n, dtype=bool),
    )


def later(objects):
    """Without t = 0."""
    of_time = {name: getattr(objects, name)[1:] for name in ('centre_m', 'heading_rad', 'valid')}
    return FutureObjects(**{**vars(objects), **of_time})


def drivable_of(stored, roads, sample):
    quat_xyzw = quat_xyzw_from_wxyz(stored['in/ego2global_quaternion_wxyz'][sample])
    map_from_ego = transform_from(stored['in/ego2global_translation'][sample], quat_xyzw)
    polygons = roads['drivable_area_polygons_global_xy']
    return draw_drivable([(area['exterior'], area['holes']) for area in polygons], map_from_ego)


def test_omnidrive_rasters(omnidrive, rasters, roads):
    grid = FineGrid()
    stored_at = {sample: place for place, sample in enumerate(rasters['samples'])}
    for sample, plan_m in enumerate(omnidrive['in/pred']):
        objects = omnidrive_objects(omnidrive, sample)
        ours = {
            'objects': grid.draw(objects, objects.vehicle),
            'ego': grid.footprints(plan_m),
            'drivable': drivable_of(omnidrive, roads, sample)[None],
        }
        for name, raster in ours.items():
            areas = np.atleast_1d(rasters[f'{name}_area'][sample])
            np.testing.assert_allclose(raster.sum(axis=(1, 2)), areas, rtol=0, atol=BORDERLINE_CELLS * raster[0].size)
            if sample in stored_at:
                packed = rasters[name][stored_at[sample]].reshape(len(raster), raster.shape[1], -1)
                assert near(raster, np.unpackbits(packed, axis=-1, count=raster.shape[2]))


def test_omnidrive_steps(omnidrive, roads):
    grid = FineGrid()
    flags = {name: [] for name in ('box', 'gt_box')}
    for sample, (plan_m, truth_m) in enumerate(zip(omnidrive['in/pred'], omnidrive['in/gt'], strict=True)):
        objects = later(omnidrive_objects(omnidrive, sample))
        raster = grid.draw(objects, objects.vehicle)
        flags['gt_box'].append(grid.box_collides(truth_m, raster))
        flags['box'].append(grid.box_collides(plan_m, raster) & ~flags['gt_box'][-1])
        if not omnidrive['omni/samples'][sample]:
            continue
        outside = leaves_drivable(grid.footprints(plan_m), drivable_of(omnidrive, roads, sample))
        for t in SECONDS:
            assert outside[2 * t - 1] == omnidrive[f'omni/plan_boundary_{t}s'][sample]
    np.testing.assert_array_equal(flags['gt_box'], omnidrive['omni/step_gt_box_collision'])
    box = np.array(flags['box'])
    differs = box != omnidrive['omni/step_box_collision']
    shallow = BORDERLINE_DEPTH_M * 1.85
    border = np.where(box, omnidrive['omni/exact_gap_m'] < BORDERLINE_DEPTH_M, True)
    border &= omnidrive['omni/exact_overlap_area_m2'] < shallow
    assert not (differs & ~border).any()
    assert differs.mean() < 0.01
    for t in SECONDS:
        evaluated = omnidrive['omni/samples'] == 1
        hit = any_up_to(box)[:, 2 * t - 1]
        wrong = hit[evaluated] != omnidrive[f'omni/plan_obj_box_col_{t}s'][evaluated]
        assert not (wrong & ~differs[evaluated].any(axis=1)).any()


def test_omnidrive_flags_are_what_exact_geometry_says(omnidrive):
    """An outside check of the raster itself: deep overlaps within the range are found, clear gaps are not."""
    within = np.abs(omnidrive['in/pred']).max(axis=-1) < 45.0
    deep = (omnidrive['omni/exact_overlap_area_m2'] > 1.0) & within
    assert deep.any()
    ours = []
    for sample, plan_m in enumerate(omnidrive['in/pred']):
        objects = later(omnidrive_objects(omnidrive, sample))
        ours.append(FineGrid().box_collides(plan_m, FineGrid().draw(objects, objects.vehicle)))
    assert np.array(ours)[deep].all()
    assert not np.array(ours)[(omnidrive['omni/exact_gap_m'] > 0.5) & within].any()


def test_omnidrive_averages(omnidrive, roads, totals):
    score, differs = PlanningScore(), 0
    for sample in np.flatnonzero(omnidrive['in/gt_mask'].all(axis=1)):
        objects = later(omnidrive_objects(omnidrive, sample))
        truth = PlanningTruth(omnidrive['in/gt'][sample], objects, drivable_of(omnidrive, roads, sample))
        figures = truth.measure(omnidrive['in/pred'][sample])
        np.testing.assert_allclose(figures.distance_m, omnidrive['omni/l2_at'][sample], rtol=0, atol=L2_M)
        upto_m = mean_up_to(figures.distance_m[None])[0]
        np.testing.assert_allclose(upto_m, omnidrive['omni/l2_avg_up_to'][sample], rtol=0, atol=L2_M)
        for t in SECONDS:
            assert upto_m[2 * t - 1] == pytest.approx(omnidrive[f'omni/l2_{t}s'][sample], abs=L2_M)
        differs += (figures.collisions['omnidrive/collision'] != omnidrive['omni/step_box_collision'][sample]).any()
        score.add(truth, omnidrive['in/pred'][sample])
    stored = totals['omnidrive']
    assert score.samples == stored['samples'] == omnidrive['omni/samples'].sum()
    assert stored == roads['totals']
    result, borderline = score.result(), differs / score.samples  # 0 in the set at hand
    assert borderline < 0.05
    for t in SECONDS:
        assert result[f'omnidrive/l2/{t}s'] == pytest.approx(stored[f'l2_{t}s'], abs=L2_M)
        collision = stored[f'plan_obj_box_col_{t}s']
        assert result[f'omnidrive/collision/{t}s'] == pytest.approx(collision, abs=RATE + borderline)
        assert result[f'omnidrive/boundary/{t}s'] == pytest.approx(stored[f'plan_boundary_{t}s'], abs=RATE)


def test_omnidrives_centre_points(omnidrive):
    """Not one of our scores; the stored flags show that objects and positions are read as they are meant."""
    for sample, plan_m in enumerate(omnidrive['in/pred']):
        objects = later(omnidrive_objects(omnidrive, sample))
        raster = FineGrid().draw(objects, objects.vehicle)
        cells = ((plan_m + np.float32(49.95)) / np.float32(0.1)).astype(int)
        inside = ((cells >= 0) & (cells < raster.shape[1])).all(axis=1)
        columns, rows = cells.clip(0, raster.shape[1] - 1).T
        hit = (raster[np.arange(len(raster)), rows, columns] > 0) & inside
        excused = omnidrive['omni/step_gt_box_collision'][sample] > 0
        np.testing.assert_array_equal(hit & ~excused, omnidrive['omni/step_centre_collision'][sample])

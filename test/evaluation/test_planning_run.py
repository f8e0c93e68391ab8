"""Judged keyframes, and a world through the real engines."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sparseoccvla_ros.data.moments import Boxes
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesError, NuScenesTables
from sparseoccvla_ros.evaluation.planning_run import (
    PlanningModel,
    baselines,
    best_path,
    chosen_path,
    evaluate_planning,
)
from sparseoccvla_ros.evaluation.planning_samples import (
    DEFAULT_COMMAND,
    future_objects,
    planning_samples,
    require_unseen,
    training_samples,
)
from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner
from sparseoccvla_ros.planning.trajectory import trajectory_from_waypoints
from sparseoccvla_ros.planning.vehicle import VehicleLimits
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.planning import Candidate, Plan, PlanningEngine
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine
from sparseoccvla_ros.runtime.scene import Command
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

SCENE = 'scene-0001'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """One scene of 10 keyframes: four have 3 s ahead, two of those no motion from past poses."""
    root = tmp_path_factory.mktemp('world') / 'data'
    write_world(root, WorldRequest(1, 0, 64, 32, 2, 5.0, None), 1, lambda _: None)
    return root


@pytest.fixture
def root(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / 'data')


@pytest.fixture(scope='module')
def config():
    return load_model_config('tiny', {'image.width_px': 64, 'image.height_px': 32, 'language.layers': 1})


@pytest.fixture(scope='module')
def model(config):
    place = torch.device('cpu')
    reasoning = ReasoningEngine(build_language(config, weights=None), config, place)
    yield PlanningModel(
        PerceptionEngine(build_perception(config, weights=None), config, place, CAMERAS),
        reasoning,
        PlanningEngine(build_planner(config, weights=None), VehicleLimits(), place),
        config,
    )
    reasoning.close()


def evaluate(root, model, **more):
    done = []
    run = evaluate_planning(
        NuScenesTables(root, VERSION), [SCENE], model, baselines(None), progress=lambda: done.append(1), **more
    )
    assert len(done) == run.keyframes == 10
    return run


def test_who_is_judged_and_by_which_command(written):
    samples, left_out = planning_samples(NuScenesTables(written, VERSION), SCENE)
    assert left_out == {'without_future': 6, 'without_past': 2}
    assert [sample.number for sample in samples] == [2, 3]
    stored = json.loads((written / 'ego' / f'{SCENE}.json').read_text())['samples']
    for sample in samples:
        own = stored[sample.token]
        np.testing.assert_allclose(sample.path_ego_m, own['future']['position_m'], atol=1e-3)
        assert (sample.command.name.lower(), sample.command_source) == (own['command'], 'route')
        assert sample.state.speed_mps == pytest.approx(own['state']['speed_mps'], abs=0.5)


def test_without_a_route_it_is_straight_on_unless_the_future_is_read(root):
    shutil.rmtree(root / 'ego')
    tables = NuScenesTables(root, VERSION)
    samples, _ = planning_samples(tables, SCENE)
    assert {(sample.command, sample.command_source) for sample in samples} == {(DEFAULT_COMMAND, 'default')}
    leaked, _ = planning_samples(tables, SCENE, leaky_command=True)
    assert {sample.command_source for sample in leaked} == {'recorded future (leak)'}


def boxes(centre_m, heading_rad, names, category='vehicle.car'):
    count = len(names)
    return Boxes(
        np.column_stack([centre_m, np.zeros(count)]), np.tile([4.0, 2.0, 1.5], (count, 1)), np.array(heading_rad),
        np.zeros((count, 2)), np.zeros(count, dtype=bool), (category,) * count, names,
    )  # fmt: skip


def moment(x_m, y_m, yaw_rad, of_boxes):
    return SimpleNamespace(global_from_ego=transform_from_planar(x_m, y_m, yaw_rad), boxes=of_boxes)


def test_objects_are_brought_into_the_frame_of_the_keyframe():
    """Worked by hand: the ego has driven 10 m ahead and turned left by a right angle; one box goes, one comes."""
    now = moment(100.0, 50.0, 0.0, boxes([[20.0, 0.0]], [0.3], ('gone',)))
    later = moment(110.0, 50.0, np.pi / 2, boxes([[5.0, 2.0]], [0.1], ('new',), 'human.pedestrian.adult'))
    objects = future_objects(now, [later])
    assert objects.valid.tolist() == [[False, True]]
    np.testing.assert_allclose(objects.centre_m[0, 1], [10.0 - 2.0, 5.0])
    assert objects.heading_rad[0, 1] == pytest.approx(np.pi / 2 + 0.1)
    assert (objects.seen_now.tolist(), objects.vehicle.tolist(), objects.human.tolist()) == (
        [True, False],
        [True, False],
        [False, True],
    )
    assert (objects.length_m[1], objects.width_m[1]) == (4.0, 2.0)


def test_a_world_of_its_own_truth(written):
    """Boxes stay where they are: a parked car's place in the map is the same at every step."""
    tables = NuScenesTables(written, VERSION)
    samples, _ = planning_samples(tables, SCENE)
    in_map = tables.annotations(tables.scene(SCENE).samples[samples[0].number])
    objects, ego = samples[0].objects, samples[0].global_from_ego
    centres = objects.centre_m[:, : len(in_map)] @ ego[:2, :2].T + ego[:2, 3]
    now = np.array([box.global_from_box[:2, 3] for box in in_map])
    moved = np.linalg.norm(centres - now, axis=-1)[objects.valid[:, : len(in_map)]]
    assert np.count_nonzero(moved < 0.05) > 20
    assert moved.max() < 60.0


def test_the_run_counts_everything(written, model):
    run = evaluate(written, model)
    assert (run.judged, run.with_drivable, run.failures) == (2, 2, [])
    assert (run.left_out['without_future'], run.left_out['without_past']) == (6, 2)
    assert (run.temporal, run.degraded, run.scenes) == (2, 0, [SCENE])
    summary = run.summary()
    assert list(summary['scores']) == ['model', 'model_gated', 'constant_velocity', 'constant_turn_rate']
    assert summary['scores']['model']['missing'] == 0
    assert summary['scores']['model_gated']['missing'] == run.refused
    assert summary['commands'] == {'route': 2}
    for figures in summary['scores'].values():
        assert figures['uniad/l2/3s'] > 0.0
        assert figures['omnidrive/boundary/3s'] is not None


def test_an_untrained_model_gives_an_anchor_of_the_command(written, model):
    """The row is the network's path: an untrained planner returns its anchors exactly."""
    samples, _ = planning_samples(NuScenesTables(written, VERSION), SCENE)
    anchors = build_planner(model.config, weights=None).anchors.numpy()
    run = evaluate(written, model)
    possible = []
    for sample in samples:
        errors = np.linalg.norm(anchors[int(sample.command)] - sample.path_ego_m, axis=-1)[:, -1]
        possible.append(errors)
    mean = run.summary()['scores']['model']['uniad/l2/3s']
    sums = np.add.outer(possible[0], possible[1]) / 2
    assert np.abs(sums - mean).min() < 1e-4


def test_the_gate_has_what_the_cars_has(written, model, monkeypatch):
    given = []
    plan = model.planning.plan
    monkeypatch.setattr(model.planning, 'plan', lambda one: given.append(one) or plan(one))
    evaluate(written, model)
    assert len(given) == 2
    for one in given:
        assert one.occupancy is not None
        assert [time_s for time_s, _ in one.forecast] == [1.0, 2.0, 3.0]


def test_the_recorded_future_changes_no_plan(root, model):
    """Scores aside, plans come from the past: later images and later boxes are not even needed."""
    before = evaluate(root, model).summary()['scores']
    for sample in NuScenesTables(root, VERSION).scene(SCENE).samples[4:]:
        for camera in CAMERAS:
            sample.sensors[camera].path.write_bytes(b'broken')
    assert evaluate(root, model).summary()['scores'] == before


def test_a_keyframe_without_images_counts_as_failed(root, model):
    clean = evaluate(root, model).summary()['scores']
    for camera in CAMERAS:
        NuScenesTables(root, VERSION).scene(SCENE).samples[3].sensors[camera].path.write_bytes(b'broken')
    run = evaluate(root, model)
    assert len(run.failures) == 1
    assert run.failures[0].reason.startswith('no plan: ')
    scores = run.summary()['scores']
    assert (run.judged, scores['model']['missing']) == (2, 1)
    assert scores['model']['stp3/collision/3s'] >= 0.5 > clean['model']['stp3/collision/3s']
    assert scores['constant_velocity'] == clean['constant_velocity']


def plan_of(scores, chosen, x_m=(1.0, 2.0, 3.0)):
    commands = (Command.LEFT, Command.STRAIGHT, Command.STRAIGHT)
    candidates = tuple(
        Candidate(
            command, 0, score, True, (),
            trajectory_from_waypoints(np.stack([x * np.arange(1, 7), np.zeros(6)], axis=-1), 2.0) if x else None,
        )
        for command, score, x in zip(commands, scores, x_m, strict=True)
    )  # fmt: skip
    return Plan(0, chosen is not None, (), chosen, candidates)


def test_which_candidate_is_the_models():
    plan = plan_of((0.9, 0.2, 0.6), 1)
    assert best_path(plan, Command.STRAIGHT)[0].tolist() == [3.0, 0.0]
    assert chosen_path(plan)[0].tolist() == [2.0, 0.0]
    assert best_path(plan, Command.RIGHT) is None
    assert chosen_path(plan_of((0.9, 0.2, 0.6), None)) is None
    assert best_path(plan_of((0.9, 0.2, 0.6), None, (1.0, 2.0, None)), Command.STRAIGHT) is None


def test_the_mlp_learns_from_a_training_split_only(root):
    tables = NuScenesTables(root, VERSION)
    samples, tokens = training_samples(tables)
    judged, _ = planning_samples(tables, SCENE)
    # the boxes' keyframes end earlier than the poses
    assert {sample.token for sample in judged} <= set(tokens)
    assert len(samples) == len(tokens)
    with pytest.raises(NuScenesError, match=f'learns from {SCENE}'):
        require_unseen(tables, [SCENE], tokens)
    require_unseen(tables, [SCENE], [])
    (root / 'splits.json').write_text(json.dumps({'train': [], 'val': [SCENE]}))
    with pytest.raises(NuScenesError, match='names no scenes of split'):
        training_samples(tables)
    (root / 'splits.json').unlink()
    with pytest.raises(NuScenesError, match='a list of scenes of split'):
        training_samples(tables)

"""The table of bad input (docs/architecture.md, Failure): each row has its stated result, and the stack goes on."""

import time

import pytest
import torch
from rig import jpeg, seconds

from sparseoccvla_ros.nodes import planner as planner_module
from sparseoccvla_ros.nodes import reasoning as reasoning_module
from sparseoccvla_ros.nodes.conversions.basic import stamp_ns_from
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.timing import StageTimer


def missing(status):
    return dict(zip(status.cameras_missing, status.missing_reasons, strict=True))


def drops(status):
    return dict(zip(status.drop_reasons, status.drop_counts, strict=True))


def test_a_camera_that_is_missing_degrades_the_scene_and_is_named(start_stack):
    rig = start_stack(perception={'set_timeout_s': 0.2}).rig
    rig.calibrate()
    rig.run_cycle(0)
    status, trajectory = rig.run_cycle(1, missing=('CAM_BACK',))
    assert status.accepted
    assert status.degraded
    assert missing(status) == {'CAM_BACK': 'no_image'}
    assert trajectory is not None
    status, _ = rig.run_cycle(2)
    assert status.accepted
    assert not status.degraded


def test_too_few_cameras_skip_the_scene_and_count_it(start_stack):
    rig = start_stack(perception={'set_timeout_s': 0.2}).rig
    rig.calibrate()
    rig.run_cycle(0)
    status, trajectory = rig.run_cycle(1, missing=('CAM_BACK', 'CAM_FRONT_LEFT', 'CAM_BACK_LEFT'))
    assert not status.accepted
    assert status.reason == 'too_few_cameras'
    assert drops(status)['too_few_cameras'] == 1
    assert trajectory is None
    assert rig.run_cycle(2)[0].accepted


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (jpeg('CAM_BACK', 1)[:2000], 'corrupt_image'),
        (b'not an image at all', 'unsupported_format'),
        (b'', 'corrupt_image'),
    ],
    ids=['truncated', 'no image', 'empty'],
)
def test_a_corrupt_image_counts_as_missing_with_the_reason(start_stack, data, reason):
    rig = start_stack().rig
    rig.calibrate()
    status, trajectory = rig.run_cycle(0, data={'CAM_BACK': data})
    assert status.accepted
    assert list(missing(status)) == ['CAM_BACK']
    assert reason in missing(status)['CAM_BACK']
    assert drops(status)[f'camera_{reason}'] == 1
    assert trajectory is not None
    assert not rig.run_cycle(1)[0].degraded


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'k': [0.0] * 9, 'p': [0.0] * 12}, 'camera_info_invalid'),
        ({'width': 640, 'height': 360}, 'camera_info_size_mismatch'),
        (None, 'camera_info_missing'),
    ],
    ids=['all zero', 'other size', 'never sent'],
)
def test_a_camera_info_that_cannot_be_used_takes_its_camera_out(start_stack, changes, reason):
    rig = start_stack(perception={'calibration_timeout_s': 0.3}).rig
    rig.calibrate(without_info=('CAM_BACK',))
    if changes is not None:
        rig.calibrate_camera('CAM_BACK', **changes)
    status, trajectory = rig.run_cycle(0)
    assert status.accepted
    assert list(missing(status)) == ['CAM_BACK']
    assert reason in missing(status)['CAM_BACK']
    assert trajectory is not None
    rig.calibrate_camera('CAM_BACK')
    rig.run_cycle(1)
    assert not rig.run_cycle(2)[0].degraded, 'a CameraInfo that comes later heals it'


def test_without_odometry_perception_goes_on_and_the_trajectory_is_invalid(start_stack):
    fast = {'pose_timeout_s': 0.05}
    rig = start_stack(perception=fast, planner=fast).rig
    rig.calibrate()
    for number in range(2):
        status, trajectory = rig.run_cycle(number, odometry=False)
        assert status.accepted
        assert not status.temporal
        assert not trajectory.valid
        assert 'odometry' in trajectory.reasons[0]
        assert not trajectory.points


def test_odometry_that_stops_is_too_old_and_a_return_heals_it(start_stack):
    fast = {'pose_timeout_s': 0.05}
    rig = start_stack(perception=fast, planner=fast).rig
    rig.calibrate()
    rig.run_cycle(0)
    for number in (3, 4):
        status, trajectory = rig.run_cycle(number, odometry=False)
    assert status.accepted
    assert not trajectory.valid
    assert 'odometry' in trajectory.reasons[0]
    rig.restart()
    for number in (7, 8):
        _, trajectory = rig.run_cycle(number)
    assert trajectory.valid or 'odometry' not in trajectory.reasons[0]


@pytest.mark.parametrize('first', [0, 9], ids=['a whole lap back', '1.5 s back'])
def test_a_clock_that_jumps_back_clears_every_memory_and_works_on(start_stack, first):
    stack = start_stack()
    rig = stack.rig
    rig.calibrate()
    for number in range(10, 13):
        status, _ = rig.run_cycle(number)
    assert status.temporal
    rig.restart(start_x_m=-500.0)  # a simulator's reset: the same times, other poses
    status, trajectory = rig.run_cycle(first)
    assert status.accepted
    assert not status.temporal, 'nothing of the old run is left in the memory'
    for node in stack.nodes.values():
        assert node.counters['clock_jump_back'] == 1
    assert len(stack.nodes['reasoning']._engine.kept_scenes) == 1
    status, trajectory = rig.run_cycle(first + 1)
    assert status.temporal
    x_m = -500.0 + 8.0 * (0.5 * (first + 1) + 0.008)
    assert trajectory.candidates[0].points[0].pose.position.x == pytest.approx(x_m, abs=0.3)


def test_silent_inputs_are_told_in_diagnostics(start_stack):
    quick = {'silence_warning_s': 0.3}
    stack = start_stack(perception=quick, planner=quick, reasoning=quick)
    rig = stack.rig
    rig.calibrate()

    def problems(node):
        return {status.name.split(': ')[1]: status.message for status in stack.nodes[node].status()}

    assert 'nothing on CAM_BACK yet' in problems('perception')['cameras']
    rig.run_cycle(0)
    end_s = time.monotonic() + 10.0
    while 'silent' not in problems('planner')['trajectory'] and time.monotonic() < end_s:
        time.sleep(0.05)
    assert 'CAM_BACK has been silent' in problems('perception')['cameras']
    assert '/odom has been silent' in problems('perception')['odometry']
    assert 'silent' in problems('reasoning')['scenes']
    assert 'silent' in problems('planner')['trajectory']


def test_duplicate_and_out_of_order_images_are_dropped_and_counted(start_stack):
    rig = start_stack().rig
    rig.calibrate()
    rig.run_cycle(0)
    stamp_ns = rig.cycle(1)
    rig.image('CAM_FRONT', stamp_ns, jpeg('CAM_FRONT', 1))
    rig.image('CAM_FRONT', stamp_ns - seconds(0.1), jpeg('CAM_FRONT', 1))
    rig.wait(lambda: rig.trajectory_of(stamp_ns) is not None)
    status, _ = rig.run_cycle(2)
    assert status.accepted
    assert sum(drops(status).values()) == 2
    assert len(rig.statuses) == 3


def test_a_network_that_gives_nan_never_gives_a_plan(start_stack, monkeypatch):
    stack = start_stack()
    rig = stack.rig
    rig.calibrate()
    rig.run_cycle(0)
    original = PerceptionEngine.process

    def poisoned(self, view):
        with torch.no_grad():
            for parameter in self._model.encoder.parameters():
                parameter.fill_(float('nan'))
        return original(self, view)

    monkeypatch.setattr(PerceptionEngine, 'process', poisoned)
    stamp_ns = rig.cycle(1)
    rig.wait(lambda: rig.trajectory_of(stamp_ns) is not None)
    trajectory, status = rig.trajectory_of(stamp_ns), rig.status_of(stamp_ns)
    assert not status.accepted
    assert status.reason == 'non_finite_output'
    assert not trajectory.valid
    assert trajectory.reasons == ['non_finite_output']
    assert not trajectory.points


@pytest.mark.parametrize('stop', [False, True])
def test_a_planner_that_misses_its_deadline_says_so(start_stack, monkeypatch, stop):
    rig = start_stack(planner={'deadline_s': 0.5, 'stop_on_invalid': stop}).rig
    rig.calibrate()
    rig.run_cycle(0)
    rig.run_cycle(1)
    monkeypatch.setattr(reasoning_module.ReasoningEngine, 'submit_scene', lambda self, scene, callback: None)
    _, trajectory = rig.run_cycle(2)
    assert not trajectory.valid
    assert 'deadline_missed' in trajectory.reasons[0]
    assert trajectory.is_stop == stop
    assert bool(trajectory.points) == stop


def test_a_plan_that_comes_too_late_is_not_presented_as_one(start_stack, monkeypatch):
    original = planner_module.PlanningEngine.plan

    def late(self, planner_input):
        time.sleep(0.7)
        return original(self, planner_input)

    rig = start_stack(planner={'deadline_s': 0.6}).rig
    rig.calibrate()
    rig.run_cycle(0)
    monkeypatch.setattr(planner_module.PlanningEngine, 'plan', late)
    _, trajectory = rig.run_cycle(1)
    assert not trajectory.valid
    assert 'deadline_missed' in trajectory.reasons[0]
    assert not trajectory.points
    assert not trajectory.is_stop
    assert trajectory.chosen == -1


def test_a_refused_plan_is_a_stop_only_if_asked_for_and_is_marked(start_stack, monkeypatch):
    def refuse(self, planner_input):
        return self._invalid(planner_input, ('test',), (), StageTimer(torch.device('cpu')))

    monkeypatch.setattr(planner_module.PlanningEngine, 'plan', refuse)
    rig = start_stack(planner={'stop_on_invalid': True}).rig
    rig.calibrate()
    for number in range(2):
        _, trajectory = rig.run_cycle(number)
    assert not trajectory.valid
    assert trajectory.is_stop
    assert trajectory.points[-1].speed_mps == 0.0
    assert stamp_ns_from(trajectory.input_stamp) == stamp_ns_from(rig.statuses[-1].header.stamp)

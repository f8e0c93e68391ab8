import numpy as np
import pytest

from sparseoccvla_ros.geometry import inverse, wrap_angle
from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs
from sparseoccvla_ros.world.scene import EGO_SIZE_M, Manoeuvre, Scene, build_scene

KEYFRAMES_S = np.arange(0.0, 20.0, 0.5)
#: Of a passenger car in traffic; hard braking is 4, a comfortable bend 3.
ACCEL_LIMIT_MPS2 = 4.0
LATERAL_LIMIT_MPS2 = 3.0


def states(scene: Scene, time_s: float) -> np.ndarray:
    return np.stack([thing.state_at(time_s).world_from_object for thing in scene.things])


def test_a_scene_depends_on_nothing_but_seed_and_index(scenes):
    again = build_scene(3, 1, 20.0)
    assert again.description == scenes[1].description
    for time_s in (0.0, 7.3):
        assert np.array_equal(states(again, time_s), states(scenes[1], time_s))
        assert np.array_equal(again.world_from_ego(time_s), scenes[1].world_from_ego(time_s))
    other = build_scene(4, 1, 20.0)
    assert not np.array_equal(other.world_from_ego(5.0), scenes[1].world_from_ego(5.0))


def test_scenes_differ_in_town_manoeuvre_and_path(scenes):
    assert len({scene.city.name for scene in scenes[:3]}) == 3
    assert {scene.manoeuvre for scene in scenes} == set(Manoeuvre)
    paths = []
    for scene in scenes:
        ego_from_start = [inverse(scene.world_from_ego(4.0)) @ scene.world_from_ego(t) for t in (5.0, 6.0, 7.0)]
        paths.append(np.concatenate([pose[:2, 3] for pose in ego_from_start]))
    distance = np.linalg.norm(np.array(paths)[:, None] - np.array(paths)[None], axis=-1)
    assert distance[np.triu_indices(len(paths), 1)].min() > 0.3


def test_the_ego_moves_like_a_car(scenes):
    step_s = 0.05
    times = np.arange(0.0, 20.0, step_s)
    for scene in scenes:
        poses = np.stack([scene.world_from_ego(time_s) for time_s in times])
        velocity = np.diff(poses[:, :2, 3], axis=0) / step_s
        heading = np.arctan2(poses[:, 1, 0], poses[:, 0, 0])
        forward = np.einsum('ni,ni->n', velocity, poses[:-1, :2, 0])
        sideways = np.einsum('ni,ni->n', velocity, poses[:-1, :2, 1])
        yaw_rate = wrap_angle(np.diff(heading)) / step_s
        assert forward.min() > -1e-6
        assert forward.max() < 16.0
        # No slip at the rear axle: half a step of turning is all that may show.
        assert np.abs(sideways - 0.5 * yaw_rate * forward * step_s).max() < 0.02
        assert np.abs(np.diff(forward) / step_s).max() < ACCEL_LIMIT_MPS2
        assert np.abs(yaw_rate * forward).max() < LATERAL_LIMIT_MPS2


def test_manoeuvres_are_what_they_say(scenes):
    for scene in scenes:
        speed = np.array([scene.ego_track.at(time_s)[1] for time_s in KEYFRAMES_S])
        if scene.manoeuvre is Manoeuvre.STOP:
            assert speed[0] > 6.0
            assert speed.min() < 0.1
            assert speed[-1] > 2.0
        if scene.manoeuvre is Manoeuvre.START:
            assert speed[:4].max() < 1.0
            assert speed[-1] > 6.0
        if scene.manoeuvre is Manoeuvre.CRUISE:
            assert speed.min() > 3.0


def test_nobody_touches_anybody_at_any_keyframe(scenes):
    for scene in scenes:
        agents = [thing for thing in scene.things if thing.annotated]
        assert len(agents) > 20
        sizes = np.array([EGO_SIZE_M[:2], *(thing.shape.size_m[:2] for thing in agents)])
        for time_s in KEYFRAMES_S:
            poses = [scene.ego_box(time_s), *(thing.state_at(time_s).world_from_object for thing in agents)]
            assert overlapping_pairs(np.stack(poses), sizes) == [], (scene.name, time_s)


def test_overlap_of_rectangles_worked_by_hand():
    def at(x: float, y: float, yaw: float) -> np.ndarray:
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        pose[:2, 3] = x, y
        return pose

    # A square of 2 x 2 turned by 45 degrees reaches sqrt(2) along x: it touches one that begins at 1.4, not at 1.45.
    sizes = np.full((2, 2), 2.0)
    assert overlapping_pairs(np.stack([at(0, 0, np.pi / 4), at(2.40, 0, 0)]), sizes) == [(0, 1)]
    assert overlapping_pairs(np.stack([at(0, 0, np.pi / 4), at(2.45, 0, 0)]), sizes) == []
    # Corner to corner: the enclosing circles overlap, the squares do not.
    assert overlapping_pairs(np.stack([at(0, 0, 0), at(1.9, 2.05, 0)]), sizes) == []


def test_moving_things_move_and_still_ones_do_not(scenes):
    for scene in scenes:
        before, after = states(scene, 3.0), states(scene, 9.0)
        moved = np.abs(after - before).max(axis=(1, 2)) > 1e-9
        still = np.array([thing.still for thing in scene.things])
        assert not (moved & still).any()
        assert moved.sum() > 5


def test_an_unknown_city_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown city 'atlantis'; expected one of harbour, oldtown, suburb"):
        build_scene(0, 0, 5.0, 'atlantis')
    assert build_scene(0, 1, 2.0, 'oldtown').city.name == 'oldtown'

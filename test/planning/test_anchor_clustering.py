"""K-means anchors: known clusters found, the same whatever the order, nothing empty, doubled or made up."""

import numpy as np
import pytest

from sparseoccvla_ros.planning.anchor_clustering import cluster_anchors, nearest_anchor_m
from sparseoccvla_ros.runtime.scene import Command

TIMES_S = np.arange(1, 7) * 0.5


def line(speed_mps, left_m=0.0):
    return np.stack([speed_mps * TIMES_S, left_m * (TIMES_S / 3.0) ** 2], axis=1)


def futures(rng, count=60, speeds=(2.0, 6.0, 12.0)):
    """About ``speeds``, with 5 cm of scatter; to the right, to the left, straight."""
    sides = {Command.RIGHT: -6.0, Command.LEFT: 6.0, Command.STRAIGHT: 0.0}
    return {
        command: np.array(
            [line(speeds[k % len(speeds)], side) + rng.normal(scale=0.05, size=(6, 2)) for k in range(count)]
        )
        for command, side in sides.items()
    }


def test_known_clusters_are_found_slowest_first():
    given = futures(np.random.default_rng(0))
    anchors = cluster_anchors(given, 3, seed=0).waypoints_ego_m
    for command, side in ((Command.RIGHT, -6.0), (Command.LEFT, 6.0), (Command.STRAIGHT, 0.0)):
        np.testing.assert_allclose(anchors[command], [line(v, side) for v in (2.0, 6.0, 12.0)], atol=0.05)
        by_hand = [given[command][k::3].mean(axis=0) for k in range(3)]
        np.testing.assert_allclose(anchors[command], by_hand, atol=1e-3)


@pytest.mark.parametrize('modes', [3, 6, 12])
def test_order_does_not_matter_and_the_seed_decides(modes):
    rng = np.random.default_rng(1)
    given = {command: rng.uniform(-20.0, 20.0, (50, 6, 2)) for command in Command}
    first = cluster_anchors(given, modes, seed=4).waypoints_ego_m
    shuffled = {command: rng.permutation(item) for command, item in given.items()}
    np.testing.assert_array_equal(cluster_anchors(shuffled, modes, seed=4).waypoints_ego_m, first)
    assert first.shape == (3, modes, 6, 2)
    for command in Command:
        assert len(np.unique(first[command].round(3).reshape(modes, -1), axis=0)) == modes
        # means of what there is: every anchor lies inside the range of the futures, waypoint by waypoint
        assert (first[command] >= given[command].min(axis=0) - 1e-3).all()
        assert (first[command] <= given[command].max(axis=0) + 1e-3).all()


def test_more_modes_come_nearer():
    given = futures(np.random.default_rng(2), count=200, speeds=tuple(np.linspace(0.0, 15.0, 40)))
    left = [
        nearest_anchor_m(given[Command.LEFT], cluster_anchors(given, modes, 0).waypoints_ego_m[Command.LEFT]).mean()
        for modes in (3, 6, 12)
    ]
    assert left[0] > 1.5 * left[1] > 2.0 * left[2]


def test_as_many_modes_as_different_futures_gives_the_futures():
    """Most futures are the same, as of a parked car: a random start would have doubled or empty clusters."""
    parked = np.concatenate([np.zeros((500, 6, 2)), [line(v) for v in (1.0, 2.0, 3.0, 4.0, 5.0)]])
    given = futures(np.random.default_rng(3)) | {Command.STRAIGHT: parked}
    anchors = cluster_anchors(given, 6, seed=0).waypoints_ego_m[Command.STRAIGHT]
    np.testing.assert_allclose(anchors, [line(v) for v in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)], atol=1e-9)


@pytest.mark.parametrize(
    ('left', 'modes', 'message'),
    [
        (np.zeros((0, 6, 2)), 3, 'command LEFT has 0 futures, 0 different ones; 3 modes'),
        (np.array([line(1.0), line(2.0)]), 3, 'command LEFT has 2 futures, 2 different ones; 3 modes'),
        (np.repeat([line(1.0), line(2.0)], 50, axis=0), 3, 'command LEFT has 100 futures, 2 different ones'),
        (np.zeros((9, 5, 2)), 3, r'futures of LEFT must be finite \[N, 6, 2\], found \[9, 5, 2\]'),
        (np.full((9, 6, 2), np.nan), 3, 'futures of LEFT must be finite'),
        (np.zeros((9, 6, 2)), 0, r'modes \(0\) must be at least 1'),
    ],
)
def test_what_cannot_be_clustered_is_named(left, modes, message):
    given = futures(np.random.default_rng(4)) | {Command.LEFT: left}
    with pytest.raises(ValueError, match=message):
        cluster_anchors(given, modes, seed=0)


def test_a_command_without_any_futures_is_named():
    given = futures(np.random.default_rng(4))
    del given[Command.RIGHT]
    with pytest.raises(ValueError, match='command RIGHT has 0 futures'):
        cluster_anchors(given, 3, seed=0)


def test_distance_is_the_mean_over_the_waypoints():
    shifted = line(2.0) + np.array([[[3.0, 4.0]], [[0.0, 7.0]]])
    found = nearest_anchor_m(np.array([line(2.0)]), shifted)
    np.testing.assert_allclose(found, [5.0])

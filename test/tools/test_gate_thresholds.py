"""Labels become obstacles where they are, and the table's shares are of the right numbers."""

import gate_thresholds as tool
import numpy as np

from sparseoccvla_ros.world.files.writer import WorldRequest, write_world


def test_labels_become_points_in_the_middle_of_their_voxels(tmp_path):
    semantics = np.full((200, 200, 16), 17, np.uint8)
    semantics[100, 99, 3] = 4  # 0 to 0.4 m ahead, 0 to 0.4 m to the right, from 0.2 m up
    folder = tmp_path / 'scene' / 'token'
    folder.mkdir(parents=True)
    mask = np.ones_like(semantics)
    np.savez(folder / 'labels.npz', semantics=semantics, mask_camera=mask, mask_lidar=mask)
    points = tool.labelled(tmp_path, 'scene', 'token')
    np.testing.assert_allclose(points.points_ego, [[0.2, -0.2, 0.4]], atol=1e-5)
    assert (points.labels.tolist(), points.scores.tolist()) == ([4], [1.0])


def test_shares_are_of_their_own_kind(capsys):
    tool.show({0.65: tool.Counts(driven_refused=1, free_refused=3, touching_passed=5)}, 10, 60, 50)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['│', '0.65', '│', '10.0', '│', '5.0', '│', '10.0', '│'] in lines


def test_a_model_that_sees_nothing_refuses_nothing(tmp_path, monkeypatch, capsys):
    """Untrained: every score is 1/17."""
    write_world(tmp_path / 'data', WorldRequest(scenes=1, seed=1, seconds=4.5))
    arguments = ['', '--data', str(tmp_path / 'data'), '--split', 'train', '--weights', '']
    monkeypatch.setattr('sys.argv', arguments)
    tool.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[1:2] == ['0.5']]
    refused, free_refused, passed = (float(row) for row in rows[0][3::2])
    assert (refused, free_refused) == (0.0, 0.0)
    assert passed == 100.0

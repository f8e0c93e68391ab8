"""Occ3D label files."""

import numpy as np
import pytest

from sparseoccvla_ros.data.occ3d import FREE, GRID_SHAPE, UNLABELLED, Occ3DError, load_labels


@pytest.fixture
def write(tmp_path):
    """Writes ``labels.npz`` of scene ``s``, sample ``t``; gives the ``gts`` folder."""

    def write_arrays(**arrays):
        folder = tmp_path / 'gts' / 's' / 't'
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / 'labels.npz', **arrays)
        return tmp_path / 'gts'

    return write_arrays


def grid(value: int, dtype=np.uint8) -> np.ndarray:
    return np.full(GRID_SHAPE, value, dtype=dtype)


def test_labels_and_masks(write):
    semantics = grid(FREE)
    semantics[1, 2, 3], semantics[4, 5, 6] = 4, UNLABELLED
    mask = grid(0)
    mask[1, 2, 3] = 1
    labels = load_labels(write(semantics=semantics, mask_camera=mask, mask_lidar=mask.astype(bool)), 's', 't')
    assert np.array_equal(labels.semantics, semantics)
    assert labels.mask_camera.dtype == labels.mask_lidar.dtype == np.uint8
    assert np.argwhere(labels.mask_camera).tolist() == np.argwhere(labels.mask_lidar).tolist() == [[1, 2, 3]]


def test_masks_may_be_missing(write):
    labels = load_labels(write(semantics=grid(FREE)), 's', 't')
    assert labels.mask_camera is None
    assert labels.mask_lidar is None


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'mask_camera': grid(0)}, 'has no semantics'),
        ({'semantics': np.zeros((200, 200, 8), np.uint8)}, r'semantics is \(200, 200, 8\), expected \(200, 200, 16\)'),
        ({'semantics': grid(FREE), 'mask_camera': np.zeros(3)}, r'mask_camera is \(3,\)'),
        ({'semantics': grid(18)}, r'semantics beyond 0..17 and 255: \[18\]'),
        ({'semantics': grid(-1, np.int16)}, 'semantics beyond'),
    ],
)
def test_what_is_not_occ3d_is_refused(write, arrays, message):
    with pytest.raises(Occ3DError, match=message):
        load_labels(write(**arrays), 's', 't')


def test_missing_and_damaged_files_are_named(write):
    root = write(semantics=np.random.default_rng(0).integers(0, FREE + 1, GRID_SHAPE, dtype=np.uint8))
    with pytest.raises(Occ3DError, match=r'cannot read labels .*nowhere'):
        load_labels(root, 's', 'nowhere')
    path = root / 's' / 't' / 'labels.npz'
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2 : len(whole) // 2 + 100] = bytes(100)  # inside the compressed numbers
    for damaged in (whole[:500], bytes(flipped), b''):
        path.write_bytes(damaged)
        with pytest.raises(Occ3DError, match='cannot read labels'):
            load_labels(root, 's', 't')


def test_a_file_with_pickled_objects_is_refused(write):
    with pytest.raises(Occ3DError, match='cannot read labels'):
        load_labels(write(semantics=np.array([{'a': 1}], dtype=object)), 's', 't')

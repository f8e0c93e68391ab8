import numpy as np
import pytest

from sparseoccvla_ros.world.bodies.solids import ball, box, frustum, pillar

GREY = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ('solid', 'faces', 'volume_m3'),
    [
        (box((0.0, -1.0, 0.0), (2.0, 1.0, 3.0), GREY), 6, 12.0),
        # Pyramid stump: h / 3 (A + B + sqrt(A B)) = 1 / 3 (16 + 4 + 8).
        (frustum((-2.0, -2.0, 2.0, 2.0), (-1.0, -1.0, 1.0, 1.0), (0.0, 1.0), GREY), 6, 28.0 / 3.0),
        # Regular octagon of circumradius 1: area 2 sqrt(2).
        (pillar((1.0, 1.0), (0.0, 2.0), GREY), 10, 4.0 * 2.0**0.5),
        # Icosahedron of circumradius R: volume 2.53615 R^3.
        (ball((0.0, 0.0, 3.0), (2.0, 2.0, 2.0), GREY), 20, 2.53615 * 8.0),
    ],
)
def test_planes_enclose_the_corners_and_the_right_volume(solid, faces, volume_m3):
    assert len(solid.normals) == faces
    np.testing.assert_allclose(np.linalg.norm(solid.normals, axis=1), 1.0)
    beyond = solid.vertices_m @ solid.normals.T - solid.offsets_m
    assert beyond.max() < 1e-12
    # Every face holds at least three corners, every corner lies on at least three faces.
    touching = beyond > -1e-6
    assert touching.sum(axis=0).min() >= 3
    assert touching.sum(axis=1).min() >= 3
    points = np.random.default_rng(0).uniform(solid.low_m, solid.high_m, (200_000, 3))
    inside = (points @ solid.normals.T <= solid.offsets_m).all(axis=1).mean()
    assert inside * np.prod(solid.high_m - solid.low_m) == pytest.approx(volume_m3, rel=0.01)

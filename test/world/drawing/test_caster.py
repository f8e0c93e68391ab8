import numpy as np
import pytest

from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.solids import Solid, ball, beam, box, frustum, pillar
from sparseoccvla_ros.world.bodies.thing import CAR, Shape, State, Thing
from sparseoccvla_ros.world.drawing.caster import GROUND, SKY, Caster, Hits
from sparseoccvla_ros.world.drawing.rays import PinholeRays, Rays, TurningRays

GREY = (0.5, 0.5, 0.5)


def some_things(rng: np.random.Generator, count: int) -> list[Thing]:
    """Solids of all kinds around the origin, some of them long, some beside, above or around it."""
    things = []
    for number in range(count):
        a, b, c = rng.uniform(0.05, 3.0, 3)
        solids: tuple[Solid, ...] = (
            (box((-a, -b, 0.0), (a, b, c), GREY), pillar((0.3, 0.1), (c, c + 1.0), GREY)),
            (ball((0.0, 0.0, c), (a, b, c), GREY),),
            (frustum((-a, -b, a, b), (-0.5 * a, -0.5 * b, 0.5 * a, 0.5 * b), (0.2, c + 0.3), GREY),),
            (beam((-10.0 * a, 0.0, 0.1), (8.0 * a, 0.3, c), (0.05, 0.3), GREY),),
        )[number % 4]
        distance_m, way, heading = rng.uniform(0.0, 25.0), rng.uniform(-np.pi, np.pi), rng.uniform(-np.pi, np.pi)
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]]
        pose[:3, 3] = distance_m * np.cos(way), distance_m * np.sin(way), rng.choice([0.0, rng.uniform(1.0, 3.0)])
        things.append(
            Thing(Shape(CAR, (1.0, 1.0, 1.0), solids), lambda _, p=pose: State(p, 0.0), True, number % 2 == 0)
        )
    return things


def plainly(things: list[Thing], rays: Rays, world_from_sensor: np.ndarray) -> Hits:
    """The obvious way: every ray against every plane of every solid, by the definition of a convex solid."""
    directions = (rays.rows[:, None] + rays.columns[None]).reshape(-1, 3) @ world_from_sensor[:3, :3].T
    eye = world_from_sensor[:3, 3]
    with np.errstate(divide='ignore'):
        ground = -eye[2] / directions[:, 2]
    nearest = np.where(ground > 0.0, ground, np.inf)
    solid = np.where(ground > 0.0, GROUND, SKY)
    face = np.zeros(len(solid), dtype=int)
    full = np.zeros(len(things), dtype=int)
    number = 0
    for index, thing in enumerate(things):
        pose = thing.state_at(0.0).world_from_object
        met = np.zeros(len(directions), dtype=bool)
        for part in thing.shape.solids:
            normals = part.normals @ pose[:3, :3].T
            gaps = part.offsets_m + normals @ pose[:3, 3] - normals @ eye
            speeds = directions @ normals.T
            with np.errstate(divide='ignore'):
                crossing = gaps / speeds
            entries = np.where(speeds < 0.0, crossing, -np.inf)
            enter, leave = entries.max(axis=1), np.where(speeds > 0.0, crossing, np.inf).min(axis=1)
            hit = (enter > 0.0) & (enter <= leave)
            met |= hit
            closer = hit & (enter < nearest)
            nearest[closer], solid[closer], face[closer] = enter[closer], number, entries.argmax(axis=1)[closer]
            number += 1
        full[index] = np.count_nonzero(met) if thing.annotated else 0
    shape = len(rays.rows), len(rays.columns)
    return Hits(1.0 / nearest.reshape(shape), solid.reshape(shape), face.reshape(shape), full)


def looking(yaw_rad: float, pitch_rad: float, height_m: float) -> np.ndarray:
    """``world_from_camera`` of a camera over the origin."""
    cy, sy, cp, sp = np.cos(yaw_rad), np.sin(yaw_rad), np.cos(pitch_rad), np.sin(pitch_rad)
    forward, right = np.array([cy * cp, sy * cp, -sp]), np.array([sy, -cy, 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    pose[2, 3] = height_m
    return pose


def tilted(rng: np.random.Generator, height_m: float) -> np.ndarray:
    """``world_from_lidar`` of a turning sensor that leans a little."""
    roll, pitch = rng.normal(0.0, 0.02, 2)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1.0, 0.0, pitch], [0.0, 1.0, -roll], [-pitch, roll, 1.0]])
    pose[:3, :3], _ = np.linalg.qr(pose[:3, :3])
    pose[:3, :3] *= np.sign(np.diag(pose[:3, :3]))
    pose[2, 3] = height_m
    return pose


def sensors(rng: np.random.Generator) -> list[tuple[Rays, np.ndarray]]:
    intrinsics = np.array([[60.0, 0.0, 42.3], [0.0, 60.0, 29.1], [0.0, 0.0, 1.0]])
    camera = PinholeCamera('TEST', 80, 60, intrinsics, np.eye(4))
    turn = TurningRays(rng.uniform(-4.0, 4.0), 120, np.linspace(-0.6, 0.5, 25), 500.0)
    return [
        (PinholeRays(camera, 500.0), looking(rng.uniform(-np.pi, np.pi), 0.05, 1.5)),
        (turn, tilted(rng, 1.8)),
    ]


@pytest.mark.parametrize('seed', range(12))
def test_cameras_and_lidar_meet_what_the_definition_says(seed):
    rng = np.random.default_rng(seed)
    things = some_things(rng, 60)
    poses = np.array([thing.state_at(0.0).world_from_object for thing in things])
    counted = 0
    for rays, world_from_sensor in sensors(rng):
        hits, expected = Caster(things).cast(rays, world_from_sensor, poses), plainly(things, rays, world_from_sensor)
        # A ray along the very edge of a solid may go either way.
        same = hits.solid == expected.solid
        assert same.mean() > 0.9995
        np.testing.assert_allclose(hits.inverse_depth[same], expected.inverse_depth[same], rtol=1e-10, atol=1e-12)
        on_solid = same & (hits.solid >= 0)
        assert on_solid.sum() > 300
        assert (hits.face[on_solid] == expected.face[on_solid]).mean() > 0.9995
        assert np.abs(hits.full_px - expected.full_px).max() <= 1
        counted += expected.full_px.sum()
    assert counted > 500


def test_not_counting_what_is_hidden_changes_nothing_that_is_seen():
    rng = np.random.default_rng(5)
    things = some_things(rng, 60)
    poses = np.array([thing.state_at(0.0).world_from_object for thing in things])
    for rays, world_from_sensor in sensors(rng):
        counted = Caster(things).cast(rays, world_from_sensor, poses)
        seen = Caster(things).cast(rays, world_from_sensor, poses, count_hidden=False)
        for name in ('inverse_depth', 'solid', 'face'):
            assert np.array_equal(getattr(counted, name), getattr(seen, name))
        assert counted.full_px.sum() > 0
        assert seen.full_px.sum() == 0


def test_with_nothing_there_is_ground_below_the_horizon():
    for rays, world_from_sensor in sensors(np.random.default_rng(1)):
        hits = Caster([]).cast(rays, world_from_sensor, np.zeros((0, 4, 4)))
        up = (rays.rows[:, None] + rays.columns[None]) @ world_from_sensor[2, :3]
        assert np.array_equal(hits.solid == GROUND, up < 0.0)
        assert np.array_equal(hits.solid == SKY, up >= 0.0)
        np.testing.assert_allclose(up[up < 0.0] / hits.inverse_depth[up < 0.0], -world_from_sensor[2, 3])


def test_the_ray_next_to_a_point_on_a_ray_is_that_ray():
    rays = TurningRays(2.3, 90, np.linspace(-0.5, 0.2, 12), 70.0)
    row, column = (index.reshape(-1) for index in np.mgrid[:12, :90])
    directions = rays.rows[row] + rays.columns[column]
    found_row, found_column, t = rays.nearest_to(7.0 * directions)
    assert np.array_equal(found_row, row)
    assert np.array_equal(found_column, column)
    np.testing.assert_allclose(t, 7.0)
    # Within half a step it stays the same ray, and the first and last ray of a turn are neighbours.
    angle_rad = 0.49 * 2.0 * np.pi / 90
    turned = directions @ inverse(np.array([[np.cos(angle_rad), -np.sin(angle_rad), 0.0, 0.0],
                                            [np.sin(angle_rad), np.cos(angle_rad), 0.0, 0.0],
                                            [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))[:3, :3]  # fmt: skip
    assert np.array_equal(rays.nearest_to(turned)[1], column)

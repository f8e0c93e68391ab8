"""Ray casting of convex solids, in numpy, for cameras and for the LiDAR alike.

Along the rays of a grid (``rays.py``) every plane has an inverse multiple 1/t that is the sum of a term of the row and
one of the column. A ray enters a convex solid where the least 1/t of the planes that face the sensor is still greater
than those of all others, so a solid costs one outer sum per plane, inside its window only, and next to nothing when
what was drawn before covers it. Distances are exact to rounding; there are no meshes and no clipping of polygons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.geometry import inverse
from sparseoccvla_ros.world.bodies.thing import Thing
from sparseoccvla_ros.world.drawing.rays import Rays, Windows

SKY, GROUND = -2, -1


@dataclass(frozen=True)
class Hits:
    """First thing that each ray meets, all [H, W].

    ``inverse_depth`` is 1/t in 1/m (0: sky); ``solid`` index into the caster's solids (``GROUND``, ``SKY``); ``face``
    index of the solid's plane. ``full_px`` [things]: rays that each annotated thing would stop if nothing stood before
    it.
    """

    inverse_depth: np.ndarray
    solid: np.ndarray
    face: np.ndarray
    full_px: np.ndarray


class Caster:
    """Finds what rays meet among things and the ground, which is the plane z = 0 of the world.

    The attributes describe the solids of all things in turn, in their things' frames: ``thing`` [S] whose a solid is,
    ``vertices_m`` [S, V, 3] (the last corner repeated), ``normals`` [S, P, 3] and ``offsets_m`` [S, P] (0 and 1 where a
    solid has fewer planes), ``planes`` [S] how many it has, ``middle_m`` [S, 3] the mean of its corners.
    """

    def __init__(self, things: Sequence[Thing]) -> None:
        pairs = [(index, solid) for index, thing in enumerate(things) for solid in thing.shape.solids]
        solids = [solid for _, solid in pairs]
        corners = max((len(solid.vertices_m) for solid in solids), default=1)
        planes = max((len(solid.normals) for solid in solids), default=1)
        self.thing = np.array([index for index, _ in pairs], dtype=np.int32)
        self.vertices_m = np.zeros((len(solids), corners, 3))
        self.normals, self.offsets_m = np.zeros((len(solids), planes, 3)), np.ones((len(solids), planes))
        self.planes = np.array([len(solid.normals) for solid in solids], dtype=np.int64)
        self.middle_m = np.zeros((len(solids), 3))
        for number, solid in enumerate(solids):
            self.middle_m[number] = solid.vertices_m.mean(axis=0)
            self.vertices_m[number] = solid.vertices_m[-1]
            self.vertices_m[number, : len(solid.vertices_m)] = solid.vertices_m
            self.normals[number, : len(solid.normals)] = solid.normals
            self.offsets_m[number, : len(solid.normals)] = solid.offsets_m
        low, high = np.full((len(things), 3), np.inf), np.full((len(things), 3), -np.inf)
        np.minimum.at(low, self.thing, self.vertices_m.min(axis=1))
        np.maximum.at(high, self.thing, self.vertices_m.max(axis=1))
        self._middle_m, self._radius_m = 0.5 * (low + high), 0.5 * np.linalg.norm(high - low, axis=1)
        self._annotated = np.array([thing.annotated for thing in things], dtype=bool)

    def cast(self, rays: Rays, world_from_sensor: np.ndarray, poses: np.ndarray, count_hidden: bool = True) -> Hits:
        """Find what each ray meets first.

        Args:
            rays: of the sensor.
            world_from_sensor: [4, 4].
            poses: ``world_from_object`` of all things [T, 4, 4].
            count_hidden: fill ``full_px``; else it stays zero, and what is hidden is not looked at.
        """
        hits = _empty(rays, world_from_sensor, len(self._annotated))
        view = self._in_view(rays, inverse(world_from_sensor) @ poses)
        touched = np.zeros(hits.solid.shape, dtype=bool)
        for thing, numbers in view.by_thing:
            count = count_hidden and self._annotated[thing]
            parts = []
            for number in numbers:
                part = view.parts[number]
                if not count and hits.inverse_depth[part].min() >= view.highest[number]:
                    continue
                entry, face, hit = view.pierce(number)
                if count:
                    touched[part] |= hit
                    parts.append(part)
                closer = hit & (entry > hits.inverse_depth[part])
                if closer.any():
                    np.copyto(hits.inverse_depth[part], entry, where=closer)
                    np.copyto(hits.solid[part], view.solid[number], where=closer)
                    np.copyto(hits.face[part], face, where=closer)
            for part in parts:
                # Parts of one thing overlap in the image: each ray counts once.
                hits.full_px[thing] += np.count_nonzero(touched[part])
                touched[part] = False
        return hits

    def _in_view(self, rays: Rays, sensor_from_object: np.ndarray) -> _View:
        middle = np.einsum('tij,tj->ti', sensor_from_object[:, :3, :3], self._middle_m) + sensor_from_object[:, :3, 3]
        solid = np.nonzero(rays.may_show(middle, self._radius_m)[self.thing])[0]
        rotation = np.swapaxes(sensor_from_object[self.thing[solid], :3, :3], 1, 2)
        shift = sensor_from_object[self.thing[solid], None, :3, 3]
        vertices_m = self.vertices_m[solid] @ rotation + shift
        normals = self.normals[solid] @ rotation
        offsets_m = self.offsets_m[solid] + np.einsum('spi,si->sp', normals, shift[:, 0])
        outside = np.nonzero((offsets_m < 0.0).any(axis=1))[0]
        solid, normals, offsets_m = solid[outside], normals[outside], offsets_m[outside]
        windows = rays.windows(vertices_m[outside], normals, offsets_m)
        return _View(rays, windows, solid, self.thing[solid], normals, offsets_m, self.planes[solid])


class _View:
    """The windows in which solids may be seen, front to back.

    ``parts`` rows and columns of each window, ``solid`` its solid's index in the caster, ``highest`` an upper bound of
    1/t; ``by_thing`` pairs (index of the thing, numbers of its windows), nearest thing first.
    """

    def __init__(
        self,
        rays: Rays,
        windows: Windows,
        solid: np.ndarray,
        thing: np.ndarray,
        normals: np.ndarray,
        offsets_m: np.ndarray,
        planes: np.ndarray,
    ) -> None:
        self._rows, self._columns = rays.rows.T.copy(), rays.columns.T.copy()
        # Along a ray, 1/t of a plane is its normal over its offset times the ray; those that face the sensor come
        # first.
        offsets_m = np.where(np.abs(offsets_m) < 1e-9, 1e-9, offsets_m)
        face = np.argsort(offsets_m > 0.0, axis=1, kind='stable')
        self._planes = np.take_along_axis(normals / offsets_m[..., None], face[..., None], axis=1)
        self._count = planes.tolist()
        self._front = np.count_nonzero(offsets_m < 0.0, axis=1).tolist()
        self._face = face.astype(np.int8)
        self._which = windows.solid.tolist()
        edges = np.stack([windows.top, windows.bottom, windows.left, windows.right], axis=1).tolist()
        self.parts = [(slice(top, bottom), slice(left, right)) for top, bottom, left, right in edges]
        self.solid = solid[windows.solid].astype(np.int32)
        with np.errstate(divide='ignore'):
            self.highest = (1.0 / windows.nearest).tolist()
        thing = thing[windows.solid]
        closest = np.full(thing.max(initial=-1) + 1, np.inf)
        np.minimum.at(closest, thing, windows.nearest)
        order = np.lexsort((windows.nearest, thing, closest[thing]))
        first = np.nonzero(np.diff(thing[order], prepend=-1))[0]
        self.by_thing = [
            (int(thing[numbers[0]]), numbers.tolist()) for numbers in np.split(order, first[1:]) if len(numbers)
        ]

    def pierce(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rays against the solid of one window: 1/t of entry, face of entry, and whether the ray hits, all [h, w]."""
        which, (rows, columns) = self._which[number], self.parts[number]
        planes, front = self._planes[which, : self._count[which]], self._front[which]
        down, across = planes @ self._rows[:, rows], planes @ self._columns[:, columns]
        facing = down[:front, :, None] + across[:front, None, :]
        entry = facing[0] if front == 1 else facing.min(axis=0)
        leave = (down[front:, :, None] + across[front:, None, :]).max(axis=0)
        face = self._face[which, 0] if front == 1 else self._face[which][facing.argmin(axis=0)]
        return entry, face, (entry >= leave) & (entry > 0.0)


def _empty(rays: Rays, world_from_sensor: np.ndarray, things: int) -> Hits:
    """The ground and the sky."""
    slope = world_from_sensor[2, :3] / -world_from_sensor[2, 3]
    inverse_depth = (rays.rows @ slope)[:, None] + rays.columns @ slope
    solid = np.where(inverse_depth > 0.0, GROUND, SKY).astype(np.int32)
    np.maximum(inverse_depth, 0.0, out=inverse_depth)
    return Hits(inverse_depth, solid, np.zeros(solid.shape, dtype=np.int8), np.zeros(things, dtype=np.int64))

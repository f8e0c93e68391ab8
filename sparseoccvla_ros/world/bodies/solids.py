"""Convex solids: the one shape that the renderer, the shadows and the occupancy labels understand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from scipy.spatial import ConvexHull


class Texture(IntEnum):
    """How the surface of a solid is painted (``drawing/paint.py``)."""

    PLAIN = 0
    FACADE = 1
    CAR_BODY = 2
    CAR_CABIN = 3
    BUS = 4
    CARGO = 5
    FOLIAGE = 6
    CLOTH = 7
    LORRY_CAB = 8
    WHEEL = 9
    LIGHTS = 10
    HEAD = 11
    VEST = 12
    TRACK = 13
    STRIPES = 14
    CONE = 15
    CONCRETE = 16
    BRICK = 17
    PLANKS = 18
    ROOF = 19
    BARK = 20
    STREET_LAMP = 21
    SIGNAL = 22
    CROSSING_SIGN = 23
    SPEED_SIGN = 24
    SHELTER = 25
    GLASS_FACADE = 26
    VAN = 27


@dataclass(frozen=True)
class Solid:
    """A convex polyhedron in its object's frame (x forward, y left, z up, origin on the ground), metres.

    A point is inside where ``normals @ point <= offsets_m``. ``vertices_m`` [V, 3], ``normals`` [P, 3] outward
    unit vectors, ``offsets_m`` [P]; ``colour`` RGB 0..1 [3].
    """

    vertices_m: np.ndarray
    normals: np.ndarray
    offsets_m: np.ndarray
    colour: np.ndarray
    texture: Texture

    @property
    def low_m(self) -> np.ndarray:
        """Least corner [3] of the enclosing box in the object frame."""
        return self.vertices_m.min(axis=0)

    @property
    def high_m(self) -> np.ndarray:
        """Greatest corner [3] of the enclosing box in the object frame."""
        return self.vertices_m.max(axis=0)


def hull(vertices_m: np.ndarray, colour: tuple[float, float, float], texture: Texture = Texture.PLAIN) -> Solid:
    """The convex hull of points [V, 3], metres, all of which must be corners of it."""
    vertices_m = np.asarray(vertices_m, dtype=np.float64)
    equations = ConvexHull(vertices_m).equations
    # Qhull splits flat faces into triangles; one plane per face is enough. Sorting fixes the order of the planes.
    equations = np.unique(np.round(equations, 9), axis=0)
    # Rounding may leave two copies of one face that differ in the last digit.
    differ = np.abs(equations[:, None] - equations).max(axis=2) > 1e-6
    distinct: list[int] = []
    for index, row in enumerate(differ):
        if row[distinct].all():
            distinct.append(index)
    planes = equations[distinct]
    # The offsets are taken from the corners again so that the rounding above moves no face inward.
    normals = planes[:, :3] / np.linalg.norm(planes[:, :3], axis=1, keepdims=True)
    offsets_m = (vertices_m @ normals.T).max(axis=0)
    return Solid(vertices_m, normals, offsets_m, np.asarray(colour, dtype=np.float64), texture)


def frustum(
    low: tuple[float, float, float, float],
    high: tuple[float, float, float, float],
    heights_m: tuple[float, float],
    colour: tuple[float, float, float],
    texture: Texture = Texture.PLAIN,
) -> Solid:
    """A box that may narrow upwards: rectangles (x0, y0, x1, y1) at the two heights, metres."""
    corners = [
        (x, y, z)
        for (x0, y0, x1, y1), z in zip((low, high), heights_m, strict=True)
        for x in (x0, x1)
        for y in (y0, y1)
    ]
    return hull(np.array(corners), colour, texture)


def box(
    low_m: tuple[float, float, float],
    high_m: tuple[float, float, float],
    colour: tuple[float, float, float],
    texture: Texture = Texture.PLAIN,
) -> Solid:
    """An upright box between two corners of the object frame, metres."""
    rectangle = (low_m[0], low_m[1], high_m[0], high_m[1])
    return frustum(rectangle, rectangle, (low_m[2], high_m[2]), colour, texture)


def prism(
    profile_m: Sequence[tuple[float, float]],
    sides_m: tuple[float, float],
    colour: tuple[float, float, float],
    texture: Texture = Texture.PLAIN,
) -> Solid:
    """A convex profile of (x, z) corners drawn out from y = ``sides_m[0]`` to ``sides_m[1]``, metres."""
    return hull(np.array([(x, y, z) for y in sides_m for x, z in profile_m]), colour, texture)


def wheel(
    centre_m: tuple[float, float, float],
    radius_m: float,
    width_m: float,
    colour: tuple[float, float, float] = (0.55, 0.56, 0.58),
    sides: int = 10,
) -> Solid:
    """A disc that rolls along x; ``colour`` is its hub's."""
    x, y, z = centre_m
    # A corner points down, so that the wheel reaches exactly as low as its radius.
    angles = 2.0 * np.pi * np.arange(sides) / sides - 0.5 * np.pi
    rim = [(x + radius_m * np.cos(angle), z + radius_m * np.sin(angle)) for angle in angles]
    return prism(rim, (y - 0.5 * width_m, y + 0.5 * width_m), colour, Texture.WHEEL)


def beam(
    start_m: tuple[float, float, float],
    end_m: tuple[float, float, float],
    widths_m: tuple[float, float],
    colour: tuple[float, float, float],
    texture: Texture = Texture.PLAIN,
) -> Solid:
    """A square bar between two points, of the given widths at its two ends."""
    start, end = np.asarray(start_m, dtype=np.float64), np.asarray(end_m, dtype=np.float64)
    along = (end - start) / np.linalg.norm(end - start)
    side = np.cross(along, (0.0, 1.0, 0.0) if abs(along[1]) < 0.9 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    other = np.cross(along, side)
    corners = [
        point + 0.5 * width * (a * side + b * other)
        for point, width in zip((start, end), widths_m, strict=True)
        for a in (-1.0, 1.0)
        for b in (-1.0, 1.0)
    ]
    return hull(np.array(corners), colour, texture)


def moved(solid: Solid, by_m: tuple[float, float, float]) -> Solid:
    """The same solid elsewhere in its object's frame."""
    offsets_m = solid.offsets_m + solid.normals @ np.asarray(by_m)
    return replace(solid, vertices_m=solid.vertices_m + by_m, offsets_m=offsets_m)


def pillar(
    radii_m: tuple[float, float],
    heights_m: tuple[float, float],
    colour: tuple[float, float, float],
    texture: Texture = Texture.PLAIN,
    sides: int = 8,
) -> Solid:
    """An upright cylinder or cone stump of ``sides`` faces about z: radii and heights of its two ends, metres."""
    angles = 2.0 * np.pi * (np.arange(sides) + 0.5) / sides
    rings = [
        np.column_stack([radius * np.cos(angles), radius * np.sin(angles), np.full(sides, height)])
        for radius, height in zip(radii_m, heights_m, strict=True)
    ]
    return hull(np.concatenate(rings), colour, texture)


def ball(
    centre_m: tuple[float, float, float],
    radii_m: tuple[float, float, float],
    colour: tuple[float, float, float],
    texture: Texture = Texture.PLAIN,
) -> Solid:
    """An ellipsoid as an icosahedron (20 faces) whose corners lie on it."""
    golden = (1.0 + 5.0**0.5) / 2.0
    corners = [(0.0, a, b * golden) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    corners = np.array([np.roll(corner, shift) for corner in corners for shift in range(3)])
    corners /= np.linalg.norm(corners[0])
    return hull(corners * radii_m + centre_m, colour, texture)

"""Where there is room for still things."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import cv2
import numpy as np

from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs
from sparseoccvla_ros.world.bodies.thing import Lamps, Shape, State, Thing
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import Ground

CELL_M = 4.0
GAP_M = 0.15


class Site:
    """Collects the still things of a scene: each on the ground it belongs on, none inside another, none out of sight.

    Args:
        plan: of the scene.
        route_m: points [N, 2] along the ego's route; what is farther than a caller's reach from it is not built.
    """

    def __init__(self, plan: Plan, route_m: np.ndarray) -> None:
        self.plan = plan
        self.things: list[Thing] = []
        self._poses = np.zeros((4096, 4, 4))
        self._sizes = np.zeros((4096, 2))
        self._radius = np.zeros(4096)
        far_m = 200.0
        self._origin = route_m.min(axis=0) - far_m
        columns, rows = np.ceil((route_m.max(axis=0) + far_m - self._origin) / CELL_M).astype(int)
        blocked = np.full((rows, columns), 255, dtype=np.uint8)
        cv2.polylines(blocked, [np.round((route_m - self._origin) / CELL_M).astype(np.int32)], False, 0)
        self._route_m = cv2.distanceTransform(blocked, cv2.DIST_L2, 5) * CELL_M

    def from_route_m(self, x_m: float, y_m: float) -> float:
        """Distance from the route, to a cell's width; infinite far away."""
        column, row = ((np.array([x_m, y_m]) - self._origin) / CELL_M).astype(int)
        rows, columns = self._route_m.shape
        if not (0 <= row < rows and 0 <= column < columns):
            return float('inf')
        return float(self._route_m[row, column])

    def put(
        self,
        shape: Shape,
        world_from_object: np.ndarray,
        grounds: Collection[Ground],
        reach_m: float,
        footprint_m: tuple[float, float] | None = None,
        parked: bool = False,
    ) -> bool:
        """Stand a shape somewhere if there is room.

        Args:
            shape: what.
            world_from_object: [4, 4] where.
            grounds: kinds of ground that all of its outline must lie on.
            reach_m: greatest distance from the route.
            footprint_m: length and width of what touches the ground; the shape's own if None.
            parked: a vehicle without driver.
        """
        x, y = world_from_object[0, 3], world_from_object[1, 3]
        if self.from_route_m(x, y) > reach_m:
            return False
        size = np.array(footprint_m if footprint_m is not None else shape.size_m[:2])
        steps = [np.linspace(-0.5, 0.5, max(int(side / 3.0) + 2, 2)) for side in size]
        outline = [(u, v) for u in steps[0] for v in (-0.5, 0.5)]
        outline += [(u, v) for u in (-0.5, 0.5) for v in steps[1][1:-1]]
        points = (np.array(outline) * size) @ world_from_object[:2, :2].T + (x, y)
        if not np.isin(self.plan.ground_at(points[:, 0], points[:, 1]), list(grounds)).all():
            return False
        count = len(self.things)
        radius = 0.5 * float(np.hypot(*size))
        away = np.hypot(self._poses[:count, 0, 3] - x, self._poses[:count, 1, 3] - y)
        near = np.nonzero(away < self._radius[:count] + radius + GAP_M)[0]
        if len(near):
            poses = np.concatenate([world_from_object[None], self._poses[near]])
            sizes = np.concatenate([size[None], self._sizes[near]])
            if any(first == 0 for first, _ in overlapping_pairs(poses, sizes, GAP_M)):
                return False
        if count == len(self._poses):
            self._poses = np.concatenate([self._poses, np.zeros_like(self._poses)])
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
            self._radius = np.concatenate([self._radius, np.zeros_like(self._radius)])
        self._poses[count], self._sizes[count], self._radius[count] = world_from_object, size, radius
        state = partial(_standing, State(world_from_object, 0.0, Lamps.NONE))
        self.things.append(Thing(shape, state, still=True, annotated=bool(shape.category), parked=parked))
        return True


def _standing(state: State, time_s: float) -> State:
    return state

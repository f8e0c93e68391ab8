"""Random flips and rotations of the scene in training, with everything that is expressed in the ego frame.

"Augmented" is the ego frame after the change; ``augmented_from_ego`` is a rotation about z, or, with one flip, an
improper one. Images do not change: their projections take the change in, so that a point of the augmented frame still
projects to where its image is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparseoccvla_ros.data.occ3d import GRID_SHAPE, RANGE_M, VOXEL_M
from sparseoccvla_ros.geometry import inverse, wrap_angle
from sparseoccvla_ros.runtime.scene import Command

_MIRRORED_COMMAND = {Command.LEFT: Command.RIGHT, Command.RIGHT: Command.LEFT, Command.STRAIGHT: Command.STRAIGHT}


@dataclass(frozen=True)
class SceneAugmentation:
    """What to draw from: flips first, then the rotation.

    For planning take y flips only: the planner's convention is that the vehicle heads along x of its own frame, which a
    flip of x or a rotation undoes.

    Raises:
        ValueError: a number is out of range.
    """

    #: Probability that x (ahead) changes its sign.
    flip_x_probability: float = 0.0
    #: Probability that y (left) changes its sign.
    flip_y_probability: float = 0.5
    #: Largest rotation about z to either side.
    rotation_rad: float = 0.0

    def __post_init__(self) -> None:
        for name, high in (('flip_x_probability', 1.0), ('flip_y_probability', 1.0), ('rotation_rad', math.pi)):
            if not 0.0 <= getattr(self, name) <= high:
                raise ValueError(f'{name} must be in 0..{high:g}, got {getattr(self, name)}')

    def draw(self, rng: np.random.Generator) -> SceneTransform:
        """One sample's change; it takes the same three numbers from ``rng`` whatever the ranges are."""
        flip_x, flip_y = rng.uniform(size=2) < (self.flip_x_probability, self.flip_y_probability)
        rotation_rad = float(rng.uniform(-self.rotation_rad, self.rotation_rad))
        return SceneTransform(bool(flip_x), bool(flip_y), rotation_rad)


@dataclass(frozen=True)
class SceneTransform:
    """A drawn change: flips of x and y, then a rotation about z (counter-clockwise from above). The default is none."""

    flip_x: bool = False
    flip_y: bool = False
    rotation_rad: float = 0.0

    @cached_property
    def augmented_from_ego(self) -> np.ndarray:
        """[4, 4], orthonormal; its determinant is -1 if :attr:`mirrors`."""
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        matrix = np.eye(4)
        matrix[:2, :2] = np.array([[cos, -sin], [sin, cos]]) * (
            -1.0 if self.flip_x else 1.0,
            -1.0 if self.flip_y else 1.0,
        )
        return matrix

    @property
    def mirrors(self) -> bool:
        """Whether left and right change places."""
        return self.flip_x != self.flip_y

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self == SceneTransform()

    def points(self, points_m: np.ndarray) -> np.ndarray:
        """Points, velocities or directions [..., 2 or 3], ego to augmented; there is no translation."""
        axes = points_m.shape[-1]
        return points_m @ self.augmented_from_ego[:axes, :axes].T

    def headings(self, heading_rad: np.ndarray) -> np.ndarray:
        """Directions as angles from x, counter-clockwise, radians in [-pi, pi)."""
        directions = self.points(np.stack([np.cos(heading_rad), np.sin(heading_rad)], axis=-1))
        return np.asarray(wrap_angle(np.arctan2(directions[..., 1], directions[..., 0])))

    def yaw_rate(self, yaw_rate_radps: float) -> float:
        """A turn to the left is one to the right in a mirror."""
        return -yaw_rate_radps if self.mirrors else yaw_rate_radps

    def command(self, command: Command) -> Command:
        """Left and right change places in a mirror."""
        return _MIRRORED_COMMAND[command] if self.mirrors else command

    def projections(self, image_from_ego: np.ndarray) -> np.ndarray:
        """``image_from_augmented`` [..., 4, 4] from ``image_from_ego`` [..., 4, 4]."""
        return image_from_ego @ inverse(self.augmented_from_ego)

    def between_egos(self, current_ego_from_other_ego: np.ndarray) -> np.ndarray:
        """The motion [..., 4, 4] between two ego frames that are both changed by this."""
        return self.augmented_from_ego @ current_ego_from_other_ego @ inverse(self.augmented_from_ego)

    def grid(self, grid: np.ndarray, outside: int) -> np.ndarray:
        """A voxel grid of Occ3D's space [200, 200, 16], each voxel with what lies at its middle.

        Exact for flips and right angles, since the space is a square about the ego's z axis. With other angles each
        voxel takes its value from the voxel that its middle lies in; what comes from beyond the range is ``outside``.

        Raises:
            ValueError: another shape.
        """
        if grid.shape != GRID_SHAPE:
            raise ValueError(f'grid must be {GRID_SHAPE}, got {grid.shape}')
        if self.is_identity:
            return grid
        within, source = self._columns
        augmented = grid.reshape(-1, GRID_SHAPE[2])[source]
        augmented[~within] = outside
        return augmented.reshape(GRID_SHAPE)

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """For each column of the augmented grid: whether it comes from within the range, bool, and from where, int."""
        x_m, y_m = (RANGE_M[axis] + VOXEL_M * (np.arange(GRID_SHAPE[axis]) + 0.5) for axis in (0, 1))
        middles_m = np.stack(np.meshgrid(x_m, y_m, indexing='ij'), axis=-1).reshape(-1, 2)
        source_m = middles_m @ self.augmented_from_ego[:2, :2]  # by the inverse, which is the transpose
        index = np.floor((source_m - RANGE_M[:2]) / VOXEL_M).astype(np.int64)
        within = ((index >= 0) & (index < GRID_SHAPE[:2])).all(axis=1)
        return within, np.where(within, index[:, 0] * GRID_SHAPE[1] + index[:, 1], 0)

"""What the vehicle can do and how much room it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sparseoccvla_ros.resources import share_path


@dataclass(frozen=True)
class VehicleLimits:
    """Limits of motion and the footprint, SI units. Frame: ego (base_link below the rear axle's middle).

    Raises:
        ValueError: a value is not a finite positive number, or the limits contradict each other.
    """

    length_m: float = 4.084
    width_m: float = 1.85
    height_m: float = 1.56
    #: From base_link forward to the middle of the footprint.
    center_offset_m: float = 1.385
    max_speed_mps: float = 30.0
    max_reverse_speed_mps: float = 0.5
    max_accel_mps2: float = 4.0
    max_decel_mps2: float = 8.0
    max_lateral_accel_mps2: float = 5.0
    #: Reciprocal of the smallest turning radius of the rear axle's middle.
    max_curvature_1pm: float = 0.23
    max_jerk_mps3: float = 12.0
    #: Deceleration of the stop trajectory.
    comfort_decel_mps2: float = 3.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            may_be_zero = item.name in ('center_offset_m', 'max_reverse_speed_mps')
            if not math.isfinite(value) or value < 0.0 or (value == 0.0 and not may_be_zero):
                raise ValueError(f'{item.name} ({value}) must be a finite positive number')
        if self.comfort_decel_mps2 > self.max_decel_mps2:
            raise ValueError(
                f'comfort_decel_mps2 ({self.comfort_decel_mps2}) exceeds max_decel_mps2 ({self.max_decel_mps2})'
            )

    def footprint_m(self) -> np.ndarray:
        """Corners [4, 2] in the ego frame, counter-clockwise from the rear right."""
        x0, x1 = self.center_offset_m - 0.5 * self.length_m, self.center_offset_m + 0.5 * self.length_m
        y = 0.5 * self.width_m
        return np.array([[x0, -y], [x1, -y], [x1, y], [x0, y]])


def load_vehicle_limits(name_or_path: str | Path = 'default') -> VehicleLimits:
    """Read limits from YAML.

    Args:
        name_or_path: ``default`` (any YAML in ``config/vehicle/``), or the path of a YAML file.

    Raises:
        FileNotFoundError: no such name or file; the known names are listed.
        ValueError: unknown or missing key, a value that is not a number, or impossible limits.
    """
    path = Path(name_or_path)
    if path.suffix not in ('.yaml', '.yml'):
        folder = share_path('config/vehicle')
        known = sorted(file.stem for file in folder.glob('*.yaml'))
        if str(name_or_path) not in known:
            raise FileNotFoundError(f'no vehicle {str(name_or_path)!r}; known: {", ".join(known)}, or a .yaml path')
        path = folder / f'{name_or_path}.yaml'
    values = yaml.safe_load(path.read_text(encoding='utf-8'))
    if not isinstance(values, dict):
        raise ValueError(f'{path}: expected keys and values, found {type(values).__name__}')
    return _limits_from(values, path)


def _limits_from(values: Mapping[str, Any], path: Path) -> VehicleLimits:
    names = [item.name for item in fields(VehicleLimits)]
    unknown = sorted(str(key) for key in values if key not in names)
    if unknown:
        raise ValueError(f'{path}: unknown key {unknown[0]}; known keys: {", ".join(names)}')
    missing = [name for name in names if name not in values]
    if missing:
        # A vehicle described by half and completed by another vehicle's numbers would be worse than none.
        raise ValueError(f'{path}: missing key {missing[0]}')
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f'{path}: {name}: expected a number, found {value!r}')
    return VehicleLimits(**{name: float(value) for name, value in values.items()})

"""Who moves: vehicles and pedestrians as they are at the beginning, before anybody has reacted to anybody."""

from __future__ import annotations

from dataclasses import dataclass

from sparseoccvla_ros.world.traffic.path import Path
from sparseoccvla_ros.world.traffic.trip import GateKind, Trip


@dataclass(frozen=True)
class Vehicle:
    """A driver with a vehicle. ``s_m`` is where the rear axle stands on the trip's path, ``axle_m`` the distance from
    there forward to the middle of the box of ``length_m`` x ``width_m``.

    From ``slow_from_s`` until ``slow_until_s`` it wants ``slow_mps`` instead of ``cruise_mps``.
    """

    trip: Trip
    length_m: float
    width_m: float
    axle_m: float
    s_m: float
    speed_mps: float
    cruise_mps: float
    slow_from_s: float = float('inf')
    slow_until_s: float = float('inf')
    slow_mps: float = 0.0


@dataclass(frozen=True)
class Kerb:
    """Where a pedestrian waits before a road: at ``s_m`` of the path; the road lies behind until ``until_m``."""

    s_m: float
    until_m: float
    kind: GateKind
    number: int


@dataclass(frozen=True)
class Walker:
    """A pedestrian, or somebody's dog: stands at ``s_m`` of its path at the beginning, walks at ``speed_mps``."""

    path: Path
    radius_m: float
    s_m: float
    speed_mps: float
    kerbs: tuple[Kerb, ...] = ()
    starts_s: float = 0.0

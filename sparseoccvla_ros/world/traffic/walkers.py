"""Pedestrians: on the sidewalks, and over the crossing while traffic stands."""

from __future__ import annotations

from functools import partial

import numpy as np

from sparseoccvla_ros.world.bodies.shapes import pedestrian
from sparseoccvla_ros.world.bodies.thing import State, Thing
from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.streets.centreline import Centreline
from sparseoccvla_ros.world.streets.street import Street

#: Standing vehicles take this long to come to rest before anybody steps onto the road.
STOPPING_TIME_S = 6.5


def strolling_pedestrians(rng: np.random.Generator, street: Street, city: City, duration_s: float) -> list[Thing]:
    """People who walk along the sidewalks or stand there."""
    things = []
    length_m = street.centreline.length_m
    low, high = street.kerb_m + 1.2, street.frontage_m - 0.4
    for _ in range(int(city.pedestrians_per_100m * length_m / 100.0)):
        side = 1.0 if rng.random() < 0.5 else -1.0
        d_m = side * rng.uniform(min(low, high), high)
        speed = 0.0 if rng.random() < 0.2 else rng.uniform(0.9, 1.6)
        forward = rng.random() < 0.5
        s_m = rng.uniform(30.0, length_m - 30.0)
        reach_m = speed * (duration_s + 1.0) * (1.0 if forward else -1.0)
        if not 5.0 < s_m + reach_m < length_m - 5.0:
            speed = 0.0
        turn = rng.uniform(-np.pi, np.pi) if speed == 0.0 else 0.0 if forward else np.pi
        state = partial(_along, street.centreline, s_m, d_m, speed, turn)
        things.append(Thing(pedestrian(rng), state, still=speed == 0.0, annotated=True))
    return things


def crossing_pedestrians(rng: np.random.Generator, street: Street, hold_s: tuple[float, float] | None) -> list[Thing]:
    """People at the crossing: they cross while traffic is held, otherwise they wait at the kerb."""
    things = []
    edge_m = street.kerb_m + 0.8
    crossing_mps = 1.5
    needed_s = 2.0 * edge_m / crossing_mps
    for place in np.linspace(-1.2, 1.2, int(rng.integers(2, 5))):
        side = 1.0 if rng.random() < 0.5 else -1.0
        start_s = np.inf
        if hold_s is not None:
            earliest, latest = hold_s[0] + (STOPPING_TIME_S if hold_s[0] >= 0.0 else 2.0), hold_s[1] - needed_s + 1.0
            start_s = rng.uniform(earliest, max(earliest, latest))
        state = partial(_across, street.centreline, street.crossing_s_m + place, side * edge_m, start_s, crossing_mps)
        things.append(Thing(pedestrian(rng), state, still=hold_s is None, annotated=True))
    return things


def _along(centreline: Centreline, s_m: float, d_m: float, speed_mps: float, turn_rad: float, time_s: float) -> State:
    if speed_mps == 0.0:
        return State(centreline.pose(s_m, d_m, turn_rad), 0.0)
    way = 1.0 if turn_rad == 0.0 else -1.0
    return State(centreline.pose(s_m + way * speed_mps * time_s, d_m, turn_rad), speed_mps)


def _across(
    centreline: Centreline, s_m: float, d_start_m: float, start_s: float, speed_mps: float, time_s: float
) -> State:
    """From ``d_start_m`` straight over to the other side, beginning at ``start_s``."""
    side = np.sign(d_start_m)
    walked = float(np.clip((time_s - start_s) * speed_mps, 0.0, 2.0 * abs(d_start_m)))
    moving = 0.0 < walked < 2.0 * abs(d_start_m)
    pose = centreline.pose(s_m, d_start_m - side * walked, -side * 0.5 * np.pi)
    return State(pose, speed_mps if moving else 0.0)

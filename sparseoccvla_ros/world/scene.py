"""One scene of the synthetic world: a street, what stands in it and how everything moves.

Everything is a function of (seed, scene index, time); nothing is random after :func:`build_scene` has returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs
from sparseoccvla_ros.world.bodies.scenery import parked_vehicles, scenery
from sparseoccvla_ros.world.bodies.shapes import bus, car, truck
from sparseoccvla_ros.world.bodies.thing import Shape, State, Thing
from sparseoccvla_ros.world.city import City, cities, city_named
from sparseoccvla_ros.world.streets.centreline import Centreline
from sparseoccvla_ros.world.streets.street import Street
from sparseoccvla_ros.world.traffic.following import Driver, Hold, Track, drive
from sparseoccvla_ros.world.traffic.walkers import crossing_pedestrians, strolling_pedestrians

#: The ego's box: a small hatchback whose frame's origin lies under the middle of its rear axle.
EGO_SIZE_M = (4.08, 1.73, 1.56)
EGO_CENTRE_AHEAD_M = 1.3
EGO_START_S_M = 110.0
#: Road that is kept beyond the farthest place the ego can reach, so that its end is never near.
ROAD_AHEAD_M = 190.0
OVERLAP_CHECK_STEP_S = 0.1
LATERAL_ACCEL_MPS2 = 1.8


class Manoeuvre(Enum):
    """What the ego mainly does in a scene."""

    CRUISE = 'drive on'
    FOLLOW = 'follow a vehicle that slows down'
    STOP = 'brake and stop at a crossing, then start again'
    START = 'wait at a crossing, then start'


@dataclass(frozen=True)
class Light:
    """Sun direction (from the ground to the sun, unit vector, world axes) and overall brightness."""

    towards_sun: np.ndarray
    brightness: float


@dataclass(frozen=True)
class Scene:
    """A street over time. World frame: x along the street's start, y left, z up, ground at z = 0, metres."""

    name: str
    description: str
    city: City
    street: Street
    light: Light
    manoeuvre: Manoeuvre
    things: tuple[Thing, ...]
    ego_track: Track
    ego_offset_m: float
    duration_s: float

    def world_from_ego(self, time_s: float) -> np.ndarray:
        """The ego's pose [4, 4] at a time since the scene's start."""
        progress, _, _ = self.ego_track.at(time_s)
        return self.street.centreline.pose(progress - EGO_CENTRE_AHEAD_M, self.ego_offset_m)

    def ego_box(self, time_s: float) -> np.ndarray:
        """``world_from_box`` [4, 4] of the middle of the ego's footprint."""
        return self.world_from_ego(time_s) @ transform_from_planar(EGO_CENTRE_AHEAD_M, 0.0, 0.0)


def build_scene(seed: int, index: int, duration_s: float, city_name: str | None = None) -> Scene:
    """Make scene ``index`` of the world with this seed.

    Args:
        seed: of the whole world, >= 0.
        index: of the scene, >= 0; neighbours differ in town and manoeuvre.
        duration_s: the scene is defined from a little before 0 until this time.
        city_name: one of the towns in ``city.py``; None visits them in turn.

    Raises:
        ValueError: unknown city.
    """
    rng = np.random.default_rng([seed, index])
    order = (index + seed) % len(cities())
    city = city_named(city_name) if city_name is not None else cities()[order]
    manoeuvre = tuple(Manoeuvre)[(index + index // 4 + seed) % len(Manoeuvre)]
    street = _street(rng, city, manoeuvre, duration_s)
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.6, 1.1)
    light = Light(
        np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]),
        rng.uniform(0.92, 1.12),
    )
    hold_s = _hold(rng, manoeuvre)
    ego_lane = int(rng.integers(street.lanes))
    traffic, ego_track = _traffic(rng, street, manoeuvre, hold_s, ego_lane, duration_s)
    still = [*scenery(rng, street, city), *parked_vehicles(rng, street, city)]
    people = [*strolling_pedestrians(rng, street, city, duration_s), *crossing_pedestrians(rng, street, hold_s)]
    bend = 'curved' if np.abs(street.centreline.heading_rad).max() > 0.05 else 'straight'
    scene = Scene(
        name=f'scene-{index + 1:04d}',
        description=f'{city.name}: {bend} street, {street.lanes} lane(s) each way, {manoeuvre.value}',
        city=city,
        street=street,
        light=light,
        manoeuvre=manoeuvre,
        things=tuple(still + traffic + people),
        ego_track=ego_track,
        ego_offset_m=street.lane_offset_m(ego_lane),
        duration_s=duration_s,
    )
    return _without_overlaps(scene)


def _street(rng: np.random.Generator, city: City, manoeuvre: Manoeuvre, duration_s: float) -> Street:
    """Draw the plan: straight parts and bends with smooth curvature in turn."""
    length_m = EGO_START_S_M + 13.0 * duration_s + ROAD_AHEAD_M
    curvature = np.zeros(int(length_m / Centreline.STEP_M))
    if rng.random() < 0.75:
        begin_m, heading = EGO_START_S_M + rng.uniform(-50.0, 20.0), 0.0
        while begin_m < length_m:
            turn = rng.uniform(0.3, 0.8) * (1.0 if rng.random() < 0.5 else -1.0)
            turn = -turn if abs(heading + turn) > 1.0 else turn
            # A raised cosine turns by `turn` over `bend_m`; its sharpest radius is bend_m / (2 turn) >= 60 m.
            bend_m = max(rng.uniform(45.0, 80.0), 120.0 * abs(turn))
            first, last = int(begin_m / Centreline.STEP_M), int((begin_m + bend_m) / Centreline.STEP_M)
            part = turn / bend_m * (1.0 - np.cos(2.0 * np.pi * (np.arange(first, last) - first) / (last - first)))
            part = part[: max(len(curvature) - first, 0)]
            curvature[first : first + len(part)] = part
            heading += turn
            begin_m += bend_m + rng.uniform(10.0, 60.0)
    lowest_m = Centreline(curvature, (0.0, 0.0)).y_m.min()
    lanes = int(rng.choice(city.lanes))
    ahead_m = {
        Manoeuvre.CRUISE: rng.uniform(60.0, 140.0),
        Manoeuvre.FOLLOW: rng.uniform(60.0, 140.0),
        Manoeuvre.STOP: rng.uniform(55.0, 80.0),
        Manoeuvre.START: 9.0,
    }[manoeuvre]
    return Street(
        # Map coordinates stay positive, as in nuScenes, where the map image begins at (0, 0).
        centreline=Centreline(curvature, (60.0, 100.0 - lowest_m)),
        lanes=lanes,
        lane_width_m=rng.uniform(*city.lane_width_m),
        parking_width_m=2.3 if rng.random() < 0.8 else 0.0,
        sidewalk_width_m=rng.uniform(*city.sidewalk_width_m),
        crossing_s_m=EGO_START_S_M + ahead_m,
    )


def _hold(rng: np.random.Generator, manoeuvre: Manoeuvre) -> tuple[float, float] | None:
    """When traffic stands at the crossing, seconds."""
    if manoeuvre is Manoeuvre.STOP:
        return 0.0, rng.uniform(13.5, 15.5)
    if manoeuvre is Manoeuvre.START:
        return -6.0, rng.uniform(3.0, 5.5)
    return None


def _comfortable_speed(centreline: Centreline) -> Callable[[np.ndarray], np.ndarray]:
    """Greatest speed as a function of arc length, from the sharpest curvature of the next 25 m."""
    coarse = np.abs(centreline.curvature_per_m[:: int(1.0 / Centreline.STEP_M)])
    ahead = np.concatenate([coarse, np.zeros(25)])
    sharpest = np.lib.stride_tricks.sliding_window_view(ahead, 26).max(axis=1)
    limit_mps = np.minimum(np.sqrt(LATERAL_ACCEL_MPS2 / np.maximum(sharpest, 1e-4)), 30.0)
    return lambda s_m: np.interp(s_m, np.arange(len(limit_mps)), limit_mps)


def _traffic(
    rng: np.random.Generator,
    street: Street,
    manoeuvre: Manoeuvre,
    hold_s: tuple[float, float] | None,
    ego_lane: int,
    duration_s: float,
) -> tuple[list[Thing], Track]:
    """Fill every lane and let it drive; returns the others as things, and the ego's track (of its box's middle)."""
    line_m = street.crossing_s_m - 0.5 * Street.CROSSING_LENGTH_M - 1.0
    town_mps = rng.uniform(8.5, 12.0)
    limit = _comfortable_speed(street.centreline)
    things: list[Thing] = []
    ego_track: Track | None = None
    for lane in range(2 * street.lanes):
        oncoming = lane >= street.lanes
        offset_m = street.lane_offset_m(lane % street.lanes)
        mine = lane == ego_lane
        drivers, shapes = _lane(rng, manoeuvre, town_mps, mine, oncoming, duration_s)
        hold = None
        if hold_s is not None:
            place = line_m if not oncoming else -(2.0 * street.crossing_s_m - line_m)
            hold = Hold(place, *hold_s)
            drivers = _approaching(drivers, hold)
        # Progress of oncoming traffic is minus the arc length.
        tracks = drive(drivers, hold, (lambda q: limit(-q)) if oncoming else limit, duration_s)
        for track, shape in zip(tracks, shapes, strict=True):
            if shape is None:
                ego_track = track
            else:
                state = partial(_on_lane, street.centreline, track, -offset_m if oncoming else offset_m, oncoming)
                things.append(Thing(shape, state, still=False, annotated=True))
    if ego_track is None:
        raise ValueError(f'no lane holds the ego (lane {ego_lane} of {street.lanes})')
    return things, ego_track


def _on_lane(centreline: Centreline, track: Track, offset_m: float, oncoming: bool, time_s: float) -> State:
    progress, speed, _ = track.at(time_s)
    if oncoming:
        return State(centreline.pose(-progress, offset_m, np.pi), speed)
    return State(centreline.pose(progress, offset_m), speed)


def _lane(
    rng: np.random.Generator, manoeuvre: Manoeuvre, town_mps: float, mine: bool, oncoming: bool, duration_s: float
) -> tuple[list[Driver], list[Shape | None]]:
    """Vehicles of one lane, the first in front; the ego's shape is None."""
    drivers: list[Driver] = []
    shapes: list[Shape | None] = []

    def add(progress: float, share: float, ego: bool = False, **wishes: float) -> None:
        kind = rng.random()
        shape = None if ego else (bus if kind < 0.07 else truck if kind < 0.2 else car)(rng)
        length = EGO_SIZE_M[0] if shape is None else shape.size_m[0]
        cruise = town_mps * share
        drivers.append(Driver(progress, length, 0.9 * cruise, cruise, **wishes))
        shapes.append(shape)

    if oncoming:
        first, last = -(EGO_START_S_M - 70.0), -(EGO_START_S_M + 200.0 + town_mps * duration_s)
        progress = first - rng.uniform(0.0, 40.0)
        while progress > last:
            add(progress, rng.uniform(0.85, 1.1))
            progress -= rng.uniform(26.0, 90.0)
    elif mine:
        start = EGO_START_S_M + EGO_CENTRE_AHEAD_M
        gap = {
            Manoeuvre.CRUISE: rng.uniform(60.0, 100.0),
            Manoeuvre.FOLLOW: rng.uniform(20.0, 28.0),
            Manoeuvre.STOP: rng.uniform(95.0, 120.0),
            Manoeuvre.START: rng.uniform(40.0, 60.0),
        }[manoeuvre]
        add(start + gap + rng.uniform(30.0, 60.0), 1.05)
        if manoeuvre is Manoeuvre.FOLLOW:
            begin = rng.uniform(3.0, 6.0)
            slow = {
                'slow_from_s': begin,
                'slow_until_s': begin + rng.uniform(5.0, 8.0),
                'slow_mps': rng.uniform(1.5, 5.0),
            }
            add(start + gap, 0.95, **slow)
        else:
            add(start + gap, 1.0)
        add(start, rng.uniform(0.9, 1.05), ego=True)
        for _ in range(3):
            add(drivers[-1].progress_m - rng.uniform(20.0, 45.0), rng.uniform(0.9, 1.1))
    else:
        progress = EGO_START_S_M + rng.uniform(100.0, 160.0)
        while progress > 20.0:
            add(progress, rng.uniform(0.9, 1.15))
            progress -= rng.uniform(26.0, 70.0)
    return drivers, shapes


def _approaching(drivers: list[Driver], hold: Hold) -> list[Driver]:
    """Slow those down at time 0 who would otherwise stand on the brakes before the line or the vehicle ahead."""
    result: list[Driver] = []
    ahead: Driver | None = None
    for driver in drivers:
        speed = driver.speed_mps
        gap = hold.progress_m - driver.progress_m - 0.5 * driver.length_m
        if gap > 0.0:
            speed = min(speed, np.sqrt(2.0 * 1.2 * max(gap - 3.0, 0.0)))
        if ahead is not None:
            gap = ahead.progress_m - driver.progress_m - 0.5 * (ahead.length_m + driver.length_m)
            speed = min(speed, np.sqrt(ahead.speed_mps**2 + 2.0 * 1.2 * max(gap - 3.0, 0.0)))
        ahead = replace(driver, speed_mps=float(speed))
        result.append(ahead)
    return result


def _without_overlaps(scene: Scene) -> Scene:
    """Take out whoever would touch somebody else at any time; the ego (index 0 of the check) always stays."""
    agents = [thing for thing in scene.things if thing.annotated]
    sizes = np.array([EGO_SIZE_M[:2], *(thing.shape.size_m[:2] for thing in agents)])
    out: set[int] = set()
    poses = np.stack([scene.ego_box(0.0), *(thing.state_at(0.0).world_from_object for thing in agents)])
    moving = [index for index, thing in enumerate(agents, start=1) if not thing.still]
    for time_s in np.arange(-0.1, scene.duration_s + OVERLAP_CHECK_STEP_S, OVERLAP_CHECK_STEP_S):
        poses[0] = scene.ego_box(time_s)
        for index in moving:
            poses[index] = agents[index - 1].state_at(time_s).world_from_object
        for first, second in overlapping_pairs(poses, sizes):
            if first not in out and second not in out:
                out.add(second)
    removed = {id(agents[index - 1]) for index in out}
    return replace(scene, things=tuple(thing for thing in scene.things if id(thing) not in removed))

"""Facts of keyframes: made by hand, and at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.world.bodies.thing import (
    BARRIER,
    BICYCLE,
    BUS,
    CAR,
    CONSTRUCTION_VEHICLE,
    MOTORCYCLE,
    OTHERS,
    PEDESTRIAN,
    TRAFFIC_CONE,
    TRAILER,
    TRUCK,
)
from sparseoccvla_ros.world.labels.facts import (
    FUTURE_S,
    Command,
    EgoFacts,
    KeyframeFacts,
    Option,
    Outcome,
    Reason,
    SeenObject,
    SeenSignal,
)

MakeObject = Callable[..., SeenObject]
MakeFacts = Callable[..., KeyframeFacts]
MakeScene = Callable[..., list[KeyframeFacts]]

PAINTS = ('white', 'black', 'grey', 'red', 'blue', 'green', 'yellow', 'brown')
CAMERAS = ('CAM_FRONT', 'CAM_FRONT_LEFT', 'CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT', 'CAM_FRONT_RIGHT')
#: Occ3D class, category, share of all objects, whether it has a colour, whether it moves.
KINDS = (
    (CAR, 'vehicle.car', 0.38, True, True),
    (PEDESTRIAN, 'human.pedestrian.adult', 0.22, True, True),
    (TRUCK, 'vehicle.truck', 0.06, True, True),
    (BUS, 'vehicle.bus.rigid', 0.05, True, True),
    (BICYCLE, 'vehicle.bicycle', 0.07, True, True),
    (MOTORCYCLE, 'vehicle.motorcycle', 0.05, True, True),
    (TRAILER, 'vehicle.trailer', 0.02, True, True),
    (CONSTRUCTION_VEHICLE, 'vehicle.construction', 0.03, True, True),
    (TRAFFIC_CONE, 'movable_object.trafficcone', 0.05, False, False),
    (BARRIER, 'movable_object.barrier', 0.04, False, False),
    (OTHERS, 'movable_object.debris', 0.03, False, False),
)


def _object(position: tuple[float, float], **changes: object) -> SeenObject:
    """A grey car that stands still and is seen well, with changes; ``velocity`` also sets its straight future."""
    place_m = np.array(position, dtype=float)
    velocity_mps = np.array(changes.pop('velocity', (0.0, 0.0)), dtype=float)
    moves = bool(np.hypot(*velocity_mps) > 0.2)
    pixels = changes.pop('pixels', 200)
    camera = CAMERAS[round(float(np.arctan2(place_m[1], place_m[0])) / (np.pi / 3.0)) % 6]
    item = SeenObject(
        instance_token='object',
        category='vehicle.car',
        label=CAR,
        paint='grey',
        position_m=place_m,
        size_m=(4.5, 1.8, 1.5),
        heading_rad=float(np.arctan2(velocity_mps[1], velocity_mps[0])) if moves else 0.0,
        velocity_mps=velocity_mps,
        yaw_rate_radps=0.0,
        attribute='vehicle.moving' if moves else 'vehicle.stopped',
        visible_px={camera: pixels},
        future_m=place_m + np.array(FUTURE_S)[:, None] * velocity_mps,
        braking=False,
        indicator='',
        on_ground='driveable_surface',
        pixel_px={camera: (800.0, 500.0)},
        box_px={camera: (750.0, 450.0, 850.0, 550.0)},
    )
    return replace(item, **changes)


def _ego(speed_mps: float = 8.0, **changes: object) -> EgoFacts:
    """An ego that goes straight on at a constant speed, with changes."""
    times_s = np.array(FUTURE_S)
    ego = EgoFacts(
        speed_mps=speed_mps,
        acceleration_mps2=0.0,
        yaw_rate_radps=0.0,
        command=Command.STRAIGHT,
        future_m=np.stack([speed_mps * times_s, np.zeros(6)], axis=1),
        future_heading_rad=np.zeros(6),
        future_speed_mps=np.full(6, speed_mps),
        reason=Reason.FREE_ROAD,
        reason_object=None,
    )
    return replace(ego, **changes)


def _facts(*objects: SeenObject, **changes: object) -> KeyframeFacts:
    """A clear day on a straight road, with these objects and changes; ``ego`` may be a dict of changes of the ego."""
    ego = changes.pop('ego', {})
    facts = KeyframeFacts(
        scene_token='scene',
        sample_token='sample',
        scene_name='scene-0000',
        stamp_ns=0,
        city='harbour',
        time_of_day='day',
        weather='clear',
        lanes=1,
        bend='straight',
        junction_m=None,
        crossing_m=None,
        work_zone_m=None,
        ground={'driveable_surface': 0.7, 'sidewalk': 0.3},
        objects=objects,
        signals=(),
        ego=_ego(**ego) if isinstance(ego, dict) else ego,
        outcomes={},
    )
    return replace(facts, **changes)


def _random_object(rng: np.random.Generator) -> SeenObject:
    label, category, _, painted, moves = KINDS[rng.choice(len(KINDS), p=[kind[2] for kind in KINDS])]
    distance_m, angle_rad = rng.uniform(3.0, 45.0), rng.uniform(-np.pi, np.pi)
    position = (distance_m * np.cos(angle_rad), distance_m * np.sin(angle_rad))
    heading_rad = rng.choice((0.0, 0.5, 1.0, -0.5)) * np.pi + rng.normal(0.0, 0.1)
    speed_mps = rng.choice((0.0, 0.0, 0.3, rng.uniform(0.6, 9.0))) if moves else 0.0
    turn_rad = rng.choice((0.0, 0.0, 0.5, -0.5)) if speed_mps > 0.0 else 0.0
    headings = heading_rad + turn_rad * np.array(FUTURE_S)
    steps_m = 0.5 * speed_mps * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    attribute = ''
    if moves:
        stem = 'pedestrian' if label == PEDESTRIAN else 'vehicle'
        attribute = f'{stem}.moving'
        if speed_mps < 0.2:
            attribute = (
                'pedestrian.standing' if label == PEDESTRIAN else rng.choice(('vehicle.parked', 'vehicle.stopped'))
            )
        if label in (BICYCLE, MOTORCYCLE):
            attribute = 'cycle.with_rider' if speed_mps > 0.0 else 'cycle.without_rider'
    return _object(
        position,
        velocity=speed_mps * np.array([np.cos(heading_rad), np.sin(heading_rad)]),
        pixels=int(rng.choice((0, 3, 6, 12, 40, 300), p=(0.04, 0.03, 0.04, 0.09, 0.3, 0.5))),
        instance_token=f'{rng.integers(1 << 30):08x}',
        category=category,
        label=label,
        paint=str(rng.choice(PAINTS)) if painted and rng.random() < 0.8 else '',
        heading_rad=heading_rad,
        yaw_rate_radps=float(turn_rad),
        attribute=str(attribute),
        future_m=(np.array(position) + np.cumsum(steps_m, axis=0))[: rng.choice((2, 6, 6))],
        braking=bool(rng.random() < 0.3 and moves),
        indicator=str(rng.choice(('', '', 'left', 'right'))) if moves else '',
        on_ground=str(rng.choice(('driveable_surface', 'sidewalk', 'terrain', 'other_flat', ''))),
    )


def _random_ego(rng: np.random.Generator, count: int) -> EgoFacts:
    speed_mps = float(rng.choice((0.0, rng.uniform(1.6, 12.0))))
    change_mps2 = float(rng.choice((0.0, 0.0, 1.2, -1.5, -4.0)))
    speeds = np.clip(speed_mps + change_mps2 * np.array(FUTURE_S), 0.0, 15.0)
    headings = rng.choice((0.0, 0.0, 0.3, -0.3)) * np.array(FUTURE_S) * (speed_mps > 0.0)
    steps_m = 0.5 * speeds[:, None] * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return _ego(
        speed_mps,
        acceleration_mps2=change_mps2,
        command=list(Command)[rng.integers(3)],
        future_m=np.cumsum(steps_m, axis=0),
        future_heading_rad=headings,
        future_speed_mps=speeds,
        reason=list(Reason)[rng.integers(len(Reason))],
        reason_object=int(rng.integers(count)) if count and rng.random() < 0.8 else None,
    )


def _random_facts(rng: np.random.Generator, scene: str, keyframe: int, look: tuple[str, str]) -> KeyframeFacts:
    objects = tuple(_random_object(rng) for _ in range(rng.integers(0, 16)))

    def ahead() -> float | None:
        return float(rng.uniform(0.0, 25.0)) if rng.random() < 0.3 else None

    def outcome() -> Outcome:
        ends_on = str(rng.choice(('driveable_surface', 'driveable_surface', 'sidewalk', 'terrain', 'other_flat')))
        hits = int(rng.integers(len(objects))) if objects and rng.random() < 0.3 else None
        other = bool(hits is None and rng.random() < 0.2)
        red = bool(rng.random() < 0.2)
        event = ends_on != 'driveable_surface' or hits is not None or other or red
        return Outcome(ends_on, hits, other, 0.1 * int(rng.integers(1, 30)) if event else None, red)

    signals = ()
    if rng.random() < 0.4:
        place_m = np.array([rng.uniform(8.0, 50.0), rng.uniform(-5.0, 5.0)])
        shown = {'CAM_FRONT': int(rng.choice((6, 15, 40)))}
        state = str(rng.choice(('red', 'green', 'amber'), p=(0.5, 0.35, 0.15)))
        signals = (
            SeenSignal(
                state, place_m, shown, {'CAM_FRONT': (800.0, 300.0)}, {'CAM_FRONT': (790.0, 280.0, 810.0, 320.0)}
            ),
        )
    return _facts(
        *objects,
        scene_token=scene,
        sample_token=f'{scene}-{keyframe:02d}',
        scene_name=scene,
        time_of_day=look[0],
        weather=look[1],
        lanes=int(rng.integers(1, 3)),
        bend=str(rng.choice(('straight', 'straight', 'left', 'right'))),
        junction_m=ahead(),
        crossing_m=ahead(),
        work_zone_m=ahead(),
        signals=signals,
        ego=_random_ego(rng, len(objects)),
        outcomes={option: outcome() for option in Option},
    )


def _random_scene(seed: int, index: int, keyframes: int = 6) -> list[KeyframeFacts]:
    """Facts of a scene whose keyframes have nothing to do with each other, apart from the look."""
    rng = np.random.default_rng([seed, index])
    look = (
        str(rng.choice(('day', 'dusk', 'night'), p=(0.6, 0.15, 0.25))),
        str(rng.choice(('clear', 'rain', 'fog'), p=(0.6, 0.25, 0.15))),
    )
    return [_random_facts(rng, f'scene-{index:04d}', keyframe, look) for keyframe in range(keyframes)]


@pytest.fixture(scope='session')
def make_object() -> MakeObject:
    """``make_object((x, y), velocity=..., pixels=..., **fields)``."""
    return _object


@pytest.fixture(scope='session')
def make_facts() -> MakeFacts:
    """``make_facts(*objects, ego={...}, **fields)``."""
    return _facts


@pytest.fixture(scope='session')
def random_scene() -> MakeScene:
    """``random_scene(seed, index, keyframes=6)``."""
    return _random_scene

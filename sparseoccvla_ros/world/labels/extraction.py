"""What is true about a keyframe, read from the scene that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sparseoccvla_ros.data.occ3d import CLASS_NAMES, GROUND_CLASSES
from sparseoccvla_ros.geometry import inverse, transform_points, wrap_angle, yaw_of
from sparseoccvla_ros.sensors.camera import PinholeCamera
from sparseoccvla_ros.world.bodies.thing import Lamps, State, Thing
from sparseoccvla_ros.world.drawing.render import Capture
from sparseoccvla_ros.world.labels.facts import (
    FUTURE_S,
    EgoFacts,
    KeyframeFacts,
    Outcome,
    SeenObject,
    SeenSignal,
)
from sparseoccvla_ros.world.labels.what_if import WhatIf
from sparseoccvla_ros.world.scene import Scene
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.streets.street import GROUND_LABELS

#: Farther agents get no box, nor do those that no camera image shows.
ANNOTATION_RANGE_M = 75.0
GROUND_RANGE_M = 25.0
#: Visible pixels are told as if images were of this size, and places in them as if of the full camera.
REFERENCE_PX = (352, 128)
FULL_PX = (1600, 900)
MOVING_MPS = 0.2
#: Yaw rates are told from the heading this long before.
YAW_RATE_S = 0.2
#: A middle nearer to a border than this is on no ground in particular.
BORDER_M = 0.3


@dataclass(frozen=True)
class View:
    """A camera's image of the keyframe: the camera, the ego's pose [4, 4] when it was taken, and what it shows."""

    camera: PinholeCamera
    world_from_ego: np.ndarray
    capture: Capture


@dataclass(frozen=True)
class KeyframeTokens:
    """Tokens of a keyframe's rows; ``instance`` by index of the thing."""

    scene: str
    sample: str
    stamp_ns: int
    instance: Mapping[int, str]


@dataclass(frozen=True)
class Sighting:
    """What images show of one thing: pixels (at ``REFERENCE_PX``), their mean and bounds (at ``FULL_PX``), by camera;
    ``seen_px`` pixels of the images themselves.
    """

    visible_px: dict[str, int]
    pixel_px: dict[str, tuple[float, float]]
    box_px: dict[str, tuple[float, float, float, float]]
    seen_px: int


def sightings(views: Sequence[View]) -> dict[int, Sighting]:
    """Every thing that at least one pixel of a keyframe shows, by its index in the scene."""
    found: dict[int, Sighting] = {}
    for view in views:
        camera, thing = view.camera, view.capture.thing
        height, width = thing.shape
        # Images are the full image scaled to the width, with the top cropped.
        scale = width / FULL_PX[0]
        cropped_px = FULL_PX[1] * scale - height
        share = (REFERENCE_PX[0] / width) ** 2
        for index, window in enumerate(ndimage.find_objects(thing + 1)):
            if window is None:
                continue
            mask = thing[window] == index
            row, column = np.nonzero(mask)
            seen = found.setdefault(index, Sighting({}, {}, {}, 0))
            top, left = window[0].start, window[1].start
            seen.visible_px[camera.name] = round(len(row) * share)
            seen.pixel_px[camera.name] = (
                float((column.mean() + left + 0.5) / scale),
                float((row.mean() + top + 0.5 + cropped_px) / scale),
            )
            seen.box_px[camera.name] = (
                left / scale,
                (top + cropped_px) / scale,
                window[1].stop / scale,
                (window[0].stop + cropped_px) / scale,
            )
            found[index] = Sighting(seen.visible_px, seen.pixel_px, seen.box_px, seen.seen_px + len(row))
    return dict(sorted(found.items()))


def boxed_things(scene: Scene, time_s: float, seen: Mapping[int, Sighting]) -> list[int]:
    """Which of the things seen get a box: those with a category, within ``ANNOTATION_RANGE_M`` of the ego."""
    ego_m = scene.world_from_ego(time_s)[:2, 3]
    return [
        index
        for index in seen
        if scene.things[index].shape.category
        and np.hypot(*(scene.things[index].state_at(time_s).world_from_object[:2, 3] - ego_m)) <= ANNOTATION_RANGE_M
    ]


def attribute_of(thing: Thing, speed_mps: float) -> str:
    """Name of the nuScenes attribute of a thing that moves at this speed; '' for what has none, such as a barrier."""
    category = thing.shape.category
    moves = abs(speed_mps) > MOVING_MPS
    driverless = thing.parked or thing.still
    if category.startswith('human.pedestrian.'):
        return 'pedestrian.moving' if moves else 'pedestrian.standing'
    if category in ('vehicle.bicycle', 'vehicle.motorcycle'):
        return 'cycle.without_rider' if driverless else 'cycle.with_rider'
    if category.startswith('vehicle.'):
        return 'vehicle.parked' if driverless else 'vehicle.moving' if moves else 'vehicle.stopped'
    return ''


def keyframe_facts(
    scene: Scene,
    time_s: float,
    views: Sequence[View],
    seen: Mapping[int, Sighting],
    tokens: KeyframeTokens,
    what_if: WhatIf,
) -> KeyframeFacts:
    """Facts of the keyframe at ``time_s``.

    Args:
        scene: what is shown.
        time_s: of the keyframe, since the scene's start.
        views: of all cameras.
        seen: what :func:`sightings` finds in them.
        tokens: of the keyframe's rows.
        what_if: rollouts in the scene.
    """
    boxed = boxed_things(scene, time_s, seen)
    grounds = _grounds_under(scene.plan, [scene.things[index].state_at(time_s).world_from_object for index in boxed])
    objects = tuple(
        _object(scene, index, time_s, seen[index], tokens.instance[index], ground)
        for index, ground in zip(boxed, grounds, strict=True)
    )
    number_of = {index: number for number, index in enumerate(boxed)}
    road, look = scene.road_at(time_s), scene.look
    return KeyframeFacts(
        scene_token=tokens.scene,
        sample_token=tokens.sample,
        scene_name=scene.name,
        stamp_ns=tokens.stamp_ns,
        city=scene.city.name,
        time_of_day=look.time_of_day,
        weather=look.weather,
        lanes=road.lanes,
        bend=road.bend,
        junction_m=road.junction_m,
        crossing_m=road.crossing_m,
        work_zone_m=road.work_zone_m,
        ground=_ground_shares(views),
        objects=objects,
        signals=_signals(scene, time_s, seen),
        ego=_ego(scene, time_s, number_of),
        outcomes={
            option: Outcome(
                rollout.ends_on,
                next((number_of[index] for index in rollout.touched if index in number_of), None),
                any(index not in number_of for index in rollout.touched),
                rollout.time_s,
                rollout.runs_red,
                rollout.light_unsure,
            )
            for option, rollout in what_if.roll_out(time_s).items()
        },
    )


def _future_times(scene: Scene, time_s: float) -> list[float]:
    return [time_s + later_s for later_s in FUTURE_S if time_s + later_s <= scene.duration_s]


def _object(scene: Scene, index: int, time_s: float, seen: Sighting, instance_token: str, on_ground: str) -> SeenObject:
    thing = scene.things[index]
    state = thing.state_at(time_s)
    ego_from_world = inverse(scene.world_from_ego(time_s))
    ego_from_object = ego_from_world @ state.world_from_object
    later = [ego_from_world @ thing.state_at(at_s).world_from_object for at_s in _future_times(scene, time_s)]
    return SeenObject(
        instance_token=instance_token,
        category=thing.shape.category,
        label=thing.shape.label,
        paint=thing.shape.paint,
        position_m=ego_from_object[:2, 3],
        size_m=thing.shape.size_m,
        heading_rad=yaw_of(ego_from_object),
        velocity_mps=state.speed_mps * ego_from_object[:2, 0],
        yaw_rate_radps=_yaw_rate_radps(thing, time_s),
        attribute=attribute_of(thing, state.speed_mps),
        visible_px=seen.visible_px,
        future_m=np.array([pose[:2, 3] for pose in later]).reshape(-1, 2),
        braking=bool(state.lamps & Lamps.BRAKE),
        indicator=_indicator(state),
        on_ground=on_ground,
        pixel_px=seen.pixel_px,
        box_px=seen.box_px,
    )


def _yaw_rate_radps(thing: Thing, time_s: float) -> float:
    """From the past alone: cameras cannot show what comes."""
    if thing.still:
        return 0.0
    before, now = (yaw_of(thing.state_at(at_s).world_from_object) for at_s in (time_s - YAW_RATE_S, time_s))
    return float(wrap_angle(now - before)) / YAW_RATE_S


def _indicator(state: State) -> str:
    """The side that blinks; both together are hazard lights, which announce no turn."""
    sides = state.lamps & (Lamps.LEFT | Lamps.RIGHT)
    return {Lamps.LEFT: 'left', Lamps.RIGHT: 'right'}.get(sides, '')


def _grounds_under(plan: Plan, world_from_object: Sequence[np.ndarray]) -> list[str]:
    """Class of the ground under each object's middle, '' where a border is near."""
    steps = np.array([[x, y] for x in (-BORDER_M, 0.0, BORDER_M) for y in (-BORDER_M, 0.0, BORDER_M)])
    places_m = np.array([pose[:2, 3] for pose in world_from_object]).reshape(-1, 1, 2) + steps
    around = GROUND_LABELS[plan.ground_at(*places_m.reshape(-1, 2).T)].reshape(-1, len(steps))
    return [CLASS_NAMES[labels[0]] if (labels == labels[0]).all() else '' for labels in around]


def _signals(scene: Scene, time_s: float, seen: Mapping[int, Sighting]) -> tuple[SeenSignal, ...]:
    """Those heads for the ego's approach that some camera shows and that are lit."""
    ego_from_world = inverse(scene.world_from_ego(time_s))
    states = {Lamps.RED: 'red', Lamps.AMBER: 'amber', Lamps.GREEN: 'green'}
    signals = []
    for index in scene.signal_heads(time_s):
        state = scene.things[index].state_at(time_s)
        lit = next((name for lamp, name in states.items() if state.lamps & lamp), None)
        if index in seen and lit is not None:
            place_m = (ego_from_world @ state.world_from_object)[:2, 3]
            sighting = seen[index]
            signals.append(SeenSignal(lit, place_m, sighting.visible_px, sighting.pixel_px, sighting.box_px))
    return tuple(signals)


def _ego(scene: Scene, time_s: float, number_of: Mapping[int, int]) -> EgoFacts:
    motion = scene.measured_motion(time_s)
    ego_from_world = inverse(scene.world_from_ego(time_s))
    times_s = _future_times(scene, time_s)
    later = [ego_from_world @ scene.world_from_ego(at_s) for at_s in times_s]
    reason, thing = scene.reason_at(time_s)
    return EgoFacts(
        speed_mps=motion.speed_mps,
        acceleration_mps2=motion.acceleration_mps2,
        yaw_rate_radps=motion.yaw_rate_radps,
        command=scene.command_at(time_s),
        future_m=np.array([pose[:2, 3] for pose in later]).reshape(-1, 2),
        future_heading_rad=np.array([yaw_of(pose) for pose in later]),
        future_speed_mps=np.array([scene.ego_motion(at_s).speed_mps for at_s in times_s]),
        reason=reason,
        reason_object=None if thing is None else number_of.get(thing),
    )


def _ground_shares(views: Sequence[View]) -> dict[str, float]:
    """Share of each ground class among all pixels that show ground within ``GROUND_RANGE_M``; classes seen only."""
    counts = np.zeros(len(CLASS_NAMES), dtype=np.int64)
    for view in views:
        label, depth_m, camera = view.capture.label, view.capture.depth_m, view.camera
        row, column = np.nonzero(np.isin(label, GROUND_CLASSES) & (depth_m < 1.5 * GROUND_RANGE_M))
        k, depth = camera.intrinsics_px, depth_m[row, column]
        x, y = (column + 0.5 - k[0, 2]) / k[0, 0] * depth, (row + 0.5 - k[1, 2]) / k[1, 1] * depth
        points_ego = transform_points(camera.ego_from_camera, np.stack([x, y, depth], axis=1))
        near = np.hypot(points_ego[:, 0], points_ego[:, 1]) <= GROUND_RANGE_M
        counts += np.bincount(label[row[near], column[near]], minlength=len(counts))
    total = max(int(counts.sum()), 1)
    return {CLASS_NAMES[label]: float(counts[label] / total) for label in GROUND_CLASSES if counts[label]}

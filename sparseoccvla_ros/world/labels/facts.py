"""What is true about one keyframe, in words and numbers: the source of every question and answer.

Frames: ego frame of the keyframe (x forward, y left), metres, seconds, radians.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

#: Times after the keyframe of every future position.
FUTURE_S = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


class Command(Enum):
    """What the navigation asks for: known from the route, not from the recorded future."""

    LEFT = 'left'
    RIGHT = 'right'
    STRAIGHT = 'straight'


class Reason(Enum):
    """Why the ego's driver chose its present speed."""

    FREE_ROAD = 'free road'
    BEND = 'bend or turn ahead'
    LEADER = 'slower road user ahead'
    RED_LIGHT = 'red traffic light'
    PEDESTRIAN = 'pedestrian on or at the crossing'
    NARROW = 'narrow passage'


class Option(Enum):
    """What the ego could do instead."""

    LEFT = 'turn left now'
    RIGHT = 'turn right now'
    ACCELERATE = 'accelerate'
    KEEP = 'keep the speed'
    BRAKE = 'brake firmly'


@dataclass(frozen=True)
class Outcome:
    """What happens within 3 s if the ego takes an option while the others do as recorded.

    ``ends_on`` is the Occ3D class of the ground under the ego's middle where it first leaves the road, or
    ``driveable_surface``; ``hits`` the index into ``KeyframeFacts.objects`` of who is touched first, None if nobody
    that is visible; ``hits_other`` whether anything else (a building, a hidden agent) is touched; ``time_s`` of the
    first event, None if there is none. ``runs_red`` tells that before all that the ego's front passes a stop line of
    its route whose light is red now and then, ``light_unsure`` one whose light is amber then or other then than now;
    these are events too.
    """

    ends_on: str
    hits: int | None
    hits_other: bool
    time_s: float | None
    runs_red: bool = False
    light_unsure: bool = False


@dataclass(frozen=True)
class SeenObject:
    """An agent that the cameras show.

    ``category`` is a nuScenes category, ``label`` its Occ3D class; ``paint`` the word for its main colour, '' if it has
    none worth naming. ``position_m`` [2] middle of the box, ``size_m`` length, width, height; ``heading_rad`` and
    ``velocity_mps`` [2] in ego axes; ``yaw_rate_radps`` of its last 0.2 s, left positive. ``visible_px`` pixels by
    camera at the size of the images written, scaled to 352x128. ``future_m`` [K, 2], K <= 6 positions at ``FUTURE_S``,
    shorter at the end of a scene. ``braking`` and ``indicator`` ('left', 'right', '') are shown by its lamps;
    ``on_ground`` the Occ3D class under its middle, '' within 0.3 m of a border. ``pixel_px`` and ``box_px`` by camera:
    mean (x, y) and bounds (x0, y0, x1, y1) of its visible pixels in the full image of 1600x900.
    """

    instance_token: str
    category: str
    label: int
    paint: str
    position_m: np.ndarray
    size_m: tuple[float, float, float]
    heading_rad: float
    velocity_mps: np.ndarray
    yaw_rate_radps: float
    attribute: str
    visible_px: Mapping[str, int]
    future_m: np.ndarray
    braking: bool
    indicator: str
    on_ground: str
    pixel_px: Mapping[str, tuple[float, float]]
    box_px: Mapping[str, tuple[float, float, float, float]]

    @property
    def distance_m(self) -> float:
        """From the ego's origin to the middle of the box, on the ground."""
        return float(np.hypot(*self.position_m))

    @property
    def camera(self) -> str:
        """The camera that shows most of it."""
        return max(self.visible_px, key=lambda name: self.visible_px[name])


@dataclass(frozen=True)
class SeenSignal:
    """A traffic light for the ego's lane that a camera shows: ``state`` is 'red', 'amber' or 'green'.

    ``pixel_px`` and ``box_px`` as for a ``SeenObject``.
    """

    state: str
    position_m: np.ndarray
    visible_px: Mapping[str, int]
    pixel_px: Mapping[str, tuple[float, float]]
    box_px: Mapping[str, tuple[float, float, float, float]]


@dataclass(frozen=True)
class EgoFacts:
    """The ego: motion now, what the route asks, what its driver does next and why.

    ``future_m`` [K, 2] and ``future_heading_rad`` [K] at ``FUTURE_S``; ``reason_object`` indexes
    ``KeyframeFacts.objects``.
    """

    speed_mps: float
    acceleration_mps2: float
    yaw_rate_radps: float
    command: Command
    future_m: np.ndarray
    future_heading_rad: np.ndarray
    future_speed_mps: np.ndarray
    reason: Reason
    reason_object: int | None


@dataclass(frozen=True)
class KeyframeFacts:
    """Everything that questions about a keyframe may use.

    ``time_of_day`` is 'day', 'dusk' or 'night'; ``weather`` 'clear', 'rain' or 'fog'. Of the next 25 m of the route,
    from the ego's front: ``bend`` is 'straight', 'left' or 'right'; ``junction_m`` the distance to the next junction's
    edge, 0 inside, None if farther; ``crossing_m`` the same for a pedestrian crossing, ``work_zone_m`` for a work zone.
    ``ground``: Occ3D ground classes seen within 25 m with their shares of the pixels. ``outcomes`` by option, only
    where 3 s are left.
    """

    scene_token: str
    sample_token: str
    scene_name: str
    stamp_ns: int
    city: str
    time_of_day: str
    weather: str
    lanes: int
    bend: str
    junction_m: float | None
    crossing_m: float | None
    work_zone_m: float | None
    ground: Mapping[str, float]
    objects: tuple[SeenObject, ...]
    signals: tuple[SeenSignal, ...]
    ego: EgoFacts
    outcomes: Mapping[Option, Outcome]

"""The street world with an ego that is driven by plans: plan in, 0.1 s of everybody's motion out.

loop = ClosedLoop.of(seed=3, index=0, duration_s=20.0)
while loop.ended is None:
    loop.step(my_plan(loop.time_s, loop.scene))
print(loop.summary())
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from sparseoccvla_ros.geometry import transform_points
from sparseoccvla_ros.planning.vehicle import VehicleLimits, load_vehicle_limits
from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.driving.bicycle import Bicycle
from sparseoccvla_ros.world.driving.contact import Contacts
from sparseoccvla_ros.world.driving.driven_scene import RECORD_STEP_S, DrivenScene, RouteProgress
from sparseoccvla_ros.world.driving.tracking import DrivePlan, Tracker
from sparseoccvla_ros.world.ego_car import EGO_CENTRE_AHEAD_M, WHEELBASE_M
from sparseoccvla_ros.world.scene import build_scene
from sparseoccvla_ros.world.stage import WARM_UP_S, Stage
from sparseoccvla_ros.world.streets.street import Ground
from sparseoccvla_ros.world.traffic.following import STEP_S
from sparseoccvla_ros.world.traffic.simulation import SIGHT_M, EgoPlace
from sparseoccvla_ros.world.traffic.trip import GateKind

SUBSTEPS = round(STEP_S / RECORD_STEP_S)
#: The route is done this far before its end, where everybody else would begin to brake for it.
ROUTE_END_M = SIGHT_M + 10.0
#: Without this much progress for so long, the ego is stuck. No red light lasts as long.
STUCK_S, STUCK_M = 40.0, 1.0
#: Whoever crosses a stop line farther beside his lane than this does not use it.
BESIDE_ROUTE_M = 3.0
MAX_PLAN_AGE_S = 1.5
ROAD = (Ground.ASPHALT, Ground.PARKING)


class EventKind(Enum):
    """What can happen to the ego."""

    COLLISION = 'collision'
    ROUTE_DONE = 'route done'
    TIME_OVER = 'time over'
    STUCK = 'stuck'
    OFF_ROAD = 'off the road'
    RED_LIGHT = 'ran a red light'


#: They end a drive (a collision unless told otherwise).
ENDING = frozenset({EventKind.COLLISION, EventKind.ROUTE_DONE, EventKind.STUCK, EventKind.TIME_OVER})


@dataclass(frozen=True)
class Event:
    """Something that happened at ``time_s``; of a collision ``thing`` is the index into the scene's things and ``what``
    its category, or 'something still' if it has none.
    """

    time_s: float
    kind: EventKind
    what: str = ''
    thing: int | None = None


@dataclass(frozen=True)
class Summary:
    """A drive in numbers; JSON takes ``dataclasses.asdict``. Times in seconds, lengths in metres.

    ``progress_m`` is along the route, ``beside_route_m`` the greatest distance from it; accelerations are the greatest
    amounts; ``time_to_collision_s`` the least, None if never below the horizon of ``contact.Contacts``; ``stale_s`` is
    how long there was no plan fresh enough to follow.
    """

    scene: str
    description: str
    ended: str
    driven_s: float
    distance_m: float
    progress_m: float
    beside_route_m: float
    mean_speed_mps: float
    accel_mps2: float
    brake_mps2: float
    lateral_accel_mps2: float
    collisions: list[tuple[float, str]]
    red_lights: int
    off_road_s: float
    time_to_collision_s: float | None
    stale_s: float


class ClosedLoop:
    """Steps the world around an ego that follows plans.

    Args:
        stage: of the scene; see :class:`DrivenScene`.
        limits: of the ego's car; None: ``config/vehicle/default.yaml``.
        max_plan_age_s: see :class:`Tracker`.
        end_at_collision: whether the drive is over then. What follows is not physics: bodies pass through each other.
    """

    def __init__(
        self,
        stage: Stage,
        limits: VehicleLimits | None = None,
        max_plan_age_s: float = MAX_PLAN_AGE_S,
        end_at_collision: bool = True,
    ) -> None:
        self.bicycle = Bicycle(limits or load_vehicle_limits(), WHEELBASE_M)
        self.scene = DrivenScene(stage, self.bicycle)
        self.events: list[Event] = []
        #: Why the drive is over; None while it goes on.
        self.ended: EventKind | None = None
        self._tracker = Tracker(self.bicycle, max_plan_age_s)
        self._plan: DrivePlan | None = None
        self._end_at_collision = end_at_collision
        self._contacts = Contacts(self.scene)
        self._touched: set[int] = set()
        #: Numbers of the route's gates that are behind; progress may step back over one of them.
        self._passed: set[int] = set()
        start_m, _, _ = self.scene.simulation.vehicle_at(0, WARM_UP_S)
        self.progress = RouteProgress(self.scene.route, start_m)
        self._start_m = self._moved_m = start_m
        self._moved_s = 0.0
        self._off_road = False
        self._distance_m = self._off_road_s = self._stale_s = self._beside_m = 0.0
        self._accel = self._brake = self._lateral = 0.0
        self._nearest_s = float('inf')
        self._steps = 0

    @classmethod
    def of(
        cls, seed: int, index: int, duration_s: float, city_name: str | None = None, *, end_at_collision: bool = True
    ) -> ClosedLoop:
        """Scene ``index`` of the world with this seed, without the agents that would touch each other in it.

        Raises:
            ValueError: unknown city.
        """
        stage = build_scene(seed, index, duration_s, city_name).stage
        return cls(stage, end_at_collision=end_at_collision)

    @property
    def time_s(self) -> float:
        """How far everybody has moved; 0 at first."""
        return round(self._steps * STEP_S, 6)

    def step(self, plan: DrivePlan | None = None) -> tuple[Event, ...]:
        """Everybody moves on by 0.1 s; returns what happened.

        Args:
            plan: what the ego follows from now on; None: the last one, while it is fresh enough.

        Raises:
            RuntimeError: the drive is over.
        """
        if self.ended is not None:
            raise RuntimeError(f'the drive is over: {self.ended.value} at {self.time_s} s')
        self._plan = plan or self._plan
        if self._plan is None or not self._tracker.is_fresh(self._plan, self.time_s):
            self._stale_s += STEP_S
        for _ in range(SUBSTEPS):
            self._drive()
        front_before_m = self._front_m()
        state = self.scene.state
        self.progress.update(state.x_m, state.y_m)
        place = EgoPlace(state.x_m, state.y_m, state.heading_rad, state.speed_mps, self.progress.along_m)
        self.scene.simulation.place_ego(place)
        self.scene.simulation.step()
        self._steps += 1
        events = [*self._collisions(), *self._rules(front_before_m), *self._ends()]
        self.events += events
        ending = [event.kind for event in events if event.kind in ENDING]
        ending = [kind for kind in ending if kind is not EventKind.COLLISION or self._end_at_collision]
        self.ended = ending[0] if ending else None
        return tuple(events)

    def summary(self) -> Summary:
        """The drive so far."""
        driven_s = max(self.time_s, 1e-9)
        return Summary(
            scene=self.scene.name,
            description=self.scene.description,
            ended='' if self.ended is None else self.ended.value,
            driven_s=self.time_s,
            distance_m=round(self._distance_m, 3),
            progress_m=round(self.progress.along_m - self._start_m, 3),
            beside_route_m=round(self._beside_m, 3),
            mean_speed_mps=round(self._distance_m / driven_s, 3),
            accel_mps2=round(self._accel, 3),
            brake_mps2=round(self._brake, 3),
            lateral_accel_mps2=round(self._lateral, 3),
            collisions=[(event.time_s, event.what) for event in self.events if event.kind is EventKind.COLLISION],
            red_lights=sum(event.kind is EventKind.RED_LIGHT for event in self.events),
            off_road_s=round(self._off_road_s, 3),
            time_to_collision_s=None if self._nearest_s == float('inf') else round(self._nearest_s, 3),
            stale_s=round(self._stale_s, 3),
        )

    def _drive(self) -> None:
        scene = self.scene
        state = scene.state
        accel, steering = self._tracker.controls(state, scene.now_s, self._plan)
        told = self.bicycle.told(state, accel, steering, RECORD_STEP_S)
        scene.record(told)
        self._distance_m += 0.5 * (told.speed_mps + scene.state.speed_mps) * RECORD_STEP_S
        self._accel = max(self._accel, told.accel_mps2)
        self._brake = max(self._brake, -told.accel_mps2)
        lateral = scene.state.speed_mps**2 * abs(self.bicycle.curvature_1pm(told))
        self._lateral = max(self._lateral, lateral)

    def _front_m(self) -> float:
        """Arc length of the route beside the ego's front."""
        return self.progress.along_m + EGO_CENTRE_AHEAD_M + 0.5 * self.scene.ego_size_m[0]

    def _collisions(self) -> list[Event]:
        touching = set(self._contacts.touching(self.time_s))
        new, self._touched = sorted(touching - self._touched), touching
        self._nearest_s = min(self._nearest_s, 0.0 if touching else self._contacts.time_to_collision_s(self.time_s))
        shapes = [self.scene.things[index].shape for index in new]
        return [
            Event(self.time_s, EventKind.COLLISION, shape.category or 'something still', index)
            for index, shape in zip(new, shapes, strict=True)
        ]

    def _rules(self, front_before_m: float) -> list[Event]:
        events = []
        length, width, _ = self.scene.ego_size_m
        corners = 0.5 * np.array([[x * length, y * width, 0.0] for x in (-1, 1) for y in (-1, 1)])
        corners = transform_points(self.scene.ego_box(self.time_s), corners)
        off_road = not np.isin(self.scene.plan.ground_at(corners[:, 0], corners[:, 1]), ROAD).all()
        if off_road:
            self._off_road_s += STEP_S
        if off_road and not self._off_road:
            events.append(Event(self.time_s, EventKind.OFF_ROAD))
        self._off_road = off_road
        self._beside_m = max(self._beside_m, abs(self.progress.left_m))
        traffic_s = self.time_s + WARM_UP_S
        for number, gate in enumerate(self.scene.stage.traffic[0].vehicle.trip.gates):
            crossed = front_before_m < gate.s_m <= self._front_m() and abs(self.progress.left_m) < BESIDE_ROUTE_M
            if not crossed or number in self._passed:
                continue
            self._passed.add(number)
            if gate.kind is GateKind.SIGNAL and gate.approach is not None:
                lamp = self.scene.plan.junctions[gate.number].signal.lamp(gate.approach, traffic_s)
                if lamp is Lamps.RED:
                    events.append(Event(self.time_s, EventKind.RED_LIGHT))
        return events

    def _ends(self) -> list[Event]:
        if self.progress.along_m > self._moved_m + STUCK_M:
            self._moved_m, self._moved_s = self.progress.along_m, self.time_s
        happened = {
            EventKind.ROUTE_DONE: self.progress.along_m > self.scene.route.length_m - ROUTE_END_M,
            EventKind.STUCK: self.time_s - self._moved_s > STUCK_S,
            EventKind.TIME_OVER: self.time_s >= self.scene.duration_s - 1e-9,
        }
        return [Event(self.time_s, kind) for kind, yes in happened.items() if yes]

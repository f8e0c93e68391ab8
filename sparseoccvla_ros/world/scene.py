"""A scene over time: what the renderer, the labels and the files read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sparseoccvla_ros.geometry import transform_from_planar
from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs
from sparseoccvla_ros.world.bodies.thing import State, Thing
from sparseoccvla_ros.world.city import City
from sparseoccvla_ros.world.ego_car import EGO_CENTRE_AHEAD_M, EGO_SIZE_M, WHEELBASE_M
from sparseoccvla_ros.world.labels.facts import Command, Reason
from sparseoccvla_ros.world.look import Look
from sparseoccvla_ros.world.manoeuvre import Manoeuvre, is_shown
from sparseoccvla_ros.world.stage import WARM_UP_S, Stage, build_stage
from sparseoccvla_ros.world.streets.junction import Movement
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.traffic.following import STEP_S
from sparseoccvla_ros.world.traffic.path import STEP_M, Path
from sparseoccvla_ros.world.traffic.population import AXLE_SHARE, HITCH_M
from sparseoccvla_ros.world.traffic.simulation import NOBODY, Simulation
from sparseoccvla_ros.world.traffic.trip import GateKind, Passage

OVERLAP_CHECK_STEP_S = 0.1
#: Scenes drawn until one shows its manoeuvre, and the length that every manoeuvre fits in.
ATTEMPTS, LONG_ENOUGH_S = 4, 15.0
#: A turn is commanded when it is this long away at the present speed, or this near.
COMMAND_AHEAD_S, COMMAND_AHEAD_M = 3.0, 12.0
#: What lies farther along the route is not told by ``road_at``, ``signal_heads``.
ROAD_AHEAD_M, SIGNAL_AHEAD_M = 25.0, 60.0
_COMMANDS = {Movement.LEFT: Command.LEFT, Movement.RIGHT: Command.RIGHT, Movement.STRAIGHT: Command.STRAIGHT}


@dataclass(frozen=True)
class EgoMotion:
    """The ego's motion at its rear axle; ``steering_rad`` of the front wheels, left positive."""

    speed_mps: float
    acceleration_mps2: float
    yaw_rate_radps: float
    steering_rad: float


@dataclass(frozen=True)
class RoadAhead:
    """The 25 m of the route before the ego's front: lanes each way, ``bend`` 'straight', 'left' or 'right'; distances
    from the front, or None.
    """

    lanes: int
    bend: str
    junction_m: float | None
    crossing_m: float | None
    work_zone_m: float | None


class Scene:
    """A stage with everybody's motion. World frame: z up, ground at z = 0, metres; times in seconds since its start.

    Args:
        stage: what does not move, and who does.
        simulation: of the stage's traffic and people; may still run: times beyond its last step are extrapolated.
    """

    def __init__(self, stage: Stage, simulation: Simulation) -> None:
        self.stage = stage
        self.simulation = simulation
        self.name: str = stage.name
        self.description: str = f'{stage.street}, {stage.manoeuvre.value}'
        self.city: City = stage.city
        self.look: Look = stage.look
        self.plan: Plan = stage.plan
        self.duration_s: float = stage.duration_s
        self.ego_size_m: tuple[float, float, float] = EGO_SIZE_M
        things = list(stage.still)
        #: Of each actor (vehicles first, then walkers) but the ego: indices into ``things``.
        self.things_of_actor: dict[int, tuple[int, ...]] = {}
        for number, item in enumerate(stage.traffic[1:], start=1):
            self.things_of_actor[number] = tuple(range(len(things), len(things) + len(item.shapes)))
            for part, shape in enumerate(item.shapes):
                things.append(Thing(shape, partial(self._driven, number, part), still=False, annotated=True))
        for number, person in enumerate(stage.people):
            self.things_of_actor[len(stage.traffic) + number] = (len(things),)
            things.append(Thing(person.shape, partial(self._walked, number), still=False, annotated=True))
        self.things: tuple[Thing, ...] = tuple(things)

    def world_from_ego(self, time_s: float) -> np.ndarray:
        """The ego's pose [4, 4]: under the middle of its rear axle."""
        s_m, _, _ = self.simulation.vehicle_at(0, time_s + WARM_UP_S)
        x, y, heading, _ = self._path.at(s_m)
        return transform_from_planar(x, y, heading)

    def ego_box(self, time_s: float) -> np.ndarray:
        """``world_from_box`` [4, 4] of the middle of the ego's footprint."""
        return self.world_from_ego(time_s) @ transform_from_planar(EGO_CENTRE_AHEAD_M, 0.0, 0.0)

    def ego_motion(self, time_s: float) -> EgoMotion:
        """Speed, acceleration, yaw rate and steering."""
        s_m, speed, accel = self.simulation.vehicle_at(0, time_s + WARM_UP_S)
        bent = self._path.at(s_m)[3]
        return EgoMotion(speed, accel if speed > 0.0 else 0.0, speed * bent, math.atan(WHEELBASE_M * bent))

    def measured_motion(self, time_s: float) -> EgoMotion:
        """The ego's motion as its sensors know it: the acceleration is that of the 0.1 s that end at ``time_s``.

        :meth:`ego_motion` gives the acceleration that the driver decided on for the step to come: who reads it as an
        input has seen the future.
        """
        motion = self.ego_motion(time_s)
        gained_mps = motion.speed_mps - self.ego_motion(time_s - STEP_S).speed_mps
        return replace(motion, acceleration_mps2=gained_mps / STEP_S)

    def command_at(self, time_s: float) -> Command:
        """What the route asks for: a turn that is near, else straight on."""
        s_m, speed, _ = self.simulation.vehicle_at(0, time_s + WARM_UP_S)
        near_m = max(COMMAND_AHEAD_M, COMMAND_AHEAD_S * speed)
        for passage in self._passages:
            if passage.enter_m - near_m < s_m < passage.leave_m:
                return _COMMANDS[passage.movement]
        return Command.STRAIGHT

    def reason_at(self, time_s: float) -> tuple[Reason, int | None]:
        """Why the ego's driver chose its speed, and the thing behind it if there is one."""
        reason, actor = self.simulation.reason_at(0, time_s + WARM_UP_S)
        return reason, None if actor == NOBODY else self.things_of_actor[actor][-1]

    def road_at(self, time_s: float) -> RoadAhead:
        """The road ahead along the route."""
        s_m, _, _ = self.simulation.vehicle_at(0, time_s + WARM_UP_S)
        front_m = s_m + EGO_CENTRE_AHEAD_M + 0.5 * EGO_SIZE_M[0]
        trip = self.stage.traffic[0].vehicle.trip
        street_number, street_s_m = trip.street_at(s_m)
        junction_m = None
        for passage in self._passages:
            if s_m < passage.leave_m and passage.enter_m - front_m < ROAD_AHEAD_M:
                junction_m = max(passage.enter_m - front_m, 0.0)
                break
        crossings = [gate.s_m + 1.0 - front_m for gate in trip.gates if gate.kind is GateKind.ZEBRA]
        crossings += [passage.enter_m - 3.2 - front_m for passage in self._passages]
        crossings = [gap for gap in crossings if -3.0 < gap < ROAD_AHEAD_M]
        zones = [
            zone.first_m - street_s_m - (front_m - s_m)
            for zone in self.plan.work_zones
            if zone.street == street_number and zone.last_m > street_s_m
        ]
        zones = [gap for gap in zones if gap < ROAD_AHEAD_M]
        turn = self._path.at(front_m + ROAD_AHEAD_M)[2] - self._path.at(front_m)[2]
        turn = (turn + math.pi) % (2.0 * math.pi) - math.pi
        return RoadAhead(
            lanes=self.plan.streets[street_number].lanes,
            bend='left' if turn > 0.12 else 'right' if turn < -0.12 else 'straight',
            junction_m=None if junction_m is None else float(junction_m),
            crossing_m=float(max(min(crossings), 0.0)) if crossings else None,
            work_zone_m=max(min(zones), 0.0) if zones else None,
        )

    def signal_heads(self, time_s: float) -> tuple[int, ...]:
        """Things that are the traffic lights of the approach that the ego is on, if they are near."""
        s_m, _, _ = self.simulation.vehicle_at(0, time_s + WARM_UP_S)
        front_m = s_m + EGO_CENTRE_AHEAD_M + 0.5 * EGO_SIZE_M[0]
        for gate in self.stage.traffic[0].vehicle.trip.gates:
            if gate.approach is None:
                continue
            # The light behind the junction holds until one has left it.
            left_m = max((p.leave_m for p in self._passages if p.junction == gate.number), default=gate.s_m)
            if s_m < left_m and gate.s_m - front_m < SIGNAL_AHEAD_M:
                return self.stage.heads.get((gate.number, gate.approach), ())
        return ()

    def passes_narrow_place(self) -> bool:
        """Whether the ego passes a place where a work zone reaches into its lane."""
        places_m = [self.simulation.vehicle_at(0, time_s + WARM_UP_S)[0] for time_s in (0.0, self.duration_s)]
        first, last = (int(place_m / STEP_M) for place_m in places_m)
        return bool(self.stage.traffic[0].vehicle.trip.narrow[first:last].any())

    @property
    def _path(self) -> Path:
        return self.stage.traffic[0].vehicle.trip.path

    @property
    def _passages(self) -> tuple[Passage, ...]:
        return self.stage.traffic[0].vehicle.trip.passages

    def _driven(self, number: int, part: int, time_s: float) -> State:
        """A vehicle's box, or that of its trailer (part 1): each turns with the path under its own rear axle."""
        item = self.stage.traffic[number]
        s_m, speed, _ = self.simulation.vehicle_at(number, time_s + WARM_UP_S)
        length = item.shapes[part].size_m[0]
        if part:
            # The towing part's back, the gap, and what of the trailer lies before its axle.
            s_m -= (0.5 - AXLE_SHARE) * item.shapes[0].size_m[0] + HITCH_M + (0.5 + AXLE_SHARE) * length
        x, y, heading, _ = item.vehicle.trip.path.at(s_m)
        ahead = AXLE_SHARE * length
        pose = transform_from_planar(x + ahead * math.cos(heading), y + ahead * math.sin(heading), heading)
        return State(pose, speed, self.simulation.lamps_at(number, time_s + WARM_UP_S))

    def _walked(self, number: int, time_s: float) -> State:
        s_m, speed = self.simulation.walker_at(number, time_s + WARM_UP_S)
        x, y, heading, _ = self.stage.people[number].walker.path.at(s_m)
        return State(transform_from_planar(x, y, heading), speed)


def build_scene(seed: int, index: int, duration_s: float, city_name: str | None = None) -> Scene:
    """Make scene ``index`` of the world with this seed, recorded from start to end; see :func:`stage.build_stage`.

    If the ego turns out not to do what the scene is about, another is drawn; after ``ATTEMPTS``, or in a scene too
    short for that, it is said to drive on.

    Raises:
        ValueError: unknown city.
    """
    for attempt in range(ATTEMPTS if duration_s >= LONG_ENOUGH_S else 1):
        scene = _recorded(build_stage(seed, index, duration_s, city_name, attempt))
        if is_shown(scene):
            return scene
    return Scene(replace(scene.stage, manoeuvre=Manoeuvre.DRIVE_ON), scene.simulation)


def _recorded(stage: Stage) -> Scene:
    """Whoever would ever touch somebody else is left out, and then everybody moves again without him."""
    while True:
        scene = Scene(stage, simulate(stage))
        scene.simulation.run(stage.duration_s + WARM_UP_S)
        stage, touched = _without_touching(scene)
        if not touched:
            return scene


def simulate(stage: Stage) -> Simulation:
    """All actors of a stage, at its first moment."""
    return Simulation(stage.plan, [item.vehicle for item in stage.traffic], [person.walker for person in stage.people])


def _without_touching(scene: Scene) -> tuple[Stage, int]:
    """The stage without those who touch somebody else at any time (the ego always stays), and how many they were."""
    stage = scene.stage
    agents = [(index, thing) for index, thing in enumerate(scene.things) if thing.annotated]
    owner = {thing: actor for actor, things in scene.things_of_actor.items() for thing in things}
    sizes = np.array([EGO_SIZE_M[:2], *(thing.shape.size_m[:2] for _, thing in agents)])
    poses = np.stack([scene.ego_box(0.0), *(thing.state_at(0.0).world_from_object for _, thing in agents)])
    moving = [row for row, (_, thing) in enumerate(agents, start=1) if not thing.still]
    checked = np.array([0, *moving])
    out: set[int] = set()
    for time_s in np.arange(-OVERLAP_CHECK_STEP_S, scene.duration_s + OVERLAP_CHECK_STEP_S, OVERLAP_CHECK_STEP_S):
        poses[0] = scene.ego_box(time_s)
        for row in moving:
            poses[row] = agents[row - 1][1].state_at(time_s).world_from_object
        for first, second in overlapping_pairs(poses, sizes, rows=checked):
            if first not in out and second not in out:
                out.add(second)
    gone = {agents[row - 1][0] for row in out}
    actors = {owner[index] for index in gone if index in owner}
    kept = [index for index in range(len(stage.still)) if index not in gone]
    renumbered = {old: new for new, old in enumerate(kept)}
    reduced = replace(
        stage,
        still=tuple(stage.still[index] for index in kept),
        heads={key: tuple(renumbered[index] for index in heads) for key, heads in stage.heads.items()},
        traffic=tuple(item for number, item in enumerate(stage.traffic) if number not in actors),
        people=tuple(
            person for number, person in enumerate(stage.people, start=len(stage.traffic)) if number not in actors
        ),
    )
    return reduced, len(gone)

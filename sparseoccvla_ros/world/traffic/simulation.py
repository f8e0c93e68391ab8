"""Everybody moves together: vehicles follow, stop and yield; pedestrians wait and cross.

Each vehicle watches the strip of ground that its path sweeps: whoever stands in it is a leader. It stops for signals
that are not green and for pedestrians who claim a crossing, and slows down for bends. Nobody leaves the path. The ego
is vehicle 0: driven like the others, or from outside (:meth:`Simulation.place_ego`), in which case the others react to
where it really is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.labels.facts import Reason
from sparseoccvla_ros.world.streets.junction import Movement
from sparseoccvla_ros.world.streets.plan import Plan
from sparseoccvla_ros.world.traffic.actors import Kerb, Vehicle, Walker
from sparseoccvla_ros.world.traffic.following import STEP_S, acceleration, can_stop, pressure
from sparseoccvla_ros.world.traffic.path import STEP_M
from sparseoccvla_ros.world.traffic.trip import GateKind

#: Vehicles look this far ahead along their path, in steps of a metre.
SIGHT_M = 45
#: Who is farther from the ego stands still until it comes near, and again when it is far; one does not see so far.
ACTIVE_M, FROZEN_M = 200.0, 260.0
VEHICLE_MARGIN_M, WALKER_MARGIN_M = 0.25, 0.6
LATERAL_MPS2, BEND_BRAKE_MPS2, NARROW_MPS = 1.6, 1.2, 6.5
#: Walkers farther from the ego stand still.
WALK_M = 110.0
#: Braking with which drivers still stop at an amber light, or for somebody who waits at a crossing.
SIGNAL_BRAKE_MPS2, ZEBRA_BRAKE_MPS2 = 3.0, 2.5
#: Walkers change their speed at most this much in a step.
WALKER_STEP_MPS = 0.7
INDICATE_BEFORE_M = 30.0
NOBODY = -1


@dataclass(frozen=True)
class Moment:
    """All actors at one step: vehicles' ``s_m`` (rear axle along the path), ``speed_mps``, ``accel_mps2`` [V]; the
    same of walkers [W]; why each vehicle drives as it does: ``reason`` [V] index into ``tuple(Reason)``,
    ``leader`` [V] actor number (vehicles first, then walkers) or ``NOBODY``. ``active`` [V]: near enough to the ego to
    move at all.
    """

    s_m: np.ndarray
    speed_mps: np.ndarray
    accel_mps2: np.ndarray
    walker_s_m: np.ndarray
    walker_mps: np.ndarray
    reason: np.ndarray
    leader: np.ndarray
    active: np.ndarray


@dataclass(frozen=True)
class EgoPlace:
    """The ego as driven from outside: rear axle, world x, y, heading, speed; arc length of its own path beside it."""

    x_m: float
    y_m: float
    heading_rad: float
    speed_mps: float
    along_m: float


_REASONS = tuple(Reason)


class Simulation:
    """Steps all actors; time is in seconds since the first moment. Past moments stay readable."""

    def __init__(self, plan: Plan, vehicles: Sequence[Vehicle], walkers: Sequence[Walker]) -> None:
        self.plan = plan
        self.vehicles = tuple(vehicles)
        self.walkers = tuple(walkers)
        self._ego: EgoPlace | None = None
        longest = max(len(v.trip.path.points_m) for v in vehicles)
        count = len(vehicles)
        self._points = np.zeros((count, longest, 2), dtype=np.float32)
        self._tangents = np.zeros((count, longest, 2), dtype=np.float32)
        self._limits = np.zeros((count, longest))
        self._narrow = np.zeros((count, longest), dtype=bool)
        self._last = np.zeros(count, dtype=np.int64)
        # Coordinates relative to the ego's start keep float32 exact to less than a millimetre.
        self._origin = vehicles[0].trip.path.points_m[0].copy()
        for number, vehicle in enumerate(vehicles):
            path = vehicle.trip.path
            size = len(path.points_m)
            self._points[number, :size] = path.points_m - self._origin
            self._points[number, size:] = 1e6
            self._tangents[number, :size] = path.tangents
            self._narrow[number, :size] = vehicle.trip.narrow
            cap = np.where(vehicle.trip.narrow, NARROW_MPS, 40.0)
            self._limits[number, :size] = path.speed_limits_mps(LATERAL_MPS2, BEND_BRAKE_MPS2, cap)
            self._limits[number, size:] = self._limits[number, size - 1]
            self._last[number] = size - 1
        self._length = np.array([v.length_m for v in vehicles])
        self._width = np.array([v.width_m for v in vehicles])
        self._axle = np.array([v.axle_m for v in vehicles])
        self._cruise = np.array([v.cruise_mps for v in vehicles])
        self._slow = np.array([[v.slow_from_s, v.slow_until_s, v.slow_mps] for v in vehicles])
        self._radius = np.array([w.radius_m for w in walkers])
        self._stroll = np.array([w.speed_mps for w in walkers])
        self._starts = np.array([w.starts_s for w in walkers])
        self._gate = np.zeros(count, dtype=np.int64)
        self._kerb = np.zeros(len(walkers), dtype=np.int64)
        # Bodies as rows of discs along the vehicle.
        self._owner: list[int] = []
        along: list[float] = []
        for number, vehicle in enumerate(vehicles):
            radius = 0.5 * vehicle.width_m
            reach = max(0.5 * vehicle.length_m - radius, 0.0)
            discs = max(2, math.ceil(2.0 * reach / vehicle.width_m) + 1)
            for offset in np.linspace(-reach, reach, discs):
                self._owner.append(number)
                along.append(vehicle.axle_m + float(offset))
        self._disc_owner = np.array(self._owner)
        self._disc_along = np.array(along)
        start = Moment(
            np.array([v.s_m for v in vehicles]),
            np.array([v.speed_mps for v in vehicles]),
            np.zeros(count),
            np.array([w.s_m for w in walkers]),
            np.where(self._starts <= 0.0, self._stroll, 0.0) if walkers else np.zeros(0),
            np.zeros(count, dtype=np.int64),
            np.full(count, NOBODY),
            np.ones(count, dtype=bool),
        )
        self._moments = [start]
        self._walker_at = np.array([w.path.at(w.s_m)[:2] for w in walkers]).reshape(-1, 2) - self._origin
        self._walker_ahead = np.zeros((len(walkers), 2))
        self._decide()

    @property
    def time_s(self) -> float:
        """Of the last moment."""
        return (len(self._moments) - 1) * STEP_S

    def place_ego(self, place: EgoPlace) -> None:
        """From now on the ego is where this says; call before every :meth:`step`.

        Others react to where it is. Its own acceleration becomes what a driver under the common rules would choose
        there, which nobody has to follow.
        """
        self._ego = place

    def run(self, until_s: float) -> None:
        """Step until the time is reached."""
        while self.time_s < until_s:
            self.step()

    def step(self) -> None:
        """Everybody moves on by ``STEP_S`` and decides anew."""
        now = self._moments[-1]
        s_m = now.s_m + np.where(now.active, (now.speed_mps + 0.5 * now.accel_mps2 * STEP_S) * STEP_S, 0.0)
        speed = np.maximum(now.speed_mps + now.accel_mps2 * STEP_S, 0.0)
        walker_s = now.walker_s_m + now.walker_mps * STEP_S
        copies = (part.copy() for part in (now.reason, now.leader, now.active))
        self._moments.append(Moment(s_m, speed, now.accel_mps2.copy(), walker_s, now.walker_mps.copy(), *copies))
        self._decide()

    def vehicle_at(self, number: int, time_s: float) -> tuple[float, float, float]:
        """Path place (m), speed (m/s) and acceleration (m/s^2) of a vehicle at a time that has passed."""
        index = min(max(int(time_s / STEP_S + 1e-9), 0), len(self._moments) - 1)
        moment, passed_s = self._moments[index], time_s - index * STEP_S
        if not moment.active[number]:
            return float(moment.s_m[number]), 0.0, 0.0
        accel = float(moment.accel_mps2[number])
        speed = float(moment.speed_mps[number])
        if accel < 0.0 and passed_s > 0.0 and speed + accel * passed_s < 0.0:
            passed_s = -speed / accel
        s_m = float(moment.s_m[number]) + (speed + 0.5 * accel * passed_s) * passed_s
        return s_m, max(speed + accel * passed_s, 0.0), accel

    def walker_at(self, number: int, time_s: float) -> tuple[float, float]:
        """Path place (m) and speed (m/s) of a walker at a time that has passed."""
        index = min(max(int(time_s / STEP_S + 1e-9), 0), len(self._moments) - 1)
        moment = self._moments[index]
        speed = float(moment.walker_mps[number])
        return float(moment.walker_s_m[number]) + speed * (time_s - index * STEP_S), speed

    def reason_at(self, number: int, time_s: float) -> tuple[Reason, int]:
        """Why a vehicle drives as it does, and the actor (vehicles first, then walkers) behind it or ``NOBODY``."""
        index = min(max(int(time_s / STEP_S + 1e-9), 0), len(self._moments) - 1)
        moment = self._moments[index]
        return _REASONS[int(moment.reason[number])], int(moment.leader[number])

    def lamps_at(self, number: int, time_s: float) -> Lamps:
        """What a vehicle's lamps show."""
        s_m, speed, accel = self.vehicle_at(number, time_s)
        lamps = Lamps.BRAKE if accel < -0.5 or speed < 0.05 else Lamps.NONE
        for passage in self.vehicles[number].trip.passages:
            if passage.enter_m - INDICATE_BEFORE_M < s_m < passage.leave_m:
                if passage.movement is Movement.LEFT:
                    lamps |= Lamps.LEFT
                elif passage.movement is Movement.RIGHT:
                    lamps |= Lamps.RIGHT
        return lamps

    # ------------------------------------------------------------------ decisions

    def _decide(self) -> None:
        """Set the accelerations and walking speeds that hold from the last moment on."""
        now, time_s = self._moments[-1], self.time_s
        if self._ego is not None:
            now.s_m[0], now.speed_mps[0] = self._ego.along_m, self._ego.speed_mps
        index = np.minimum((now.s_m / STEP_M).astype(np.int64), self._last)
        rows = np.arange(len(self.vehicles))
        shift = (now.s_m - index * STEP_M).astype(np.float32)
        at, ahead = self._points[rows, index], self._tangents[rows, index]
        at = at + ahead * shift[:, None]
        speed = now.speed_mps.copy()
        if self._ego is not None:
            place = self._ego
            at[0] = np.array([place.x_m, place.y_m]) - self._origin
            ahead[0] = math.cos(place.heading_rad), math.sin(place.heading_rad)
        away_m = np.hypot(*(at - at[0]).T)
        moving = self._moments[-2].active if len(self._moments) > 1 else np.zeros(len(at), dtype=bool)
        active = away_m < np.where(moving, FROZEN_M, ACTIVE_M)
        discs = at[self._disc_owner] + ahead[self._disc_owner] * self._disc_along[:, None].astype(np.float32)
        discs = np.where(active[self._disc_owner, None], discs, np.float32(1e6))
        self._walk(time_s, at, ahead, speed, discs)
        self._drive(time_s, index, active, discs, ahead, speed)

    def _drive(
        self,
        time_s: float,
        index: np.ndarray,
        active: np.ndarray,
        discs: np.ndarray,
        heading: np.ndarray,
        speed: np.ndarray,
    ) -> None:
        now = self._moments[-1]
        gap, leader, along = self._look_ahead(index, active, discs, heading, speed, now)
        pressed = np.where(leader != NOBODY, pressure(gap, speed, speed - along), 0.0)
        is_walker = leader >= len(self.vehicles)
        reason = np.where(is_walker, _REASONS.index(Reason.PEDESTRIAN), _REASONS.index(Reason.LEADER))
        for number in np.nonzero(active)[0]:
            held = self._held_at_gate(int(number), time_s)
            if held is None:
                continue
            line_gap, why, who = held
            more = float(pressure(np.array(line_gap), speed[number], speed[number]))
            if more > pressed[number]:
                pressed[number], reason[number] = more, _REASONS.index(why)
                leader[number] = who
        cruise = np.where((self._slow[:, 0] <= time_s) & (time_s < self._slow[:, 1]), self._slow[:, 2], self._cruise)
        limit = self._limits[np.arange(len(index)), index]
        accel = acceleration(speed, np.minimum(cruise, limit), pressed, now.accel_mps2)
        accel = np.where(active, accel, 0.0)
        # Who presses with less than a fifth of the free wish does not matter.
        bend = (pressed < 0.2) & (limit < np.minimum(speed + 0.5, cruise))
        ahead = np.minimum(index[:, None] + np.arange(0, 60, 4), self._last[:, None])
        narrow = self._narrow[np.arange(len(index))[:, None], ahead].any(axis=1)
        reason = np.where(pressed < 0.2, _REASONS.index(Reason.FREE_ROAD), reason)
        reason = np.where(bend, np.where(narrow, _REASONS.index(Reason.NARROW), _REASONS.index(Reason.BEND)), reason)
        leader = np.where(pressed < 0.2, NOBODY, leader)
        now.accel_mps2[:] = accel
        now.reason[:] = reason
        now.leader[:] = leader
        now.active[:] = active

    def _look_ahead(
        self,
        index: np.ndarray,
        active: np.ndarray,
        discs: np.ndarray,
        heading: np.ndarray,
        speed: np.ndarray,
        now: Moment,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each vehicle: free distance before its front, who ends it, and that actor's speed along the path."""
        count = len(self.vehicles)
        gap, leader, along = np.full(count, np.inf), np.full(count, NOBODY), np.zeros(count)
        looking = np.nonzero(active)[0]
        front = np.floor((self._axle + 0.5 * self._length) / STEP_M).astype(np.int64)
        ahead = index[looking, None] + front[looking, None] + np.arange(SIGHT_M)[None] * int(1.0 / STEP_M)
        beyond = ahead > self._last[looking, None]
        swept = self._points[looking[:, None], np.minimum(ahead, self._last[looking, None])]
        swept = np.where(beyond[..., None], np.float32(-1e6), swept)
        # A walker counts where it is and where it will be in a second.
        walkers = self._walker_at.astype(np.float32)
        soon = (self._walker_at + self._walker_ahead).astype(np.float32)
        centres = np.concatenate([discs, walkers, soon])
        owners = np.concatenate([self._disc_owner, *[count + np.arange(len(walkers))] * 2])
        radii = np.concatenate([0.5 * self._width[self._disc_owner], self._radius, self._radius])
        margin = np.where(owners < count, VEHICLE_MARGIN_M, WALKER_MARGIN_M)
        near = np.hypot(*(centres - discs[0]).T) < ACTIVE_M + SIGHT_M
        centres, owners, radii = centres[near], owners[near], (radii + margin)[near]
        reach = (0.5 * self._width[looking, None] + radii[None]).astype(np.float32) ** 2
        away = (swept[:, :, None, 0] - centres[None, None, :, 0]) ** 2
        away += (swept[:, :, None, 1] - centres[None, None, :, 1]) ** 2
        touched = away < reach[:, None]
        touched &= (owners[None] != looking[:, None])[:, None]
        first = touched.any(axis=2)
        found = first.any(axis=1)
        step = first.argmax(axis=1)
        for row in np.nonzero(found)[0]:
            number = int(looking[row])
            who = int(owners[touched[row, step[row]].argmax()])
            gap[number] = step[row] + 0.5
            leader[number] = who
            tangent = self._tangents[number, min(int(ahead[row, step[row]]), int(self._last[number]))]
            velocity = heading[who] * speed[who] if who < count else self._walker_ahead[who - count]
            along[number] = max(float(velocity @ tangent), 0.0)
        return gap, leader, along

    def _held_at_gate(self, number: int, time_s: float) -> tuple[float, Reason, int] | None:
        """Distance before the next gate that holds this vehicle, why, and who; None if it may go on."""
        vehicle, now = self.vehicles[number], self._moments[-1]
        front_m = float(now.s_m[number]) + vehicle.axle_m + 0.5 * vehicle.length_m
        gates = vehicle.trip.gates
        while self._gate[number] < len(gates) and gates[self._gate[number]].s_m < front_m - 0.3:
            self._gate[number] += 1
        speed = float(now.speed_mps[number])
        end_m = vehicle.trip.path.length_m - front_m
        if end_m < SIGHT_M:
            return max(end_m, 0.0), Reason.LEADER, NOBODY
        for gate in gates[self._gate[number] : self._gate[number] + 2]:
            gap_m = gate.s_m - front_m
            if gap_m > SIGHT_M:
                break
            if gate.kind is GateKind.SIGNAL:
                assert gate.approach is not None
                lamp = self.plan.junctions[gate.number].signal.lamp(gate.approach, time_s)
                # Whoever could only stop by emergency braking drives on.
                if lamp is not Lamps.GREEN and can_stop(speed, max(gap_m, 0.01), SIGNAL_BRAKE_MPS2):
                    return gap_m, Reason.RED_LIGHT, NOBODY
            elif gate.number in self._claimed and can_stop(speed, max(gap_m, 0.01), ZEBRA_BRAKE_MPS2):
                return gap_m, Reason.PEDESTRIAN, len(self.vehicles) + self._claimed[gate.number]
        return None

    def _walk(self, time_s: float, at: np.ndarray, ahead: np.ndarray, speed: np.ndarray, discs: np.ndarray) -> None:
        """Set the walking speeds and note who claims which crossing."""
        now = self._moments[-1]
        self._claimed: dict[int, int] = {}
        if not self.walkers:
            return
        # What each vehicle may need to stop, as a straight line from its front.
        front = at + ahead * (self._axle + 0.5 * self._length)[:, None]
        tip = front + ahead * (speed**2 / (2.0 * ZEBRA_BRAKE_MPS2))[:, None]
        sweeps = (at + ahead * (self._axle - 0.5 * self._length)[:, None], tip, 0.5 * self._width)
        for number, walker in enumerate(self.walkers):
            if abs(self._walker_at[number] - at[0]).max() > WALK_M:
                now.walker_mps[number] = 0.0
                continue
            s_m = float(now.walker_s_m[number])
            x, y, heading, _ = walker.path.at(s_m)
            way = np.array([math.cos(heading), math.sin(heading)])
            self._walker_at[number] = np.array([x, y]) - self._origin
            wish = walker.speed_mps if time_s >= walker.starts_s and s_m < walker.path.length_m - 0.2 else 0.0
            on_road = False
            kerbs = walker.kerbs
            while self._kerb[number] < len(kerbs) and kerbs[self._kerb[number]].until_m < s_m:
                self._kerb[number] += 1
            if wish and self._kerb[number] < len(kerbs):
                kerb = kerbs[self._kerb[number]]
                on_road = s_m > kerb.s_m
                waits = kerb.s_m - 0.5 < s_m <= kerb.s_m
                if kerb.kind is GateKind.ZEBRA and (on_road or waits):
                    self._claimed.setdefault(kerb.number, number)
                if waits and not self._may_cross(walker, kerb, time_s, sweeps):
                    wish = 0.0
            if on_road:
                # Somebody drives over the crossing nevertheless: stop before being touched.
                gap = np.hypot(*(discs - self._walker_at[number] - way * 0.9).T) - 0.5 * self._width[self._disc_owner]
                if gap.min() < walker.radius_m + 0.4:
                    wish = 0.0
            now.walker_mps[number] += min(max(wish - now.walker_mps[number], -WALKER_STEP_MPS), WALKER_STEP_MPS)
            self._walker_ahead[number] = way * now.walker_mps[number] if on_road else 0.0

    def _may_cross(
        self, walker: Walker, kerb: Kerb, time_s: float, sweeps: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> bool:
        """Whether a pedestrian at a kerb steps onto the road."""
        if kerb.kind is GateKind.SIGNAL:
            needed_s = (kerb.until_m - kerb.s_m) / walker.speed_mps
            if self.plan.junctions[kerb.number].signal.walk_left_s(time_s) < needed_s:
                return False
        places = np.linspace(kerb.s_m, kerb.until_m, 7)
        line = np.array([walker.path.at(float(s))[:2] for s in places]) - self._origin
        rear, tip, half = sweeps
        span = tip - rear
        share = np.einsum('pvi,vi->pv', line[:, None] - rear[None], span) / np.maximum((span**2).sum(axis=1), 1e-6)
        foot = rear[None] + np.clip(share, 0.0, 1.0)[..., None] * span[None]
        away = np.linalg.norm(line[:, None] - foot, axis=-1)
        return bool((away > half[None] + 1.2).all())

"""What would happen if the ego did something else: rollouts over 3 s while all others do as recorded.

``LEFT`` and ``RIGHT`` are a kinematic bicycle's: it brakes or speeds up to ``TURN_MPS`` and steers to ``TURN_RADIUS_M``
as fast as steering rate and lateral acceleration allow. The other options stay on the route and differ in speed. A
rollout ends with the first contact. Stop lines are passed by the ego's front, and count while it is still on the road.
What a light will show is not foreseen: one that is red now makes a manoeuvre unsafe or, if it changes before the line
is reached, its outcome unsure; never safe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseoccvla_ros.data.occ3d import CLASS_NAMES
from sparseoccvla_ros.geometry import inverse, transform_from_planar, yaw_of
from sparseoccvla_ros.world.bodies.footprints import footprints, still_footprints
from sparseoccvla_ros.world.bodies.overlap import overlapping_pairs
from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.labels.facts import Option
from sparseoccvla_ros.world.scene import Scene
from sparseoccvla_ros.world.stage import WARM_UP_S
from sparseoccvla_ros.world.streets.street import GROUND_LABELS
from sparseoccvla_ros.world.traffic.trip import GateKind

HORIZON_S = 3.0
STEP_S = 0.1
TURN_MPS = 4.0
TURN_RADIUS_M = 8.0
TURN_ACCEL_MPS2, TURN_BRAKE_MPS2 = 1.5, 4.0
LATERAL_ACCEL_MPS2 = 4.0
#: Full lock within 0.8 s.
CURVATURE_RATE = 1.0 / (0.8 * TURN_RADIUS_M)
SPEED_UP_MPS2, FASTEST_MPS = 2.5, 20.0
BRAKE_FIRMLY_MPS2 = 6.0
#: Nothing farther can be reached, nor reach the ego, within the horizon.
REACH_M = 90.0
#: A front may stand this far beyond a stop line, and lines end this far beside the route.
OVER_LINE_M, BESIDE_LINE_M = 0.5, 4.0
DRIVEABLE = 'driveable_surface'


@dataclass(frozen=True)
class Rollout:
    """What an option leads to: class of the ground where the ego's middle first leaves the road (``DRIVEABLE`` if it
    does not), indices of the things first touched, whether before that a stop line is passed at a light that is red now
    and then, or at one that is unsure (amber then, or other then than now), and the time of the first of these events,
    None if there is none.
    """

    ends_on: str
    touched: tuple[int, ...]
    time_s: float | None
    runs_red: bool = False
    light_unsure: bool = False


class WhatIf:
    """Rollouts in one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._ego_from_box = inverse(scene.world_from_ego(0.0)) @ scene.ego_box(0.0)
        still = still_footprints(scene.things)
        self._still, self._still_owner, self._still_size_m = still.world_from_middle, still.owner, still.size_m
        self._moving = [index for index, thing in enumerate(scene.things) if not thing.still]

    def roll_out(self, time_s: float) -> dict[Option, Rollout]:
        """Outcome of each option that begins at ``time_s``.

        Empty where less than ``HORIZON_S`` of the scene is left: nobody knows what the others do then.
        """
        if time_s + HORIZON_S > self._scene.duration_s + 1e-9:
            return {}
        options = list(Option)
        ego = np.stack([self._way(option, time_s) for option in options]) @ self._ego_from_box  # [options, steps, 4, 4]
        touched = self._first_contacts(time_s, ego)
        return {
            option: self._rollout(time_s, ego[number], *touched.get(number, (None, ())))
            for number, option in enumerate(options)
        }

    def _rollout(self, time_s: float, boxes: np.ndarray, contact: int | None, touched: tuple[int, ...]) -> Rollout:
        until = len(boxes) if contact is None else contact + 1
        kinds = self._scene.plan.ground_at(boxes[:until, 0, 3], boxes[:until, 1, 3])
        names = [CLASS_NAMES[label] for label in GROUND_LABELS[kinds]]
        left = next((step for step, name in enumerate(names) if name != DRIVEABLE), None)
        until = until if left is None else min(until, left + 1)
        passed, red = self._lights_passed(time_s, boxes[:until])
        events = [step for step in (left, contact, passed) if step is not None]
        first_s = round(STEP_S * (min(events) + 1), 3) if events else None
        ends_on = DRIVEABLE if left is None else names[left]
        return Rollout(ends_on, touched, first_s, passed is not None and red, passed is not None and not red)

    def _lights_passed(self, time_s: float, boxes: np.ndarray) -> tuple[int | None, bool]:
        """Step at which the front first passes a stop line of the route whose light is not green both now and then, and
        whether it is red both now and then.
        """
        half_m = 0.5 * self._scene.ego_size_m[0]
        boxes = np.concatenate([self._scene.ego_box(time_s)[None], boxes])
        fronts_m = boxes[:, :2, 3] + half_m * boxes[:, :2, 0]
        trip = self._scene.stage.traffic[0].vehicle.trip
        for gate in trip.gates:
            if gate.kind is not GateKind.SIGNAL or gate.approach is None:
                continue
            line_from_world = inverse(transform_from_planar(*trip.path.at(gate.s_m)[:3]))
            ahead_m, left_m = line_from_world[:2, :2] @ fronts_m.T + line_from_world[:2, 3:]
            over = ahead_m > OVER_LINE_M
            passes = np.nonzero(~over[:-1] & over[1:] & (np.abs(left_m[1:]) < BESIDE_LINE_M))[0]
            if len(passes):
                step = int(passes[0])
                signal, now_s = self._scene.plan.junctions[gate.number].signal, time_s + WARM_UP_S
                lamps = {signal.lamp(gate.approach, at_s) for at_s in (now_s, now_s + STEP_S * (step + 1))}
                if lamps != {Lamps.GREEN}:
                    return step, lamps == {Lamps.RED}
        return None, False

    def _first_contacts(self, time_s: float, ego: np.ndarray) -> dict[int, tuple[int, tuple[int, ...]]]:
        """By number of the option: first step with a contact, and the things touched then."""
        here_m = ego[0, 0, :2, 3]
        near = np.nonzero(np.hypot(*(self._still[:, :2, 3] - here_m).T) < REACH_M)[0]
        moving = [
            index
            for index in self._moving
            if np.hypot(*(self._scene.things[index].state_at(time_s).world_from_object[:2, 3] - here_m)) < REACH_M
        ]
        own = [footprints(self._scene.things[index].shape) for index in moving]
        owners = np.concatenate(
            [self._still_owner[near], [index for index, parts in zip(moving, own, strict=True) for _ in parts]]
        ).astype(np.int64)
        count = len(ego)
        sizes = np.concatenate(
            [
                np.tile(self._scene.ego_size_m[:2], (count, 1)),
                self._still_size_m[near],
                np.array([size for parts in own for _, size in parts]).reshape(-1, 2),
            ]
        )
        contacts: dict[int, tuple[int, tuple[int, ...]]] = {}
        for step in range(ego.shape[1]):
            then_s = time_s + STEP_S * (step + 1)
            others = [
                self._scene.things[index].state_at(then_s).world_from_object @ part
                for index, parts in zip(moving, own, strict=True)
                for part, _ in parts
            ]
            poses = np.concatenate([ego[:, step], self._still[near], np.array(others).reshape(-1, 4, 4)])
            # Only what is near some ego can touch it, and pairs of others are of no interest.
            away = np.hypot(*(poses[count:, None, :2, 3] - poses[None, :count, :2, 3]).transpose(2, 0, 1)).min(axis=1)
            close = np.nonzero(away < 4.0 + np.hypot(*sizes[count:].T))[0]
            chosen = np.concatenate([np.arange(count), count + close])
            touched: dict[int, set[int]] = {}
            for first, second in overlapping_pairs(poses[chosen], sizes[chosen]):
                if first < count <= second:
                    touched.setdefault(first, set()).add(int(owners[close[second - count]]))
            for number, things in touched.items():
                contacts.setdefault(number, (step, tuple(sorted(things))))
            if len(contacts) == count:
                break
        return contacts

    def _way(self, option: Option, time_s: float) -> np.ndarray:
        """Poses of the ego [steps, 4, 4] from ``STEP_S`` on."""
        speed_mps = self._scene.ego_motion(time_s).speed_mps
        if option in (Option.LEFT, Option.RIGHT):
            return self._turn(time_s, speed_mps, 1.0 if option is Option.LEFT else -1.0)
        steps_s = STEP_S * np.arange(1, round(HORIZON_S / STEP_S) + 1)
        if option is Option.BRAKE:
            braking_s = np.minimum(steps_s, speed_mps / BRAKE_FIRMLY_MPS2)
            arc_m = speed_mps * braking_s - 0.5 * BRAKE_FIRMLY_MPS2 * braking_s**2
        elif option is Option.ACCELERATE:
            fastest_mps = max(FASTEST_MPS, speed_mps)
            rising_s = np.minimum(steps_s, (fastest_mps - speed_mps) / SPEED_UP_MPS2)
            arc_m = speed_mps * rising_s + 0.5 * SPEED_UP_MPS2 * rising_s**2 + fastest_mps * (steps_s - rising_s)
        else:
            arc_m = speed_mps * steps_s
        here_m, _, _ = self._scene.simulation.vehicle_at(0, time_s + WARM_UP_S)
        route = self._scene.stage.traffic[0].vehicle.trip.path
        return np.array([transform_from_planar(*route.at(here_m + arc)[:3]) for arc in arc_m])

    def _turn(self, time_s: float, speed_mps: float, side: float) -> np.ndarray:
        motion = self._scene.ego_motion(time_s)
        world_from_ego = self._scene.world_from_ego(time_s)
        x, y, heading = world_from_ego[0, 3], world_from_ego[1, 3], yaw_of(world_from_ego)
        curvature = motion.yaw_rate_radps / max(speed_mps, 1.0)
        poses = []
        for _ in range(round(HORIZON_S / STEP_S)):
            change = np.clip(TURN_MPS - speed_mps, -TURN_BRAKE_MPS2 * STEP_S, TURN_ACCEL_MPS2 * STEP_S)
            mean_mps, speed_mps = speed_mps + 0.5 * change, speed_mps + change
            wanted = side * min(1.0 / TURN_RADIUS_M, LATERAL_ACCEL_MPS2 / max(speed_mps, 0.1) ** 2)
            before = curvature
            curvature += np.clip(wanted - curvature, -CURVATURE_RATE * STEP_S, CURVATURE_RATE * STEP_S)
            turned = 0.5 * (before + curvature) * mean_mps * STEP_S
            x += mean_mps * STEP_S * np.cos(heading + 0.5 * turned)
            y += mean_mps * STEP_S * np.sin(heading + 0.5 * turned)
            heading += turned
            poses.append(transform_from_planar(x, y, heading))
        return np.array(poses)

"""Node ``planner``: queries, reasoning tokens, odometry and the driving command to a checked trajectory."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Path
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from sparseoccvla_ros.model.vla import build_planner
from sparseoccvla_ros.msg import (
    DrivingCommand,
    OccupancyForecast,
    OccupancyQueries,
    PlannedTrajectory,
    ReasoningTokens,
)
from sparseoccvla_ros.nodes.base import ManagedNode, publish_if_heard, run_nodes
from sparseoccvla_ros.nodes.conversions.autoware import autoware_message, autoware_trajectory_type
from sparseoccvla_ros.nodes.conversions.basic import stamp_ns_from
from sparseoccvla_ros.nodes.conversions.occupancy import forecast_from, occupancy_from, reasoning_from, scene_from
from sparseoccvla_ros.nodes.conversions.planning import PlanContext, marker_message, path_message, plan_message
from sparseoccvla_ros.nodes.ego_motion import EgoMotionInput
from sparseoccvla_ros.nodes.handover import HandOver
from sparseoccvla_ros.nodes.model_parts import build_part
from sparseoccvla_ros.nodes.parameters import PlannerParameters
from sparseoccvla_ros.nodes.qos import LATCHED, RESULT
from sparseoccvla_ros.nodes.worker import LatestWorker
from sparseoccvla_ros.planning.vehicle import load_vehicle_limits
from sparseoccvla_ros.runtime.pairing import CARRIED, SEPARATE, ScenePair, ScenePairing, ScenePart
from sparseoccvla_ros.runtime.planning import Plan, PlannerInput, PlanningEngine, due
from sparseoccvla_ros.runtime.scene import Command, EgoState, SceneOccupancy, SceneQueries, SceneReasoning

DEADLINE_CHECK_S = 0.1
#: Failures of a scene that a newer scene or a shutdown makes meaningless: no trajectory is published for them.
SILENT_FAILURES = ('superseded', 'reset', 'stopped')


class PlannerNode(ManagedNode):
    """Brings the parts of a scene together by stamp, plans on one worker, publishes one trajectory per scene.

    A scene that cannot be planned for (no odometry, no reasoning within the deadline, a failed stage) gets an
    invalid trajectory that says why.
    """

    parameters: PlannerParameters

    def __init__(self, handover: HandOver | None = None, **node_arguments: Any) -> None:
        super().__init__('planner', PlannerParameters, handover, **node_arguments)
        self._pairing = ScenePairing(SEPARATE if handover is None else CARRIED)
        self._command = (Command[self.parameters.default_command.upper()], 'default')
        self._last_plan: Plan | None = None
        self._plans = 0
        self._worker: LatestWorker[ScenePair] | None = None
        self._ego_motion: EgoMotionInput | None = None
        self._subscriptions_made: list[Subscription] = []
        self._deadline_timer: Timer | None = None
        if handover is not None:
            handover.scene_consumers.append(self._on_scene)
            handover.reasoning_consumers.append(self._on_reasoning)
            handover.failure_consumers.append(self._on_failure)

    def configure(self) -> None:
        """Build model, engine, inputs and outputs."""
        parameters = self.parameters
        _, self._device, model = build_part(self, build_planner)
        limits = load_vehicle_limits(parameters.vehicle_config)
        self._engine = PlanningEngine(
            model,
            limits,
            self._device,
            parameters.seed,
            obstacle_score_threshold=parameters.obstacle_score_threshold,
            stop_if_none=parameters.stop_on_invalid,
        )
        # An untrained encoder fills the whole space with noise, through which no plan goes.
        self._checks_occupancy = parameters.check_occupancy == 'always' or (
            parameters.check_occupancy == 'trained' and parameters.weights != ''
        )
        self._trajectory = self.output(PlannedTrajectory, 'trajectory')
        self._path = self.output(Path, 'path')
        self._markers = self.output(MarkerArray, 'markers')
        autoware_type = autoware_trajectory_type()
        self._autoware = None if autoware_type is None else self.output(autoware_type, 'autoware_trajectory')
        self._ego_motion = EgoMotionInput(self, parameters)
        self._subscriptions_made = [
            self.create_subscription(DrivingCommand, 'driving_command', self._on_command, LATCHED)
        ]
        if self.handover is None:
            self._subscriptions_made += [
                self.create_subscription(OccupancyQueries, 'occupancy_queries', self._on_queries, RESULT),
                self.create_subscription(ReasoningTokens, 'reasoning_tokens', self._on_tokens, RESULT),
                self.create_subscription(PointCloud2, 'occupancy', self._on_occupancy, RESULT),
                self.create_subscription(OccupancyForecast, 'forecast', self._on_forecast, RESULT),
            ]
        self._deadline_timer = self.create_steady_timer(DEADLINE_CHECK_S, self._check_deadlines)
        self._worker = LatestWorker('planner', self._plan, self._on_replaced, self._on_error)

    def release(self) -> None:
        """Stop the worker, then listening."""
        self.active = False
        if self._worker is not None:
            self._worker.close()
        if self._deadline_timer is not None:
            self.destroy_timer(self._deadline_timer)
        if self._ego_motion is not None:
            self._ego_motion.destroy()
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self.destroy_outputs()
        self._pairing.clear()
        self._worker = self._deadline_timer = self._ego_motion = None
        self._subscriptions_made = []

    def forget(self) -> None:
        """Forget poses and the scenes that wait."""
        self._ego_motion.forget()
        self._pairing.clear()

    def status(self) -> list[DiagnosticStatus]:
        """Model, odometry, the last plan."""
        plan = self._last_plan
        problem = self.silence('scenes', 'occupancy_queries') or ('' if plan is None else '; '.join(plan.reasons))
        command, source = self._command
        checked = 'checked' if self._checks_occupancy else 'NOT checked'
        values = {'plans': self._plans, 'occupancy': checked, 'command': command.name, 'command_source': source}
        if plan is not None:
            values |= {f'{name}_ms': f'{ms:.1f}' for name, ms in plan.stage_ms.items()}
            if plan.diversity is not None:
                values['diversity_of_candidates'] = f'{plan.diversity:.2f}'
            values |= {f'gate {check.name}': check.text for check in plan.judged_checks}
        untrained = '' if self.parameters.weights else 'untrained'
        return [
            self.diagnostic('model', untrained, {'device': self.parameters.device}),
            self._ego_motion.status(),
            self.diagnostic('trajectory', problem, {**values, **self.counters}),
        ]

    def _on_command(self, message: DrivingCommand) -> None:
        try:
            self._command = (Command(message.command), 'topic')
        except ValueError:
            self.count('unknown_command', f'{message.command}; expected 0 right, 1 left, 2 straight')

    def _on_queries(self, message: OccupancyQueries) -> None:
        if message.error:
            self._on_failure(stamp_ns_from(message.header.stamp), message.error)
            return
        try:
            scene = scene_from(message, self._device)
        except ValueError as error:
            self.count('queries_malformed', str(error))
            return
        self.clock.observe('scenes', scene.stamp_ns)
        self._on_scene(scene)

    def _on_tokens(self, message: ReasoningTokens) -> None:
        if message.error:
            self._on_failure(stamp_ns_from(message.header.stamp), message.error)
            return
        try:
            reasoning = reasoning_from(message, self._device)
        except ValueError as error:
            self.count('tokens_malformed', str(error))
            return
        self._on_reasoning(reasoning)

    def _on_occupancy(self, message: PointCloud2) -> None:
        try:
            part = SceneOccupancy(stamp_ns_from(message.header.stamp), occupancy_from(message))
        except ValueError as error:
            self.count('occupancy_malformed', str(error))
            return
        if self.active:
            self._add(part)

    def _on_forecast(self, message: OccupancyForecast) -> None:
        try:
            part = forecast_from(message)
        except ValueError as error:
            self.count('forecast_malformed', str(error))
            return
        if self.active:
            self._add(part)

    def _on_scene(self, scene: SceneQueries) -> None:
        if self.active:
            self.heard('scenes')
            self._add(scene)

    def _on_reasoning(self, reasoning: SceneReasoning) -> None:
        if self.active:
            self._add(reasoning)

    def _add(self, part: ScenePart) -> None:
        """On whatever thread produced it; the worker may be gone by then."""
        pair, worker = self._pairing.add(part, self.steady_s()), self._worker
        if pair is not None and worker is not None:
            worker.put(pair)

    def _on_failure(self, stamp_ns: int, reason: str) -> None:
        if not self.active:
            return
        self._pairing.fail(stamp_ns)
        if reason not in SILENT_FAILURES:
            self._publish_invalid(stamp_ns, reason)

    def _check_deadlines(self) -> None:
        limit_s = self.parameters.deadline_s
        for stamp_ns, missing in self._pairing.take_overdue(self.steady_s(), limit_s).items():
            self.count('deadline_missed')
            self._publish_invalid(stamp_ns, f'deadline_missed: no {", no ".join(missing)} within {limit_s} s')

    def _plan(self, pair: ScenePair) -> None:
        scene = pair.scene
        self._ego_motion.wait_until_covered(scene.stamp_ns)
        ego = self._ego_motion.poses.state_at(scene.stamp_ns)
        command = self._command
        plan = self._engine.plan(
            PlannerInput(
                stamp_ns=scene.stamp_ns,
                features=scene.features,
                positions_ego=scene.positions_ego,
                reasoning=pair.reasoning.tokens,
                ego=ego,
                command=command[0],
                occupancy=scene.occupancy if self._checks_occupancy else None,
                forecast=pair.reasoning.forecast,
                ego_missing=f'odometry: {self._ego_motion.poses.missing_reason(scene.stamp_ns)}',
            )
        )
        stage_ms = {**pair.reasoning.stage_ms, **plan.stage_ms}
        elapsed_s = self.steady_s() - pair.arrival_s
        if elapsed_s > self.parameters.deadline_s:
            self.count('deadline_missed')
            reason = f'deadline_missed: planned after {elapsed_s:.2f} s, limit {self.parameters.deadline_s} s'
            refused = self._engine.refuse(scene.stamp_ns, (reason, *plan.reasons), ego)
            plan = replace(refused, candidates=plan.candidates)
        self._publish(replace(plan, stage_ms=stage_ms), ego, command)

    def _publish_invalid(self, stamp_ns: int, reason: str) -> None:
        ego = self._ego_motion.poses.state_at(stamp_ns)
        self._publish(self._engine.refuse(stamp_ns, (reason,), ego), ego, self._command)

    def _publish(self, plan: Plan, ego: EgoState | None, command: tuple[Command, str]) -> None:
        age_s = self.clock.age_s(plan.stamp_ns)
        plan = due(plan, age_s if self.parameters.skip_passed else 0.0, self.parameters.trajectory_rate_hz)
        context = PlanContext(
            stamp_ns=plan.stamp_ns,
            odom_frame=self.parameters.odom_frame,
            odom_from_ego=np.eye(4) if ego is None else ego.odom_from_ego,
            command=command[0],
            command_source=command[1],
            input_age_s=age_s,
        )
        self._plans += 1
        self._last_plan = plan
        publish_if_heard(self._trajectory, lambda: plan_message(plan, context))
        publish_if_heard(self._path, lambda: path_message(plan, context))
        publish_if_heard(self._markers, lambda: marker_message(plan, context))
        if self._autoware is not None and plan.trajectory is not None:
            publish_if_heard(self._autoware, lambda: autoware_message(plan, context))

    def _on_replaced(self, pair: ScenePair) -> None:
        self.count('superseded_scene')

    def _on_error(self, pair: ScenePair, error: BaseException) -> None:
        """Something no check foresaw: the scene gets an invalid trajectory, and the node goes on."""
        self.get_logger().error(f'plan for {pair.scene.stamp_ns} ns failed: {type(error).__name__}: {error}')
        self.count('internal_error')
        self._publish_invalid(pair.scene.stamp_ns, f'internal_error: {type(error).__name__}')


def main(args: list[str] | None = None) -> int:
    """Run the node alone in a process."""
    return run_nodes(lambda: [PlannerNode()], args)


if __name__ == '__main__':
    sys.exit(main())

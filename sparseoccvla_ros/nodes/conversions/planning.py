"""Plans as messages: PlannedTrajectory, nav_msgs/Path and markers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, PoseStamped
from nav_msgs.msg import Path
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from sparseoccvla_ros.msg import GateCheck, PlannedTrajectory, TrajectoryCandidate, TrajectoryPoint
from sparseoccvla_ros.nodes.conversions.basic import (
    duration_from,
    header_from,
    number_array,
    pose_from_matrix,
    time_from,
)
from sparseoccvla_ros.planning.gate import Check
from sparseoccvla_ros.planning.trajectory import Trajectory, poses_in
from sparseoccvla_ros.runtime.planning import Candidate, Plan
from sparseoccvla_ros.runtime.scene import Command

CHOSEN_COLOUR = ColorRGBA(r=0.1, g=0.8, b=0.2, a=1.0)
STOP_COLOUR = ColorRGBA(r=0.9, g=0.5, b=0.0, a=1.0)
FEASIBLE_COLOUR = ColorRGBA(r=0.2, g=0.5, b=0.9, a=0.6)
REFUSED_COLOUR = ColorRGBA(r=0.9, g=0.1, b=0.1, a=0.4)


@dataclass(frozen=True)
class PlanContext:
    """What a plan's messages say besides the plan: where and from what it was made."""

    stamp_ns: int
    odom_frame: str
    odom_from_ego: np.ndarray
    command: Command
    command_source: str
    input_age_s: float


def points_of(trajectory: Trajectory, odom_from_ego: np.ndarray) -> list[TrajectoryPoint]:
    """TrajectoryPoints of a plan in the ego frame, carried into odom."""
    return [
        TrajectoryPoint(
            time_from_start=duration_from(time_s),
            pose=pose_from_matrix(odom_from_point),
            speed_mps=float(speed_mps),
            acceleration_mps2=float(accel_mps2),
            yaw_rate_radps=float(yaw_rate_radps),
        )
        for time_s, odom_from_point, speed_mps, accel_mps2, yaw_rate_radps in zip(
            trajectory.times_s,
            poses_in(odom_from_ego, trajectory),
            trajectory.speed_mps,
            trajectory.accel_mps2,
            trajectory.yaw_rate_radps,
            strict=True,
        )
    ]


def plan_message(plan: Plan, context: PlanContext) -> PlannedTrajectory:
    """PlannedTrajectory of a plan; an invalid one has no points unless it is a stop."""
    return PlannedTrajectory(
        header=header_from(context.stamp_ns, context.odom_frame),
        valid=plan.valid,
        reasons=list(plan.reasons),
        is_stop=plan.is_stop,
        chosen=-1 if plan.chosen is None else plan.chosen,
        points=[] if plan.trajectory is None else points_of(plan.trajectory, context.odom_from_ego),
        candidates=[_candidate_message(candidate, context.odom_from_ego) for candidate in plan.candidates],
        command=int(context.command),
        command_source=context.command_source,
        input_stamp=time_from(context.stamp_ns),
        input_age_s=float(context.input_age_s),
        processing_ms=float(plan.stage_ms.get('planner', 0.0)),
        stages=list(plan.stage_ms),
        stage_ms=number_array('f', np.array(list(plan.stage_ms.values()))),
    )


def path_message(plan: Plan, context: PlanContext) -> Path:
    """nav_msgs/Path of the chosen trajectory, each pose stamped with its time; empty for an invalid plan."""
    path = Path(header=header_from(context.stamp_ns, context.odom_frame))
    if plan.trajectory is not None:
        for time_s, odom_from_point in zip(
            plan.trajectory.times_s, poses_in(context.odom_from_ego, plan.trajectory), strict=True
        ):
            header = header_from(context.stamp_ns + round(time_s * 1e9), context.odom_frame)
            path.poses.append(PoseStamped(header=header, pose=pose_from_matrix(odom_from_point)))
    return path


def marker_message(plan: Plan, context: PlanContext) -> MarkerArray:
    """Line strips: candidates (blue feasible, red refused) and the chosen plan (green) or stop (orange)."""
    header = header_from(context.stamp_ns, context.odom_frame)
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for number, candidate in enumerate(plan.candidates):
        colour = FEASIBLE_COLOUR if candidate.feasible else REFUSED_COLOUR
        if candidate.trajectory is not None:
            markers.append(_line(header, 'candidates', number, candidate.trajectory, context, colour, 0.08))
    if plan.trajectory is not None:
        colour = STOP_COLOUR if plan.is_stop else CHOSEN_COLOUR
        markers.append(_line(header, 'plan', 0, plan.trajectory, context, colour, 0.3))
    return MarkerArray(markers=markers)


def _candidate_message(candidate: Candidate, odom_from_ego: np.ndarray) -> TrajectoryCandidate:
    return TrajectoryCandidate(
        command=int(candidate.command),
        mode=candidate.mode,
        score=float(candidate.score),
        refined=candidate.refined,
        feasible=candidate.feasible,
        reasons=list(candidate.reasons),
        checks=[_check_message(check) for check in candidate.checks],
        points=[] if candidate.trajectory is None else points_of(candidate.trajectory, odom_from_ego),
    )


def _check_message(check: Check) -> GateCheck:
    # the jerk of waypoints far out of this world may be a number that float32 does not hold: infinity then
    with np.errstate(over='ignore'):
        value = float(np.float32(check.value))
    return GateCheck(
        name=check.name,
        value=value,
        limit=float(check.limit),
        unit=check.unit,
        passed=check.passed,
    )


def _line(
    header: Header,
    namespace: str,
    number: int,
    trajectory: Trajectory,
    context: PlanContext,
    colour: ColorRGBA,
    width_m: float,
) -> Marker:
    marker = Marker(
        header=header,
        ns=namespace,
        id=number,
        type=Marker.LINE_STRIP,
        action=Marker.ADD,
        color=colour,
        lifetime=Duration(sec=2),
    )
    marker.pose.orientation.w = 1.0
    marker.scale.x = width_m
    for odom_from_point in poses_in(context.odom_from_ego, trajectory):
        x, y, z = map(float, odom_from_point[:3, 3])
        marker.points.append(Point(x=x, y=y, z=z))
    return marker

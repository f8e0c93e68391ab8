"""Plans as autoware_planning_msgs/Trajectory, where that package is installed.

=========================  ==================================================================================
Autoware                   here
=========================  ==================================================================================
header                     image time and ``odom_frame``; Autoware's controllers want a frame that TF connects to map
time_from_start            after the header's stamp, so the first point's is the age of the plan
pose                       of base_link: middle of the rear axle, as in Autoware
longitudinal_velocity_mps  ``speed_mps``; negative backwards
lateral_velocity_mps       0: the rear axle does not slip sideways
acceleration_mps2          ``acceleration_mps2``
heading_rate_rps           ``yaw_rate_radps``
front_wheel_angle_rad      0: Autoware's controllers find the steering themselves
rear_wheel_angle_rad       0
=========================  ==================================================================================
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from sparseoccvla_ros.nodes.conversions.basic import header_from
from sparseoccvla_ros.nodes.conversions.planning import PlanContext, points_of
from sparseoccvla_ros.runtime.planning import Plan


def autoware_trajectory_type() -> type | None:
    """The message class, None where autoware_planning_msgs is not installed."""
    if find_spec('autoware_planning_msgs') is None:
        return None
    from autoware_planning_msgs.msg import Trajectory

    return Trajectory


def autoware_message(plan: Plan, context: PlanContext) -> Any:
    """autoware_planning_msgs/Trajectory of a plan's points.

    Raises:
        ValueError: the plan has none.
        ImportError: autoware_planning_msgs is not installed.
    """
    from autoware_planning_msgs.msg import Trajectory, TrajectoryPoint

    if plan.trajectory is None:
        raise ValueError('the plan has no trajectory')
    message = Trajectory(header=header_from(context.stamp_ns, context.odom_frame))
    message.points = [
        TrajectoryPoint(
            time_from_start=point.time_from_start,
            pose=point.pose,
            longitudinal_velocity_mps=point.speed_mps,
            acceleration_mps2=point.acceleration_mps2,
            heading_rate_rps=point.yaw_rate_radps,
        )
        for point in points_of(plan.trajectory, context.odom_from_ego)
    ]
    return message

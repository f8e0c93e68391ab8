"""The vehicle's pose and motion from odometry or TF: topic callbacks over the ROS-free PoseBuffer."""

from __future__ import annotations

import threading

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from tf2_msgs.msg import TFMessage

from sparseoccvla_ros.nodes.base import ManagedNode
from sparseoccvla_ros.nodes.conversions.basic import matrix_from_transform, odom_from_ego_of, stamp_ns_from
from sparseoccvla_ros.nodes.parameters import MotionParameters
from sparseoccvla_ros.nodes.qos import motion
from sparseoccvla_ros.runtime.ego_motion import PoseBuffer


class EgoMotionInput:
    """Subscribes the configured pose source of ``node`` and lets a worker wait until a time is covered."""

    def __init__(self, node: ManagedNode, parameters: MotionParameters) -> None:
        self.poses = PoseBuffer(
            max_extrapolation_s=parameters.max_pose_age_s, max_state_age_s=parameters.max_pose_age_s
        )
        self.topic = parameters.odometry_topic if parameters.pose_source == 'odometry' else parameters.tf_topic
        self._node = node
        self._frames = (parameters.odom_frame, parameters.base_frame)
        self._timeout_s = parameters.pose_timeout_s
        self._arrived = threading.Condition()
        qos = motion(parameters.sensor_reliability)
        if parameters.pose_source == 'odometry':
            self._subscription = node.create_subscription(Odometry, self.topic, self._on_odometry, qos)
        else:
            self._subscription = node.create_subscription(TFMessage, self.topic, self._on_tf, qos)

    def destroy(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._subscription)

    def forget(self) -> None:
        """Forget all poses: data time jumped back, and the old run's poses must not answer for the new one."""
        with self._arrived:
            self.poses.clear()

    def wait_until_covered(self, stamp_ns: int) -> bool:
        """Wait (steady clock, at most pose_timeout_s) for a pose at or after ``stamp_ns``; from a worker thread."""
        with self._arrived:
            return self._arrived.wait_for(lambda: (self.poses.newest_ns or 0) >= stamp_ns, self._timeout_s)

    def status(self) -> DiagnosticStatus:
        """Diagnostics of the pose source."""
        problem = self._node.silence('odometry', self.topic)
        return self._node.diagnostic('odometry', problem, {'newest_ns': self.poses.newest_ns, **self.poses.drops})

    def _on_odometry(self, message: Odometry) -> None:
        if not self._node.active:
            return
        odom_frame, base_frame = self._frames
        # some drivers leave child_frame_id empty; a wrong one is refused, never guessed
        if message.header.frame_id != odom_frame or message.child_frame_id not in (base_frame, ''):
            self._node.count(
                'odometry_wrong_frame',
                f'{message.header.frame_id} -> {message.child_frame_id}, expected {odom_frame} -> {base_frame}',
            )
            return
        try:
            odom_from_ego = odom_from_ego_of(message)
        except ValueError:
            self._node.count('odometry_not_finite')
            return
        self._add(stamp_ns_from(message.header.stamp), odom_from_ego)

    def _on_tf(self, message: TFMessage) -> None:
        if not self._node.active:
            return
        for transform in message.transforms:
            if (transform.header.frame_id, transform.child_frame_id) != self._frames:
                continue
            try:
                odom_from_ego = matrix_from_transform(transform.transform)
            except ValueError:
                self._node.count('transform_not_finite')
                continue
            self._add(stamp_ns_from(transform.header.stamp), odom_from_ego)

    def _add(self, stamp_ns: int, odom_from_ego: np.ndarray) -> None:
        self._node.heard('odometry', stamp_ns)  # first: a jump clears the poses of the old run, not this one
        with self._arrived:
            self.poses.add(stamp_ns, odom_from_ego)
            self._arrived.notify_all()

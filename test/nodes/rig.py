"""A car for node tests: publishes six cameras, calibration and odometry, and keeps what the stack says."""

import array
import threading
import time

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage
from tf2_msgs.msg import TFMessage

from sparseoccvla_ros.data.nuscenes import CAMERAS
from sparseoccvla_ros.geometry import transform_from
from sparseoccvla_ros.msg import PlannedTrajectory, SceneStatus
from sparseoccvla_ros.nodes.conversions.basic import pose_from_matrix, stamp_ns_from, time_from

WIDTH_PX, HEIGHT_PX, FOCAL_PX = 352, 198, 280.0
SPEED_MPS = 8.0
START_NS = 1_532_402_927_000_000_000
#: Firing times inside a cycle, seconds after its start, in the order of CAMERAS.
OFFSETS_S = dict(zip(CAMERAS, (0.0, 0.008, 0.016, 0.025, 0.035, 0.045), strict=True))
YAW_RAD = dict(zip(CAMERAS, np.radians([55.0, 0.0, -55.0, -110.0, 180.0, 110.0]), strict=True))
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def seconds(value):
    return round(value * 1e9)


def jpeg(camera, cycle):
    """A picture that differs by camera and cycle."""
    rng = np.random.default_rng([cycle, CAMERAS.index(camera)])
    small = rng.integers(0, 256, (11, 20, 3), dtype=np.uint8)
    image = cv2.resize(small, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode('.jpg', image)[1].tobytes()


class Rig:
    """Runs a publisher node, and a listener node, on one executor thread of their own."""

    def __init__(self):
        self.node = rclpy.create_node('rig')
        self.images = {
            name: self.node.create_publisher(CompressedImage, f'/{name}/image_rect/compressed', 10) for name in CAMERAS
        }
        self.infos = {name: self.node.create_publisher(CameraInfo, f'/{name}/camera_info', 10) for name in CAMERAS}
        self.odometry = self.node.create_publisher(Odometry, '/odom', 200)
        self.static = self.node.create_publisher(TFMessage, '/tf_static', LATCHED)
        self.statuses, self.trajectories = [], []
        self.node.create_subscription(SceneStatus, 'scene_status', self._keep(self.statuses), 100)
        self.node.create_subscription(PlannedTrajectory, 'trajectory', self._keep(self.trajectories), 100)
        self._arrived = threading.Condition()
        self._odometry_ns = None
        self.start_x_m = 0.0
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def close(self):
        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()

    def action_client(self, kind, name, **qos):
        """A client of an action, made on the executor's thread: rclpy's is on the node before it is whole."""
        made = threading.Event()
        task = self.executor.create_task(lambda: ActionClient(self.node, kind, name, **qos))
        task.add_done_callback(lambda _: made.set())
        assert made.wait(20.0), 'the executor has ended'
        return task.result()

    def _keep(self, messages):
        def keep(message):
            with self._arrived:
                messages.append(message)
                self._arrived.notify_all()

        return keep

    def wait(self, condition, timeout_s=20.0):
        """Wait until a condition on what has arrived holds."""
        with self._arrived:
            assert self._arrived.wait_for(condition, timeout_s), (
                f'{len(self.statuses)} statuses, {len(self.trajectories)} trajectories; '
                f'last: {self.statuses[-1:]}, {self.trajectories[-1:]}'
            )

    def wait_until_heard(self, timeout_s=20.0):
        """Every publisher has a subscriber, and the stack's outputs are matched with this rig."""
        publishers = [*self.images.values(), *self.infos.values(), self.odometry, self.static]
        end_s = time.monotonic() + timeout_s
        while not all(publisher.get_subscription_count() for publisher in publishers) or not all(
            self.node.count_publishers(topic) for topic in ('scene_status', 'trajectory')
        ):
            assert time.monotonic() < end_s, 'the stack does not listen'
            time.sleep(0.01)

    def calibrate(self, without_info=()):
        """Publish all mounts, and the CameraInfo of every camera but those ``without_info``."""
        transforms = []
        for name in CAMERAS:
            transform = TransformStamped(child_frame_id=f'{name}_optical')
            transform.header.frame_id = 'base_link'
            pose = pose_from_matrix(ego_from_camera(name))
            position, vector = pose.position, transform.transform.translation
            vector.x, vector.y, vector.z = position.x, position.y, position.z
            transform.transform.rotation = pose.orientation
            transforms.append(transform)
        self.static.publish(TFMessage(transforms=transforms))
        for name in CAMERAS:
            if name not in without_info:
                self.calibrate_camera(name)

    def calibrate_camera(self, name, **changes):
        info = CameraInfo(width=WIDTH_PX, height=HEIGHT_PX, distortion_model='plumb_bob', d=[0.0] * 5)
        info.header.frame_id = f'{name}_optical'
        info.k = [FOCAL_PX, 0.0, WIDTH_PX / 2, 0.0, FOCAL_PX, HEIGHT_PX / 2, 0.0, 0.0, 1.0]
        for field, value in changes.items():
            setattr(info, field, value)
        self.infos[name].publish(info)

    def drive_to(self, stamp_ns):
        """Odometry at 20 Hz up to a time, from half a second before the first one."""
        if self._odometry_ns is None:
            self._odometry_ns = stamp_ns - seconds(1.0)
        while self._odometry_ns < stamp_ns:
            self._odometry_ns = min(self._odometry_ns + seconds(0.05), stamp_ns)
            message = Odometry(child_frame_id='base_link')
            message.header.stamp, message.header.frame_id = time_from(self._odometry_ns), 'odom'
            odom_from_ego = np.eye(4)
            odom_from_ego[0, 3] = self.start_x_m + SPEED_MPS * (self._odometry_ns - START_NS) * 1e-9
            message.pose.pose = pose_from_matrix(odom_from_ego)
            self.odometry.publish(message)

    def restart(self, start_x_m=0.0):
        """The next cycle may be of any time; the car stands at ``start_x_m`` at START_NS."""
        self._odometry_ns, self.start_x_m = None, start_x_m
        self.statuses.clear()
        self.trajectories.clear()

    def cycle(self, number, *, missing=(), data=None, odometry=True):
        """One camera cycle, 0.5 s after the one before; ``data`` replaces the bytes of some cameras."""
        start_ns = START_NS + number * seconds(0.5)
        if odometry:
            self.drive_to(start_ns + seconds(0.05))
        for name in CAMERAS:
            if name not in missing:
                encoded = (data or {}).get(name, None)
                self.image(
                    name, start_ns + seconds(OFFSETS_S[name]), jpeg(name, number) if encoded is None else encoded
                )
        return start_ns + seconds(OFFSETS_S['CAM_FRONT'])

    def image(self, name, stamp_ns, encoded):
        message = CompressedImage(format='jpeg', data=array.array('B', encoded))
        message.header.stamp, message.header.frame_id = time_from(stamp_ns), f'{name}_optical'
        self.images[name].publish(message)

    def status_of(self, stamp_ns):
        return next((m for m in self.statuses if stamp_ns_from(m.header.stamp) == stamp_ns), None)

    def trajectory_of(self, stamp_ns):
        return next((m for m in self.trajectories if stamp_ns_from(m.input_stamp) == stamp_ns), None)

    def run_cycle(self, number, **arguments):
        """Publish a cycle and wait for its status, and for its trajectory if it is accepted."""
        stamp_ns = self.cycle(number, **arguments)
        self.wait(lambda: self.status_of(stamp_ns) is not None)
        if self.status_of(stamp_ns).accepted:
            self.wait(lambda: self.trajectory_of(stamp_ns) is not None)
        return self.status_of(stamp_ns), self.trajectory_of(stamp_ns)


def ego_from_camera(name):
    """A camera 1.5 m up, looking along its yaw."""
    half = YAW_RAD[name] / 2
    ego_from_mount = transform_from(np.array([1.0, 0.0, 1.5]), np.array([0, 0, np.sin(half), np.cos(half)]))
    mount_from_optical = transform_from(np.zeros(3), np.array([-0.5, 0.5, -0.5, 0.5]))
    return ego_from_mount @ mount_from_optical

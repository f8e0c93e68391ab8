"""Quality of service of every topic, chosen once, with the reason."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _keep_last(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


#: Of sensor data, by parameter sensor_reliability: a best-effort reader matches every driver.
RELIABILITY = {'best_effort': ReliabilityPolicy.BEST_EFFORT, 'reliable': ReliabilityPolicy.RELIABLE}


def images(reliability: str) -> QoSProfile:
    """Images and camera_info: an old image is worth nothing; one busy callback must not cost a camera its frame."""
    return _keep_last(5, RELIABILITY[reliability], DurabilityPolicy.VOLATILE)


def motion(reliability: str) -> QoSProfile:
    """Odometry and /tf: they arrive at up to some 100 Hz, and every sample counts."""
    return _keep_last(200, RELIABILITY[reliability], DurabilityPolicy.VOLATILE)


#: /tf_static and the driving command are said once and hold from then on: a late joiner must get them.
LATCHED = _keep_last(100, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)

#: Results: each is acted upon, none may be lost between two nodes; depth for a reader that stalls for a moment.
RESULT = _keep_last(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

#: Requests: the default depth of 10 silently loses some of a burst; every question gets an answer, if only "busy".
REQUESTS = _keep_last(500, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

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

#: The three services of an action, at its server and at its client: a lost result is as bad as a lost goal.
ACTION_SERVICES = {f'{service}_service_qos_profile': REQUESTS for service in ('goal', 'result', 'cancel')}

#: Pieces of streamed answers: one per token, of all answers on one topic. A reader that stalls must not lose the middle
#: of a text; this is room for four answers of 500 tokens.
FEEDBACK = _keep_last(2000, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

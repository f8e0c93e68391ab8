"""Every parameter of every node, declared once: typed, described, with its range.

A node's parameters are a frozen dataclass; :func:`declare_parameters` declares them on the node from the
fields' metadata and returns the values. ``config/stack.yaml`` and the tables in ``docs/nodes`` are tested
against these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from sparseoccvla_ros.data.nuscenes import CAMERAS
from sparseoccvla_ros.runtime.occupancy import DEFAULT_SELF_FILTER
from sparseoccvla_ros.runtime.planning import OBSTACLE_SCORE_THRESHOLD
from sparseoccvla_ros.runtime.scene import Command

P = TypeVar('P')


def parameter(default: Any, description: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field that is a ROS parameter; ``low`` and ``high`` are inclusive."""
    return field(default=default, metadata={'description': description, 'low': low, 'high': high})


def choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ValueError naming the value and what was expected."""
    if value not in known:
        raise ValueError(f'parameter {name} is {value!r}; expected one of {", ".join(known)}')


@dataclass(frozen=True)
class ModelParameters:
    """What every node needs to build its part of the model."""

    autostart: bool = parameter(True, 'configure and activate at start; false: wait for lifecycle transitions')
    model_config: str = parameter('tiny', 'model configuration: a name in config/model or a path to a YAML file')
    weights: str = parameter(
        'tiny', 'checkpoint directory, or name of weights that come along; empty: untrained, initialised from seed'
    )
    seed: int = parameter(0, "seed of an untrained model and of the planner's noise", 0, 2**31 - 1)
    device: str = parameter('cpu', 'torch device of every tensor of this node: cpu, cuda, cuda:0 ...')
    silence_warning_s: float = parameter(
        2.0, 'diagnostics warn of an input that has been silent this long (steady clock); seconds', 0.1, 3600.0
    )
    num_threads: int = parameter(1, "torch CPU threads of this process; 0: torch's choice", 0, 256)


@dataclass(frozen=True)
class MotionParameters(ModelParameters):
    """Where the vehicle's pose comes from."""

    sensor_reliability: str = parameter(
        'best_effort', 'QoS of images, camera_info and poses: best_effort matches every driver, reliable loses none'
    )
    pose_source: str = parameter('odometry', 'odometry: nav_msgs/Odometry; tf: transform odom_frame -> base_frame')
    odometry_topic: str = parameter('/odom', 'nav_msgs/Odometry: pose of base_frame in odom_frame')
    tf_topic: str = parameter('/tf', 'tf2_msgs/TFMessage, read with pose_source tf')
    odom_frame: str = parameter('odom', 'continuous world-fixed frame (REP-105); trajectories are given in it')
    base_frame: str = parameter('base_link', 'ego frame: x forward, y left, z up')
    max_pose_age_s: float = parameter(
        0.25, 'a pose or motion state this much older than the time asked for is not used; seconds', 0.01, 10.0
    )
    pose_timeout_s: float = parameter(
        0.1, 'how long to wait (steady clock) for odometry that covers a scene; seconds', 0.0, 60.0
    )

    def __post_init__(self) -> None:
        choice('sensor_reliability', self.sensor_reliability, ('best_effort', 'reliable'))
        choice('pose_source', self.pose_source, ('odometry', 'tf'))


@dataclass(frozen=True)
class PerceptionParameters(MotionParameters):
    """Parameters of node ``perception``."""

    cameras: list[str] = field(
        default_factory=lambda: list(CAMERAS), metadata={'description': "cameras in the rig's order"}
    )
    reference_camera: str = parameter('CAM_FRONT', "camera whose stamp is the scene's")
    image_topic: str = parameter(
        '/{camera}/image_rect/compressed',
        'image topic; {camera} is the name, {camera_lower} the same in lower case',
    )
    image_type: str = parameter('compressed', 'compressed: sensor_msgs/CompressedImage; raw: sensor_msgs/Image')
    camera_info_topic: str = parameter('/{camera}/camera_info', 'sensor_msgs/CameraInfo; {camera} as in image_topic')
    tf_static_topic: str = parameter('/tf_static', 'static transforms base_frame -> camera frames')
    sync: str = parameter(
        'cycle', "cycle: the package's synchronizer; approximate_time: message_filters, complete sets only"
    )
    set_timeout_s: float = parameter(
        0.15,
        'an incomplete set is handed out this long (steady clock) after its first image; seconds',
        0.01,
        60.0,
    )
    max_spread_s: float = parameter(
        0.06,
        'widest spread of the stamps of one camera cycle; seconds',
        0.001,
        1.0,
    )
    min_cameras: int = parameter(4, 'a set with fewer usable cameras is skipped', 1, 64)
    calibration_timeout_s: float = parameter(
        0.5, 'how long the first set waits (steady clock) for camera_info and tf_static; seconds', 0.0, 60.0
    )
    max_frame_gap_s: float = parameter(
        1.5, 'a gap between scenes longer than this clears the temporal memory; seconds', 0.1, 60.0
    )
    score_threshold: float = parameter(
        0.5, 'points below this class probability are not published; an untrained model has 1/17', 0.0, 1.0
    )
    self_filter_m: list[float] = field(
        default_factory=lambda: [*DEFAULT_SELF_FILTER.low_m, *DEFAULT_SELF_FILTER.high_m],
        metadata={
            'description': "box in base_frame that the vehicle's own body fills (x, y, z of one end, then of the "
            'other; each with its point: 2.0); occupied points inside are left out; six times 0.0: none is; metres'
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        choice('image_type', self.image_type, ('compressed', 'raw'))
        choice('sync', self.sync, ('cycle', 'approximate_time'))
        if self.reference_camera not in self.cameras:
            raise ValueError(
                f'parameter reference_camera is {self.reference_camera!r}; expected one of cameras '
                f'({", ".join(self.cameras)})'
            )
        if len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f'parameter cameras holds a name twice: {", ".join(self.cameras)}')
        box_m = self.self_filter_m
        if len(box_m) != 6 or not all(low <= high for low, high in zip(box_m[:3], box_m[3:], strict=True)):
            raise ValueError(
                f'parameter self_filter_m is {list(box_m)}; expected x, y and z of one end of a box, then of the '
                'other, none of them smaller'
            )
        if self.min_cameras > len(self.cameras):
            raise ValueError(
                f'parameter min_cameras is {self.min_cameras}; expected at most the {len(self.cameras)} cameras'
            )
        for name in ('image_topic', 'camera_info_topic'):
            topics = {self.camera_topic(getattr(self, name), camera) for camera in self.cameras}
            if len(topics) != len(self.cameras):
                raise ValueError(
                    f'parameter {name} is {getattr(self, name)!r}; expected {{camera}} or {{camera_lower}} in it'
                )

    @staticmethod
    def camera_topic(template: str, camera: str) -> str:
        """The topic of one camera."""
        return template.replace('{camera}', camera).replace('{camera_lower}', camera.lower())


@dataclass(frozen=True)
class ReasoningParameters(MotionParameters):
    """Parameters of node ``reasoning``; of the pose source it reads the stamps only, for the ages of scenes."""

    adapters_folder: str = parameter('', 'folder with a subfolder per LoRA adapter (peft, safetensors); empty: none')
    kept_scenes: int = parameter(20, 'scenes that stay askable, the newest included', 1, 1000)
    max_waiting_questions: int = parameter(8, 'questions that wait; one more is answered "busy" at once', 1, 1000)
    max_running_answers: int = parameter(4, 'answers decoded together, token by token', 1, 64)
    max_question_chars: int = parameter(2000, 'longest accepted question; characters', 1, 100000)
    max_conversations: int = parameter(32, 'conversations kept; the one used longest ago goes first', 1, 10000)
    max_turns: int = parameter(8, 'turns kept of each conversation', 1, 1000)
    default_max_tokens: int = parameter(128, 'answer length where the request says 0; tokens', 1, 4096)
    max_answer_tokens: int = parameter(512, 'longest answer that a request may ask for; tokens', 1, 8192)
    answer_timeout_s: float = parameter(
        30.0, 'time limit of one answer of the service (steady clock); seconds', 0.1, 3600.0
    )
    stream_timeout_s: float = parameter(
        300.0, 'time limit of one answer of the action (steady clock); seconds', 0.1, 3600.0
    )
    forecast_score_threshold: float = parameter(
        0.5, 'forecast points below this class probability are not published; an untrained model has 1/17', 0.0, 1.0
    )


@dataclass(frozen=True)
class PlannerParameters(MotionParameters):
    """Parameters of node ``planner``."""

    default_command: str = parameter('straight', 'driving command until a message arrives: right, left, straight')
    vehicle_config: str = parameter('default', 'vehicle limits: a name in config/vehicle or a path to a YAML file')
    deadline_s: float = parameter(
        2.0,
        'a scene not planned for this long (steady clock) gets an invalid plan; seconds',
        0.05,
        600.0,
    )
    check_occupancy: str = parameter(
        'trained',
        'hold plans against the occupancy and its forecast: trained (where weights are given), always, never',
    )
    obstacle_score_threshold: float = parameter(
        OBSTACLE_SCORE_THRESHOLD,
        'points of the occupancy and its forecast below this class probability do not stop a plan',
        0.0,
        1.0,
    )
    stop_on_invalid: bool = parameter(False, 'publish a braking trajectory, marked is_stop, for a refused plan')
    trajectory_rate_hz: float = parameter(
        0.0, 'points of trajectory and path per second of the plan; 0: as planned, every 0.5 s', 0.0, 100.0
    )
    skip_passed: bool = parameter(
        True, 'begin trajectory and path at the newest stamp seen; false: at the stamp of the image, for lockstep'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        choice('default_command', self.default_command, tuple(command.name.lower() for command in Command))
        choice('check_occupancy', self.check_occupancy, ('trained', 'always', 'never'))


def declare_parameters(node: Node, kind: type[P]) -> P:
    """Declare ``kind``'s fields as read-only parameters of ``node`` and return their values.

    Raises:
        ValueError: a value is not allowed; names the parameter, the value and what was expected.
        rclpy.exceptions.InvalidParameterTypeException: an override has the wrong type.
        rclpy.exceptions.InvalidParameterValueException: an override is out of range.
    """
    values = {}
    for spec in fields(kind):  # type: ignore[arg-type]
        default = spec.default if isinstance(spec.default, (bool, int, float, str)) else spec.default_factory()
        values[spec.name] = node.declare_parameter(spec.name, default, _descriptor(spec, default)).value
    return kind(**values)


def _descriptor(spec: Any, default: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=spec.metadata['description'], read_only=True)
    low, high = spec.metadata.get('low'), spec.metadata.get('high')
    if low is not None and isinstance(default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    elif low is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor

"""Small bags for the replay's tests: a rig that drives along odom's x axis, and what a stack would have published."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from sparseoccvla_ros.data.typestore import package_typestore

CAMERAS = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT', 'CAM_BACK', 'CAM_BACK_LEFT')
YAW_DEG = {'CAM_FRONT_LEFT': 55, 'CAM_FRONT': 0, 'CAM_FRONT_RIGHT': -55}
YAW_DEG |= {'CAM_BACK_RIGHT': -110, 'CAM_BACK': 180, 'CAM_BACK_LEFT': 110}
OFFSETS_MS = dict(zip(CAMERAS, (0, 8, 16, 25, 35, 45), strict=True))
START_NS = 1_600_000_000_000_000_000
PERIOD_NS = 500_000_000
SPEED_MPS = 5.0
SIZE_PX = (160, 90)
FOCAL_PX = 100.0
IMAGE_TYPE, INFO_TYPE = 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo'
ODOMETRY_TYPE, TF_TYPE = 'nav_msgs/msg/Odometry', 'tf2_msgs/msg/TFMessage'
#: ego from optical frame for a camera that looks forward: x right -> -y, y down -> -z, z forward -> x.
EGO_FROM_FORWARD_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def make(kind: str, **values: object) -> object:
    """A message of the package's typestore; fields not given are zero or empty."""
    store = package_typestore()
    _, members = store.fielddefs[kind]
    return store.types[kind](**{name: values.pop(name, _default(spec)) for name, spec in members}, **values)


def _default(spec: tuple) -> object:
    node, detail = spec[0], spec[1]
    if node.name == 'BASE':
        return '' if detail[0] == 'string' else (False if detail[0] == 'bool' else 0)
    if node.name == 'NAME':
        return make(detail)
    inner = detail[0]
    if inner[0].name == 'NAME' or inner[1][0] == 'string':
        return []
    kind = {'float32': 'f4', 'float64': 'f8', 'byte': 'u1', 'bool': '?'}.get(inner[1][0], inner[1][0])
    return np.zeros(detail[1] if node.name == 'ARRAY' else 0, dtype=kind)


def header(stamp_ns: int, frame: str) -> object:
    """std_msgs/Header."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return make(
        'std_msgs/msg/Header', stamp=make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec), frame_id=frame
    )


@functools.cache
def ego_from_camera(camera: str) -> np.ndarray:
    """[4, 4]: at the origin, 1.5 m up, turned by YAW_DEG."""
    yaw = np.deg2rad(YAW_DEG[camera])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    pose = np.eye(4)
    pose[:3, :3] = turn @ EGO_FROM_FORWARD_OPTICAL
    pose[2, 3] = 1.5
    return pose


def write_input_bag(
    path: Path, *, sets: int = 6, without: Iterable[tuple[int, str]] = (), topics: str = ''
) -> list[int]:
    """Write ``sets`` camera sets at 2 Hz; ``without`` lists (set, camera) images left out; ``topics`` is a prefix.

    Returns the stamps of the sets' reference camera, CAM_FRONT.
    """
    messages = [(START_NS - 10_000_000, f'{topics}/tf_static', TF_TYPE, _static_transforms())]
    left_out = set(without)
    for number in range(sets):
        for camera in CAMERAS:
            stamp_ns = START_NS + number * PERIOD_NS + OFFSETS_MS[camera] * 1_000_000
            messages.append((stamp_ns, f'{topics}/odom', ODOMETRY_TYPE, _odometry(stamp_ns)))
            messages.append((stamp_ns, f'{topics}/{camera}/camera_info', INFO_TYPE, _camera_info(stamp_ns, camera)))
            if (number, camera) not in left_out:
                image = (
                    stamp_ns,
                    f'{topics}/{camera}/image_rect/compressed',
                    IMAGE_TYPE,
                    _image(stamp_ns, camera, number),
                )
                messages.append(image)
    write_bag(path, messages)
    return [START_NS + number * PERIOD_NS + OFFSETS_MS['CAM_FRONT'] * 1_000_000 for number in range(sets)]


OUTPUT_TYPES = {
    '/scene_status': 'sparseoccvla_ros/msg/SceneStatus',
    '/occupancy': 'sensor_msgs/msg/PointCloud2',
    '/occupancy_grid': 'nav_msgs/msg/OccupancyGrid',
    '/trajectory': 'sparseoccvla_ros/msg/PlannedTrajectory',
}


def write_bag(
    path: Path, messages: Iterable[tuple[int, str, str, object]], announced: Mapping[str, str] | None = None
) -> None:
    """Write (log stamp, topic, type, message) in the order given; ``announced`` topics are there even if empty."""
    store = package_typestore()
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in (announced or {}).items()
        }
        for stamp_ns, topic, kind, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], stamp_ns, store.serialize_cdr(message, kind))


def write_output_bag(path: Path, stamps_ns: Iterable[int], invalid: Mapping[int, str] | None = None) -> None:
    """What a stack publishes for scenes at ``stamps_ns``; ``invalid`` maps a stamp to the reason of its trajectory."""
    messages = []
    for number, stamp_ns in enumerate(stamps_ns):
        reason = (invalid or {}).get(stamp_ns, '')
        made = (scene_status(stamp_ns, number), cloud(stamp_ns), grid(stamp_ns), trajectory(stamp_ns, reason))
        messages += [
            (stamp_ns, topic, kind, message) for (topic, kind), message in zip(OUTPUT_TYPES.items(), made, strict=True)
        ]
    write_bag(path, messages, OUTPUT_TYPES)


def scene_status(stamp_ns: int, number: int) -> object:
    """SceneStatus of an accepted set: decode takes 10 + number ms; ``late`` has been counted ``number`` times."""
    return make(
        'sparseoccvla_ros/msg/SceneStatus',
        header=header(stamp_ns, 'base_link'),
        accepted=True,
        cameras_used=list(CAMERAS),
        stages=['decode'],
        stage_ms=np.array([10.0 + number], np.float32),
        drop_reasons=['late'],
        drop_counts=np.array([number], np.uint64),
    )


def cloud(stamp_ns: int) -> object:
    """A car-labelled wall 10 m ahead and driveable surface around the vehicle."""
    wall = [(10.0, y, z, 4) for y in np.arange(-2.0, 2.0, 0.4) for z in np.arange(0.0, 2.0, 0.4)]
    ground = [(x, y, 0.0, 11) for x in np.arange(-8.0, 9.0, 0.8) for y in np.arange(-4.0, 4.0, 0.8)]
    dtype = np.dtype(
        {'names': ['x', 'y', 'z', 'label', 'score', 'rgb'], 'formats': ['<f4', '<f4', '<f4', 'u1', '<f4', '<u4'],
         'offsets': [0, 4, 8, 12, 16, 20], 'itemsize': 24}
    )  # fmt: skip
    points = np.zeros(len(wall) + len(ground), dtype)
    points['x'], points['y'], points['z'], points['label'] = np.array(wall + ground).T
    points['score'] = 0.9
    kinds = {'x': 7, 'y': 7, 'z': 7, 'label': 2, 'score': 7, 'rgb': 7}
    return make(
        'sensor_msgs/msg/PointCloud2',
        header=header(stamp_ns, 'base_link'),
        height=1,
        width=len(points),
        fields=[
            make('sensor_msgs/msg/PointField', name=name, offset=dtype.fields[name][1], datatype=kind, count=1)
            for name, kind in kinds.items()
        ],
        point_step=24,
        row_step=24 * len(points),
        data=points.view(np.uint8),
        is_dense=True,
    )


def grid(stamp_ns: int) -> object:
    """OccupancyGrid of 200 x 200 cells with one obstacle cell 10 m ahead."""
    cells = np.full((200, 200), -1, np.int8)
    cells[95:105, 75:120] = 0
    cells[98:102, 125] = 100
    info = make('nav_msgs/msg/MapMetaData', resolution=0.4, width=200, height=200)
    return make('nav_msgs/msg/OccupancyGrid', header=header(stamp_ns, 'base_link'), info=info, data=cells.ravel())


def trajectory(stamp_ns: int, reason: str) -> object:
    """Straight on for 3 s at SPEED_MPS in odom, with a second, infeasible candidate; invalid if there is a reason."""
    start_m = (stamp_ns - START_NS) * 1e-9 * SPEED_MPS
    straight = [_point(start_m + SPEED_MPS * t, 0.0) for t in np.arange(0.5, 3.1, 0.5)]
    left = [_point(start_m + SPEED_MPS * t, 0.8 * t * t) for t in np.arange(0.5, 3.1, 0.5)]
    candidate = 'sparseoccvla_ros/msg/TrajectoryCandidate'
    return make(
        'sparseoccvla_ros/msg/PlannedTrajectory',
        header=header(stamp_ns, 'odom'),
        valid=not reason,
        reasons=[reason] if reason else [],
        chosen=-1 if reason else 0,
        points=[] if reason else straight,
        candidates=[
            make(candidate, command=2, score=0.8, feasible=not reason, points=straight),
            make(candidate, command=2, mode=1, score=0.2, feasible=False, reasons=['curvature'], points=left),
        ],
        command=2,
        command_source='default',
        stages=['planner'],
        stage_ms=np.array([3.0], np.float32),
    )


def _point(x_m: float, y_m: float) -> object:
    pose = make('geometry_msgs/msg/Pose', position=make('geometry_msgs/msg/Point', x=float(x_m), y=float(y_m)))
    return make('sparseoccvla_ros/msg/TrajectoryPoint', pose=pose, speed_mps=SPEED_MPS)


def _odometry(stamp_ns: int) -> object:
    x_m = (stamp_ns - START_NS) * 1e-9 * SPEED_MPS
    pose = make(
        'geometry_msgs/msg/Pose',
        position=make('geometry_msgs/msg/Point', x=x_m),
        orientation=make('geometry_msgs/msg/Quaternion', w=1.0),
    )
    return make(
        ODOMETRY_TYPE,
        header=header(stamp_ns, 'odom'),
        child_frame_id='base_link',
        pose=make('geometry_msgs/msg/PoseWithCovariance', pose=pose),
    )


def _camera_info(stamp_ns: int, camera: str) -> object:
    width, height = SIZE_PX
    k = np.array([[FOCAL_PX, 0.0, width / 2], [0.0, FOCAL_PX, height / 2], [0.0, 0.0, 1.0]])
    return make(
        INFO_TYPE,
        header=header(stamp_ns, f'{camera}_optical'),
        width=width,
        height=height,
        k=k.ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
    )


def _image(stamp_ns: int, camera: str, number: int) -> object:
    width, height = SIZE_PX
    image = np.full((height, width, 3), (200, 170, 120), np.uint8)
    image[height // 2 :] = (90, 90, 95)
    cv2.putText(image, f'{camera[4:]} {number}', (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1)
    _, data = cv2.imencode('.jpg', image)
    return make(IMAGE_TYPE, header=header(stamp_ns, f'{camera}_optical'), format='jpeg', data=data.ravel())


def _static_transforms() -> object:
    from scipy.spatial.transform import Rotation

    stamped = []
    for camera in CAMERAS:
        pose = ego_from_camera(camera)
        x, y, z, w = (float(value) for value in Rotation.from_matrix(pose[:3, :3]).as_quat())
        transform = make(
            'geometry_msgs/msg/Transform',
            translation=make('geometry_msgs/msg/Vector3', z=float(pose[2, 3])),
            rotation=make('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w),
        )
        stamped.append(
            make(
                'geometry_msgs/msg/TransformStamped',
                header=header(START_NS, 'base_link'),
                child_frame_id=f'{camera}_optical',
                transform=transform,
            )
        )
    return make(TF_TYPE, transforms=stamped)

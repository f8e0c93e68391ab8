"""Which topics and frames a bag or vehicle uses: presets in ``config/topics/*.yaml``.

``docs/data.md`` has the table of converters and what each preset stands for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from sparseoccvla_ros.resources import share_path

PRESET_FOLDER = 'config/topics'
#: The route's command, under every preset: no converter writes one.
COMMAND_TOPIC = '/driving_command'
IMAGE_TYPES = {'compressed': 'sensor_msgs/msg/CompressedImage', 'raw': 'sensor_msgs/msg/Image'}
POSE_SOURCES = ('odometry', 'tf')

# Names of topics by the rules of ROS: letters, digits, underscores, slashes, no part that starts with a digit.
_TOPIC = re.compile(r'/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*')


class PresetError(ValueError):
    """A preset does not exist or is not well formed."""


@dataclass(frozen=True)
class TopicPreset:
    """Names of one vehicle's or converter's topics and frames.

    Attributes:
        name: the preset's name, or the file it came from.
        image: topic of a camera's images; ``{camera}`` stands for its name (CAM_FRONT), ``{camera_lower}`` for the
            name in lower case (cam_front).
        image_type: ``compressed`` (sensor_msgs/CompressedImage) or ``raw`` (sensor_msgs/Image).
        camera_info: topic of a camera's CameraInfo, same placeholders.
        camera_frame: a camera's optical frame, same placeholders. Only the bag writer needs it: readers take the frame
            from the messages.
        odometry: topic of nav_msgs/Odometry.
        pose_source: where the vehicle's pose comes from, ``odometry`` or ``tf`` (odom_frame -> base_frame).
        tf, tf_static: topics of tf2_msgs/TFMessage.
        base_frame: the vehicle's frame (x forward, y left, z up).
        odom_frame: the frame that poses and trajectories are expressed in.

    Raises:
        PresetError: a value is not allowed; the message names the key.
    """

    name: str
    image: str
    image_type: str
    camera_info: str
    camera_frame: str
    odometry: str
    pose_source: str
    tf: str
    tf_static: str
    base_frame: str
    odom_frame: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) or not value:
                raise PresetError(f'preset {self.name}: {field.name} must be a non-empty string, got {value!r}')
        if self.image_type not in IMAGE_TYPES:
            raise PresetError(
                f'preset {self.name}: image_type must be one of {", ".join(IMAGE_TYPES)}, got {self.image_type!r}'
            )
        if self.pose_source not in POSE_SOURCES:
            raise PresetError(
                f'preset {self.name}: pose_source must be one of {", ".join(POSE_SOURCES)}, got {self.pose_source!r}'
            )
        for key in ('image', 'camera_info', 'camera_frame'):
            template = getattr(self, key)
            if '{camera}' not in template and '{camera_lower}' not in template:
                raise PresetError(f'preset {self.name}: {key} needs {{camera}} or {{camera_lower}}, got {template!r}')
        topics = (self.image_topic('CAM_FRONT'), self.camera_info_topic('CAM_FRONT'))
        for topic in (*topics, self.odometry, self.tf, self.tf_static):
            if not _TOPIC.fullmatch(topic):
                raise PresetError(f'preset {self.name}: {topic!r} is not a topic name')
        for frame in (self.camera_frame_id('CAM_FRONT'), self.base_frame, self.odom_frame):
            if frame.startswith('/') or not frame.isprintable() or '{' in frame or ' ' in frame:
                raise PresetError(f'preset {self.name}: {frame!r} is not a frame name')

    @property
    def image_msgtype(self) -> str:
        """Message type on the image topics."""
        return IMAGE_TYPES[self.image_type]

    def image_topic(self, camera: str) -> str:
        """Topic of a camera's images."""
        return _filled(self.image, camera)

    def camera_info_topic(self, camera: str) -> str:
        """Topic of a camera's CameraInfo."""
        return _filled(self.camera_info, camera)

    def camera_frame_id(self, camera: str) -> str:
        """A camera's optical frame (z forward, x right, y down)."""
        return _filled(self.camera_frame, camera)


def _filled(template: str, camera: str) -> str:
    return template.replace('{camera_lower}', camera.lower()).replace('{camera}', camera)


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the package, sorted."""
    return tuple(sorted(path.stem for path in share_path(PRESET_FOLDER).glob('*.yaml')))


def load_preset(name_or_path: str | Path) -> TopicPreset:
    """Read a preset by its name, or by the path of a YAML file of your own (ending in ``.yaml`` or ``.yml``).

    Raises:
        PresetError: unknown name (the message lists the known ones), unreadable file, unknown or missing keys, or a
            value that is not allowed.
    """
    if Path(name_or_path).suffix in ('.yaml', '.yml'):
        path = Path(name_or_path)
    elif str(name_or_path) in preset_names():
        path = share_path(f'{PRESET_FOLDER}/{name_or_path}.yaml')
    else:
        raise PresetError(
            f'no topic preset {str(name_or_path)!r}; there are {", ".join(preset_names())}, or give a .yaml'
        )
    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise PresetError(f'cannot read topic preset {path}: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PresetError(f'{path} is not valid YAML: {error}') from error
    if not isinstance(values, dict):
        raise PresetError(f'{path} must hold keys and values')
    known = {field.name for field in fields(TopicPreset)} - {'name'}
    if unknown := sorted(map(str, values.keys() - known)):
        raise PresetError(f'{path}: unknown keys {", ".join(unknown)}; known are {", ".join(sorted(known))}')
    if missing := sorted(known - values.keys()):
        raise PresetError(f'{path}: missing keys {", ".join(missing)}')
    return TopicPreset(name=path.stem, **values)

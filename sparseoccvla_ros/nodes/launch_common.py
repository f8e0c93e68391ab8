"""What the launch files share: their arguments, and the settings that these make for every node of a group.

Imported by launch files only: it needs ``launch`` and ``launch_ros``, which a ROS installation brings along.
"""

from __future__ import annotations

from launch import Action
from launch.actions import DeclareLaunchArgument, GroupAction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution
from launch_ros.actions import Node, PushRosNamespace, SetParameter, SetParametersFromFile, SetRemap

from sparseoccvla_ros.resources import PACKAGE, share_path

#: Arguments that set a node parameter of the same name. Empty: what params_file says.
PARAMETER_ARGUMENTS = {
    'image_topic': 'image topic of each camera, {camera} stands for its name; empty: as in params_file',
    'image_type': 'compressed (sensor_msgs/CompressedImage) or raw (sensor_msgs/Image); empty: as in params_file',
    'camera_info_topic': 'CameraInfo of each camera, {camera} stands for its name; empty: as in params_file',
    'tf_static_topic': 'static transforms of the cameras; empty: as in params_file',
    'pose_source': 'odometry or tf; empty: as in params_file',
    'odometry_topic': 'nav_msgs/Odometry of the vehicle; empty: as in params_file',
    'tf_topic': 'transforms of the vehicle, read with pose_source tf; empty: as in params_file',
    'model_config': 'model configuration, a name or a YAML file; empty: as in params_file',
    'weights': 'checkpoint directory; empty: as in params_file',
    'device': 'torch device, for example cpu or cuda:0; empty: as in params_file',
}

#: Topics with fixed relative names: argument `<name>_topic` renames each.
REMAPS = {
    'driving_command': 'input of the planner: DrivingCommand',
    'occupancy_queries': 'perception: OccupancyQueries',
    'occupancy': 'perception: sensor_msgs/PointCloud2',
    'occupancy_grid': 'perception: nav_msgs/OccupancyGrid',
    'scene_status': 'perception: SceneStatus',
    'forecast': 'reasoning: OccupancyForecast',
    'reasoning_tokens': 'reasoning: ReasoningTokens',
    'trajectory': 'planner: PlannedTrajectory',
    'autoware_trajectory': 'planner: autoware_planning_msgs/Trajectory, where that package is installed',
    'path': 'planner: nav_msgs/Path',
    'markers': 'planner: visualization_msgs/MarkerArray',
    '/diagnostics': 'all nodes: diagnostic_msgs/DiagnosticArray',
}


def arguments(*, use_sim_time: str = '') -> list[Action]:
    """Declarations of everything that a user may set; ``use_sim_time`` is that argument's default."""
    return [
        DeclareLaunchArgument('namespace', default_value='', description='ROS namespace of the nodes'),
        DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal'),
        DeclareLaunchArgument(
            'use_sim_time',
            default_value=use_sim_time,
            description='true: time comes from /clock (replay, simulation); empty: as in params_file',
        ),
        DeclareLaunchArgument(
            'params_file',
            default_value=str(share_path('config/stack.yaml')),
            description='ROS parameter file, keyed by node name',
        ),
        DeclareLaunchArgument('rviz', default_value='false', description='true: start rviz2 as well'),
        DeclareLaunchArgument(
            'rviz_config', default_value=str(share_path('rviz/sparseoccvla.rviz')), description='configuration of rviz2'
        ),
        *(
            DeclareLaunchArgument(name, default_value='', description=description)
            for name, description in PARAMETER_ARGUMENTS.items()
        ),
        *(
            DeclareLaunchArgument(topic_argument(name), default_value=name, description=description)
            for name, description in REMAPS.items()
        ),
    ]


def topic_argument(name: str) -> str:
    """Launch argument that renames a topic: ``occupancy`` -> ``occupancy_topic``."""
    return f'{name.lstrip("/")}_topic'


def stack_node(executable: str) -> Action:
    """One of the package's programs; its parameters and names come from the group around it."""
    return Node(
        package=PACKAGE,
        executable=executable,
        output='screen',
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        sigterm_timeout='20',  # a stage that computes ends first; launch's default is 5 s
    )


def group(*nodes: Action) -> Action:
    """The nodes, and rviz if asked for, under one namespace with the arguments' parameters and topic names."""
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', LaunchConfiguration('rviz_config')],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    return GroupAction(
        [
            PushRosNamespace(LaunchConfiguration('namespace')),
            # in this order: a later one rules
            SetParametersFromFile(LaunchConfiguration('params_file')),
            *(_set_unless_empty(name) for name in ('use_sim_time', *PARAMETER_ARGUMENTS)),
            *(SetRemap(name, LaunchConfiguration(topic_argument(name))) for name in REMAPS),
            *nodes,
            rviz,
        ]
    )


def _set_unless_empty(name: str) -> Action:
    value = LaunchConfiguration(name)
    return SetParameter(name, value, condition=IfCondition(NotEqualsSubstitution(value, '')))

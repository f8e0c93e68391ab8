"""The synthetic street world as a car: cameras, odometry, TF and clock out, trajectories in.

ros2 launch sparseoccvla_ros simulator.launch.py seed:=3 scene:=2
ros2 launch sparseoccvla_ros stack.launch.py use_sim_time:=true weights:=/path/to/weights
"""

from launch import Action, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution
from launch_ros.actions import PushRosNamespace, SetParameter, SetParametersFromFile

from sparseoccvla_ros.nodes.launch_common import stack_node
from sparseoccvla_ros.resources import share_path

#: Arguments that set a node parameter of the same name. Empty: what params_file says.
PARAMETER_ARGUMENTS = {
    'seed': 'of the world; empty: as in params_file',
    'scene': 'which scene of that world to drive in; empty: as in params_file',
    'duration_s': 'length of the drive, for example 20.0; empty: as in params_file',
    'camera_hz': 'camera cycles per second of the world, for example 2.0; empty: as in params_file',
    'real_time_factor': 'for example 1.0; 0.0: lockstep with the trajectories; empty: as in params_file',
    'topics': 'preset of topics and frames; empty: as in params_file',
    'summary_file': 'JSON file to write when the drive is over; empty: as in params_file',
}


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument('namespace', default_value='', description='ROS namespace of the node'),
            DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal'),
            DeclareLaunchArgument(
                'params_file',
                default_value=str(share_path('config/simulator.yaml')),
                description='ROS parameter file, keyed by node name',
            ),
            *(
                DeclareLaunchArgument(name, default_value='', description=description)
                for name, description in PARAMETER_ARGUMENTS.items()
            ),
            GroupAction(
                [
                    PushRosNamespace(LaunchConfiguration('namespace')),
                    # in this order: a later one rules
                    SetParametersFromFile(LaunchConfiguration('params_file')),
                    *(_set_unless_empty(name) for name in PARAMETER_ARGUMENTS),
                    stack_node('simulator'),
                ]
            ),
        ]
    )


def _set_unless_empty(name: str) -> Action:
    value = LaunchConfiguration(name)
    return SetParameter(name, value, condition=IfCondition(NotEqualsSubstitution(value, '')))

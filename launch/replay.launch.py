"""The composed stack on a rosbag2 bag, in the bag's time; after the bag's end the stack stays up and can be asked.

ros2 launch sparseoccvla_ros replay.launch.py bag:=/path/to/bag rviz:=true
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

from sparseoccvla_ros.nodes.launch_common import arguments, group, stack_node


def generate_launch_description() -> LaunchDescription:
    bag, rate, delay = (LaunchConfiguration(name) for name in ('bag', 'rate', 'delay_s'))
    options = ['--clock', '100', '--rate', rate, '--delay', delay, '--disable-keyboard-controls']
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='folder of the rosbag2 bag, or its .mcap file'),
            DeclareLaunchArgument('rate', default_value='1.0', description='times real time'),
            DeclareLaunchArgument('delay_s', default_value='5.0', description='the nodes load their models meanwhile'),
            *arguments(use_sim_time='true'),
            group(stack_node('stack')),
            ExecuteProcess(cmd=['ros2', 'bag', 'play', bag, *options], output='screen'),
        ]
    )

"""The three nodes in one process, where tensors go from node to node by reference.

ros2 launch sparseoccvla_ros stack.launch.py weights:=/path/to/weights rviz:=true
"""

from launch import LaunchDescription

from sparseoccvla_ros.nodes.launch_common import arguments, group, stack_node


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*arguments(), group(stack_node('stack'))])

"""The three nodes as three processes, which exchange messages only.

ros2 launch sparseoccvla_ros separate.launch.py namespace:=front_car
"""

from launch import LaunchDescription

from sparseoccvla_ros.nodes.launch_common import arguments, group, stack_node


def generate_launch_description() -> LaunchDescription:
    nodes = [stack_node(executable) for executable in ('planner', 'reasoning', 'perception')]
    return LaunchDescription([*arguments(), group(*nodes)])

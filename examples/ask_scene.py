"""Ask the running stack a question with plain rclpy: python examples/ask_scene.py "What is ahead?" """

import sys

import rclpy

from sparseoccvla_ros.srv import AskScene

rclpy.init()
node = rclpy.create_node('ask_scene_example')
client = node.create_client(AskScene, 'ask')
if not client.wait_for_service(timeout_sec=10.0):
    sys.exit('no service "ask": does a stack run in this ROS domain?')
future = client.call_async(AskScene.Request(question=' '.join(sys.argv[1:]) or 'What is in front of the vehicle?'))
rclpy.spin_until_future_complete(node, future)
response = future.result()
print(response.answer if response.success else f'no answer: {response.message}')
rclpy.try_shutdown()
sys.exit(0 if response.success else 1)

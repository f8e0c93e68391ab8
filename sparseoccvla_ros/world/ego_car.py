"""The ego's car, in one place: the one that ``config/vehicle/default.yaml`` describes to the planner (tested to agree).

A Renault Zoe like that of nuScenes; the ego frame's origin is on the ground below the middle of its rear axle.
"""

from sparseoccvla_ros.planning.vehicle import VehicleLimits

_CAR = VehicleLimits()

#: Length, width, height of the box.
EGO_SIZE_M = (_CAR.length_m, _CAR.width_m, _CAR.height_m)
#: From the ego frame's origin forward to the box's middle.
EGO_CENTRE_AHEAD_M = _CAR.center_offset_m
WHEELBASE_M = 2.59
#: Turns of the steering wheel for one of the front wheels; typical of a small car.
STEERING_RATIO = 15.0
WHEEL_RADIUS_M = 0.31

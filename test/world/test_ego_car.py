from sparseoccvla_ros.planning.vehicle import load_vehicle_limits
from sparseoccvla_ros.world import ego_car
from sparseoccvla_ros.world.scene import build_scene


def test_the_worlds_ego_is_the_car_that_the_planner_is_told_of():
    car = load_vehicle_limits()
    assert (car.length_m, car.width_m, car.height_m) == ego_car.EGO_SIZE_M
    assert car.center_offset_m == ego_car.EGO_CENTRE_AHEAD_M
    # The axles lie within the car, the front one beyond its middle.
    assert car.center_offset_m < ego_car.WHEELBASE_M < car.center_offset_m + 0.5 * car.length_m


def test_a_scene_has_this_car_everywhere():
    scene = build_scene(3, 1, 2.0)
    assert scene.ego_size_m == ego_car.EGO_SIZE_M
    vehicle = scene.stage.traffic[0].vehicle
    assert (vehicle.length_m, vehicle.width_m) == ego_car.EGO_SIZE_M[:2]

"""Work zones: where they are, and what stands in them."""

from __future__ import annotations

import math

import numpy as np

from sparseoccvla_ros.world.bodies.machines import excavator, wheel_loader
from sparseoccvla_ros.world.bodies.obstacles import barrier, debris, traffic_cone
from sparseoccvla_ros.world.bodies.people import construction_worker
from sparseoccvla_ros.world.bodies.vehicles import trailer
from sparseoccvla_ros.world.scenery.site import Site
from sparseoccvla_ros.world.streets.plan import WorkZone
from sparseoccvla_ros.world.streets.street import Ground, Street

#: Of a barrier's middle from the zone's edge.
FENCE_M = 0.3
REACH_M = 90.0
ANY = (Ground.PAVEMENT, Ground.PARKING, Ground.ASPHALT, Ground.GRASS)


def draw_work_zone(
    rng: np.random.Generator, number: int, street: Street, side: int, around_m: float, narrow: bool
) -> WorkZone | None:
    """A zone of 16 to 30 m whose middle is about ``around_m`` along a street; None if a junction is in the way.

    ``narrow`` makes it reach into the outer lane.
    """
    half_m = 0.5 * rng.uniform(16.0, 30.0)
    intrusion = rng.uniform(0.5, 0.75) if narrow else 0.0
    for shift_m in (0.0, 12.0, -12.0, 24.0, -24.0, 40.0, -40.0):
        first, last = around_m + shift_m - half_m, around_m + shift_m + half_m
        if first < 5.0 or last > street.centreline.length_m - 5.0:
            continue
        if street.is_open(np.linspace(first - 12.0, last + 12.0, 40)).any():
            continue
        room = street.kerb_m - street.lanes_m
        edge = street.lanes_m - intrusion if narrow or room > 1.5 else street.kerb_m + 0.1
        return WorkZone(number, side, first, last, edge, intrusion)
    return None


def build_work_zone(rng: np.random.Generator, site: Site, zone: WorkZone) -> None:
    """Barriers along its edge, cones before and behind, a machine, workers and rubble inside."""
    street = site.plan.streets[zone.street]
    line = street.centreline
    fence_m = zone.edge_m + FENCE_M
    s_m = zone.first_m
    while s_m < zone.last_m:
        shape = barrier(rng)
        pose = line.pose(s_m + 0.5 * shape.size_m[0], zone.side * fence_m, rng.normal(0.0, 0.02))
        site.put(shape, pose, ANY, REACH_M)
        s_m += shape.size_m[0] + rng.uniform(0.2, 0.5)
    for end_m, way in ((zone.first_m, -1.0), (zone.last_m, 1.0)):
        for number in range(4):
            d_m = fence_m + 0.25 + 0.35 * number
            pose = line.pose(end_m + way * (1.0 + 1.7 * number), zone.side * d_m)
            site.put(traffic_cone(rng), pose, ANY, REACH_M)
    if zone.intrusion_m > 0.0 and street.island_m > 0.0:
        for s_m in np.arange(zone.first_m, zone.last_m, 3.0):
            site.put(traffic_cone(rng), line.pose(float(s_m), 0.0), (Ground.ISLAND,), REACH_M)
    inner = fence_m + 0.7
    middle = 0.5 * (zone.first_m + zone.last_m)
    machine = (excavator if rng.random() < 0.5 else wheel_loader)(rng)
    turn = rng.choice([0.0, math.pi]) + rng.normal(0.0, 0.05)
    pose = line.pose(middle + rng.uniform(-2.0, 2.0), zone.side * (inner + 0.5 * machine.size_m[1]), turn)
    site.put(machine, pose, ANY, REACH_M, parked=True)
    if rng.random() < 0.3:
        towed = trailer(rng)
        pose = line.pose(zone.last_m - 0.5 * towed.size_m[0] - 0.5, zone.side * (inner + 0.5 * towed.size_m[1]), turn)
        site.put(towed, pose, ANY, REACH_M, parked=True)
    for _ in range(int(rng.integers(1, 4))):
        pose = line.pose(
            rng.uniform(zone.first_m + 1.0, zone.last_m - 1.0),
            zone.side * (inner + rng.uniform(0.3, 1.6)),
            rng.uniform(-math.pi, math.pi),
        )
        site.put(construction_worker(rng), pose, ANY, REACH_M)
    for _ in range(3):
        pose = line.pose(rng.uniform(zone.first_m, zone.last_m), zone.side * (inner + rng.uniform(0.5, 2.2)))
        site.put(debris(rng), pose, ANY, REACH_M)

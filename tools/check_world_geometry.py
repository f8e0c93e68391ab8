"""Do images, LiDAR, boxes and occupancy labels of the synthetic world agree? Prints the figures of docs/world.md.

    python tools/check_world_geometry.py --scenes 8 --seed 2

Exit code 1 if fewer than 90 % of the camera rays see the label of the first occupied voxel on their way.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.world.drawing.render import Renderer
from sparseoccvla_ros.world.labels.agreement import Agreement, agreement_at
from sparseoccvla_ros.world.labels.occupancy import OccupancyLabeller
from sparseoccvla_ros.world.rig import load_rig
from sparseoccvla_ros.world.scene import build_scene

TIMES_S = (3.0, 12.0)
LEAST_SHARE = 0.9


def main() -> int:
    """Compare two moments of each scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scenes', type=int, default=8)
    parser.add_argument('--seed', type=int, default=2)
    arguments = parser.parse_args()
    by_town: defaultdict[str, Agreement] = defaultdict(Agreement)
    lowest = 1.0
    for index in range(arguments.scenes):
        rig = load_rig(share_path('config/rig/nuscenes.yaml'), 352, 128, vehicle=index, seed=arguments.seed)
        scene = build_scene(arguments.seed, index, max(TIMES_S) + 1.0)
        renderer = Renderer(scene)
        labeller = OccupancyLabeller(renderer, rig)
        for time_s in TIMES_S:
            found = agreement_at(renderer, rig, labeller, time_s)
            by_town[scene.city.name] += found
            lowest = min(lowest, found.rays_share)
            share = f'{100.0 * found.rays_share:.1f} % of {found.rays} rays'
            print(f'{scene.name} at {time_s:g} s ({scene.description}): {share}')
    total = sum(by_town.values(), Agreement())
    for town, found in sorted(by_town.items()):
        print(f'{town}: {100.0 * found.rays_share:.2f} % of {found.rays} rays')
    print(f'rays that see the label of the first occupied voxel: {100.0 * total.rays_share:.2f} % of {total.rays}')
    print(f'lowest moment: {100.0 * lowest:.1f} %')
    print(f'LiDAR points against rendered depth: at most {total.depth_error_m:.1e} m ({total.depth_points} points)')
    print(f'LiDAR points outside their box: at most {total.box_overshoot_m:.1e} m ({total.box_points} points)')
    return 0 if total.rays_share >= LEAST_SHARE else 1


if __name__ == '__main__':
    sys.exit(main())

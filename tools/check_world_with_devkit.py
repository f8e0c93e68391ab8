"""Check a synthetic data set with the official nuscenes-devkit; check_world_with_devkit.sh runs it."""

import sys
from pathlib import Path

import cv2
import numpy as np
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import BoxVisibility, points_in_box, view_points
from pyquaternion import Quaternion

RANGE_M, VOXEL_M = np.array([-40.0, -40.0, -1.0]), 0.4
LABELS = {
    'movable_object.barrier': 1,
    'vehicle.bicycle': 2,
    'vehicle.bus.bendy': 3,
    'vehicle.bus.rigid': 3,
    'vehicle.car': 4,
    'vehicle.construction': 5,
    'vehicle.motorcycle': 6,
    'movable_object.trafficcone': 8,
    'vehicle.trailer': 9,
    'vehicle.truck': 10,
}
CAMERAS = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT')
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))


def label_of(category: str) -> int:
    """Occ3D class of a nuScenes category, 0 (others) for those without one of their own."""
    return 7 if category.startswith('human.pedestrian.') else LABELS.get(category, 0)


def sheet(images: list) -> np.ndarray:
    """Six images as two rows."""
    return np.vstack([np.hstack(images[:3]), np.hstack(images[3:])])


def draw_boxes(nusc: NuScenes, sample: dict) -> np.ndarray:
    """Six images with the devkit's boxes of visibility above 40 %."""
    images = []
    for channel in CAMERAS:
        path, boxes, intrinsics = nusc.get_sample_data(sample['data'][channel], box_vis_level=BoxVisibility.ANY)
        image = cv2.imread(path)
        for box in boxes:
            corners = box.corners()
            if nusc.get('sample_annotation', box.token)['visibility_token'] == '1' or (corners[2] < 0.1).any():
                continue
            pixels = view_points(corners, intrinsics, normalize=True)[:2].T
            for first, second in EDGES:
                ends = [tuple(np.round(pixels[end] * 16).astype(int).tolist()) for end in (first, second)]
                cv2.line(image, *ends, (0, 255, 255), 1, cv2.LINE_AA, 4)
        images.append(image)
    return sheet(images)


def draw_lidar(nusc: NuScenes, sample: dict) -> np.ndarray:
    """Six images with the LiDAR's points that the devkit maps into them, near points red, far ones blue."""
    images = []
    for channel in CAMERAS:
        points, depths, _ = nusc.explorer.map_pointcloud_to_image(
            sample['data']['LIDAR_TOP'], sample['data'][channel], min_dist=0.5
        )
        path = nusc.get_sample_data_path(sample['data'][channel])
        image = cv2.imread(path)
        colours = cv2.applyColorMap(np.clip(255 - depths * 6, 0, 255).astype(np.uint8)[:, None], cv2.COLORMAP_JET)
        for point, colour in zip(np.round(points[:2].T).astype(int), colours[:, 0], strict=True):
            cv2.circle(image, tuple(point.tolist()), 0, colour.tolist(), -1)
        images.append(image)
    return sheet(images)


def label_agreement(nusc: NuScenes, scene: dict, sample: dict) -> tuple[int, int]:
    """Boxes in which a voxel of their class lies, and all boxes in range that are not too small or too thin to tell."""
    path = Path(nusc.dataroot, 'gts', scene['name'], sample['token'], 'labels.npz')
    semantics = np.load(path)['semantics']
    right = total = 0
    pose = nusc.get('ego_pose', nusc.get('sample_data', sample['data']['LIDAR_TOP'])['ego_pose_token'])
    for token in sample['anns']:
        box = nusc.get_box(token)
        box.translate(-np.array(pose['translation']))
        box.rotate(Quaternion(pose['rotation']).inverse)
        corners = box.corners()
        first = np.maximum(np.floor((corners.min(axis=1) - RANGE_M) / VOXEL_M).astype(int), 0)
        last = np.minimum(np.ceil((corners.max(axis=1) - RANGE_M) / VOXEL_M).astype(int), semantics.shape)
        if (first >= last).any() or np.abs(box.center[:2]).max() > 39.0:
            continue
        total += 1
        right += (semantics[tuple(slice(*ends) for ends in zip(first, last, strict=True))] == label_of(box.name)).any()
    return right, total


def lidar_agreement(nusc: NuScenes, sample: dict) -> tuple[int, int, int]:
    """Points of the sweep; boxes; boxes whose ``num_lidar_pts`` is the number of points that the devkit finds inside.

    Points of the ground below a box lie in its lower face; one in fifty, or two, may be of something that reaches in.
    """
    path, boxes, _ = nusc.get_sample_data(sample['data']['LIDAR_TOP'])
    cloud = LidarPointCloud.from_file(path)
    agreed = 0
    for box in boxes:
        near = cloud.points[:3, points_in_box(box, cloud.points[:3], wlh_factor=1.02)]
        above_m = (box.rotation_matrix.T @ (near - box.center[:, None]))[2] + 0.5 * box.wlh[2]
        inside = int((above_m > 0.01).sum())
        told = nusc.get('sample_annotation', box.token)['num_lidar_pts']
        agreed += abs(inside - told) <= max(2.0, 0.02 * told)
    return cloud.nbr_points(), len(boxes), agreed


def check_can_bus(dataroot: str, nusc: NuScenes) -> str:
    """Compare CAN bus messages, read by the devkit, with the ego's poses of the tables."""
    bus = NuScenesCanBus(dataroot=dataroot)
    worst_m = 0.0
    counts = {}
    for scene in nusc.scene:
        for name in ('ms_imu', 'pose', 'steeranglefeedback', 'vehicle_monitor', 'meta', 'route'):
            counts[name] = counts.get(name, 0) + len(bus.get_messages(scene['name'], name))
        place = {row['utime']: row['pos'] for row in bus.get_messages(scene['name'], 'pose')}
        token = scene['first_sample_token']
        while token:
            sample = nusc.get('sample', token)
            pose = nusc.get('ego_pose', nusc.get('sample_data', sample['data']['LIDAR_TOP'])['ego_pose_token'])
            gap = np.subtract(pose['translation'], place[sample['timestamp']])
            worst_m, token = max(worst_m, float(np.abs(gap).max())), sample['next']
        route, pose = bus.get_pose_and_route(scene['name'], print_warnings=False)
        assert len(route) > 100, scene['name']
        assert len(pose) > 0, scene['name']
    return f'CAN bus messages {counts}; poses differ from the tables by at most {worst_m:.1e} m'


def main() -> None:
    """Arguments: data set, picture of boxes to write; the picture of LiDAR points gets ``_lidar`` in its name."""
    dataroot, overlay = sys.argv[1], Path(sys.argv[2])
    nusc = NuScenes(version='v1.0-world', dataroot=dataroot, verbose=True)
    nusc.list_scenes()
    right = total = projected = points = boxes = agreed = 0
    sheets, clouds = [], []
    for scene in nusc.scene:
        token = scene['first_sample_token']
        number = 0
        while token:
            sample = nusc.get('sample', token)
            assert set(sample['data']) == {*CAMERAS, 'LIDAR_TOP'}, sample['data'].keys()
            counted = label_agreement(nusc, scene, sample)
            right, total = right + counted[0], total + counted[1]
            scanned = lidar_agreement(nusc, sample)
            points, boxes, agreed = points + scanned[0], boxes + scanned[1], agreed + scanned[2]
            for channel in CAMERAS:
                projected += len(nusc.get_sample_data(sample['data'][channel])[1])
            if number == scene['nbr_samples'] // 2 and len(sheets) < 3:
                sheets.append(draw_boxes(nusc, sample))
                clouds.append(draw_lidar(nusc, sample))
            token, number = sample['next'], number + 1
        assert number == scene['nbr_samples'], (number, scene['nbr_samples'])
    speeds = {}
    for annotation in nusc.sample_annotation:
        speed = float(np.linalg.norm(nusc.box_velocity(annotation['token'])))
        names = [nusc.get('attribute', token)['name'] for token in annotation['attribute_tokens']] or ['none']
        if np.isfinite(speed):
            speeds[names[0]] = max(speeds.get(names[0], 0.0), speed)
    masks = [nusc.get('map', row['token'])['mask'].mask() for row in nusc.map]
    for path, pictures in ((overlay, sheets), (overlay.with_stem(f'{overlay.stem}_lidar'), clouds)):
        cv2.imwrite(str(path), np.vstack(pictures))
        print(f'picture: {path}')
    categories = {instance['category_token'] for instance in nusc.instance}
    print(f'{len(nusc.scene)} scenes, {len(nusc.sample)} keyframes, {len(nusc.sample_data)} files of sensors')
    print(f'{projected} boxes projected into keyframe images; categories with boxes: {len(categories)}')
    print('fastest by attribute, m/s:', ', '.join(f'{name} {value:.1f}' for name, value in sorted(speeds.items())))
    print(f'occupancy at the boxes: {right} of {total} hold a voxel of their class')
    print(
        f'LiDAR: {points / len(nusc.sample):.0f} points a sweep; points counted in boxes agree for {agreed} of {boxes}'
    )
    print(check_can_bus(dataroot, nusc))
    print(f'map masks {[mask.shape for mask in masks[:3]]}')
    if right < 0.99 * total or agreed < 0.95 * boxes:
        sys.exit('fewer than 99 % of the boxes agree with the occupancy labels, or fewer than 95 % with the LiDAR')


if __name__ == '__main__':
    main()

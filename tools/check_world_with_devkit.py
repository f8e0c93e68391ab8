"""Check a synthetic data set with the official nuscenes-devkit; check_world_with_devkit.sh runs it."""

import sys
from pathlib import Path

import cv2
import numpy as np
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.geometry_utils import BoxVisibility, view_points

RANGE_M, VOXEL_M = np.array([-40.0, -40.0, -1.0]), 0.4
LABELS = {'vehicle.car': 4, 'vehicle.truck': 10, 'vehicle.bus.rigid': 3, 'human.pedestrian.adult': 7}
CAMERAS = ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT')
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))


def draw(nusc: NuScenes, sample: dict) -> np.ndarray:
    """Six images with the devkit's boxes of visibility above 40 %."""
    images = []
    for channel in CAMERAS:
        levels = nusc.get_sample_data(sample['data'][channel], box_vis_level=BoxVisibility.ANY)
        path, boxes, intrinsics = levels
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
    return np.vstack([np.hstack(images[:3]), np.hstack(images[3:])])


def label_agreement(nusc: NuScenes, scene: dict, sample: dict) -> tuple[int, int]:
    """Boxes whose middle lies in a voxel of their class, and all boxes in range."""
    path = Path(nusc.dataroot, 'gts', scene['name'], sample['token'], 'labels.npz')
    semantics = np.load(path)['semantics']
    right = total = 0
    # The last camera fires at the keyframe's own time.
    data = nusc.get('sample_data', sample['data']['CAM_BACK_LEFT'])
    pose = nusc.get('ego_pose', data['ego_pose_token'])
    for token in sample['anns']:
        box = nusc.get_box(token)
        box.translate(-np.array(pose['translation']))
        box.rotate(type(box.orientation)(pose['rotation']).inverse)
        # Cars are hollow between bonnet and roof line: a quarter of the height is inside every shape.
        point = box.center - np.array([0.0, 0.0, 0.25 * box.wlh[2]])
        voxel = np.floor((point - RANGE_M) / VOXEL_M).astype(int)
        if (voxel < 0).any() or (voxel >= semantics.shape).any():
            continue
        total += 1
        right += semantics[tuple(voxel)] == LABELS[box.name]
    return right, total


def main() -> None:
    """Arguments: data set, picture to write."""
    dataroot, overlay = sys.argv[1:]
    nusc = NuScenes(version='v1.0-world', dataroot=dataroot, verbose=True)
    nusc.list_scenes()
    right = total = projected = 0
    fastest = 0.0
    sheets = []
    for scene in nusc.scene:
        token = scene['first_sample_token']
        number = 0
        while token:
            sample = nusc.get('sample', token)
            assert set(sample['data']) >= set(CAMERAS), sample['data'].keys()
            hits, boxes = label_agreement(nusc, scene, sample)
            right, total = right + hits, total + boxes
            for channel in CAMERAS:
                projected += len(nusc.get_sample_data(sample['data'][channel])[1])
            if number == scene['nbr_samples'] // 2:
                sheets.append(draw(nusc, sample))
            token, number = sample['next'], number + 1
        assert number == scene['nbr_samples'], (number, scene['nbr_samples'])
    for annotation in nusc.sample_annotation:
        velocity = nusc.box_velocity(annotation['token'])
        fastest = max(fastest, float(np.nan_to_num(np.linalg.norm(velocity))))
    masks = [nusc.get('map', row['token'])['mask'].mask() for row in nusc.map]
    cv2.imwrite(overlay, np.vstack(sheets[:3]))
    print(f'{len(nusc.scene)} scenes, {len(nusc.sample)} keyframes, {len(nusc.sample_data)} images')
    print(f'{projected} boxes projected into keyframe images; fastest annotated agent {fastest:.1f} m/s')
    print(f'occupancy at the boxes: {right} of {total} have their class; map masks {[mask.shape for mask in masks]}')
    print(f'overlay: {overlay}')
    if right < 0.99 * total:
        sys.exit('fewer than 99 % of the boxes agree with the occupancy labels')


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""How many training samples a second one core makes: with 1 and 4 temporal frames, without and with augmentation.

    taskset -c 0 .venv/bin/python tools/bench_dataset.py /data/world v1.0-world

Labels come from DATAROOT/gts. Prints the median of three rounds of --samples samples; keyframes whose earlier frames
are missing are left out, as they cost less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import cv2
import torch

from sparseoccvla_ros.data.dataset import Augmentation, KeyframeDataset, SampleRequest
from sparseoccvla_ros.data.image_augmentation import ImageAugmentation
from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.data.photometric import PhotometricDistortion
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation

ALL = Augmentation(ImageAugmentation(), PhotometricDistortion(), SceneAugmentation(0.5, 0.5, 0.4))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dataroot', type=Path)
    parser.add_argument('version')
    parser.add_argument('--size', default='352x128')
    parser.add_argument('--no-labels', action='store_true')
    parser.add_argument('--samples', type=int, default=40)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    width_px, height_px = (int(side) for side in arguments.size.split('x'))
    tables = NuScenesTables(arguments.dataroot, arguments.version)
    gts_root = None if arguments.no_labels else arguments.dataroot / 'gts'
    for frames in (1, 4):
        for name, augmentation in (('no augmentation', None), ('all augmentations', ALL)):
            request = SampleRequest(width_px, height_px, frames)
            data = KeyframeDataset(tables, tables.scene_names, request, gts_root=gts_root, augmentation=augmentation)
            whole = [i for i, moment in enumerate(data.moments) if all(all(row) for row in moment.camera_frames)]
            if not whole:
                print(f'T = {frames}, {name}: no keyframe has all its earlier frames')
                continue
            rates = [samples_per_s(data, whole, arguments.samples) for _ in range(4)][1:]  # the first one warms up
            print(f'T = {frames}, {name}: {statistics.median(rates):.1f} samples/s')


def samples_per_s(data: KeyframeDataset, indices: list[int], samples: int) -> float:
    """Each sample with draws of its own."""
    begin_s = time.perf_counter()
    for number in range(samples):
        data.set_epoch(number)
        data[indices[number % len(indices)]]
    return samples / (time.perf_counter() - begin_s)


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""One score threshold for all classes: each class' logits are shifted so that its IoU is best there.

    .venv/bin/python tools/calibrate_classes.py --data DATA --weights CHECKPOINT --out out/train/tiny/stage1/calibrated

Focal loss with a weight of their own lets rare classes claim more points than frequent ones, each to another degree
after a short training. What a class' threshold should be is looked up on scenes that are neither learnt from nor
reported on; the difference to the common one goes into the bias of the last layer's class head. Features, and with them
all that reads queries, stay as they are.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sparseoccvla_ros.data.dataset import KeyframeDataset, SampleRequest, collate
from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.data.occ3d import FREE
from sparseoccvla_ros.data.splits import split_scenes
from sparseoccvla_ros.evaluation.occupancy_metrics import OccupancyScore, class_iou
from sparseoccvla_ros.model.checkpoint import save_checkpoint
from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule, decode_voxels, dense_labels
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.model.placement import checkpoint_folder
from sparseoccvla_ros.model.vla import build_perception
from sparseoccvla_ros.training.scene_objective import encode

THRESHOLDS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)


def main() -> None:
    """Look up, shift, look again, save."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    config = load_model_config(arguments.model)
    perception = build_perception(config, weights=checkpoint_folder(arguments.weights))
    data = labelled_keyframes(arguments.data, arguments.version, arguments.split, arguments.gts, config)
    chosen = torch.linspace(0, len(data) - 1, min(arguments.keyframes, len(data))).long().unique().tolist()
    scores = scan(perception, data, chosen, config, sorted({*THRESHOLDS, arguments.threshold}))
    shifts = class_shifts(scores, arguments.threshold)
    shift_classes(perception, shifts)
    after = scan(perception, data, chosen, config, [arguments.threshold])[arguments.threshold]
    show(config.space.classes, scores[arguments.threshold], after, shifts)
    save_checkpoint(arguments.out, {'perception': perception}, config)


def labelled_keyframes(root: Path, version: str, split: str, gts: str, config: VLAConfig) -> KeyframeDataset:
    """The keyframes of a list of scenes in ``splits.json``, or of all, as the model takes them, with labels."""
    tables = NuScenesTables(root, version)
    image = config.image
    request = SampleRequest(image.width_px, image.height_px, image.frames, image.frame_interval_s, boxes=False)
    scenes = split_scenes(tables, split) if split else list(tables.scene_names)
    return KeyframeDataset(tables, scenes, request, gts_root=root / gts)


@torch.inference_mode()
def scan(
    perception: OccupancyPerception,
    data: KeyframeDataset,
    keyframes: Sequence[int],
    config: VLAConfig,
    thresholds: Sequence[float],
) -> dict[float, OccupancyScore]:
    """Scores within the camera mask, by threshold."""
    scores = {threshold: OccupancyScore('camera') for threshold in thresholds}
    for index in keyframes:
        item = data.sample(index, 0)
        output = encode(perception, collate([item]))
        for threshold, score in scores.items():
            voxels = decode_voxels(output.points_m[-1], output.logits[-1], config.space, VoxelRule(threshold))[0]
            predicted = dense_labels(voxels, config.space).numpy()
            score.add(predicted, item['target_semantics'], item['target_mask_camera'])
    return scores


def class_shifts(scores: Mapping[float, OccupancyScore], threshold: float) -> list[float]:
    """What is to be added to each class' logits, so that ``threshold`` does what the best one of its own does.

    A class that is never found, or is nowhere in the truth, stays as it is.
    """
    tried = list(scores)
    ious = np.stack([class_iou(scores[value].counts)[:FREE] for value in tried])  # [thresholds, classes]
    best = np.nan_to_num(ious).argmax(axis=0)
    return [logit(threshold) - logit(tried[row]) if ious[row, label] > 0.0 else 0.0 for label, row in enumerate(best)]


def logit(probability: float) -> float:
    """Inverse of the logistic function."""
    return math.log(probability / (1.0 - probability))


@torch.no_grad()
def shift_classes(perception: OccupancyPerception, shifts: Sequence[float]) -> None:
    """Add to the logits of each class, in the last layer."""
    last = perception.encoder.layers[-1]
    bias = last.cls_branch[-1].bias
    bias += torch.tensor(shifts, dtype=bias.dtype).repeat(last.points_out)


def show(classes: Sequence[str], before: OccupancyScore, after: OccupancyScore, shifts: Sequence[float]) -> None:
    """IoU of each class and mIoU, percent, on the scenes that were looked at."""
    table = Table('class', 'shift', 'IoU before, %', 'after, %')
    old, new = before.result(), after.result()
    for name, shift in zip(classes, shifts, strict=True):
        key = f'camera_mask/iou/{name}'
        table.add_row(name, f'{shift:+.2f}', f'{100 * old[key]:.1f}', f'{100 * new[key]:.1f}')
    for key in ('camera_mask/miou', 'camera_mask/geometric_iou'):
        table.add_row(key, '', f'{100 * old[key]:.1f}', f'{100 * new[key]:.1f}')
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder in the nuScenes layout, with labels')
    parser.add_argument('--version', default='v1.0-world')
    parser.add_argument('--split', default='', help="list of scenes in splits.json; '': all scenes")
    parser.add_argument('--gts', default='gts', help="labels' folder in it")
    parser.add_argument('--model', default='tiny', help='configuration')
    parser.add_argument('--weights', required=True, help='checkpoint folder, or weights that come along')
    parser.add_argument('--out', type=Path, required=True, help='checkpoint folder to write')
    parser.add_argument('--threshold', type=float, default=0.5, help='of all classes from now on')
    parser.add_argument('--keyframes', type=int, default=60, help='so many, evenly spread')
    parser.add_argument('--threads', type=int, default=1)
    return parser.parse_args()


if __name__ == '__main__':
    main()

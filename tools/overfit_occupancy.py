#!/usr/bin/env python3
"""Can the encoder learn at all? Trains it from scratch on a few fixed keyframes of the world, until it knows them.

    .venv/bin/python tools/overfit_occupancy.py --out out/overfit

Makes its own data, goes on where an interrupted run stopped, and writes one JSON line each --report-every steps to
OUT/log.jsonl: loss terms, learning rate, milliseconds a step, and the scores on the very samples that it trains on,
over the whole grid (no_mask) and within the camera mask, with holes closed and, as ".../raw", without. In the end
OUT/checkpoint is what `sparseoccvla eval occupancy --weights` takes.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from sparseoccvla_ros.data.keyframes import encoder_inputs, keyframe_view
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.data.occ3d import load_labels
from sparseoccvla_ros.evaluation.occupancy_metrics import OccupancyScore
from sparseoccvla_ros.model.checkpoint import save_checkpoint
from sparseoccvla_ros.model.config import VLAConfig, config_to_yaml, load_model_config
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule, decode_voxels, dense_labels
from sparseoccvla_ros.model.occupancy_encoder import EncoderOutput
from sparseoccvla_ros.model.occupancy_loss import OccupancyLoss, OccupancyLossConfig, occupied_voxels
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.model.vla import build_perception
from sparseoccvla_ros.world.files.tables import VERSION
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

#: Of a point's best class. Focal loss keeps probabilities low; OPUS' 0.5 belongs to its 100 epochs.
SCORE_THRESHOLD = 0.3
#: Arguments that may not change when a run goes on.
FIXED = ('samples', 'steps', 'lr', 'seed')


def main() -> None:
    """Train, report, save."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    overrides = dict(entry.split('=', 1) for entry in arguments.set)
    config = load_model_config('tiny', {key: yaml.safe_load(value) for key, value in overrides.items()})
    arguments.out.mkdir(parents=True, exist_ok=True)
    samples = load_samples(arguments, config)
    model = build_perception(config, weights=None, seed=arguments.seed).train()
    loss = OccupancyLoss(OccupancyLossConfig(), config.space)
    truth = occupied_voxels(samples['semantics'], samples['mask_camera'], config.space)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.01)
    run = {'config': config_to_yaml(config), **{name: getattr(arguments, name) for name in FIXED}}
    step = resume(arguments.out / 'state.pt', run, model, optimizer)
    begin_s, done = time.perf_counter(), 0
    while step < arguments.steps:
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step, arguments.steps, arguments.lr)
        output = forward(model, samples)
        terms = loss(model.encoder.initial_points_m, output, truth)
        total = sum(terms.values())
        if not torch.isfinite(total):
            raise FloatingPointError(f'step {step}: { ({name: term.item() for name, term in terms.items()}) }')
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35.0)
        optimizer.step()
        step, done = step + 1, done + 1
        if step % arguments.report_every == 0 or step == arguments.steps:
            row = {
                'step': step,
                'loss': round(total.item(), 4),
                **{name: round(term.item(), 4) for name, term in terms.items()},
                'lr': optimizer.param_groups[0]['lr'],
                'step_ms': round(1e3 * (time.perf_counter() - begin_s) / done),
                **score(model, samples, config),
            }
            with (arguments.out / 'log.jsonl').open('a', encoding='utf-8') as log:
                log.write(json.dumps(row) + '\n')
            print(json.dumps(row), flush=True)
            save(arguments.out / 'state.pt', run, model, optimizer, step)
            begin_s, done = time.perf_counter(), 0
    save_checkpoint(arguments.out / 'checkpoint', {'perception': model.eval()}, config)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--samples', type=int, default=4)
    parser.add_argument('--steps', type=int, default=1200)
    parser.add_argument('--lr', type=float, default=8e-4)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--report-every', type=int, default=50)
    parser.add_argument('--set', nargs='*', default=[], metavar='KEY=VALUE', help='e.g. encoder.queries=600')
    return parser.parse_args()


def load_samples(arguments: argparse.Namespace, config: VLAConfig) -> dict[str, torch.Tensor]:
    """The last keyframe of each scene, with the frames before it: tensors with B = --samples in front."""
    root = arguments.out / 'world'
    width_px, height_px = config.image.width_px, config.image.height_px
    if not root.is_dir():
        write_world(root, WorldRequest(arguments.samples, 3, width_px, height_px, 2, 4.0, None), 2, lambda _: None)
    tables = NuScenesTables(root, VERSION)
    columns: dict[str, list[np.ndarray]] = {}
    if len(tables.scene_names) < arguments.samples:
        raise ValueError(f'{root} has {len(tables.scene_names)} scenes, --samples is {arguments.samples}')
    for name in tables.scene_names[: arguments.samples]:
        keyframes = tables.scene(name).samples[: -config.image.frames - 1 : -1]
        frames = [keyframe_view(sample, CAMERAS, width_px, height_px) for sample in keyframes]
        inputs = encoder_inputs(frames, CAMERAS, width_px, height_px)
        labels = load_labels(root / 'gts', name, keyframes[0].token)
        for key in ('images', 'image_from_ego', 'view_mask'):
            columns.setdefault(key, []).append(getattr(inputs, key))
        columns.setdefault('semantics', []).append(labels.semantics)
        columns.setdefault('mask_camera', []).append(labels.mask_camera)
    return {key: torch.from_numpy(np.stack(values)) for key, values in columns.items()}


def forward(model: OccupancyPerception, samples: dict[str, torch.Tensor]) -> EncoderOutput:
    """All samples at once."""
    images = samples['images']  # [B, V, H, W, 3]
    levels = tuple(level.unflatten(0, images.shape[:2]) for level in model.extract(images.flatten(0, 1)))
    return model.encode(levels, samples['image_from_ego'], samples['view_mask'])


@torch.no_grad()
def score(model: OccupancyPerception, samples: dict[str, torch.Tensor], config: VLAConfig) -> dict[str, float]:
    """Scores of the model in evaluation mode, on what it was trained on; closed and not."""
    output = forward(model.eval(), samples)
    model.train()
    scores = {}
    for close in (True, False):
        rule = VoxelRule(score_threshold=SCORE_THRESHOLD, close=close)
        found = decode_voxels(output.points_m[-1], output.logits[-1], config.space, rule)
        for mask_name in (None, 'camera'):
            counts = OccupancyScore(mask_name)
            for voxels, semantics, mask in zip(found, samples['semantics'], samples['mask_camera'], strict=True):
                counts.add(dense_labels(voxels, config.space).numpy(), semantics.numpy(), mask_name and mask.numpy())
            for name, value in counts.result().items():
                if name.endswith(('/miou', '/geometric_iou')):
                    scores[f'{name}{"" if close else "/raw"}'] = round(value, 4)
    return scores


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    warmup = min(100, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share)))


def resume(path: Path, run: dict[str, Any], model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load what :func:`save` wrote, if it is there; the step to go on with.

    Raises:
        ValueError: it is of another run.
    """
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    differing = [name for name in run if state['run'].get(name) != run[name]]
    if differing:
        raise ValueError(f'{path} is of a run with another {", ".join(differing)}; take another --out')
    model.load_state_dict(state['model'])
    optimizer.load_state_dict(state['optimizer'])
    return state['step']


def save(path: Path, run: dict[str, Any], model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the state so that a kill in between leaves the old one."""
    partial = path.with_suffix('.partial')
    torch.save({'run': run, 'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'step': step}, partial)
    partial.replace(path)


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""Can the forecaster learn at all? Trains it, with connector and language model, on a few fixed keyframes of the world.

    .venv/bin/python tools/overfit_occupancy.py --out out/overfit --set image.frames=1    # an encoder, half an hour
    .venv/bin/python tools/overfit_forecast.py --out out/forecast \\
        --data out/overfit/world --weights out/overfit/checkpoint

The encoder stays as it is: its queries are computed once, as on the car. On the same keyframes the same network is
trained a second time, on the PRESENT labels: what it reaches at later times is what a model of this size and training
gets by standing still. Writes one JSON line each --report-every steps to OUT/log.jsonl, and OUT/result.json: scores at
each horizon in the current ego frame, on the very keyframes that were trained on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sparseoccvla_ros.data.dataset import KeyframeDataset, SampleRequest, collate
from sparseoccvla_ros.data.keyframes import keyframe_view
from sparseoccvla_ros.data.nuscenes import CAMERAS, NuScenesTables
from sparseoccvla_ros.data.occ3d import OccupancyLabels
from sparseoccvla_ros.evaluation.forecast_run import ForecastRun, LaterLabels
from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.model.forecast_loss import ForecastLoss, ForecastLossConfig, FutureVoxels, future_voxels
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.model.occupancy_decoding import VoxelRule, decode_voxels, dense_labels
from sparseoccvla_ros.model.vla import build_language, build_perception
from sparseoccvla_ros.runtime.perception import PerceptionEngine
from sparseoccvla_ros.runtime.timing import StageTimer
from sparseoccvla_ros.training.schedule import warmed_cosine
from sparseoccvla_ros.world.files.tables import VERSION

#: Of a point's best class; focal loss keeps probabilities low.
RULE = VoxelRule(score_threshold=0.3)
FIGURES = ('geometric_iou', 'sparseworld/miou', 'movable_miou')


@dataclass(frozen=True)
class Keyframes:
    """B keyframes: the encoder's ``features`` [B, Q, C] and ``positions_m`` [B, Q, 3], its own ``prediction`` of the
    present, uint8 [B, X, Y, Z], and the data set's batch with labels of the present and of H later times.
    """

    features: torch.Tensor
    positions_m: torch.Tensor
    prediction: np.ndarray
    batch: dict


def main() -> None:
    """Train twice, score, write."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    config = load_model_config(arguments.weights / 'config.yaml', {'forecaster.points': arguments.points})
    keyframes = load_keyframes(arguments, config)
    batch, space = keyframes.batch, config.space
    later = future_voxels(
        batch['target_future_semantics'], batch['target_future_mask_camera'], batch['target_future_labels_valid'],
        batch['target_current_ego_from_future_ego'], space,
    )  # fmt: skip
    still = torch.eye(4).expand(len(batch['token']), 1, 4, 4)
    present = future_voxels(
        batch['target_semantics'][:, None], batch['target_mask_camera'][:, None],
        batch['target_labels_valid'][:, None], still, space,
    )  # fmt: skip
    standing = dataclasses.replace(
        config, forecaster=dataclasses.replace(config.forecaster, horizons_s=config.forecaster.horizons_s[:1])
    )
    forecast = train('forecast', config, keyframes, later, arguments)
    held = train('trained_to_stand_still', standing, keyframes, present, arguments)
    result = {
        'keyframes': batch['token'],
        'steps': arguments.steps,
        'scores': scores(config, keyframes, forecast, held),
    }
    (arguments.out / 'result.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(result, indent=1))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--data', type=Path, required=True, help='a world with scenes of at least 4 s')
    parser.add_argument('--weights', type=Path, required=True, help='checkpoint with a trained encoder')
    parser.add_argument('--keyframes', type=int, default=2, help='the last one with 3 s ahead, of so many scenes')
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--lr', type=float, default=3e-3)
    parser.add_argument('--points', type=int, default=64, help='of a query, at each horizon')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--report-every', type=int, default=25)
    return parser.parse_args()


def load_keyframes(arguments: argparse.Namespace, config: VLAConfig) -> Keyframes:
    """The last keyframe of each scene that has all horizons ahead, seen through the engine of the car.

    Raises:
        ValueError: too few scenes have one.
    """
    tables = NuScenesTables(arguments.data, VERSION)
    horizons_s, image = config.forecaster.horizons_s, config.image
    request = SampleRequest(image.width_px, image.height_px, future_labels_s=horizons_s, boxes=False)
    engine = PerceptionEngine(
        build_perception(config_of_checkpoint(arguments.weights), weights=arguments.weights),
        config, torch.device('cpu'), CAMERAS,
    )  # fmt: skip
    items, outputs = [], []
    for scene in tables.scene_names[: arguments.keyframes]:
        dataset = KeyframeDataset(tables, [scene], request, gts_root=arguments.data / 'gts')
        ahead = [number for number, moment in enumerate(dataset.moments) if None not in moment.future_keyframes]
        if not ahead:
            raise ValueError(f'{scene} has no keyframe with labels at {horizons_s} s')
        engine.memory.clear()
        for sample in tables.scene(scene).samples[: ahead[-1] + 1]:
            view = keyframe_view(sample, CAMERAS, image.width_px, image.height_px)
            output, _ = engine.encode(view, StageTimer(engine.device))
        outputs.append(output)
        items.append(dataset[ahead[-1]])
    if len(items) < arguments.keyframes:
        raise ValueError(f'{arguments.data} has {len(items)} scenes, --keyframes is {arguments.keyframes}')
    return Keyframes(
        torch.cat([output.features for output in outputs]).clone(),
        torch.cat([output.positions_m for output in outputs]).clone(),
        np.stack([labels(output.points_m[-1], output.logits[-1], config)[0] for output in outputs]),
        collate(items),
    )


def config_of_checkpoint(weights: Path) -> VLAConfig:
    """As it was saved: the forecaster of this run may have another number of points."""
    return load_model_config(weights / 'config.yaml')


def train(
    name: str,
    config: VLAConfig,
    keyframes: Keyframes,
    truth: list[list[FutureVoxels | None]],
    arguments: argparse.Namespace,
) -> np.ndarray:
    """Train the language part from scratch on all keyframes at once; the labels it then gives, [H, B, X, Y, Z]."""
    torch.manual_seed(arguments.seed)
    model = build_language(config, weights=None, seed=arguments.seed).train()
    horizons_s = config.forecaster.horizons_s
    loss = ForecastLoss(ForecastLossConfig(horizon_weights=(1.0,) * len(horizons_s)), config.space, horizons_s)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.01)
    begin_s, done = time.perf_counter(), 0
    for step in range(arguments.steps):
        for group in optimizer.param_groups:
            group['lr'] = warmed_cosine(step, arguments.steps, arguments.lr, min(20, arguments.steps // 10))
        terms = loss(forward(model, keyframes), truth)
        total = sum(terms.values())
        if not torch.isfinite(total):
            raise FloatingPointError(f'step {step}: { ({name: term.item() for name, term in terms.items()}) }')
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35.0)
        optimizer.step()
        done += 1
        if (step + 1) % arguments.report_every == 0 or step + 1 == arguments.steps:
            row = {
                'run': name,
                'step': step + 1,
                'loss': round(total.item(), 4),
                **{term: round(value.item(), 4) for term, value in terms.items()},
                'lr': optimizer.param_groups[0]['lr'],
                'step_ms': round(1e3 * (time.perf_counter() - begin_s) / done),
            }
            with (arguments.out / 'log.jsonl').open('a', encoding='utf-8') as log:
                log.write(json.dumps(row) + '\n')
            print(json.dumps(row), flush=True)
            begin_s, done = time.perf_counter(), 0
    with torch.no_grad():
        return np.stack([labels(points_m, logits, config) for points_m, logits in forward(model.eval(), keyframes)])


def forward(model: SceneLanguage, keyframes: Keyframes) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Per horizon points [B, Q, P, 3] and class logits [B, Q, P, K]."""
    prompt = model.scene_prompt(keyframes.features, keyframes.positions_m)
    hidden, _ = model.read_scene(prompt)
    return model.forecast(prompt.at_queries(hidden), keyframes.features, keyframes.positions_m)


def labels(points_m: torch.Tensor, logits: torch.Tensor, config: VLAConfig) -> np.ndarray:
    """Points and logits of B samples to labels uint8 [B, X, Y, Z]."""
    found = decode_voxels(points_m, logits, config.space, RULE)
    return np.stack([dense_labels(voxels, config.space).numpy() for voxels in found])


def scores(
    config: VLAConfig, keyframes: Keyframes, forecast: np.ndarray, held: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Of the forecast [H, B, X, Y, Z], of the one trained to stand still [1, B, ...], and of both held rows."""
    batch, horizons_s = keyframes.batch, config.forecaster.horizons_s
    runs = {'forecast': ForecastRun(horizons_s), 'trained_to_stand_still': ForecastRun(horizons_s)}
    for b in range(len(batch['token'])):
        later = [
            LaterLabels(OccupancyLabels(semantics.numpy(), mask.numpy(), None), pose.double().numpy())
            for semantics, mask, pose in zip(
                batch['target_future_semantics'][b], batch['target_future_mask_camera'][b],
                batch['target_current_ego_from_future_ego'][b], strict=True,
            )
        ]  # fmt: skip
        present = batch['target_semantics'][b].numpy()
        for run, grids in zip(runs.values(), (forecast[:, b], np.repeat(held[:, b], len(horizons_s), 0)), strict=True):
            run.add(grids, keyframes.prediction[b], present, later)
    result = {}
    for mask in ('no_mask', 'camera_mask'):
        found = {name: run.summary()['scores']['current_ego'][mask] for name, run in runs.items()}
        rows = {'trained_to_stand_still': found['trained_to_stand_still']['forecast'], **found['forecast']}
        for row, figures in rows.items():
            result[f'{mask}/{row}'] = {
                name: None if value is None else round(value, 4)
                for name, value in figures.items()
                if name.startswith(FIGURES)
            }
    return result


if __name__ == '__main__':
    main()

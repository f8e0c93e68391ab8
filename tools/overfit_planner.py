#!/usr/bin/env python3
"""Can the planner learn at all, and does what it reads help on scenes it has not seen? Trains it on the world.

    .venv/bin/python tools/overfit_occupancy.py --out out/overfit --set image.frames=1    # an encoder, half an hour
    .venv/bin/sparseoccvla world --out out/planner_world --scenes 4 --seed 31
    .venv/bin/python tools/overfit_planner.py --data out/planner_world --out out/planner \\
        --weights out/overfit/checkpoint

    .venv/bin/sparseoccvla world --out out/planner_world_32 --scenes 32 --seed 32 --seconds 12
    .venv/bin/python tools/overfit_planner.py --data out/planner_world_32 --out out/planner_32 \\
        --weights out/overfit/checkpoint --held-out --steps 300 --batch 64 \\
        --without ego_fusion ego_scoring ego_fusion+ego_scoring

Encoder (random, or --weights) and language model (random) are fixed: queries and reasoning tokens are computed once,
by the code of the car. The planner alone is trained: on --samples keyframes of all scenes, and scored on the same; or,
with --held-out, on all keyframes of the world's training scenes, and scored on those of its val scenes. For each
--without it is trained once more from the same seed with that part (or those parts) switched off. Commands are the
route's, motion comes from earlier poses.

OUT/log.jsonl has the losses and, last of each run, the figures; OUT/result.json the figures. L2 is in metres, mean over
the time up to 1, 2 and 3 s (stp3), of the refined candidate with the highest score among those of the command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from language_overfit.keyframes import Keyframes, encode_keyframes
from torch import Tensor

from sparseoccvla_ros.data.ego_future import scene_ego_futures
from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.evaluation.planning_baselines import constant_turn_rate
from sparseoccvla_ros.evaluation.planning_metrics import REPORTED_S, mean_up_to
from sparseoccvla_ros.model.candidates import diversity
from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.model.planner import TrajectoryPlanner
from sparseoccvla_ros.model.planner_loss import PlannerLoss, PlannerLossConfig, PlannerTargets, positive_anchors
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner
from sparseoccvla_ros.training.schedule import warmed_cosine
from sparseoccvla_ros.world.files.tables import VERSION

SWITCHES = ('llm_scoring', 'scene_fusion', 'ego_fusion', 'ego_scoring')
#: Keyframes planned for at once when scored.
SCORED_AT_ONCE = 64


@dataclass(frozen=True)
class Samples:
    """N keyframes: ``inputs`` of the planner by name, and what it should give; whose scene each is; and the arc of the
    present speed and yaw rate [N, 6, 2], metres, which needs no learning.
    """

    scenes: tuple[str, ...]
    inputs: dict[str, Tensor]
    targets: PlannerTargets
    constant_turn_m: Tensor

    def take(self, places: Tensor) -> Samples:
        """Some of them."""
        targets = (self.targets.waypoints_ego_m, self.targets.valid, self.targets.command)
        return Samples(
            tuple(self.scenes[place] for place in places.tolist()),
            {name: tensor[places] for name, tensor in self.inputs.items()},
            PlannerTargets(*(tensor[places] for tensor in targets)),
            self.constant_turn_m[places],
        )


def main() -> None:
    """Encode, train, score, write."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    config = load_model_config('tiny' if arguments.weights is None else arguments.weights / 'config.yaml')
    samples = load_samples(arguments, config)
    trained, scored = split(samples, arguments)
    result: dict[str, dict] = {}
    for parts in ((), *arguments.without):
        name = f'without {"+".join(parts)}' if parts else 'planner'
        planner = train(name, _without(config, parts), trained, arguments)
        result[name] = figures(planner, scored)
        report(arguments.out, {'run': name, 'trained_on': len(trained.scenes), **result[name]})
    (arguments.out / 'result.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='a world')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--weights', type=Path, help='checkpoint folder of the encoder; default: random')
    parser.add_argument('--samples', type=int, default=64, help='keyframes with 3 s ahead, spread over all scenes')
    parser.add_argument('--held-out', action='store_true', help='train on the training scenes, score on the val scenes')
    again = f'train again without it: {", ".join(SWITCHES)}; A+B: without both'
    parser.add_argument('--without', type=_parts, nargs='*', default=[], metavar='PART', help=again)
    parser.add_argument('--steps', type=int, default=1500)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--lr', type=float, default=2e-3)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--report-every', type=int, default=100)
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split('+'))
    if not set(parts) <= set(SWITCHES):
        raise argparse.ArgumentTypeError(f'{text!r} must be of {", ".join(SWITCHES)}, joined by +')
    return parts


def _without(config: VLAConfig, parts: tuple[str, ...]) -> VLAConfig:
    return dataclasses.replace(config, planner=dataclasses.replace(config.planner, **dict.fromkeys(parts, False)))


def load_samples(arguments: argparse.Namespace, config: VLAConfig) -> Samples:
    """All keyframes with a known motion, a command and at least the first waypoint."""
    tables = NuScenesTables(arguments.data, VERSION)
    path = arguments.out / 'keyframes.pt'
    if not path.is_file():
        perception = build_perception(config, weights=arguments.weights, seed=arguments.seed)
        encode_keyframes(tables, tables.scene_names, 1, perception, config).save(path)
    keyframes = Keyframes.load(path)
    futures = [future for scene in tables.scene_names for future in scene_ego_futures(tables, scene)]
    if [future.token for future in futures] != list(keyframes.sample_tokens):
        raise ValueError(f'{path} holds the keyframes of another world; remove it')
    kept = [n for n, f in enumerate(futures) if f.state and f.command is not None and f.waypoints_valid[0]]
    states = [futures[n].state for n in kept]
    language = build_language(config, weights=None, seed=arguments.seed)
    return Samples(
        tuple(futures[n].scene for n in kept),
        {
            'features': keyframes.features[kept],
            'positions_m': keyframes.positions_m[kept],
            'reasoning_tokens': torch.cat([reasoning_tokens(language, keyframes, n) for n in kept]),
            'ego_state': torch.tensor([[s.speed_mps, s.accel_mps2, s.yaw_rate_radps] for s in states]).float(),
            'command': torch.tensor([int(futures[n].command) for n in kept]),
        },
        PlannerTargets(
            torch.stack([torch.from_numpy(futures[n].waypoints_ego_m).float() for n in kept]),
            torch.stack([torch.from_numpy(futures[n].waypoints_valid) for n in kept]),
            torch.tensor([int(futures[n].command) for n in kept]),
        ),
        torch.stack([torch.from_numpy(constant_turn_rate(state)).float() for state in states]),
    )


@torch.inference_mode()
def reasoning_tokens(language: SceneLanguage, keyframes: Keyframes, place: int) -> Tensor:
    """T_r [1, R, D] of one keyframe, as the reasoning engine makes it."""
    prompt = language.scene_prompt(keyframes.features[place][None], keyframes.positions_m[place][None])
    _, prefix = language.read_scene(prompt)
    planning = torch.tensor([language.planning_tokens()])
    return language.forward_embeddings(language.embed_text(planning), prefix)[0].clone()


def split(samples: Samples, arguments: argparse.Namespace) -> tuple[Samples, Samples]:
    """What is trained on, and what is scored: only keyframes with all waypoints known.

    Raises:
        ValueError: there are too few keyframes, or no val scenes.
    """
    whole = samples.targets.valid.all(dim=1)
    if not arguments.held_out:
        places = whole.nonzero()[:, 0]
        if len(places) < arguments.samples:
            raise ValueError(f'{len(places)} keyframes have 3 s ahead, --samples is {arguments.samples}')
        chosen = samples.take(places[torch.linspace(0, len(places) - 1, arguments.samples).long()])
        return chosen, chosen
    val_scenes = json.loads((arguments.data / 'splits.json').read_text(encoding='utf-8'))['val']
    if not val_scenes:
        raise ValueError(f'{arguments.data} has no val scenes; a world of more scenes has')
    unseen = torch.tensor([scene in val_scenes for scene in samples.scenes])
    return samples.take((~unseen).nonzero()[:, 0]), samples.take((unseen & whole).nonzero()[:, 0])


def train(name: str, config: VLAConfig, samples: Samples, arguments: argparse.Namespace) -> TrajectoryPlanner:
    """A planner trained from scratch, in evaluation mode.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    planner = build_planner(config, weights=None, seed=arguments.seed).train()
    loss = PlannerLoss(PlannerLossConfig())
    optimizer = torch.optim.AdamW(planner.parameters(), lr=arguments.lr, weight_decay=0.01)
    generator = torch.Generator().manual_seed(arguments.seed)
    sums: dict[str, float] = {}
    begin_s, done = time.perf_counter(), 0
    order = torch.empty(0, dtype=torch.long)
    for step in range(arguments.steps):
        for group in optimizer.param_groups:
            group['lr'] = warmed_cosine(step, arguments.steps, arguments.lr, min(50, arguments.steps // 10))
        if len(order) < min(arguments.batch, len(samples.scenes)):
            order = torch.randperm(len(samples.scenes), generator=generator)
        batch, order = samples.take(order[: arguments.batch]), order[arguments.batch :]
        terms = loss(planner.denoise_once(**batch.inputs, generator=generator), planner.anchors, batch.targets)
        total = sum(terms.values())
        if not torch.isfinite(total):
            raise FloatingPointError(f'step {step}: { ({term: value.item() for term, value in terms.items()}) }')
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(planner.parameters(), 10.0)
        optimizer.step()
        done += 1
        for term, value in terms.items():
            sums[term] = sums.get(term, 0.0) + value.item()
        if (step + 1) % arguments.report_every == 0 or step + 1 == arguments.steps:
            means = {term: round(value / done, 4) for term, value in sums.items()}
            step_ms = round(1e3 * (time.perf_counter() - begin_s) / done)
            lr = optimizer.param_groups[0]['lr']
            report(arguments.out, {'run': name, 'step': step + 1, **means, 'lr': lr, 'step_ms': step_ms})
            sums, done, begin_s = {}, 0, time.perf_counter()
    return planner.eval()


@torch.inference_mode()
def figures(planner: TrajectoryPlanner, samples: Samples) -> dict[str, float | int | dict[str, float]]:
    """L2 and what stands behind it, of samples whose waypoints are all known."""
    N = len(samples.scenes)
    outputs = [
        planner(**samples.take(places).inputs, generator=torch.Generator().manual_seed(0))
        for places in torch.arange(N).split(SCORED_AT_ONCE)
    ]
    refined_m = torch.cat([output.waypoints_ego_m for output in outputs])
    scores = torch.cat([output.scores for output in outputs])
    modes, targets, each = planner.anchors.shape[1], samples.targets, torch.arange(N)
    own = scores.unflatten(1, (-1, modes))[each, targets.command]
    chosen = targets.command * modes + own.argmax(dim=1)
    positive = positive_anchors(planner.anchors, targets)
    anchors_m = planner.anchors.flatten(0, 1)
    apart = diversity(refined_m, planner.anchors)[each, targets.command]
    return {
        'scored_on': N,
        'l2_m': l2_stp3_m(refined_m[each, chosen], targets),
        'l2_of_positive_refined_m': l2_stp3_m(refined_m[each, positive], targets),
        'l2_of_chosen_anchor_m': l2_stp3_m(anchors_m[chosen], targets),
        'l2_of_positive_anchor_m': l2_stp3_m(anchors_m[positive], targets),
        'l2_of_constant_turn_m': l2_stp3_m(samples.constant_turn_m, targets),
        'chosen_is_positive': round((chosen == positive).float().mean().item(), 4),
        'diversity_mean': round(apart.mean().item(), 4),
        'diversity_least_and_most': [round(apart.min().item(), 4), round(apart.max().item(), 4)],
        'collapsed': round((apart < planner.config.min_diversity).float().mean().item(), 4),
    }


def l2_stp3_m(waypoints_m: Tensor, targets: PlannerTargets) -> dict[str, float]:
    """Mean error [m] over the waypoints [N, 6, 2] up to 1, 2 and 3 s, and the mean of the three."""
    errors_m = torch.linalg.vector_norm(waypoints_m - targets.waypoints_ego_m, dim=-1)  # [N, 6]
    means_m = mean_up_to(errors_m.double().numpy()).mean(axis=0)
    upto = {f'{seconds}s': float(means_m[2 * seconds - 1]) for seconds in REPORTED_S}
    return {name: round(value, 4) for name, value in {**upto, 'avg': sum(upto.values()) / len(upto)}.items()}


def report(out: Path, row: dict) -> None:
    """One line of JSON, to the log and the screen."""
    with (out / 'log.jsonl').open('a', encoding='utf-8') as log:
        log.write(json.dumps(row) + '\n')
    print(json.dumps(row), flush=True)


if __name__ == '__main__':
    main()

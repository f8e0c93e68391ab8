#!/usr/bin/env python3
"""Does the language model find what the encoder sees? Where answers are poor, this tells which of the two is to blame.

    .venv/bin/python tools/check_reading.py --data out/train/world_8s --weights tiny

For every class that any query of a keyframe sees, the model is asked where the nearest thing of that class is, behind
the whole prompt, greedily. The answer is held against where that query sees it: labels play no part, so a wrong class
or a wrong place of the encoder's is not counted against the language model.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import defaultdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from sparseoccvla_ros.data.dataset import KeyframeDataset, SampleRequest, collate
from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.data.splits import split_scenes
from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.model.language import KeyValues, SceneLanguage
from sparseoccvla_ros.model.placement import checkpoint_folder
from sparseoccvla_ros.model.vla import build_language, build_perception
from sparseoccvla_ros.training.reading_loss import WHERE, ReadingConfig
from sparseoccvla_ros.training.scene_objective import encode

#: What counts as seen is what the recipe `tiny/stage2` practises.
PRACTICE = ReadingConfig()
NEAR_M = 2.0
LONGEST_ANSWER = 32
PLACE = re.compile(r'\((-?\d+\.\d), (-?\d+\.\d)\)')


def main() -> None:
    """Ask, and print a table by class."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    config = load_model_config(arguments.model)
    weights = checkpoint_folder(arguments.weights)
    perception, language = build_perception(config, weights=weights), build_language(config, weights=weights)
    names = [name.replace('_', ' ') for name in config.space.classes]
    errors_m: dict[str, list[float]] = defaultdict(list)
    data = keyframes(arguments.data, arguments.version, arguments.split, config)
    chosen = torch.linspace(0, len(data) - 1, min(arguments.keyframes, len(data))).long().unique()
    with torch.inference_mode():
        for index in chosen.tolist():
            output = encode(perception, collate([data.sample(index, 0)]))
            counts, places_m = perception.encoder.sights(output.features, output.positions_m, PRACTICE.score_threshold)
            sees = counts[0] >= PRACTICE.least_points  # [Q, K]
            prefix = language.read_scene(language.scene_prompt(output.features, output.positions_m))[1]
            for label in sees.any(dim=0).nonzero()[:, 0].tolist():
                of_class_m = places_m[0, sees[:, label], label, :2]
                nearest_m = of_class_m[of_class_m.norm(dim=1).argmin()].tolist()
                answer = greedy_answer(language, prefix, WHERE.format(thing=names[label]))
                said = PLACE.search(answer)
                errors_m[names[label]].append(
                    math.dist([float(value) for value in said.groups()], nearest_m) if said else math.inf
                )
    show(errors_m)


def keyframes(root: Path, version: str, split: str, config: VLAConfig) -> KeyframeDataset:
    """Those of a split, as the model takes them, without labels."""
    tables = NuScenesTables(root, version)
    image = config.image
    request = SampleRequest(image.width_px, image.height_px, image.frames, image.frame_interval_s, boxes=False)
    return KeyframeDataset(tables, split_scenes(tables, split), request, gts_root=None)


def greedy_answer(language: SceneLanguage, prefix: KeyValues, question: str) -> str:
    """The likeliest token each time, until the answer's end."""
    tokens, said, past = language.question_tokens([(question, None)]), [], prefix
    while len(said) < LONGEST_ANSWER:
        hidden, past = language.forward_embeddings(language.embed_text(torch.tensor([tokens])), past)
        token = int(language.logits(hidden[:, -1]).argmax())
        if token == language.tokenizer.eos_token_id:
            break
        said.append(token)
        tokens = [token]
    return language.tokenizer.decode(said)


def show(errors_m: dict[str, list[float]]) -> None:
    """Share of answers within NEAR_M, and the median error, by class and in the mean over classes."""
    table = Table('class', 'asked', f'within {NEAR_M:g} m, %', 'median error, m')
    shares = {}
    for name, errors in sorted(errors_m.items(), key=lambda item: -len(item[1])):
        shares[name] = 100.0 * sum(error < NEAR_M for error in errors) / len(errors)
        table.add_row(name, str(len(errors)), f'{shares[name]:.0f}', f'{sorted(errors)[len(errors) // 2]:.1f}')
    table.add_row('mean of the classes', '', f'{sum(shares.values()) / len(shares):.0f}', '')
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder in the nuScenes layout')
    parser.add_argument('--version', default='v1.0-world')
    parser.add_argument('--split', default='val')
    parser.add_argument('--model', default='tiny', help='configuration')
    parser.add_argument('--weights', default='tiny', help='checkpoint folder, or weights that come along')
    parser.add_argument('--keyframes', type=int, default=60, help='so many, evenly spread')
    parser.add_argument('--threads', type=int, default=1)
    return parser.parse_args()


if __name__ == '__main__':
    main()

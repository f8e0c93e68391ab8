#!/usr/bin/env python3
"""Does the tiny language model read the scene? Trains it on 200 questions, until it knows them, then swaps the scenes.

    .venv/bin/sparseoccvla world --out out/questions_world --scenes 15 --seed 3 --seconds 8
    .venv/bin/python tools/overfit_questions.py --data out/questions_world --out out/overfit_questions

The encoder is fixed (random, or --weights); connector and language model are trained. Questions come in couples: the
same words about two scenes, with different answers (language_overfit/choice.py). Then the reasoning engine of the car
answers all of them greedily: about their own keyframes, and about keyframes of other scenes in their place. Beside it
stand the answers of someone who does not look: the commonest of the question's kind, and of its very words.

Goes on where an interrupted run stopped. OUT/log.jsonl has the losses and, last, the results; OUT/checkpoint the
language part, and OUT/answers.jsonl every answer.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from contextlib import closing
from pathlib import Path

import torch
from language_overfit.asking import LIMITS, ask_all, exact, exact_by_kind, right_for_shown
from language_overfit.choice import (
    AskedQuestion,
    asked_questions,
    choose,
    load_pairs,
    prior_answers,
    train_scenes,
)
from language_overfit.keyframes import Keyframes, deranged, encode_keyframes
from language_overfit.train import TrainRequest, report, train

from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.model.checkpoint import save_checkpoint
from sparseoccvla_ros.model.config import VLAConfig, load_model_config
from sparseoccvla_ros.model.vla import build_language, build_perception
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine
from sparseoccvla_ros.world.files.tables import VERSION


def main() -> None:
    """Encode, choose, train, ask."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    config = load_model_config('tiny' if arguments.weights is None else arguments.weights / 'config.yaml')
    arguments.out.mkdir(parents=True, exist_ok=True)
    pairs = load_pairs(arguments.data)
    keyframes = encoded(arguments, config)
    asked = asked_questions(
        (pair for pair in pairs if pair.kind not in arguments.hold_out), frozenset(keyframes.sample_tokens)
    )
    questions = choose(asked, arguments.questions)
    language = build_language(config, weights=None, seed=arguments.seed)
    language.forecaster.requires_grad_(False)
    request = TrainRequest(arguments.steps, arguments.lr, arguments.keyframes, seed=arguments.seed)
    if not train(language, keyframes, questions, request, arguments.out, 60.0 * arguments.minutes):
        print(f'{arguments.minutes} minutes are up: run the same command again to go on')
        return
    save_checkpoint(arguments.out / 'checkpoint', {'language': language.eval()}, config)
    with closing(ReasoningEngine(language, config, torch.device('cpu'), LIMITS)) as engine:
        report(arguments.out, judge(engine, keyframes, questions, arguments.out))


def encoded(arguments: argparse.Namespace, config: VLAConfig) -> Keyframes:
    """What the encoder says about the training scenes' keyframes; OUT/keyframes.pt, made if it is not there."""
    path = arguments.out / 'keyframes.pt'
    if not path.is_file():
        perception = build_perception(config, weights=arguments.weights, seed=arguments.seed)
        tables = NuScenesTables(arguments.data, VERSION)
        encode_keyframes(tables, train_scenes(arguments.data), arguments.every, perception, config).save(path)
    return Keyframes.load(path)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='a world')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--weights', type=Path, help='checkpoint folder of the encoder; default: random')
    parser.add_argument('--questions', type=int, default=200)
    parser.add_argument(
        '--hold-out', nargs='*', default=['count', 'trajectory'], metavar='KIND', help='kinds that are not asked'
    )
    parser.add_argument('--every', type=int, default=4, help='of the keyframes')
    parser.add_argument('--steps', type=int, default=800)
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument('--keyframes', type=int, default=6, help='in a step')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--minutes', type=float, default=20.0, help='stop then; the next run goes on')
    return parser.parse_args()


def judge(
    engine: ReasoningEngine, keyframes: Keyframes, questions: list[AskedQuestion], out: Path
) -> dict[str, object]:
    """Shares of exact answers, over all and by kind; writes OUT/answers.jsonl."""
    own, other = list(range(len(keyframes.sample_tokens))), deranged(keyframes.scenes)
    answers = {
        'own_scene': ask_all(engine, keyframes, questions, own),
        'other_scene': ask_all(engine, keyframes, questions, other),
        'prior_of_kind': prior_answers(questions, by_text=False),
        'prior_of_words': prior_answers(questions, by_text=True),
    }
    with (out / 'answers.jsonl').open('w', encoding='utf-8') as file:
        for number, question in enumerate(questions):
            given = {name: told[number] for name, told in answers.items()}
            row = {'kind': question.kind, 'question': question.text, 'reference': question.answer, **given}
            file.write(json.dumps(row) + '\n')
    right = right_for_shown(keyframes, questions, other)
    pairs = [(told, wanted) for told, wanted in zip(answers['other_scene'], right, strict=True) if wanted is not None]
    return {
        'questions': dict(sorted(Counter(question.kind for question in questions).items())),
        'keyframes': len({question.sample_token for question in questions}),
        'words': len({question.text for question in questions}),
        'exact': {name: round(exact(questions, told), 4) for name, told in answers.items()},
        'exact_by_kind': {
            name: {kind: round(share, 3) for kind, share in exact_by_kind(questions, told).items()}
            for name, told in answers.items()
        },
        # of the questions that the other keyframe was asked too: is its own answer given?
        'right_for_other_scene': {'questions': len(pairs), 'right': sum(told == wanted for told, wanted in pairs)},
    }


if __name__ == '__main__':
    main()

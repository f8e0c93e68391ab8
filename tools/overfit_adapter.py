#!/usr/bin/env python3
"""What a LoRA adapter adds: trained on the kind of question that overfit_questions.py held out, then set and removed.

    .venv/bin/python tools/overfit_adapter.py --data out/questions_world --base out/overfit_questions \\
        --out out/overfit_adapter

The base is frozen, connector included; only the adapter is trained, on the world's questions of --kind about the base's
keyframes. Then the reasoning engine of the car answers them, and the questions that the base was trained on, three
times: before, with the adapter set at run time, and after its removal, which must give the first answers again, byte by
byte.

Goes on where an interrupted run stopped. OUT/adapters/KIND is peft's folder, OUT/log.jsonl has the losses and, last,
the results.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import torch
from language_overfit.asking import LIMITS, ask_all, exact
from language_overfit.choice import AskedQuestion, asked_questions, load_pairs, prior_answers
from language_overfit.keyframes import Keyframes, deranged
from language_overfit.train import TrainRequest, report, train
from peft import LoraConfig, get_peft_model

from sparseoccvla_ros.model.adapters import train_adapters_only
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.runtime.reasoning import ReasoningEngine

LINEAR_LAYERS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']


def main() -> None:
    """Encode, train the adapter, ask without it, with it and without it again."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    checkpoint = arguments.base / 'checkpoint'
    config = load_model_config(checkpoint / 'config.yaml')
    arguments.out.mkdir(parents=True, exist_ok=True)
    keyframes = Keyframes.load(arguments.base / 'keyframes.pt')
    pairs = [pair for pair in load_pairs(arguments.data) if pair.kind == arguments.kind]
    questions = asked_questions(pairs, frozenset(keyframes.sample_tokens))
    language = with_adapter(build_language(config, weights=checkpoint), arguments.rank)
    trainable = sum(parameter.numel() for parameter in language.parameters() if parameter.requires_grad)
    request = TrainRequest(arguments.steps, arguments.lr, arguments.keyframes, seed=arguments.seed)
    if not train(language, keyframes, questions, request, arguments.out, 60.0 * arguments.minutes):
        print(f'{arguments.minutes} minutes are up: run the same command again to go on')
        return
    folder = arguments.out / 'adapters' / arguments.kind
    language.llm.save_pretrained(folder)
    base = build_language(config, weights=checkpoint)
    old = known_questions(arguments.base)
    with closing(ReasoningEngine(base, config, torch.device('cpu'), LIMITS)) as engine:
        report(arguments.out, {'trainable': trainable, **judge(engine, keyframes, questions, old, folder)})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='the world of the base')
    parser.add_argument('--base', type=Path, required=True, help='OUT of overfit_questions.py')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--kind', default='count')
    parser.add_argument('--rank', type=int, default=16)
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--lr', type=float, default=3e-3)
    parser.add_argument('--keyframes', type=int, default=6, help='in a step')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--minutes', type=float, default=20.0, help='stop then; the next run goes on')
    return parser.parse_args()


def with_adapter(language: SceneLanguage, rank: int) -> SceneLanguage:
    """The model with a fresh adapter around all linear layers of its language model: the only thing that is trained."""
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEAR_LAYERS, task_type='CAUSAL_LM')
    language.llm = get_peft_model(language.llm, lora)
    language.requires_grad_(False)
    train_adapters_only(language.llm)
    return language


def known_questions(base: Path) -> list[AskedQuestion]:
    """What the base was trained on."""
    state = torch.load(base / 'state.pt', weights_only=True)
    return [AskedQuestion(**question) for question in state['run']['questions']]


def judge(
    engine: ReasoningEngine,
    keyframes: Keyframes,
    questions: list[AskedQuestion],
    old: list[AskedQuestion],
    folder: Path,
) -> dict[str, object]:
    """Shares of exact answers to the adapter's kind and to the old questions; whether removal restores all answers."""
    own = list(range(len(keyframes.sample_tokens)))
    everything = [*questions, *old]
    before = ask_all(engine, keyframes, everything, own)
    switch(engine, folder.name, folder)
    during = ask_all(engine, keyframes, everything, own)
    other_scene = ask_all(engine, keyframes, questions, deranged(keyframes.scenes))
    switch(engine, '', None)
    after = ask_all(engine, keyframes, everything, own)
    count = len(questions)
    told = {'before': before, 'with_adapter': during, 'after_removal': after}
    return {
        'kind': folder.name,
        'questions': {'kind': count, 'old': len(old)},
        'exact': {name: round(exact(questions, answers[:count]), 4) for name, answers in told.items()},
        'exact_of_old': {name: round(exact(old, answers[count:]), 4) for name, answers in told.items()},
        'with_adapter_other_scene': round(exact(questions, other_scene), 4),
        'prior_of_kind': round(exact(questions, prior_answers(questions, by_text=False)), 4),
        'prior_of_words': round(exact(questions, prior_answers(questions, by_text=True)), 4),
        'answers_changed_by_adapter': sum(a != b for a, b in zip(before, during, strict=True)),
        'answers_restored': sum(a.encode() == b.encode() for a, b in zip(before, after, strict=True)),
    }


def switch(engine: ReasoningEngine, name: str, folder: Path | None) -> None:
    """Set or remove the adapter, as the service does.

    Raises:
        RuntimeError: the engine refuses.
    """
    outcome = SimpleQueue[str]()
    engine.set_adapter(name, folder, outcome.put)
    refusal = outcome.get()
    if refusal:
        raise RuntimeError(f'adapter {name!r}: {refusal}')


if __name__ == '__main__':
    main()

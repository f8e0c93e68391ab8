"""The training loop of both tools: a few questions, again and again."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from language_overfit.choice import AskedQuestion
from language_overfit.keyframes import Keyframes
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.training.answer_loss import answer_loss
from sparseoccvla_ros.training.question_batch import TokenizedPair, question_batch, tokenize_pair
from sparseoccvla_ros.training.run_state import resume_run, save_run
from sparseoccvla_ros.training.schedule import warmed_cosine

REPORT_EVERY = 25
#: Mean loss since the last report at which everything is known, and training ends before its last step.
ENOUGH = 1e-3


@dataclass(frozen=True)
class TrainRequest:
    """How long and how fast. ``keyframes`` are read in a step, with all their questions."""

    steps: int
    lr: float
    keyframes: int
    warmup: int = 30
    seed: int = 0


def train(
    language: SceneLanguage,
    keyframes: Keyframes,
    questions: Sequence[AskedQuestion],
    request: TrainRequest,
    out: Path,
    stop_after_s: float,
) -> bool:
    """Train what of the model requires gradients; True when it is done, False when the time was up first.

    Goes on from OUT/state.pt; writes it, and a line of OUT/log.jsonl, every :data:`REPORT_EVERY` steps. As long as
    ``swapped_loss`` is no higher than ``loss``, only the words are being learned.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: OUT/state.pt is of another run.
    """
    parameters = [parameter for parameter in language.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=request.lr, betas=(0.9, 0.98), weight_decay=0.0)
    run = {**asdict(request), 'questions': [asdict(question) for question in questions]}
    step = resume_run(out / 'state.pt', run, language, optimizer)
    of_keyframe: dict[int, list[TokenizedPair]] = defaultdict(list)
    for question in questions:
        place = keyframes.sample_tokens.index(question.sample_token)
        of_keyframe[place].append(tokenize_pair(language, question.text, question.answer))
    language.train()
    begin_s = reported_s = time.perf_counter()
    losses: list[float] = []
    while step < request.steps:
        if time.perf_counter() - begin_s > stop_after_s:
            save_run(out / 'state.pt', run, language, optimizer, step)
            return False
        lr = warmed_cosine(step, request.steps, request.lr, request.warmup)
        for group in optimizer.param_groups:
            group['lr'] = lr
        places = places_of_step(sorted(of_keyframe), step, request)
        batch = question_batch([of_keyframe[place] for place in places], language.tokenizer.pad_token_id)
        prompt = language.scene_prompt(keyframes.features[places], keyframes.positions_m[places])
        _, prefix = language.read_scene(prompt)
        loss = answer_loss(language, prefix, batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f'step {step}: loss {loss.item()}')
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % REPORT_EVERY == 0 or step == request.steps:
            now_s = time.perf_counter()
            step_ms = 1e3 * (now_s - reported_s) / len(losses)
            with torch.no_grad():  # the last batch, each question about the next keyframe
                order = [*range(1, len(places)), 0]
                swapped = answer_loss(language, prefix, batch.scenes([order.index(n) for n in range(len(places))]))
            row = {'step': step, 'loss': round(sum(losses) / len(losses), 5), 'swapped_loss': round(swapped.item(), 5)}
            report(out, {**row, 'lr': round(lr, 7), 'step_ms': round(step_ms)})
            save_run(out / 'state.pt', run, language, optimizer, step)
            if row['loss'] < ENOUGH:
                return True
            reported_s, losses = now_s, []
    return True


def places_of_step(places: Sequence[int], step: int, request: TrainRequest) -> list[int]:
    """The keyframes of a step: all of them once an epoch, in an order of its own; the same for the same step."""
    per_epoch = -(-len(places) // request.keyframes)
    epoch, number = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(1_000_003 * request.seed + epoch)
    order = torch.randperm(len(places), generator=generator).tolist()
    return [places[place] for place in order[number::per_epoch]]


def report(out: Path, row: dict[str, object]) -> None:
    """A line on the terminal and in OUT/log.jsonl."""
    with (out / 'log.jsonl').open('a', encoding='utf-8') as log:
        log.write(json.dumps(row) + '\n')
    print(json.dumps(row), flush=True)

"""The loop: a stage from its recipe to its checkpoint, on a CPU, a GPU, or many under torchrun or accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from accelerate.utils import GradientAccumulationPlugin, gather_object
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from sparseoccvla_ros.data.dataset import collate
from sparseoccvla_ros.evaluation.replay_summary import revision
from sparseoccvla_ros.model.checkpoint import save_checkpoint
from sparseoccvla_ros.model.nearest import NotFiniteError
from sparseoccvla_ros.model.placement import torch_device
from sparseoccvla_ros.training.averaging import WeightAverage
from sparseoccvla_ros.training.log import TrainingLog
from sparseoccvla_ros.training.order import StepBatches
from sparseoccvla_ros.training.out_of_memory import first_line, is_out_of_memory, what_to_try
from sparseoccvla_ros.training.parts import (
    build_parts,
    cast_like_deployed,
    freeze_batch_norm,
    merge_lora,
    parameter_groups,
    synchronize_batch_norms,
)
from sparseoccvla_ros.training.recipe import Recipe
from sparseoccvla_ros.training.run_state import RunWriteError, resume_run, save_run
from sparseoccvla_ros.training.schedule import warmed_cosine
from sparseoccvla_ros.training.signatures import StepWatch, position_warnings, static_warnings
from sparseoccvla_ros.training.stage import ENCODED_AT_ONCE, Stage, build_stage
from sparseoccvla_ros.training.term import Term

STATE_FILE, CHECKPOINT_FOLDER = 'state.pt', 'checkpoint'
#: What may differ when a run goes on.
MAY_CHANGE = ('out', 'device', 'save_every', 'data.workers', 'data.root', 'data.questions_path', 'data.query_cache')
BETAS = (0.9, 0.99)
_KEPT = 'The last state saved is kept; a lower optimization.peak_lr may help'


class TrainingError(RuntimeError):
    """The training cannot go on; the message says why and what to try. The saved state is as it was."""


def train(recipe: Recipe, *, stop_after_s: float = math.inf) -> Path | None:
    """Run a stage, or go on with it; the same call again does that.

    Args:
        recipe: of the stage.
        stop_after_s: save the state and leave after so many seconds, building and a query cache included.

    Returns:
        the checkpoint's folder; None if the time was up before.

    Raises:
        FileNotFoundError, ValueError: see :func:`build_stage` and :func:`resume_run`.
        TrainingError: a loss is not finite, or memory ran out.
        RunWriteError: the state could not be written.
    """
    begin_s = time.monotonic()
    torch_device(recipe.device)  # accelerate would fall back to the CPU silently
    accelerator = Accelerator(
        cpu=recipe.device == 'cpu',
        # both are the recipe's, whatever `accelerate config` says
        mixed_precision='no',
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=timedelta(hours=6)),  # a share of the query cache may take that much longer
        ],
    )
    if accelerator.device.type != torch.device(recipe.device).type:
        raise ValueError(f'device is {recipe.device!r}, accelerate was configured for {accelerator.device}')
    torch.manual_seed(recipe.seed)
    try:
        training = _Training(recipe, accelerator)
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f'out of memory before the first step: {first_line(error)}. The model itself, or the fixed encoder with '
            f'{ENCODED_AT_ONCE} keyframes (data.query_cache), does not fit, whatever the batch size'
        ) from error
    try:
        return training.run(begin_s + stop_after_s)
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        size = recipe.optimization.batch_size
        raise TrainingError(
            f'out of memory with batches of {size}: {first_line(error)}. {what_to_try(recipe)}'
        ) from error


class _Training:
    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        self._recipe, self._accelerator = recipe, accelerator
        self._out = Path(recipe.out)
        self._out.mkdir(parents=True, exist_ok=True)
        self._stage: Stage = build_stage(recipe, accelerator)
        language = self._stage.parts.get('language')
        # before the weights are shared among processes
        self._warnings = static_warnings(recipe, self._stage.config, language and language.connector)
        if accelerator.num_processes > 1 and not recipe.optimization.freeze_batch_norm:
            self._warnings += synchronize_batch_norms(self._stage.objective, accelerator.device)
        optimizer = torch.optim.AdamW(parameter_groups(self._stage.objective, recipe), lr=0.0, betas=BETAS)
        self._model, self._optimizer = accelerator.prepare(self._stage.objective, optimizer)
        self._module = accelerator.unwrap_model(self._model)
        self._parameters = [p for p in self._module.parameters() if p.requires_grad]
        decay = recipe.optimization.ema_decay
        self._average = WeightAverage(self._module, decay) if decay else None
        self._watch = StepWatch(recipe, self._stage.config)

    def run(self, leave_s: float) -> Path | None:
        """``leave_s``: on the monotonic clock."""
        recipe, main = self._recipe, self._accelerator.is_main_process
        step, written_by = resume_run(
            self._out / STATE_FILE, self._identity(), self._module, self._optimizer.optimizer,
            self._average and self._average.state(),
        )  # fmt: skip
        if written_by not in ('', revision()):
            self._warnings.append(
                f'the saved state is of revision {written_by}, this is {revision()}: the run may go on otherwise than '
                'it began'
            )
        with TrainingLog(self._out, step, recipe.optimization.steps, enabled=main) as log:
            weights, samples = sum(p.numel() for p in self._parameters), len(self._stage.samples)
            log.note(f'{weights:,} weights learn from {samples} samples, steps {step} to {recipe.optimization.steps}')
            for warning in self._warnings:
                log.warn(warning)
            batches = self._batches(step)
            while step < recipe.optimization.steps:
                step = self._step(step, batches, log)
                leaves = self._any(time.monotonic() > leave_s)
                if step % recipe.save_every == 0 or leaves:
                    self._save(step)
                if leaves and step < recipe.optimization.steps:
                    return None
            self._save(step)
            return self._finish(log)

    def _step(self, step: int, batches: Iterator[Mapping[str, Any]], log: TrainingLog) -> int:
        """One step of the optimizer; the number of steps done."""
        optimization, accelerator = self._recipe.optimization, self._accelerator
        begin_s, waited_s = time.perf_counter(), 0.0
        self._train_mode()
        lr = warmed_cosine(step, optimization.steps, optimization.peak_lr, optimization.warmup_steps)
        for group in self._optimizer.param_groups:
            group['lr'] = lr * group['lr_factor']
        sums: list[Tensor] = []
        for number in range(optimization.accumulate):
            asked_s = time.perf_counter()
            batch = next(batches)
            waited_s += time.perf_counter() - asked_s
            # all randomness of a pass from its number, so that a resumed run goes on as the uninterrupted one
            pass_number = (step * optimization.accumulate + number) * accelerator.num_processes
            torch.manual_seed(self._recipe.seed * 1_000_003 + pass_number + accelerator.process_index)
            last = number == optimization.accumulate - 1
            with nullcontext() if last else accelerator.no_sync(self._model):
                terms = self._terms(step, _to(batch, accelerator.device))
                loss, summed = combine(terms, accelerator)
                self._require_finite(step, terms, summed, batch)
                accelerator.backward(loss / optimization.accumulate)
            sums.append(summed)
        norm = accelerator.clip_grad_norm_(self._parameters, optimization.clip_norm)
        if isinstance(norm, DTensor):  # of FSDP: a share of it
            norm = norm.full_tensor()
        if not math.isfinite(float(norm)):
            raise TrainingError(
                f'step {step + 1}: the gradient is not finite, though the losses are: '
                f'{ {name: round(float(t.value), 4) for name, t in terms.items()} }\n{_KEPT}'
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        step += 1
        if self._average is not None:
            self._average.update(step)
        totals, counts = torch.stack(sums).sum(dim=0).cpu()
        values = {name: float(totals[i] / counts[i].clamp(min=1e-9)) for i, name in enumerate(terms)}
        seconds = time.perf_counter() - begin_s
        log.step(step, values, lr, float(norm), seconds, self._longest(waited_s))
        samples = optimization.batch_size * optimization.accumulate * accelerator.num_processes
        for warning in self._watch.observe(
            step, values, {name: float(counts[i]) for i, name in enumerate(terms)}, samples
        ):
            log.warn(warning)
        return step

    def _terms(self, step: int, batch: Mapping[str, Any]) -> dict[str, Term]:
        """The losses of a batch, in the recipe's number format."""
        bf16 = self._recipe.optimization.precision == 'bf16'
        try:
            with torch.autocast(self._accelerator.device.type, torch.bfloat16, enabled=bf16):
                return self._model(batch)
        except NotFiniteError as error:
            raise TrainingError(f'step {step + 1}: {error}\n{_samples_of(batch)}\n{_KEPT}') from error

    def _longest(self, here_s: float) -> float:
        """Of all processes: the others spend that time waiting for this one's gradients."""
        return float(self._accelerator.gather(torch.tensor([here_s], device=self._accelerator.device)).max())

    def _any(self, here: bool) -> bool:
        """Whether it is so in any process; each process is told the same."""
        if self._accelerator.num_processes == 1:
            return here
        told = torch.tensor(float(here), device=self._accelerator.device)
        return bool(self._accelerator.reduce(told, 'sum') > 0)

    def _train_mode(self) -> None:
        """Only parts that learn are in training mode: no dropout and no new statistics elsewhere."""
        self._model.train()
        for name, part in self._stage.parts.items():
            if not self._recipe.trains(name):
                part.eval()
        if self._recipe.optimization.freeze_batch_norm:
            freeze_batch_norm(self._model)

    def _batches(self, step: int) -> Iterator[Mapping[str, Any]]:
        optimization, accelerator = self._recipe.optimization, self._accelerator
        workers = self._recipe.data.workers
        loader = DataLoader(
            self._stage.samples,
            batch_sampler=StepBatches(
                step, optimization.batch_size, optimization.accumulate, accelerator.process_index,
                accelerator.num_processes,
            ),
            num_workers=workers,
            collate_fn=collate,
            pin_memory=accelerator.device.type == 'cuda',
            worker_init_fn=_one_thread,
            prefetch_factor=3 if workers else None,
        )  # fmt: skip
        return iter(loader)

    def _require_finite(self, step: int, terms: Mapping[str, Term], summed: Tensor, batch: Mapping[str, Any]) -> None:
        """All processes stop together, as the sums are those of all, and say the same: whose loss it is."""
        if summed.isfinite().all():
            return
        listed = '\n'.join(f'  {name}: {t.value.item():.6g} (of {t.count.item():.0f})' for name, t in terms.items())
        finite = all(math.isfinite(t.value.item()) for t in terms.values())
        here = f'Terms of process {self._accelerator.process_index}:\n{listed}\n{_samples_of(batch)}\n'
        everywhere = gather_object([(finite, here)])
        # the products with the numbers of tokens or points may overflow where no term does
        told = ''.join(text for fine, text in everywhere if not fine) or ''.join(text for _, text in everywhere)
        raise TrainingError(f'step {step + 1}: the loss is not finite. {told}{_KEPT}')

    def _identity(self) -> dict[str, Any]:
        """What makes a run this run."""
        values = self._recipe.to_dict()
        for dotted in MAY_CHANGE:
            *sections, leaf = dotted.split('.')
            section = values
            for name in sections:
                section = section[name]
            del section[leaf]
        optimization = values['optimization']
        optimization['batch'] = optimization.pop('batch_size') * optimization.pop('accumulate')
        return {
            **values,
            'config': asdict(self._stage.config),
            'weights': self._stage.origins,
            'samples': len(self._stage.samples),
            'samples_sha256': self._stage.samples.digest(),
            'processes': self._accelerator.num_processes,
        }

    def _save(self, step: int) -> None:
        save_run(
            self._out / STATE_FILE, self._identity(), self._module,
            self._optimizer.optimizer, step, self._average and self._average.state(),
            writes=self._accelerator.is_main_process,
        )  # fmt: skip
        # whoever left earlier would have torchrun end the one that writes
        self._accelerator.wait_for_everyone()

    def _finish(self, log: TrainingLog) -> Path:
        """Write the checkpoint, of the averaged weights."""
        folder = self._out / CHECKPOINT_FOLDER
        self._accelerator.wait_for_everyone()
        if self._average is not None:
            self._average.apply()
        parts = self._stage.parts
        if self._accelerator.distributed_type == DistributedType.FSDP:
            parts = self._gathered()
        if 'language' in parts:
            for warning in position_warnings(parts['language'].connector, self._stage.config):
                log.warn(f'the trained {warning}')
        if self._recipe.lora is not None:
            merge_lora(parts['language'])
        cast_like_deployed(parts, self._stage.config)
        if self._accelerator.is_main_process:
            try:
                save_checkpoint(folder, {name: part.eval() for name, part in parts.items()}, self._stage.config)
            except (OSError, SafetensorError) as error:
                raise RunWriteError(f'{folder} cannot be written ({error}); {STATE_FILE} has all steps') from error
        self._accelerator.wait_for_everyone()
        return folder

    def _gathered(self) -> dict[str, nn.Module]:
        """The parts with whole weights, of which FSDP leaves each process a share; random ones but in the first."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self._module, options=options)
        parts = build_parts(self._recipe, self._stage.config)
        if self._accelerator.is_main_process:
            for name, part in parts.items():
                own = {key.removeprefix(f'{name}.'): w for key, w in weights.items() if key.startswith(f'{name}.')}
                if own:  # an encoder whose queries are stored is no part of the objective
                    part.load_state_dict(own)
        return parts


def combine(terms: Mapping[str, Term], accelerator: Accelerator) -> tuple[Tensor, Tensor]:
    """The loss of this process, such that its gradients, averaged over the processes, are those of one batch of all.

    Each term is a mean over things (samples, tokens, points) of which processes have different numbers.

    Returns:
        the loss, scalar; and [2, terms]: the terms times their numbers, and the numbers, summed over the processes.
    """
    values, counts = (torch.stack([t[i].float() for t in terms.values()]) for i in (0, 1))
    summed = accelerator.reduce(torch.stack([values.detach() * counts, counts]), 'sum')
    mean_counts = summed[1] / accelerator.num_processes
    return (values * counts / mean_counts.clamp(min=1e-9)).sum(), summed


def _samples_of(batch: Mapping[str, Any]) -> str:
    """Which samples a batch is of."""
    kind = 'token' if 'token' in batch else 'photograph'
    return f'{"keyframes" if kind == "token" else "images"}: {", ".join(map(str, batch[kind]))}'


def _to(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value for key, value in batch.items()
    }


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

"""A stage's parts: built, loaded from the stages before, and told which of their parameters learn."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from sparseoccvla_ros.model.config import LoraSettings, VLAConfig
from sparseoccvla_ros.model.language import SceneLanguage
from sparseoccvla_ros.model.placement import checkpoint_folder
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner
from sparseoccvla_ros.training.recipe import LANGUAGE_TERMS, PARTS, Recipe

_BUILDERS = {'perception': build_perception, 'language': build_language, 'planner': build_planner}


def build_parts(recipe: Recipe, config: VLAConfig) -> dict[str, nn.Module]:
    """The parts that the terms need, on the CPU, each from its own start.

    A language part without one begins with a forecaster that holds the encoder's present still, where it fits.

    Raises:
        FileNotFoundError, CheckpointError, ValueError: a start is missing or of another model.
    """
    needed = {'perception'}
    if set(recipe.terms) & set(LANGUAGE_TERMS):
        needed.add('language')
    if 'planner' in recipe.terms:
        needed.add('planner')
    needed |= set(recipe.start)  # so that they are handed on
    parts = {}
    for name in PARTS:
        if name in needed:
            folder = checkpoint_folder(recipe.start.get(name, ''))
            parts[name] = _BUILDERS[name](config, weights=folder, seed=recipe.seed)
    if 'language' in parts and not recipe.start.get('language'):
        forecaster, last = parts['language'].forecaster, parts['perception'].encoder.layers[-1]
        if forecaster.fits(last):
            forecaster.begin_with_present(last)
    if recipe.lora is not None:
        if 'language' not in parts:
            raise ValueError('lora is given, but no term needs the language model')
        add_lora(parts['language'], recipe.lora)
    return parts


def add_lora(language: SceneLanguage, lora: LoraSettings) -> None:
    """Put adapters around the language model's layers.

    Raises:
        ValueError: it has adapters of its own.
    """
    if isinstance(language.llm, PeftModel):
        raise ValueError("lora: the model's configuration has language.lora already; leave one of them out")
    language.llm = get_peft_model(
        language.llm,
        LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets),
            task_type='CAUSAL_LM',
        ),
    )  # fmt: skip


def merge_lora(language: SceneLanguage) -> None:
    """Take the adapters of :func:`add_lora` into the weights, so that the model is a plain one again."""
    language.llm = language.llm.merge_and_unload()


def choose_trained(objective: nn.Module, recipe: Recipe) -> None:
    """Let the parameters learn that the recipe names, and no others.

    Of a language model with adapters only these learn, whatever the recipe names. Trained weights are kept in fp32.

    Raises:
        ValueError: an entry of ``train`` is the beginning of no parameter's name.
    """
    used = set()
    for name, parameter in objective.named_parameters():
        beginnings = [start for start in recipe.train if _begins(name, start)]
        used.update(beginnings)
        learns = bool(beginnings) and parameter.is_floating_point() and _may_learn(name, objective)
        parameter.requires_grad_(learns)
        if learns:
            parameter.data = parameter.data.float()
    if recipe.trains('perception'):
        objective.perception.float()  # the statistics of its batch norms too
    for start in recipe.train:
        if start not in used:
            raise ValueError(f'train: no parameter begins with {start!r}')


def _may_learn(name: str, objective: nn.Module) -> bool:
    language = getattr(objective, 'language', None)
    if not name.startswith('language.llm.') or not isinstance(getattr(language, 'llm', None), PeftModel):
        return True
    return '.lora_' in name


def freeze_batch_norm(module: nn.Module) -> None:
    """Keep the running statistics of all batch norms: to be called after every ``train()``."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def synchronize_batch_norms(objective: nn.Module, device: torch.device) -> list[str]:
    """Let batch norms that learn see the batches of all processes; a warning where torch cannot: on CPUs."""
    if not any(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in objective.modules()):
        return []
    if device.type != 'cuda':
        return [
            'batch norms learn from the images of each process alone, as torch synchronizes them on GPUs only: not the '
            'same as one process with all images. optimization.freeze_batch_norm keeps them as they are'
        ]
    nn.SyncBatchNorm.convert_sync_batchnorm(objective)
    return []


def parameter_groups(objective: nn.Module, recipe: Recipe) -> list[dict]:
    """AdamW's groups: by learning rate factor; only the matrices of linear and convolutional layers decay (not norms,
    biases, embeddings and the queries' places, which decay would pull into a corner of the range).

    Raises:
        ValueError: a learning rate factor is for no parameter that learns.
    """
    matrices = {id(m.weight) for m in objective.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    learning = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
    for start in recipe.optimization.lr_factors:
        if not any(_begins(name, start) for name, _ in learning):
            raise ValueError(f'optimization.lr_factors: no parameter that learns begins with {start!r}')
    for name, parameter in learning:
        groups.setdefault((lr_factor(name, recipe), id(parameter) in matrices), []).append(parameter)
    return [
        {'params': parameters, 'lr_factor': factor, 'weight_decay': recipe.optimization.weight_decay if decays else 0.0}
        for (factor, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def lr_factor(name: str, recipe: Recipe) -> float:
    """Of a parameter: that of the longest beginning of its name in ``optimization.lr_factors``, else 1."""
    factors = recipe.optimization.lr_factors
    fitting = [start for start in factors if _begins(name, start)]
    return factors[max(fitting, key=len)] if fitting else 1.0


def _begins(name: str, start: str) -> bool:
    return name == start or name.startswith(f'{start}.')


def cast_like_deployed(parts: dict[str, nn.Module], config: VLAConfig) -> None:
    """Backbone and language model to the number format that the model runs in."""
    if config.precision == 'bf16':
        if 'perception' in parts:
            parts['perception'].backbone.to(torch.bfloat16)
        if 'language' in parts:
            parts['language'].llm.to(torch.bfloat16)

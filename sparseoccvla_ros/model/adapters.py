"""LoRA adapters of a language model at run time: checked, loaded, switched, and taken off again without a trace."""

from __future__ import annotations

import re
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from transformers import LlamaForCausalLM

CONFIG_FILE, WEIGHTS_FILE = 'adapter_config.json', 'adapter_model.safetensors'
#: peft's name of an adapter that belongs to the model itself (``language.lora`` in its configuration).
OWN_ADAPTER = 'default'
#: peft's names of adapters from files: the one switched to last, and the place where the next is loaded beside it.
_SLOTS = ('switched_a', 'switched_b')
#: Settings of a LoRA configuration that change more than the layers with its weights.
_BEYOND_LORA = ('layer_replication', 'modules_to_save', 'target_parameters', 'trainable_token_indices', 'use_dora')
#: Initialisations that leave the base weights alone; peft would apply the others (pissa, olora ...) when it loads.
_HARMLESS_INITIALISATIONS = (True, False, 'gaussian', 'eva')
_ADAPTER = re.compile(r'\.lora_[AB]\.(?P<adapter>.+)\.weight$')


def adapter_names(folder: Path) -> tuple[str, ...]:
    """Subfolders that hold an adapter in peft's form, by name.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is no folder; expected one with a subfolder per LoRA adapter')
    return tuple(sorted(path.parent.name for path in folder.glob(f'*/{CONFIG_FILE}')))


def adapter_version(folder: Path | None) -> tuple[tuple[int, int], ...]:
    """Differs once a file of the adapter has been written or replaced; () for no adapter.

    Raises:
        ValueError: a file is missing or out of reach.
    """
    if folder is None:
        return ()
    try:
        stats = [(folder / file).stat() for file in (CONFIG_FILE, WEIGHTS_FILE)]
    except OSError as error:
        raise ValueError(f'no adapter in {folder}: {error}') from error
    return tuple((stat.st_ino, stat.st_ctime_ns) for stat in stats)


def switch_adapter(llm: LlamaForCausalLM | PeftModel, name: str, folder: Path | None) -> LlamaForCausalLM | PeftModel:
    """Make an adapter the only active one; ``folder`` None: the model as it was built.

    The base weights are never touched: without the adapter the outputs are exactly the old ones. The files are read
    each time; the adapter that was active stays in memory until the next one is loaded, so that :func:`activate` can
    go back to it.

    Args:
        name: what errors call the adapter.

    Returns:
        the model to use from now on: the first adapter wraps a plain one.

    Raises:
        ValueError: no adapter, a damaged one, or one of another model; names what does not fit. Nothing has changed
            then.
    """
    wrapped = isinstance(llm, PeftModel)
    if folder is None:
        activate(llm, OWN_ADAPTER if wrapped and OWN_ADAPTER in llm.peft_config else None)
        return llm
    before = active_adapter(llm)
    slot = next(slot for slot in _SLOTS if not (wrapped and slot == llm.active_adapter))
    try:
        _require_adapter_of(llm.get_base_model() if wrapped else llm, name, folder)
        if wrapped:
            _remove(llm, slot)
            llm.load_adapter(str(folder), adapter_name=slot)
            adapted = llm
        else:
            adapted = PeftModel.from_pretrained(llm, str(folder), adapter_name=slot)
    except Exception as error:  # a damaged file leads peft and safetensors to errors of any kind
        _remove(llm, slot)
        activate(llm, before)
        if isinstance(error, ValueError):
            raise
        raise ValueError(f'adapter {name!r} cannot be read: {type(error).__name__}: {error}') from error
    activate(adapted, slot)
    return adapted.eval()


def active_adapter(llm: LlamaForCausalLM | PeftModel) -> str | None:
    """peft's name of the adapter in use, None for none: what :func:`activate` goes back to."""
    if not isinstance(llm, PeftModel):
        return None
    layer = next(module for module in llm.modules() if isinstance(module, BaseTunerLayer))
    return None if layer.disable_adapters else llm.active_adapter


def activate(llm: LlamaForCausalLM | PeftModel, adapter: str | None) -> None:
    """Use a loaded adapter by peft's name, or none."""
    if adapter is not None:
        llm.base_model.enable_adapter_layers()
        llm.set_adapter(adapter)
    elif isinstance(llm, PeftModel):
        llm.base_model.disable_adapter_layers()


def train_adapters_only(llm: LlamaForCausalLM | PeftModel) -> None:
    """Let training change the active adapters and no other weight of the language model (none at all without LoRA)."""
    active = set(llm.active_adapters) if isinstance(llm, PeftModel) else set()
    for name, parameter in llm.named_parameters():
        match = _ADAPTER.search(name)
        parameter.requires_grad_(match is not None and match['adapter'] in active)


def _remove(llm: LlamaForCausalLM | PeftModel, slot: str) -> None:
    """Take an adapter out again, however far its loading came; a plain model loses all of peft."""
    wrapped = isinstance(llm, PeftModel)
    for place, module in list(llm.named_modules()):
        if isinstance(module, BaseTunerLayer) and wrapped:
            module.delete_adapter(slot)
        elif isinstance(module, BaseTunerLayer):
            llm.set_submodule(place, module.get_base_layer())
    if wrapped:
        llm.peft_config.pop(slot, None)
    else:
        vars(llm).pop('peft_config', None)


def _require_adapter_of(llm: LlamaForCausalLM, name: str, folder: Path) -> None:
    """Whatever can be seen in the files is checked before the model is changed."""
    # never the pickled form that peft would fall back to
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise ValueError(f'adapter {name!r}: {folder / file} is missing')
    config = PeftConfig.from_pretrained(str(folder))
    if config.peft_type != 'LORA':
        raise ValueError(f'adapter {name!r} is of kind {config.peft_type}; expected LORA')
    beyond = [setting for setting in _BEYOND_LORA if getattr(config, setting)]
    if config.init_lora_weights not in _HARMLESS_INITIALISATIONS:
        beyond.append(f'init_lora_weights {config.init_lora_weights}')
    if beyond:
        raise ValueError(f'adapter {name!r} is more than LoRA of some layers: {", ".join(beyond)}')
    with safe_open(folder / WEIGHTS_FILE, framework='pt') as weights:
        shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    expected = _expected_shapes(llm, config)
    for key, shape in shapes.items():
        if key not in expected:
            raise ValueError(f'adapter {name!r} belongs to another model: this one has no place for {key}')
        if shape != expected[key]:
            raise ValueError(
                f'adapter {name!r} belongs to another model: {key} has shape {shape}, expected {expected[key]} by the '
                f'layer and the rank in {CONFIG_FILE}'
            )
    # one of a model with fewer layers fits where it has weights; peft would fill in the rest and only warn
    missing = next((key for key in expected if key not in shapes), None)
    if missing is not None:
        raise ValueError(f'adapter {name!r} belongs to another model: it has no weights for {missing}')


def _expected_shapes(llm: LlamaForCausalLM, config: LoraConfig) -> dict[str, tuple[int, int]]:
    """Shape of every tensor that an adapter of this configuration has for this model, by its key in the file.

    Raises:
        ValueError: the configuration names something that is no linear layer.
    """
    modules = dict(llm.named_modules())
    of_adapters = tuple(f'{place}.' for place, module in modules.items() if isinstance(module, BaseTunerLayer))
    shapes = {}
    for place, module in modules.items():
        if place.startswith(of_adapters) or not check_target_module_exists(config, place):
            continue
        if not hasattr(module, 'in_features'):
            raise ValueError(f'{CONFIG_FILE} names {place}, which is no linear layer')
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, place), config.r)
        shapes[f'base_model.model.{place}.lora_A.weight'] = (rank, module.in_features)
        shapes[f'base_model.model.{place}.lora_B.weight'] = (module.out_features, rank)
    return shapes

"""LoRA adapters of a language model at run time: checked, loaded, switched, and taken off again without a trace."""

from __future__ import annotations

import re
from pathlib import Path

from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors import SafetensorError, safe_open
from transformers import LlamaForCausalLM

CONFIG_FILE, WEIGHTS_FILE = 'adapter_config.json', 'adapter_model.safetensors'
#: peft's name of an adapter that belongs to the model itself (``language.lora`` in its configuration).
OWN_ADAPTER = 'default'
_ADAPTER = re.compile(r'\.lora_[AB]\.(?P<adapter>.+)\.weight$')
_TENSOR = re.compile(r'base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight')


def adapter_names(folder: Path) -> tuple[str, ...]:
    """Subfolders that hold an adapter in peft's form, by name.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is no folder; expected one with a subfolder per LoRA adapter')
    return tuple(sorted(path.parent.name for path in folder.glob(f'*/{CONFIG_FILE}')))


def switch_adapter(llm: LlamaForCausalLM | PeftModel, name: str, folder: Path | None) -> LlamaForCausalLM | PeftModel:
    """Make an adapter the only active one; ``folder`` None: the model as it was built.

    The base weights are never touched: without the adapter the outputs are exactly the old ones.

    Returns:
        the model to use from now on: the first adapter wraps a plain one.

    Raises:
        ValueError: no adapter, or one of another model; names what does not fit. Nothing has changed then.
    """
    if folder is None:
        if isinstance(llm, PeftModel):
            if OWN_ADAPTER in llm.peft_config:
                llm.set_adapter(OWN_ADAPTER)
            else:
                llm.base_model.disable_adapter_layers()
        return llm
    _require_adapter_of(llm.get_base_model() if isinstance(llm, PeftModel) else llm, name, folder)
    if not isinstance(llm, PeftModel):
        llm = PeftModel.from_pretrained(llm, str(folder), adapter_name=name)
    elif name not in llm.peft_config:
        llm.load_adapter(str(folder), adapter_name=name)
    llm.base_model.enable_adapter_layers()
    llm.set_adapter(name)
    return llm.eval()


def train_adapters_only(llm: LlamaForCausalLM | PeftModel) -> None:
    """Let training change the active adapters and no other weight of the language model (none at all without LoRA)."""
    active = set(llm.active_adapters) if isinstance(llm, PeftModel) else set()
    for name, parameter in llm.named_parameters():
        match = _ADAPTER.search(name)
        parameter.requires_grad_(match is not None and match['adapter'] in active)


def _require_adapter_of(llm: LlamaForCausalLM, name: str, folder: Path) -> None:
    """Everything that could go wrong half-way is checked before the model is changed."""
    if name == OWN_ADAPTER:
        raise ValueError(f"an adapter cannot be called {OWN_ADAPTER!r}: that is the model's own")
    # never the pickled form that peft would fall back to
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise ValueError(f'adapter {name!r}: {folder / file} is missing')
    config = PeftConfig.from_pretrained(str(folder))
    if config.peft_type != 'LORA':
        raise ValueError(f'adapter {name!r} is of kind {config.peft_type}; expected LORA')
    modules = dict(llm.named_modules())
    try:
        with safe_open(folder / WEIGHTS_FILE, framework='pt') as weights:
            shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f'adapter {name!r}: {folder / WEIGHTS_FILE} cannot be read: {error}') from error
    for key, shape in shapes.items():
        match = _TENSOR.fullmatch(key)
        module = modules.get(match['module']) if match else None
        if module is None:
            raise ValueError(f'adapter {name!r} belongs to another model: this one has no place for {key}')
        width = module.in_features if match['side'] == 'A' else module.out_features
        found = shape[1] if match['side'] == 'A' else shape[0]
        if found != width:
            raise ValueError(f'adapter {name!r} belongs to another model: {key} is for width {found}, expected {width}')
    # one of a model with fewer layers fits where it has weights; peft would fill in the rest and only warn
    places = [place for place in modules if check_target_module_exists(config, place)]
    wanted = (f'base_model.model.{place}.lora_{side}.weight' for place in places for side in 'AB')
    missing = next((key for key in wanted if key not in shapes), None)
    if missing is not None:
        raise ValueError(f'adapter {name!r} belongs to another model: it has no weights for {missing}')

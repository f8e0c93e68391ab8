"""LoRA adapters: they change the answers, and leave no trace when they are taken off."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from sparseoccvla_ros.model.adapters import adapter_names, switch_adapter, train_adapters_only
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import new_llm

SMALL = {'language.width': 64, 'language.ffn_width': 96, 'language.layers': 2, 'language.attention_heads': 4}


def small_llm(**overrides):
    torch.manual_seed(0)
    return new_llm(load_model_config('tiny', {**SMALL, **overrides}).language).eval()


def save_adapter(folder, seed=1, **overrides):
    """An adapter as a training would leave it: LoRA of both sides not zero."""
    lora = LoraConfig(r=4, target_modules=['q_proj', 'v_proj'], task_type='CAUSAL_LM')
    model = get_peft_model(small_llm(**overrides), lora)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'lora_' in name:
                parameter.normal_(0.0, 0.5)
    model.save_pretrained(folder)


def logits(llm):
    tokens = torch.arange(1, 12)[None]
    with torch.inference_mode():
        return llm(input_ids=tokens).logits


def test_an_adapter_changes_the_model_and_taking_it_off_restores_it_exactly(tmp_path):
    for name, seed in (('night', 1), ('rain', 2)):
        save_adapter(tmp_path / name, seed)
    assert adapter_names(tmp_path) == ('night', 'rain')
    llm = small_llm()
    plain = logits(llm)
    llm = switch_adapter(llm, 'night', tmp_path / 'night')
    night = logits(llm)
    llm = switch_adapter(llm, 'rain', tmp_path / 'rain')
    rain = logits(llm)
    assert (night - plain).abs().max() > 1e-3
    assert (rain - night).abs().max() > 1e-3
    llm = switch_adapter(llm, '', None)
    assert torch.equal(logits(llm), plain)
    llm = switch_adapter(llm, 'night', tmp_path / 'night')
    assert torch.equal(logits(llm), night)


def test_the_adapter_gives_what_peft_itself_gives(tmp_path):
    lora = LoraConfig(r=4, target_modules=['q_proj'], task_type='CAUSAL_LM')
    reference = get_peft_model(small_llm(), lora).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if 'lora_B' in name:
                parameter.fill_(0.3)
    reference.save_pretrained(tmp_path / 'a')
    torch.testing.assert_close(logits(switch_adapter(small_llm(), 'a', tmp_path / 'a')), logits(reference))


def test_a_model_with_its_own_adapter_goes_back_to_that(tmp_path):
    lora = {'rank': 2, 'alpha': 4, 'dropout': 0.0, 'targets': ['q_proj']}
    own = small_llm(**{'language.lora': lora})
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            if 'lora_B' in name:
                parameter.fill_(0.3)
    before = logits(own)
    save_adapter(tmp_path / 'night')
    switched = switch_adapter(own, 'night', tmp_path / 'night')
    assert (logits(switched) - before).abs().max() > 1e-3
    assert torch.equal(logits(switch_adapter(switched, '', None)), before)


@pytest.mark.parametrize(
    'overrides',
    [{'language.width': 128}, {'language.layers': 3}, {'language.layers': 1}],
    ids=['width', 'more layers', 'fewer layers'],
)
def test_an_adapter_of_another_model_is_refused_and_nothing_has_changed(tmp_path, overrides):
    save_adapter(tmp_path / 'other', **overrides)
    llm = small_llm()
    plain = logits(llm)
    with pytest.raises(ValueError, match="'other' belongs to another model"):
        switch_adapter(llm, 'other', tmp_path / 'other')
    assert torch.equal(logits(llm), plain)
    assert not any('lora' in name for name, _ in llm.named_parameters())


def test_what_is_no_adapter_is_refused(tmp_path):
    save_adapter(tmp_path / 'pickled')
    weights = tmp_path / 'pickled' / 'adapter_model.safetensors'
    torch.save({}, weights.with_suffix('.bin'))
    weights.unlink()
    with pytest.raises(ValueError, match='safetensors is missing'):
        switch_adapter(small_llm(), 'pickled', tmp_path / 'pickled')
    save_adapter(tmp_path / 'cut')
    weights = tmp_path / 'cut' / 'adapter_model.safetensors'
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match='cannot be read'):
        switch_adapter(small_llm(), 'cut', tmp_path / 'cut')
    with pytest.raises(ValueError, match='own'):
        switch_adapter(small_llm(), 'default', tmp_path / 'cut')
    with pytest.raises(FileNotFoundError, match='no folder'):
        adapter_names(tmp_path / 'nowhere')


def trained_names(llm):
    return {name for name, parameter in llm.named_parameters() if parameter.requires_grad}


def test_training_changes_the_active_adapter_alone(tmp_path):
    lora = {'rank': 2, 'alpha': 4, 'dropout': 0.0, 'targets': ['q_proj', 'up_proj']}
    own = small_llm(**{'language.lora': lora})
    for parameter in own.parameters():
        parameter.requires_grad_()
    train_adapters_only(own)
    names = trained_names(own)
    assert len(names) == 2 * 2 * 2  # A and B of two layers in each of two blocks
    assert all('.lora_' in name and '.default.' in name for name in names)
    before = {name: parameter.detach().clone() for name, parameter in own.named_parameters()}
    optimizer = torch.optim.SGD([parameter for parameter in own.parameters() if parameter.requires_grad], lr=1.0)
    for _ in range(2):  # in the first step only B has a gradient: it is zero before
        own(input_ids=torch.arange(1, 12)[None]).logits.square().sum().backward()
        optimizer.step()
    changed = {name for name, parameter in own.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == names

    save_adapter(tmp_path / 'night')
    switched = switch_adapter(own, 'night', tmp_path / 'night')
    train_adapters_only(switched)
    assert trained_names(switched)
    assert all('.night.' in name for name in trained_names(switched))


def test_without_adapters_nothing_of_the_language_model_is_trained():
    llm = small_llm()
    train_adapters_only(llm)
    assert not trained_names(llm)

"""LoRA adapters: they change the answers, and leave no trace when they are taken off."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from sparseoccvla_ros.model.adapters import (
    activate,
    active_adapter,
    adapter_names,
    adapter_version,
    switch_adapter,
    train_adapters_only,
)
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
    with pytest.raises(FileNotFoundError, match='no folder'):
        adapter_names(tmp_path / 'nowhere')


def change_config(folder, **settings):
    file = folder / 'adapter_config.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def rename_tensor(folder, old, new):
    file = folder / 'adapter_model.safetensors'
    save_file({key.replace(old, new): tensor for key, tensor in load_file(file).items()}, file)


DAMAGES = {
    'rank': lambda folder: change_config(folder, r=8),
    'rank of one layer': lambda folder: change_config(folder, rank_pattern={'1.self_attn.q_proj': 8}),
    'scale is no number': lambda folder: change_config(folder, lora_alpha='much'),
    'regular expression': lambda folder: change_config(folder, target_modules='(q_proj'),
    'a norm is no linear layer': lambda folder: change_config(folder, target_modules=['input_layernorm']),
    'weights for a norm': lambda folder: rename_tensor(folder, '0.self_attn.q_proj', '0.input_layernorm'),
    'weights for attention': lambda folder: rename_tensor(folder, '0.self_attn.q_proj', '0.self_attn'),
    'more than LoRA': lambda folder: change_config(folder, modules_to_save=['lm_head']),
    'base weights would change': lambda folder: change_config(folder, init_lora_weights='olora'),
    'configuration is a list': lambda folder: (folder / 'adapter_config.json').write_text('[]'),
    'no configuration': lambda folder: (folder / 'adapter_config.json').write_text('{"peft_type": 3}'),
    'no weights': lambda folder: (folder / 'adapter_model.safetensors').write_bytes(b''),
    'a file out of reach': lambda folder: cannot_be_read(folder / 'adapter_model.safetensors'),
}


def cannot_be_read(file):
    """Opening it is an OSError, for root too."""
    file.unlink()
    file.symlink_to('/proc/self/mem')


@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_adapter_is_a_value_error_each_time_and_nothing_has_changed(tmp_path, damage):
    for name in ('night', 'damaged'):
        save_adapter(tmp_path / name)
    damage(tmp_path / 'damaged')
    llm = small_llm()
    for name in ('', 'night', ''):  # a plain model, an adapted one, one whose adapter was taken off
        llm = switch_adapter(llm, name, tmp_path / name if name else None)
        outputs, names, active = logits(llm), set(llm.state_dict()), active_adapter(llm)
        for _ in range(2):
            with pytest.raises(ValueError):  # noqa: PT011  (the message is peft's for some)
                switch_adapter(llm, 'damaged', tmp_path / 'damaged')
            assert torch.equal(logits(llm), outputs)
            assert set(llm.state_dict()) == names
            assert active_adapter(llm) == active


@pytest.mark.parametrize('before', ['plain', 'adapted'])
def test_a_load_that_fails_half_way_is_taken_back(tmp_path, monkeypatch, before):
    for seed, name in enumerate(('night', 'rain')):
        save_adapter(tmp_path / name, seed)
    expected = logits(switch_adapter(small_llm(), 'rain', tmp_path / 'rain'))
    llm = small_llm()
    if before == 'adapted':
        llm = switch_adapter(llm, 'night', tmp_path / 'night')
    outputs, names = logits(llm), set(llm.state_dict())

    def no_memory(*args, **kwargs):
        raise torch.OutOfMemoryError('no memory')

    with monkeypatch.context() as patched:
        patched.setattr('peft.peft_model.set_peft_model_state_dict', no_memory)
        with pytest.raises(ValueError, match='no memory'):
            switch_adapter(llm, 'rain', tmp_path / 'rain')
    assert torch.equal(logits(llm), outputs)
    assert set(llm.state_dict()) == names
    assert torch.equal(logits(switch_adapter(llm, 'rain', tmp_path / 'rain')), expected)


def test_files_replaced_under_one_name_are_read_and_the_adapter_before_can_come_back(tmp_path):
    folder = tmp_path / 'night'
    save_adapter(folder, seed=1)
    llm = switch_adapter(small_llm(), 'night', folder)
    old, version, before = logits(llm), adapter_version(folder), active_adapter(llm)
    assert adapter_version(folder) == version
    save_adapter(folder, seed=2)
    assert adapter_version(folder) != version
    llm = switch_adapter(llm, 'night', folder)
    assert torch.equal(logits(llm), logits(switch_adapter(small_llm(), 'night', folder)))
    activate(llm, before)
    assert torch.equal(logits(llm), old)


def test_any_number_of_switches_holds_two_adapters_at_most(tmp_path):
    names = ('night', 'rain', 'v1.2', 'default')  # peft takes neither of the last two as its own name
    for seed, name in enumerate(names):
        save_adapter(tmp_path / name, seed)
    llm = small_llm()
    for name in (*names, '', *names):
        llm = switch_adapter(llm, name, tmp_path / name if name else None)
    assert isinstance(llm, PeftModel)
    assert len(llm.peft_config) == 2
    assert len([name for name in llm.state_dict() if 'lora_A' in name]) == 2 * 2 * 2


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
    assert all('.lora_' in name and '.default.' not in name for name in trained_names(switched))


def test_without_adapters_nothing_of_the_language_model_is_trained():
    llm = small_llm()
    train_adapters_only(llm)
    assert not trained_names(llm)

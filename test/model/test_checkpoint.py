"""Checkpoints: all or nothing."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparseoccvla_ros.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner


@pytest.fixture(scope='module')
def parts(small):
    return {
        'perception': build_perception(small, weights=None, seed=1),
        'language': build_language(small, weights=None, seed=1),
        'planner': build_planner(small, weights=None, seed=1),
    }


@pytest.fixture
def saved(tmp_path, parts, small):
    save_checkpoint(tmp_path / 'weights', parts, small)
    return tmp_path / 'weights'


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refused_untouched(directory, config, message, part='planner', error=CheckpointError):
    module = {'perception': build_perception, 'planner': build_planner}[part](config, weights=None, seed=2)
    before = snapshot(module)
    with pytest.raises(error, match=message):
        load_checkpoint(directory, {part: module}, config)
    assert same(before, snapshot(module))


def test_weights_are_as_readable_as_their_configuration(saved):
    modes = {(saved / name).stat().st_mode for name in ('model.safetensors', 'config.yaml')}
    assert len(modes) == 1


def rewrite(directory, change) -> None:
    """Store changed tensors under the same configuration."""
    from safetensors import safe_open

    path = directory / 'model.safetensors'
    with safe_open(path, framework='pt') as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata=metadata)


def test_there_and_back_part_by_part(saved, parts, small):
    for part, build in (('perception', build_perception), ('language', build_language), ('planner', build_planner)):
        loaded = build(small, weights=saved, seed=9)
        assert same(snapshot(loaded), snapshot(parts[part]))
        assert not same(snapshot(loaded), snapshot(build(small, weights=None, seed=9)))
        assert not loaded.training
    assert load_model_config(saved / 'config.yaml') == small
    names = sorted(path.name for path in saved.iterdir())
    assert names == ['config.yaml', 'model.safetensors', 'tokenizer']


def test_saving_over_an_old_checkpoint(saved, small):
    other = build_planner(small, weights=None, seed=77)
    save_checkpoint(saved, {'planner': other}, small)
    assert same(snapshot(build_planner(small, weights=saved)), snapshot(other))


def test_failed_save_leaves_the_old_one(saved, parts, small, monkeypatch):
    before = (saved / 'model.safetensors').read_bytes()

    def full_disk(*_args, **_kwargs):
        raise OSError('No space left on device')

    monkeypatch.setattr('sparseoccvla_ros.model.checkpoint.save_file', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint(saved, parts, small)
    assert (saved / 'model.safetensors').read_bytes() == before
    assert sorted(path.name for path in saved.iterdir()) == ['config.yaml', 'model.safetensors', 'tokenizer']


def test_truncated_file(saved, small):
    path = saved / 'model.safetensors'
    whole = path.read_bytes()
    for length in (0, 5, 1000, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused_untouched(saved, small, 'model.safetensors is damaged')


def test_missing_files(saved, small, tmp_path):
    refused_untouched(tmp_path / 'nowhere', small, 'config.yaml is missing', error=FileNotFoundError)
    (saved / 'model.safetensors').unlink()
    refused_untouched(saved, small, 'model.safetensors is missing', error=FileNotFoundError)


def test_configuration_of_another_model(saved, small):
    other = dataclasses.replace(small, encoder=dataclasses.replace(small.encoder, queries=40))
    refused_untouched(saved, other, r'holds another model: encoder\.queries: expected 40, found 30', part='perception')


def test_a_part_does_not_care_for_settings_of_the_parts_after_it(saved, small):
    other = dataclasses.replace(small, language=dataclasses.replace(small.language, blind=True))
    loaded = build_perception(other, weights=saved, seed=5)
    assert same(snapshot(loaded), snapshot(build_perception(small, weights=saved)))
    refused_untouched(saved, other, r'language\.blind: expected True, found False')
    other = dataclasses.replace(small, planner=dataclasses.replace(small.planner, ego_fusion=False))
    assert build_language(other, weights=saved)


def test_configuration_swapped_under_the_weights(saved, small):
    path = saved / 'config.yaml'
    path.write_text(path.read_text().replace('queries: 30', 'queries: 40'))
    other = dataclasses.replace(small, encoder=dataclasses.replace(small.encoder, queries=40))
    refused_untouched(saved, other, 'is not the configuration that model.safetensors was saved with')


def test_precision_may_differ(saved, small):
    loaded = build_language(dataclasses.replace(small, precision='bf16'), weights=saved)
    assert loaded.causal_lm.lm_head.weight.dtype == torch.bfloat16


def test_the_planner_may_take_another_number_of_steps_but_must_read_the_same(saved, small):
    changed = dataclasses.replace(small.planner, steps=4, min_diversity=0.5)
    loaded = build_planner(dataclasses.replace(small, planner=changed), weights=saved)
    assert len(loaded.schedule.timesteps) == 4
    other = dataclasses.replace(small, planner=dataclasses.replace(small.planner, ego_fusion=False))
    refused_untouched(saved, other, r'planner\.ego_fusion: expected False, found True')


def test_missing_unexpected_and_misshapen_names_are_listed(saved, small):
    def change(tensors):
        del tensors['planner.scorer.0.weight']
        tensors['planner.extra'] = torch.zeros(1)
        tensors['stranger.weight'] = torch.zeros(1)
        tensors['planner.head.bias'] = torch.zeros(13)

    rewrite(saved, change)
    message = (
        r'1 missing: planner\.scorer\.0\.weight; 2 unexpected: planner\.extra, stranger\.weight; '
        r'planner\.head\.bias: expected shape \[12\], found \[13\]'
    )
    refused_untouched(saved, small, message)


def test_part_that_is_not_in_the_checkpoint(tmp_path, parts, small):
    save_checkpoint(tmp_path, {'planner': parts['planner']}, small)
    refused_untouched(tmp_path, small, r'missing: perception\.backbone', part='perception')

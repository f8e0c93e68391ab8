"""Pretrained parts from local folders: used where named, refused where they do not fit."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, ResNetForImageClassification

from sparseoccvla_ros.model.backbone import resnet_config
from sparseoccvla_ros.model.language import llama_config
from sparseoccvla_ros.model.vla import build_language, build_perception


def drop_weight(folder, part_of_name: str) -> None:
    tensors = load_file(folder / 'model.safetensors')
    kept = {name: tensor for name, tensor in tensors.items() if part_of_name not in name}
    assert len(kept) == len(tensors) - 1
    save_file(kept, folder / 'model.safetensors', metadata={'format': 'pt'})


@pytest.fixture
def resnet(small, tmp_path):
    """A classifier's checkpoint, and the configuration that names it."""
    classifier = ResNetForImageClassification(resnet_config(small.backbone))
    classifier.save_pretrained(tmp_path)
    named = dataclasses.replace(small, backbone=dataclasses.replace(small.backbone, pretrained=str(tmp_path)))
    return classifier, named, tmp_path


@pytest.fixture
def llama(small, tmp_path):
    llm = LlamaForCausalLM(llama_config(small.language))
    llm.save_pretrained(tmp_path)
    named = dataclasses.replace(small, language=dataclasses.replace(small.language, pretrained=str(tmp_path)))
    return llm, named, tmp_path


def test_resnet_of_a_classifier(resnet):
    classifier, named, _ = resnet
    loaded = build_perception(named, weights=None).backbone.resnet.state_dict()
    for name, tensor in classifier.resnet.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_resnet_that_does_not_fit(resnet):
    _, named, folder = resnet
    deeper = dataclasses.replace(named, backbone=dataclasses.replace(named.backbone, depths=(1, 1, 1, 2)))
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*stages\.3\.layers\.1'):
        build_perception(deeper, weights=None)
    drop_weight(folder, 'embedder.embedder.convolution.weight')
    with pytest.raises(ValueError, match=r'lacks weights: embedder\.embedder\.convolution\.weight'):
        build_perception(named, weights=None)


def test_language_model(llama):
    llm, named, _ = llama
    loaded = build_language(named, weights=None).causal_lm.state_dict()
    for name, tensor in llm.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_language_model_that_does_not_fit(llama):
    _, named, folder = llama
    wider = dataclasses.replace(named, language=dataclasses.replace(named.language, ffn_width=128))
    with pytest.raises(ValueError, match='is another model: intermediate_size: configured 128, found 96'):
        build_language(wider, weights=None)
    drop_weight(folder, 'layers.1.mlp.up_proj')
    with pytest.raises(ValueError, match=r'lacks weights: model\.layers\.1\.mlp\.up_proj\.weight'):
        build_language(named, weights=None)

"""Pretrained parts from local folders: used where named, refused where they do not fit."""

import dataclasses
import importlib.util
import json

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, ResNetForImageClassification

from sparseoccvla_ros.model.answer_batch import AnswerBatch
from sparseoccvla_ros.model.backbone import resnet_config
from sparseoccvla_ros.model.checkpoint import save_checkpoint
from sparseoccvla_ros.model.config import LanguageConfig, RopeScaling, load_model_config
from sparseoccvla_ros.model.language import llama_config
from sparseoccvla_ros.model.quantization import quantization_config
from sparseoccvla_ros.model.vla import build_language, build_perception
from sparseoccvla_ros.training.question_batch import question_batch, tokenize_pair


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


def with_language(config, **changes):
    return dataclasses.replace(config, language=dataclasses.replace(config.language, **changes))


def test_in_bf16(llama):
    _, named, _ = llama
    language = build_language(dataclasses.replace(named, precision='bf16'), weights=None)
    assert {parameter.dtype for parameter in language.causal_lm.parameters()} == {torch.bfloat16}


def test_a_model_of_another_family_is_refused(llama):
    """Qwen2 has the same names but biases too: read as a Llama it would lose them."""
    _, named, folder = llama
    values = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**values, 'model_type': 'qwen2'}))
    with pytest.raises(ValueError, match='model_type: configured llama, found qwen2'):
        build_language(named, weights=None)


def test_weights_without_a_place_are_refused(llama):
    _, named, folder = llama
    tensors = load_file(folder / 'model.safetensors')
    tensors['model.layers.0.self_attn.q_proj.bias'] = torch.zeros(64)
    save_file(tensors, folder / 'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(ValueError, match=r'weights without a place: model\.layers\.0\.self_attn\.q_proj\.bias'):
        build_language(named, weights=None)


#: Members of the family that differ in more than sizes.
FAMILY = {
    'grouped keys (Llama 3)': {'key_value_heads': 2, 'rope_theta': 500000.0},
    'stretched positions (Llama 3.1)': {'rope_scaling': RopeScaling('llama3', 8.0, original_context=64)},
    'stretched positions (Vicuna 16k)': {'rope_scaling': RopeScaling('linear', 4.0)},
    'tied embeddings (Llama 3.2, SmolLM)': {'tied_embeddings': True, 'key_value_heads': 1},
    'wide heads': {'head_width': 32},
}


@pytest.mark.parametrize('changes', FAMILY.values(), ids=FAMILY)
@torch.no_grad()
def test_members_of_the_family_from_a_folder_and_from_a_checkpoint(small, tmp_path, changes):
    """The same outputs each time: from transformers, behind our wrapper, saved by us and loaded again, in a batch."""
    changed = with_language(small, **changes)
    llm = LlamaForCausalLM(llama_config(changed.language)).eval()
    llm.save_pretrained(tmp_path / 'pretrained')
    named = with_language(changed, pretrained=str(tmp_path / 'pretrained'))
    language = build_language(named, weights=None)
    save_checkpoint(tmp_path / 'saved', {'language': language}, named)
    again = build_language(named, weights=tmp_path / 'saved')
    embeddings = torch.randn(1, 100, small.language.width, generator=torch.Generator().manual_seed(0))
    expected = llm.model(inputs_embeds=embeddings).last_hidden_state
    for built in (language, again):
        torch.testing.assert_close(built.forward_embeddings(embeddings, None)[0], expected, rtol=0, atol=1e-6)
        _, prefix = built.forward_embeddings(embeddings[:, :80], None)
        _, read = built.forward_embeddings(embeddings[:, 80:90], prefix)
        batch = AnswerBatch(built)
        member = batch.add(prefix, read, 4)
        token = built.embed_text(torch.tensor([[5]]))
        whole = llm.model(inputs_embeds=torch.cat([embeddings[:, :90], token], dim=1)).last_hidden_state
        torch.testing.assert_close(batch.step({member: 5})[member], whole[0, -1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'rope_theta': 500000.0}, 'rope_parameters: configured .*10000.0.*, found .*500000.0'),
        ({'rope_scaling': RopeScaling('linear', 4.0)}, 'rope_parameters: configured .*default.*, found .*linear'),
        ({'tied_embeddings': True}, 'tie_word_embeddings: configured False, found True'),
        ({'head_width': 32}, 'head_dim: configured 16, found 32'),
    ],
    ids=['positions', 'stretched positions', 'tied', 'heads'],
)
def test_what_a_checkpoint_would_not_give_back_is_refused(small, tmp_path, changes, reason):
    """Loaded with the folder's own numbers it would run, and be another model once it is saved and loaded."""
    LlamaForCausalLM(llama_config(with_language(small, **changes).language)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f'is another model: {reason}'):
        build_language(with_language(small, pretrained=str(tmp_path)), weights=None)


def test_a_sentencepiece_tokenizer_without_padding_is_read_and_fills_rows(small, tmp_path):
    """What Vicuna's folder has: a ``tokenizer.model`` alone."""
    sentences = ['how many cars are ahead', 'turn left at the crossing', 'what should the driver watch'] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_prefix=str(tmp_path / 'tokenizer'), vocab_size=300, model_type='bpe',
        byte_fallback=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    special = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': None}
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps({'tokenizer_class': 'LlamaTokenizer', **special}))
    template = load_model_config('full').language.chat_template
    language = dataclasses.replace(small.language, tokenizer=str(tmp_path), chat_template=template)
    model = build_language(dataclasses.replace(small, language=language), weights=None)
    assert model.tokenizer.pad_token_id is None
    pairs = [tokenize_pair(model, 'how many cars?', 'é 2'), tokenize_pair(model, 'turn left', 'yes')]
    assert model.tokenizer.decode(pairs[0].tokens[pairs[0].question :]).strip() == 'é 2</s>'
    batch = question_batch([pairs, pairs[:1]], model.padding_token)
    assert int((batch.question < 0).sum()) > 0


def test_a_checkpoint_is_loaded_whatever_its_weights_and_tokenizer_came_from(llama, small, tmp_path):
    _, named, _ = llama
    model = build_language(named, weights=None)
    save_checkpoint(tmp_path / 'saved', {'language': model}, named)
    assert named.language.pretrained != small.language.pretrained
    again = build_language(small, weights=tmp_path / 'saved').state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_quantization_needs_a_pretrained_model():
    with pytest.raises(ValueError, match=r'quantization is 4bit; it needs language\.pretrained'):
        LanguageConfig(quantization='4bit')


def test_quantization_says_what_is_missing(llama, monkeypatch):
    _, named, _ = llama
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='quantization is 8bit; it needs bitsandbytes'):
        build_language(with_language(named, quantization='8bit'), weights=None)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    with pytest.raises(ValueError, match='quantization is 4bit; it needs a CUDA device'):
        build_language(with_language(named, quantization='4bit'), weights=None)


def test_quantization_settings(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    four = quantization_config('4bit', torch.bfloat16)
    assert (four.load_in_4bit, four.load_in_8bit) == (True, False)
    assert (four.bnb_4bit_compute_dtype, four.bnb_4bit_quant_type) == (torch.bfloat16, 'nf4')
    assert quantization_config('8bit', torch.bfloat16).load_in_8bit


def test_a_checkpoint_cannot_be_quantized(llama, tmp_path):
    _, named, _ = llama
    save_checkpoint(tmp_path / 'saved', {'language': build_language(named, weights=None)}, named)
    with pytest.raises(ValueError, match='only pretrained weights can be quantized, not those of a checkpoint'):
        build_language(with_language(named, quantization='4bit'), weights=tmp_path / 'saved')

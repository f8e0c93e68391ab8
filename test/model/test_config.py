"""Configurations: strict reading, impossible combinations, and the size of the paper's model."""

import pytest
import torch
import yaml

from sparseoccvla_ros.model.config import VLAConfig, config_from_dict, config_to_yaml, load_model_config
from sparseoccvla_ros.model.language import SceneLanguage, load_tokenizer, new_llm
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.model.planner import TrajectoryPlanner


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('name', ['tiny', 'full'])
def test_yaml_there_and_back(name):
    config = load_model_config(name)
    assert isinstance(config, VLAConfig)
    assert config_from_dict(yaml.safe_load(config_to_yaml(config))) == config


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'encoder.querys': 5}, r'unknown key encoder\.querys; known keys: .*queries'),
        ({'colour': 'red'}, r'unknown key colour; known keys: .*backbone'),
        ({'encoder.queries': '300'}, r"encoder\.queries: expected int, found '300' \(str\)"),
        ({'encoder.queries': 300.0}, r'encoder\.queries: expected int, found 300\.0'),
        ({'encoder.queries': True}, r'encoder\.queries: expected int, found True'),
        ({'image.frame_interval_s': 'half'}, r'image\.frame_interval_s: expected float'),
        ({'image.frame_interval_s': False}, r'image\.frame_interval_s: expected float'),
        ({'precision': 'fp16'}, r"precision: expected one of 'fp32', 'bf16', found 'fp16'"),
        ({'encoder.points_per_layer': 4}, r'encoder\.points_per_layer: expected a list'),
        ({'encoder.points_per_layer': [1, 'x']}, r'encoder\.points_per_layer\[1\]: expected int'),
        ({'space.range_m': [0.0, 1.0]}, r'space\.range_m: expected 6 values, found 2'),
        ({'encoder': 3}, r'encoder: expected a section, found 3'),
        ({'name.first': 'x'}, r'name\.first: name is not a section'),
        ({'encoder.width': 100}, r'encoder\.width \(100\) must be a multiple of encoder\.attention_heads \(8\)'),
        ({'backbone.fpn_width': 66}, r'backbone\.fpn_width \(66\) must be a multiple of encoder\.groups \(4\)'),
        ({'encoder.points_per_layer': [4, 1]}, r'points_per_layer must be positive and never fall, got \(4, 1\)'),
        ({'backbone.depths': [1, 1]}, r'depths \(1, 1\) and stage_widths \(32, 64, 128, 256\) differ'),
        ({'language.context_length': 200}, r'context_length \(200\) does not hold the 301 visual tokens'),
        ({'space.voxel_m': 0.3}, r'is no multiple of voxel_m \(0\.3\)'),
        ({'forecaster.horizons_s': [2.0, 1.0]}, r'horizons_s must be positive and rise'),
        ({'planner.steps': 30}, r'step_window \(20\) must be in steps \(30\)'),
        ({'image.frames': 0}, r'ImageConfig\.frames must be positive, got 0'),
        ({'language.lora': {'rank': 0}}, r'LoraSettings\.rank must be positive, got 0'),
    ],
)
def test_refused_with_key_expected_and_found(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_model_config('tiny', overrides)


def test_missing_name_and_unknown_model():
    with pytest.raises(ValueError, match='missing key name'):
        config_from_dict({})
    with pytest.raises(FileNotFoundError, match=r"'huge'; known: full, tiny"):
        load_model_config('huge')


def test_overrides_and_path(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('name: mine\nencoder: {queries: 450}\n')
    config = load_model_config(path, {'image.frame_interval_s': 1})
    assert (config.name, config.encoder.queries, config.image.frame_interval_s) == ('mine', 450, 1.0)
    path.write_text('just a text')
    with pytest.raises(ValueError, match='expected keys and values, found str'):
        load_model_config(path)


@pytest.fixture(scope='module')
def full_perception() -> OccupancyPerception:
    with torch.device('meta'):
        return OccupancyPerception(load_model_config('full'))


def test_full_backbone_is_resnet50_with_a_256_wide_pyramid(full_perception):
    assert count(full_perception.backbone.resnet) == 23_508_032  # ResNet-50 (25,557,032) without its 2048 x 1000 fc
    laterals = (256 + 512 + 1024 + 2048) * 256 + 4 * 256
    outputs = 4 * (256 * 256 * 9 + 256)
    assert count(full_perception.backbone.pyramid) == laterals + outputs


def test_full_language_model_is_llama_7b_with_rank_16_adapters():
    config = load_model_config('full')
    with torch.device('meta'):
        language = SceneLanguage(config, new_llm(config.language), load_tokenizer('weights/tiny/tokenizer'))
    adapters = sum(p.numel() for name, p in language.llm.named_parameters() if 'lora_' in name)
    assert adapters == 32 * 4 * 16 * (4096 + 4096)  # layers x targets x rank x (in + out)
    assert count(language.llm) - adapters == 6_738_415_616  # Llama-7B
    trainable = sum(p.numel() for p in language.llm.parameters() if p.requires_grad)
    assert trainable == adapters


def test_full_planner_builds_on_meta():
    with torch.device('meta'):
        planner = TrajectoryPlanner(load_model_config('full'))
    assert planner.anchors.shape == (3, 6, 6, 2)


def test_tiny_is_about_ten_million(small):
    del small
    config = load_model_config('tiny')
    with torch.device('meta'):
        language = SceneLanguage(config, new_llm(config.language), load_tokenizer(config.language.tokenizer))
        parts = [OccupancyPerception(config), language, TrajectoryPlanner(config)]
    assert 8e6 < sum(map(count, parts)) < 12e6
    assert len(language.tokenizer) == config.language.vocabulary

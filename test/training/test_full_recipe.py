"""The recipes of the paper's size on a real keyframe: two steps of each stage, with nothing changed but settings.

Labels are made from the keyframe's own LiDAR and boxes. One keyframe has no future and no past: forecast and planner
learn nothing from it, which is what their terms have to say; what they learn is seen on a synthetic street.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaForCausalLM,
)

from sparseoccvla_ros.data.keyframes import label_pose
from sparseoccvla_ros.data.nuscenes import LIDAR, NuScenesTables, load_lidar_points
from sparseoccvla_ros.data.occ3d import CLASS_NAMES, FREE, GRID_SHAPE, RANGE_M, VOXEL_M
from sparseoccvla_ros.geometry import inverse, transform_points
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import llama_config
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner
from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.training.recipe import load_recipe
from sparseoccvla_ros.training.trainer import train

VERSION, STEPS = 'v1.0-one', 2
CLASSES = {
    'vehicle.car': 'car', 'vehicle.truck': 'truck', 'vehicle.bus': 'bus',
    'vehicle.construction': 'construction_vehicle', 'vehicle.trailer': 'trailer',
    'vehicle.motorcycle': 'motorcycle', 'vehicle.bicycle': 'bicycle',
    'human': 'pedestrian',
    'movable_object.barrier': 'barrier', 'movable_object.trafficcone': 'traffic_cone',
}  # fmt: skip
#: The recipe's settings, smaller: images, frames, queries and the language model.
SMALLER = {
    'image.width_px': 352,
    'image.height_px': 128,
    'image.frames': 2,
    'backbone.pretrained': None,
    'encoder.queries': 60,
    'encoder.points_per_layer': [1, 4, 8],
    'forecaster.points': 8,
    'language.width': 64,
    'language.ffn_width': 96,
    'language.layers': 2,
    'language.attention_heads': 4,
    'language.key_value_heads': 4,
    'language.vocabulary': 1536,
    'language.context_length': 512,
    'language.chat_template': None,
    'language.tokenizer': 'weights/tiny/tokenizer',
}


def lidar_labels(tables: NuScenesTables) -> tuple[str, str, np.ndarray]:
    """Scene, token and a grid: voxels with a point have the class of the box around it, else road or manmade."""
    scene = tables.scene_names[0]
    [sample] = tables.scene(scene).samples
    frame = sample.sensors[LIDAR]
    points_m = transform_points(frame.ego_from_sensor, load_lidar_points(frame)[:, :3])
    labels = np.where(points_m[:, 2] < 0.3, CLASS_NAMES.index('driveable_surface'), CLASS_NAMES.index('manmade'))
    for box in tables.annotations(sample):
        name = next((name for start, name in CLASSES.items() if box.category.startswith(start)), 'others')
        inside_m = transform_points(inverse(box.global_from_box) @ label_pose(sample), points_m)
        labels[(np.abs(inside_m) <= box.size_wlh_m[[1, 0, 2]] / 2).all(axis=1)] = CLASS_NAMES.index(name)
    index = np.floor((points_m - RANGE_M[:3]) / VOXEL_M).astype(int)
    within = ((index >= 0) & (index < GRID_SHAPE)).all(axis=1)
    grid = np.full(GRID_SHAPE, FREE, dtype=np.uint8)
    grid[tuple(index[within].T)] = labels[within]
    return scene, sample.token, grid


@pytest.fixture(scope='module')
def real(nuscenes_dir, tmp_path_factory) -> Path:
    """The data folder with labels and OmniDrive's files beside it."""
    root = tmp_path_factory.mktemp('real')
    for name in ('samples', VERSION):
        (root / name).symlink_to(nuscenes_dir / name)
    scene, token, grid = lidar_labels(NuScenesTables(nuscenes_dir, VERSION))
    assert {'driveable_surface', 'car'} <= {CLASS_NAMES[label] for label in np.unique(grid) if label < FREE}
    place = root / 'gts' / scene / token
    place.mkdir(parents=True)
    seen = (grid < FREE).astype(np.uint8)
    np.savez_compressed(place / 'labels.npz', semantics=grid, mask_lidar=seen, mask_camera=seen)
    (root / 'conv/train').mkdir(parents=True)
    pairs = [{'question': 'What is ahead?', 'answer': 'A parked truck.'}]
    (root / 'conv/train' / f'{token}.json').write_text(json.dumps(pairs))
    (root / 'splits.json').write_text(json.dumps({'train': [scene], 'val': []}))
    return root


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory) -> dict[str, str]:
    """Stand-ins for Vicuna and CLIP, loaded by the code that loads those."""
    folder = tmp_path_factory.mktemp('pretrained')
    config = load_model_config('full', SMALLER)
    torch.manual_seed(0)
    LlamaForCausalLM(llama_config(config.language)).save_pretrained(folder / 'llm')
    AutoTokenizer.from_pretrained(share_path('weights/tiny/tokenizer')).save_pretrained(folder / 'llm')
    tower = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=16, image_size=224
    )
    CLIPVisionModel(tower).save_pretrained(folder / 'clip')
    CLIPImageProcessor().save_pretrained(folder / 'clip')
    return {'llm': str(folder / 'llm'), 'clip': str(folder / 'clip')}


@pytest.mark.nuscenes
def test_two_steps_of_each_stage(real, pretrained, tmp_path):
    overrides = {**SMALLER, 'language.pretrained': pretrained['llm']}
    common = [
        f'data.root={real}', f'data.version={VERSION}', 'data.workers=0', 'device=cpu',
        f'optimization.steps={STEPS}', 'optimization.warmup_steps=1', 'optimization.peak_lr=1e-3',
        *(f'overrides={json.dumps(overrides)}',),
    ]  # fmt: skip
    questions = f'data.questions_path={real}'
    stages = {
        'stage1': [f'losses.distillation.teacher={pretrained["clip"]}'],
        'stage2': [questions, f'start.perception={tmp_path / "stage1/checkpoint"}'],
        'stage3': [
            questions, f'start.perception={tmp_path / "stage1/checkpoint"}',
            f'start.language={tmp_path / "stage2/checkpoint"}', f'start.planner={tmp_path / "stage2/checkpoint"}',
        ],
    }  # fmt: skip
    logs = {}
    for stage, changes in stages.items():
        recipe = load_recipe(f'full/{stage}', [*common, *changes, f'out={tmp_path / stage}'])
        assert train(recipe) == tmp_path / stage / 'checkpoint'
        lines = (tmp_path / stage / 'log.jsonl').read_text().splitlines()
        logs[stage] = [row for row in map(json.loads, lines) if 'step' in row]
        assert [row['step'] for row in logs[stage]] == [1, STEPS]
    assert 0 < logs['stage1'][0]['distillation'] < 2
    for stage in ('stage2', 'stage3'):
        first, second = logs[stage]
        assert second['answers'] != first['answers']
        # without a future there is nothing to say
        assert first['forecast.1s.points'] == first['planner.path'] == 0.0
    config = load_model_config(tmp_path / 'stage3/checkpoint/config.yaml')
    start, end = (
        {**build_perception(config, weights=tmp_path / stage / 'checkpoint').state_dict()}
        for stage in ('stage1', 'stage3')
    )
    assert any(not torch.equal(start[name], end[name]) for name in start)
    build_planner(config, weights=tmp_path / 'stage3/checkpoint')
    language = build_language(config, weights=tmp_path / 'stage3/checkpoint').state_dict()
    base = LlamaForCausalLM.from_pretrained(pretrained['llm']).state_dict()
    untouched = language['llm.base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight']
    torch.testing.assert_close(untouched, base['model.layers.0.self_attn.q_proj.weight'].to(untouched.dtype))
    shutil.rmtree(tmp_path / 'stage1')


def test_planner_and_forecast_learn_where_there_is_a_future(street, pretrained, tmp_path):
    """Stages 2 and 3 behind an encoder of random weights; all keyframes of the scene in each step."""
    overrides = {
        **SMALLER, 'image.width_px': 96, 'image.height_px': 32, 'backbone.depths': [1, 1, 1, 1],
        'backbone.stage_widths': [32, 32, 32, 32], 'language.pretrained': pretrained['llm'],
    }  # fmt: skip
    common = [
        f'data.root={street}', 'data.version=v1.0-world', 'data.workers=0', 'data.questions=world', 'device=cpu',
        'data.questions_path=', 'optimization.batch_size=12', 'optimization.warmup_steps=1',
        f'optimization.steps={STEPS}', 'optimization.peak_lr=1e-3', f'overrides={json.dumps(overrides)}',
    ]  # fmt: skip
    first, second = (tmp_path / stage / 'checkpoint' for stage in ('stage2', 'stage3'))
    train(load_recipe('full/stage2', [*common, 'start={}', f'out={first.parent}']))
    start = {part: str(first) for part in ('perception', 'language', 'planner')}
    train(load_recipe('full/stage3', [*common, f'start={json.dumps(start)}', f'out={second.parent}']))
    for folder in (first, second):
        lines = map(json.loads, (folder.parent / 'log.jsonl').read_text().splitlines())
        for row in [line for line in lines if 'step' in line]:
            learnt = [value for name, value in row.items() if name.startswith(('planner.', 'forecast.'))]
            assert len(learnt) == 8
            assert min(learnt) > 0.0
    config = load_model_config(second / 'config.yaml')
    for build in (build_perception, build_language, build_planner):
        before, after = (build(config, weights=folder).state_dict() for folder in (first, second))
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed
        if build is build_language:
            assert any(name.startswith('forecaster.') for name in changed)
            assert all('.lora_' in name for name in changed if name.startswith('llm.'))

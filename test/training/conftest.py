"""A small world, and recipes for a model small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sparseoccvla_ros.training.recipe import Recipe, load_recipe
from sparseoccvla_ros.world.files.writer import WorldRequest, write_world

#: Sizes of the smallest model that has all parts.
OVERRIDES = {
    'image.width_px': 96,
    'image.height_px': 32,
    'backbone.stem_width': 8,
    'backbone.stage_widths': [8, 8, 16, 16],
    'backbone.fpn_width': 16,
    'encoder.queries': 24,
    'encoder.width': 32,
    'encoder.points_per_layer': [1, 4],
    'encoder.attention_heads': 4,
    'encoder.ffn_width': 32,
    'encoder.mixing_points': 8,
    'language.width': 64,
    'language.ffn_width': 96,
    'language.layers': 2,
    'language.context_length': 256,
    'forecaster.points': 4,
    'planner.width': 32,
    'planner.ffn_width': 32,
}


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Threads that wait for each other cost ten times the work of models this small on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session')
def street(tmp_path_factory) -> Path:
    """A scene of twelve keyframes with labels and questions; four have a past and 3 s ahead, for the planner."""
    out = tmp_path_factory.mktemp('street') / 'data'
    write_world(out, WorldRequest(1, 7, 96, 32, 2, 6.0, None), workers=1, on_keyframes=lambda _: None)
    return out


@pytest.fixture
def write_recipe(street, tmp_path):
    """Writes a recipe of the small model over the street; keyword arguments replace or add top-level keys."""

    def write(**values: Any) -> Path:
        document = {
            'out': str(tmp_path / 'run'),
            'model': 'tiny',
            'overrides': OVERRIDES,
            'terms': ['occupancy', 'forecast', 'planner', 'answers'],
            'train': ['perception', 'language', 'planner'],
            'data': {'root': str(street), 'workers': 0, 'questions': 'world', 'questions_per_keyframe': 3},
            'optimization': {'steps': 4, 'batch_size': 2, 'peak_lr': 1e-3, 'warmup_steps': 1},
            **values,
        }
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump(document))
        return path

    return write


@pytest.fixture
def recipe_of(write_recipe):
    """The same, read."""

    def read(*changes: str, **values: Any) -> Recipe:
        return load_recipe(str(write_recipe(**values)), changes)

    return read

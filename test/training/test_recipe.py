"""Recipes are read strictly, and refused where their parts do not go together."""

import pytest

from sparseoccvla_ros.resources import share_path
from sparseoccvla_ros.training.recipe import load_recipe

SHIPPED = sorted(str(path) for path in share_path('config/train').rglob('*.yaml'))


@pytest.mark.parametrize('path', SHIPPED)
def test_shipped_recipes_are_read_with_their_models(path):
    recipe = load_recipe(path)
    assert recipe.model_config().name == recipe.model


def test_a_recipe_is_found_by_its_name():
    assert load_recipe('tiny/stage1') == load_recipe('tiny/stage1.yaml')
    with pytest.raises(FileNotFoundError, match='no recipe that comes with the package'):
        load_recipe('tiny/stage9')


def test_changes_on_the_command_line_are_typed_as_yaml(recipe_of):
    assert recipe_of('optimization.peak_lr=1e-2').optimization.peak_lr == 0.01
    recipe = recipe_of('optimization.steps=7', 'terms=[occupancy]', 'train=[perception.encoder]', 'data.split=""')
    assert (recipe.optimization.steps, recipe.terms, recipe.data.split) == (7, ('occupancy',), '')
    assert recipe_of('data.split=').data.split == ''


def test_what_follows_overrides_is_one_key_of_the_model_and_its_neighbours_stay():
    frames = load_recipe('full/stage1', ['overrides.image.frames=4']).model_config().image
    assert (frames.frames, frames.width_px, frames.height_px) == (4, 704, 256)
    language = load_recipe('full/stage2', ['overrides.language.lora.rank=32']).model_config().language
    assert (language.lora.rank, language.lora.alpha, language.pretrained) == (32, 32, 'lmsys/vicuna-7b-v1.5')
    language = load_recipe('full/stage2', ['overrides={language: {pretrained: here}}']).model_config().language
    assert (language.pretrained, language.width, language.lora.rank) == ('here', 4096, 16)
    factors = load_recipe('tiny/stage1', ['optimization.lr_factors.perception.backbone=0.3']).optimization.lr_factors
    assert factors['perception.backbone'] == 0.3


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['optimization.stesp=7'], r'unknown key optimization\.stesp; known keys: .*steps'),
        (['optimization.steps=seven'], r'optimization\.steps: expected int, found .seven.'),
        (['terms=[occupancy'], r'terms is no YAML: .*expected'),
        (['data.questions_per_keyframe=0'], r'data\.questions_per_keyframe must be at least 1, got 0'),
        (['data.workers=-1'], r'data\.workers must not be negative, got -1'),
        (['optimization.warmup_steps=-1'], r'optimization\.warmup_steps must not be negative, got -1'),
        (['optimization.batch_size=0'], r'batch_size must be at least 1, got 0'),
        (['optimization.ema_decay=1.0'], r'ema_decay must be in \[0, 1\)'),
        (['terms=[occupancy, depth_in_image]'], r'depth_in_image cannot be mixed'),
        (['terms=[ocupancy]'], r'terms\[0\]: expected one of'),
        (['train=[percepton]'], r"'percepton' begins with none of"),
        (['start.encoder=somewhere'], r"start: 'encoder' is none of"),
        (['terms=[occupancy, distillation]'], r"'distillation' needs its projection to learn"),
        (['data.questions=none'], r"'answers' needs data.questions"),
        (['data.query_cache=somewhere'], r'perception is trained'),
        (['data.query_cache=x', 'train=[language]'], r'occupancy and distillation need the images'),
        (['steps'], r"expected key=value, got 'steps'"),
        (['lora.rank=0'], r'rank'),
        (['device=cuda:1'], r"device: expected one of 'cpu', 'cuda'"),
        (['augmentation.scene.rotation_rad=0.1'], r'ahead must stay ahead'),
        (
            ['data.query_cache=x', 'train=[language]', 'terms=[answers]', 'augmentation.photometric={}'],
            r'images as they are',
        ),
    ],
)
def test_what_does_not_fit_is_named(recipe_of, changes, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(*changes)

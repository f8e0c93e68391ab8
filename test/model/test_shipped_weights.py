"""Weights that come along fit the model as it is now; who changes the model packs new ones."""

import pytest

from sparseoccvla_ros.model.checkpoint import load_checkpoint
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner

BUILDERS = {'perception': build_perception, 'language': build_language, 'planner': build_planner}
#: Folder of weights: the parts in it.
SHIPPED = {
    'weights/tiny': ('perception', 'language', 'planner'),
    'weights/stages/tiny/stage0': ('perception',),
    'weights/stages/tiny/stage1': ('perception',),
    'weights/stages/tiny/stage2': ('language',),
    'weights/stages/tiny/stage2_blind': ('language',),
    'weights/stages/tiny/stage2_planner': ('planner',),
}


def test_every_folder_is_known(project_root):
    files = project_root.glob('weights/**/*.safetensors')
    folders = {path.parent.relative_to(project_root).as_posix() for path in files}
    assert folders == set(SHIPPED)


@pytest.mark.parametrize('folder', SHIPPED)
def test_weights_fit_the_model(project_root, folder):
    config = load_model_config('tiny', {'language.blind': folder.endswith('_blind')})
    parts = {name: BUILDERS[name](config, weights=None) for name in SHIPPED[folder]}
    before = {name: next(module.parameters()).clone() for name, module in parts.items()}
    load_checkpoint(project_root / folder, parts, config)
    for name, module in parts.items():
        assert not before[name].equal(next(module.parameters()))


def test_the_shipped_model_is_small(project_root):
    """25 MB with tokenizer and card."""
    files = [path for path in (project_root / 'weights' / 'tiny').rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000

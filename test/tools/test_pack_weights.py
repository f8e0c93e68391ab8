"""tools/pack_weights.py: what ships is what was trained, rounded."""

import argparse

import pack_weights
import pytest
import torch

from sparseoccvla_ros.model.checkpoint import load_checkpoint, save_checkpoint
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner


def test_the_shipped_size_fits_and_every_part_comes_back_rounded(tmp_path):
    config = load_model_config('tiny')
    perception = build_perception(config, weights=None, seed=3)
    with torch.no_grad():
        perception.backbone.train()(torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8))  # statistics of its own
    others = {
        'language': build_language(config, weights=None, seed=4),
        'planner': build_planner(config, weights=None, seed=5),
    }
    save_checkpoint(tmp_path / 'a', {'perception': perception}, config)
    save_checkpoint(tmp_path / 'b', others, config)
    folders = {'perception': tmp_path / 'a', 'language': tmp_path / 'b', 'planner': tmp_path / 'b'}
    pack_weights.pack(tmp_path / 'out', folders)
    assert sum(file.stat().st_size for file in (tmp_path / 'out').rglob('*') if file.is_file()) < 25e6

    loaded = {part: build(config, weights=None, seed=9) for part, build in pack_weights.BUILDERS.items()}
    load_checkpoint(tmp_path / 'out', loaded, config)
    for part, original in {'perception': perception, **others}.items():
        for name, tensor in loaded[part].state_dict().items():
            expected = original.state_dict()[name]
            assert tensor.dtype == expected.dtype
            torch.testing.assert_close(tensor, expected, rtol=2**-11, atol=2**-24)
            if name.endswith('running_var'):
                assert torch.equal(tensor, expected)


def test_what_cannot_be_packed_is_named(tmp_path):
    config = load_model_config('tiny')
    perception = build_perception(config, weights=None)
    perception.encoder.layers[0].mixing.out_proj.weight.data[0, 0] = 1e6
    save_checkpoint(tmp_path / 'a', {'perception': perception}, config)
    with pytest.raises(ValueError, match=r'out_proj.weight has 1e\+06, float16 ends at 65504'):
        pack_weights.pack(tmp_path / 'out', {'perception': tmp_path / 'a'})
    assert not (tmp_path / 'out').exists()
    with pytest.raises(argparse.ArgumentTypeError, match="'eyes=a'; PART=FOLDER expected"):
        pack_weights.part_folder('eyes=a')

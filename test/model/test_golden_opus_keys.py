"""Released OPUS models against ours: every name and shape, and an imported head's outputs."""

import json

import numpy as np
import pytest
import torch

from sparseoccvla_ros.model.config import VLAConfig, config_to_yaml, load_model_config
from sparseoccvla_ros.model.opus import SPACE_BUFFERS, opus_name, opus_perception_name
from sparseoccvla_ros.model.opus_import import import_opus, opus_sizes
from sparseoccvla_ros.model.perception import OccupancyPerception
from sparseoccvla_ros.model.vla import build_perception

pytestmark = pytest.mark.golden

#: Tolerance of the fixture's README for float32.
LOGITS_F32, POINTS_F32_M = 1e-2, 5e-3


def entries(path) -> dict[str, tuple[tuple[int, ...], str, str]]:
    """Name -> shape, dtype, 'parameter' or 'buffer'."""
    stored = json.loads(path.read_text())['state_dict']
    return {name: (tuple(shape), dtype, kind) for name, (shape, dtype, kind) in stored.items()}


def our_entries(config: VLAConfig) -> dict[str, tuple[tuple[int, ...], str, str]]:
    """The same of our perception, by the checkpoint's names; the space, which we have in the configuration, added."""
    with torch.device('meta'):
        perception = OccupancyPerception(config)
    parameters = {name for name, _ in perception.named_parameters()}
    ours = {
        opus_perception_name(name): (
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix('torch.'),
            'parameter' if name in parameters else 'buffer',
        )
        for name, tensor in perception.state_dict().items()
    }
    assert len(ours) == len(perception.state_dict())
    space = [((6,), 'float32'), ((3,), 'float32'), ((3,), 'float32'), ((3,), 'int64')]
    ours.update({name: (*entry, 'buffer') for name, entry in zip(SPACE_BUFFERS, space, strict=True)})
    return ours


def test_full_is_opus_t_and_with_a_files_sizes_that_files_model(golden_dir):
    full = load_model_config('full')
    paths = sorted(golden_dir.glob('opus_*_state_dict_keys.json'))
    assert paths
    for path in paths:
        stored = entries(path)
        sizes = opus_sizes({name: shape for name, (shape, _, _) in stored.items()}, full)
        assert our_entries(load_model_config('full', sizes)) == stored, path.name
        if path.name == 'opus_t_state_dict_keys.json':  # unmodified: nothing is read from the file but what is compared
            assert our_entries(full) == stored


def test_imported_head_gives_the_references_outputs(
    golden_dir, tmp_path, opus_meta, opus_space, opus_inputs, opus_outputs
):
    """Through a file and back: names, sizes, the labelled space and the choices that the import writes."""
    height_px, width_px = opus_meta['image_hw']
    levels, tiny = opus_meta['num_levels'], load_model_config('tiny').backbone
    base = load_model_config(
        'tiny',
        {
            'backbone.depths': [1] * levels,
            'backbone.stage_widths': [tiny.stage_widths[0] * 2**level for level in range(levels)],
            'space.classes': list(opus_space.classes),
            'image.width_px': width_px,
            'image.height_px': height_px,
            'backbone.fpn_width': opus_meta['embed_dims'],
            'encoder.groups': opus_meta['num_groups'],
            'encoder.offset_scale_m': opus_meta['scales'][0],
            'space.range_m': list(opus_space.range_m),
            'space.voxel_m': opus_space.voxel_m,
        },
    )
    (tmp_path / 'base.yaml').write_text(config_to_yaml(base))
    with np.load(golden_dir / 'opus_decoder_weights.npz') as stored:
        head = {name: torch.from_numpy(stored[name]) for name in stored.files}
    backbone = build_perception(base, weights=None).backbone.state_dict()
    images = {opus_perception_name(f'backbone.{name}'): tensor for name, tensor in backbone.items()}
    torch.save({'meta': {}, 'state_dict': {**images, **head}}, tmp_path / 'opus.pth')

    config = import_opus(tmp_path / 'opus.pth', tmp_path / 'out', tmp_path / 'base.yaml').config
    perception = build_perception(config, weights=tmp_path / 'out')

    assert config.image.frames == opus_meta['num_frames']
    assert {opus_name(name) for name in perception.encoder.state_dict()} == head.keys() - set(SPACE_BUFFERS)
    features, image_from_ego, view_mask = opus_inputs
    with torch.no_grad():
        output = perception.encode(tuple(level.float() for level in features), image_from_ego.float(), view_mask)
    last = opus_meta['num_layers'] - 1
    torch.testing.assert_close(output.logits[last], opus_outputs[f'cls_scores_{last}'], rtol=0, atol=LOGITS_F32)
    low, high = torch.tensor(opus_meta['pc_range']).view(2, 3)
    points_m = opus_outputs[f'refine_pts_{last}'] * (high - low) + low
    torch.testing.assert_close(output.points_m[last], points_m, rtol=0, atol=POINTS_F32_M)

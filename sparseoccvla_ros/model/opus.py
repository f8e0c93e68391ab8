"""Names of the perception's weights in released OPUS checkpoints (jbwang1997/OPUS: mmdet ResNet and FPN, OPUS head)."""

from __future__ import annotations

import re

HEAD = 'pts_bbox_head.'
LAYERS = f'{HEAD}transformer.decoder.decoder_layers.'
#: Numbers of the labelled space, stored in a checkpoint's head but part of our configuration.
SPACE_BUFFERS = tuple(f'{HEAD}{name}' for name in ('pc_range', 'scene_size', 'voxel_size', 'voxel_num'))

#: Ours -> theirs, inside one layer of the encoder; what is not listed has the same name in both.
_RENAMED = (
    (re.compile(r'^self_attn\.in_proj\.(weight|bias)$'), r'self_attn.attention.attn.in_proj_\1'),
    (re.compile(r'^self_attn\.out_proj\.'), 'self_attn.attention.attn.out_proj.'),
    (re.compile(r'^ffn\.0\.'), 'ffn.layers.0.0.'),
    (re.compile(r'^ffn\.2\.'), 'ffn.layers.1.'),
)
#: A convolution and its batch norm, ours -> theirs: in the stem and in a block, and in a block's shortcut.
_CONVOLUTION = {'convolution': 'conv', 'normalization': 'bn'}
_SHORTCUT = {'convolution': 'downsample.0', 'normalization': 'downsample.1'}
_BLOCK = re.compile(r'^backbone\.resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.(shortcut|layer\.\d+)\.(\w+)\.(\w+)$')
_STEM = re.compile(r'^backbone\.resnet\.embedder\.embedder\.(\w+)\.(\w+)$')
_PYRAMID = re.compile(r'^backbone\.pyramid\.(\w+\.\d+)\.(\w+)$')


def opus_name(name: str) -> str:
    """The checkpoint's name of a weight of :class:`~.occupancy_encoder.OccupancyEncoder`."""
    if not name.startswith('layers.'):
        return HEAD + name
    _, layer, inner = name.split('.', 2)
    for ours, theirs in _RENAMED:
        inner = ours.sub(theirs, inner)
    return f'{LAYERS}{layer}.{inner}'


def opus_perception_name(name: str) -> str:
    """The checkpoint's name of a weight or buffer of :class:`~.perception.OccupancyPerception`.

    Raises:
        ValueError: the perception has no such part.
    """
    if name.startswith('encoder.'):
        return opus_name(name.removeprefix('encoder.'))
    if match := _BLOCK.match(name):
        stage, block, layer, kind, leaf = match.groups()
        if layer == 'shortcut':
            inner = _SHORTCUT[kind]
        else:
            inner = f'{_CONVOLUTION[kind]}{int(layer.removeprefix("layer.")) + 1}'
        return f'img_backbone.layer{int(stage) + 1}.{block}.{inner}.{leaf}'
    if match := _STEM.match(name):
        return f'img_backbone.{_CONVOLUTION[match[1]]}1.{match[2]}'
    if match := _PYRAMID.match(name):
        return f'img_neck.{match[1]}.conv.{match[2]}'
    raise ValueError(f'{name!r} is no weight of the perception')

"""Names of the encoder's weights in released OPUS checkpoints (jbwang1997/OPUS)."""

from __future__ import annotations

import re

HEAD = 'pts_bbox_head.'
#: Numbers of the labelled space, stored in a checkpoint's head but part of our configuration.
SPACE_BUFFERS = tuple(f'{HEAD}{name}' for name in ('pc_range', 'scene_size', 'voxel_size', 'voxel_num'))

#: Ours -> theirs, inside one layer; what is not listed has the same name in both.
_RENAMED = (
    (re.compile(r'^self_attn\.in_proj\.(weight|bias)$'), r'self_attn.attention.attn.in_proj_\1'),
    (re.compile(r'^self_attn\.out_proj\.'), 'self_attn.attention.attn.out_proj.'),
    (re.compile(r'^ffn\.0\.'), 'ffn.layers.0.0.'),
    (re.compile(r'^ffn\.2\.'), 'ffn.layers.1.'),
)


def opus_name(name: str) -> str:
    """The checkpoint's name of a weight of :class:`~.occupancy_encoder.OccupancyEncoder`."""
    if not name.startswith('layers.'):
        return HEAD + name
    _, layer, inner = name.split('.', 2)
    for ours, theirs in _RENAMED:
        inner = ours.sub(theirs, inner)
    return f'{HEAD}transformer.decoder.decoder_layers.{layer}.{inner}'

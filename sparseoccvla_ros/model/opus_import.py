"""Released OPUS checkpoints (jbwang1997/OPUS, written by mmcv) to checkpoints of ours."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparseoccvla_ros.model.checkpoint import CONFIG_FILE, MODEL_FILE, SHOWN, CheckpointError, save_checkpoint
from sparseoccvla_ros.model.config import SpaceConfig, VLAConfig, load_model_config
from sparseoccvla_ros.model.opus import HEAD, LAYERS, SPACE_BUFFERS, opus_perception_name
from sparseoccvla_ros.model.perception import OccupancyPerception

#: What released checkpoints were trained with, and the number format of their weights.
OPUS_CHOICES = {
    'encoder.level_weights': 'opus',
    'encoder.unseen_points': 'view0',
    'encoder.shared_points': 'first',
    'encoder.spread': 'unbiased',
    'precision': 'fp32',
}
#: The rig's order that 'view0' and 'first' refer to (loaders/pipelines/loading.py).
OPUS_CAMERAS = ('CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_BACK_RIGHT')

#: mmcv's `meta` may hold numpy scalars (a best score). These rebuild plain numbers and run no code of the file's;
#: the scalar's name is that of numpy 1 and numpy 2.
_SCALAR = np.float64(0.0).__reduce__()[0]
_METADATA_TYPES = [
    *((_SCALAR, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ('f2', 'f4', 'f8', 'i4', 'i8', 'bool')),
]

#: What torch raises for damaged files (found by damaging one at random places).
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, AssertionError,
    SystemError,
)  # fmt: skip


@dataclass(frozen=True)
class OpusImport:
    """What was imported.

    ``tensors`` and ``parameters`` (numbers that training changes) were written; ``left_out`` names what the file held
    besides, for example 'optimizer'; ``notes`` says what else the configuration had to change.
    """

    config: VLAConfig
    tensors: int
    parameters: int
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def import_opus(checkpoint: Path, out: Path, config: str | Path = 'full') -> OpusImport:
    """Write the perception of a released checkpoint as a checkpoint of ours; all is checked before the first byte.

    Args:
        checkpoint: a ``.pth`` file; see :func:`read_opus`.
        out: folder for ``model.safetensors`` and ``config.yaml``.
        config: model configuration, a name or a ``.yaml`` path: it says what the shapes do not determine (see
            :func:`opus_sizes`) and holds the parts that the checkpoint lacks.

    Raises:
        OSError: the checkpoint or the configuration is not there, or ``out`` cannot be written.
        CheckpointError: ``out`` holds a checkpoint, or the file is damaged, unsafe, or does not fit (listed).
        ValueError: the configuration is wrong.
    """
    for name in (MODEL_FILE, CONFIG_FILE):
        if (out / name).exists():
            raise CheckpointError(f'{out / name} is there already; nothing is overwritten')
    base = load_model_config(config)
    found, left_out = read_opus(checkpoint)
    sizes = opus_sizes({name: tuple(tensor.shape) for name, tensor in found.items()}, base)
    try:
        imported = load_model_config(config, {**sizes, **OPUS_CHOICES, 'name': f'{base.name}-opus'})
    except ValueError as error:
        raise CheckpointError(f'{checkpoint} does not fit {config}: {error}') from error
    with torch.device('meta'):
        perception = OccupancyPerception(imported)
    expected = {opus_perception_name(name): tensor for name, tensor in perception.state_dict().items()}
    if misfits := _misfits(found, {**expected, **_space_buffers(imported.space)}):
        raise CheckpointError(f'{checkpoint} does not fit {config}: {misfits}')
    perception.load_state_dict(
        {
            # a copy: the read tensors are views of the file
            name: found[opus_perception_name(name)].to(tensor.dtype, copy=True)
            for name, tensor in perception.state_dict().items()
        },
        assign=True,
    )
    save_checkpoint(out, {'perception': perception}, imported)
    parameters = sum(parameter.numel() for parameter in perception.parameters())
    return OpusImport(imported, len(expected), parameters, left_out, _notes(base, imported))


def read_opus(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict of a ``.pth`` file, on the CPU, and the names of what lies beside it.

    The file holds ``{'state_dict': ..., 'meta': ..., 'optimizer': ...}`` or the state dict alone. It is read with
    ``weights_only``: tensors, plain containers and numbers. No code in it is ever run.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: no PyTorch checkpoint, cut short, or with anything but tensors in its state dict; or it holds
            objects that may run code when loaded (they are named).
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} is no file')
    try:
        with torch.serialization.safe_globals(_METADATA_TYPES):
            unsafe = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
            # mapped: an optimizer is twice as large as its model and is never read
            content = None if unsafe else torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise CheckpointError(f'{path} is damaged or no PyTorch checkpoint: {reason}') from error
    if unsafe:
        raise CheckpointError(
            f'{path} is not loaded: it holds objects that may run code when loaded ({", ".join(unsafe[:SHOWN])}); '
            'only tensors and plain values are read. If you trust its author, save its state_dict alone with the '
            'training code'
        )
    state = content.get('state_dict', content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping):
        raise CheckpointError(f'{path}: expected a state dict, found {type(state).__name__}')
    for name, value in state.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise CheckpointError(f'{path}: expected names and tensors, found {type(value).__name__} at {name!r:.80}')
    left_out = () if state is content else tuple(str(key) for key in content if key != 'state_dict')
    return dict(state), left_out


def opus_sizes(shapes: Mapping[str, Sequence[int]], base: VLAConfig) -> dict[str, Any]:
    """What a checkpoint's shapes say about the configuration, as dotted keys for :func:`load_model_config`.

    Not determined by shapes, and therefore ``base``'s: the encoder's groups and offset scale, the image size and
    normalization, the time between frames. The backbone and the space are ``base``'s too. Where a name is missing
    ``base``'s size is assumed; comparing all names and shapes afterwards tells what is wrong.

    Args:
        shapes: of every tensor in the checkpoint, by its name there.
        base: configuration of the same kind of model.
    """
    encoder, groups = base.encoder, base.encoder.groups

    def size(name: str, axis: int, otherwise: int) -> int:
        shape = shapes.get(name, ())
        return shape[axis] if axis < len(shape) else otherwise

    def of_layer(name: str, axis: int, otherwise: int) -> int:
        return size(f'{LAYERS}0.{name}.weight', axis, otherwise)

    queries = size(f'{HEAD}init_points.weight', 0, encoder.queries)
    width = of_layer('position_encoder.3', 0, encoder.width)
    samples = of_layer('sampling.sampling_offset', 0, 3 * groups * encoder.sample_points) // 3  # groups x points
    mixing_points = of_layer('mixing.out_proj', 1, encoder.mixing_points * width) // max(width, 1)
    # mixing's parameters: per group a channel matrix, and a point matrix of mixing_points x (frames x points)
    channel = base.backbone.fpn_width * width // groups
    per_frame = mixing_points * samples
    generated = of_layer('mixing.parameter_generator', 0, channel + per_frame * base.image.frames)
    sizes = {
        'image.frames': (generated - channel) // max(per_frame, 1),
        'encoder.queries': queries,
        'encoder.width': width,
        'encoder.sample_points': samples // groups,
        'encoder.mixing_points': mixing_points,
        'encoder.attention_heads': of_layer('self_attn.gen_tau', 0, encoder.attention_heads),
        'encoder.ffn_width': of_layer('ffn.layers.0.0', 0, encoder.ffn_width),
    }
    layers = {name.removeprefix(LAYERS).split('.')[0] for name in shapes if name.startswith(LAYERS)}
    if layers:
        classes = len(base.space.classes)
        sizes['encoder.points_per_layer'] = [
            size(f'{name}.reg_branch.4.weight', 0, size(f'{name}.cls_branch.6.weight', 0, classes) // classes * 3) // 3
            for name in (f'{LAYERS}{layer}' for layer in range(len(layers)))
        ]
    if queries + base.language.global_tokens >= base.language.context_length:
        # OPUS-L does not fit Vicuna's context; its perception must load all the same. The room for text stays
        sizes['language.context_length'] = base.language.context_length + queries - encoder.queries
    return sizes


def _notes(base: VLAConfig, imported: VLAConfig) -> tuple[str, ...]:
    before, after = base.language.context_length, imported.language.context_length
    if before == after:
        return ()
    return (
        f'language.context_length {before} does not hold {imported.encoder.queries} queries, {after} is written: a '
        f'language model for {before} tokens cannot read these scenes',
    )


def _misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What keeps ``found`` from being used as ``expected``, empty if nothing; values count where expected has any."""
    problems: dict[str, list[str]] = {
        'missing': sorted(expected.keys() - found.keys()),
        'unexpected': sorted(found.keys() - expected.keys()),
        'of wrong shape': [],
        'of wrong type': [],
        'not finite': [],
        'of wrong value': [],
    }
    for name in sorted(expected.keys() & found.keys()):
        ours, theirs = expected[name], found[name]
        if ours.shape != theirs.shape:
            problems['of wrong shape'].append(f'{name} (expected {list(ours.shape)}, found {list(theirs.shape)})')
        elif ours.is_floating_point() != theirs.is_floating_point():
            problems['of wrong type'].append(f'{name} (expected {ours.dtype}, found {theirs.dtype})')
        elif not theirs.isfinite().all():
            problems['not finite'].append(name)
        elif not ours.is_meta and not torch.allclose(ours.double(), theirs.double(), rtol=0.0, atol=1e-4):
            problems['of wrong value'].append(f'{name} (expected {_numbers(ours)}, found {_numbers(theirs)})')
    return '; '.join(
        f'{len(names)} {what}: {", ".join(names[:SHOWN])}{", ..." if len(names) > SHOWN else ""}'
        for what, names in problems.items()
        if names
    )


def _space_buffers(space: SpaceConfig) -> dict[str, Tensor]:
    """Values that a checkpoint's head must hold, metres and voxels."""
    low, high = torch.tensor(space.range_m[:3]), torch.tensor(space.range_m[3:])
    values = (torch.cat([low, high]), high - low, torch.full((3,), space.voxel_m), torch.tensor(space.grid_shape))
    return dict(zip(SPACE_BUFFERS, values, strict=True))


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == 'cpu'


def _numbers(tensor: Tensor) -> list[float]:
    return [round(number, 4) for number in tensor.tolist()]

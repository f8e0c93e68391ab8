"""Put the parts of trained checkpoints into one folder, matrices in half the bytes.

    .venv/bin/python tools/pack_weights.py weights/tiny perception=out/train/tiny/stage3/checkpoint ...

Matrices and kernels are stored in float16 and run in the model's own number format; vectors (norms, biases,
statistics, whose range float16 does not have) stay as they are. What a rounded model does is what `sparseoccvla
eval` says of the folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from sparseoccvla_ros.model.checkpoint import CONFIG_FILE, MODEL_FILE, PARTS, save_checkpoint
from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner

BUILDERS = {'perception': build_perception, 'language': build_language, 'planner': build_planner}


def pack(out: Path, folders: dict[str, Path]) -> int:
    """Write the parts found in ``folders`` (part to checkpoint) to ``out``; the bytes of the weights.

    Raises:
        FileNotFoundError, CheckpointError: see ``load_checkpoint``; or the parts are of different models.
        ValueError: a weight is too large for float16.
    """
    # of the part whose checkpoint has to agree in most of it: settings that came later are its own
    last = max(folders, key=PARTS.index)
    config = load_model_config(folders[last] / CONFIG_FILE)
    parts: dict[str, nn.Module] = {}
    for name, folder in folders.items():
        part = BUILDERS[name](config, weights=folder)
        for tensor_name, parameter in part.named_parameters():
            if parameter.ndim < 2:
                continue
            rounded = parameter.detach().to(torch.float16)
            if not rounded.isfinite().all():
                raise ValueError(f'{name}.{tensor_name} has {parameter.abs().max():.4g}, float16 ends at 65504')
            parameter.data = rounded
        parts[name] = part
    save_checkpoint(out, parts, config)
    return (out / MODEL_FILE).stat().st_size


def part_folder(text: str) -> tuple[str, Path]:
    """Part and folder of ``perception=DIR``."""
    name, _, folder = text.partition('=')
    if name not in PARTS or not folder:
        raise argparse.ArgumentTypeError(f'{text!r}; PART=FOLDER expected, PART one of {", ".join(PARTS)}')
    return name, Path(folder)


def main() -> None:
    """Read the arguments, pack, say how large it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('out', type=Path)
    parser.add_argument('parts', type=part_folder, nargs='+', metavar='PART=CHECKPOINT')
    arguments = parser.parse_args()
    size = pack(arguments.out, dict(arguments.parts))
    print(f'{arguments.out / MODEL_FILE}: {size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()

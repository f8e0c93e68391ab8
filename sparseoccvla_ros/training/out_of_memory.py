"""Out of memory: how it shows, and what a user may change about it."""

from __future__ import annotations

import errno

import torch

from sparseoccvla_ros.training.recipe import Recipe

_OUT_OF_MEMORY = (
    'DefaultCPUAllocator',
    'not enough memory',
    'out of memory',
    'CUBLAS_STATUS_ALLOC_FAILED',
    'killed by signal: Killed',  # a worker that reads samples
)


def is_out_of_memory(error: BaseException) -> bool:
    """torch says it with an error of its own on a GPU, and with RuntimeError on a CPU; the system with an OSError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def what_to_try(recipe: Recipe) -> str:
    """The same samples a step in smaller batches; at one sample, what the stage is free to change."""
    optimization = recipe.optimization
    size = optimization.batch_size
    if size > 1:
        smaller = next(d for d in range(size - 1, 0, -1) if size % d == 0)
        accumulate = size // smaller * optimization.accumulate
        return (
            f'Try optimization.batch_size={smaller} optimization.accumulate={accumulate}: the same samples a step; '
            'a saved state goes on'
        )
    less = []
    if optimization.precision == 'fp32':
        less.append('optimization.precision=bf16')
    if 'answers' in recipe.terms and recipe.data.questions_per_keyframe > 1:
        less.append(f'data.questions_per_keyframe={recipe.data.questions_per_keyframe // 2}')
    if 'reading' in recipe.terms:
        less.append(f'losses.reading.sets={max(recipe.losses.reading.sets // 2, 1)}')
    if recipe.trains('perception'):
        less.append(
            'smaller images, fewer frames or fewer queries (overrides.image, overrides.encoder: from stage 1 on)'
        )
    tried = ', '.join(less) or 'fewer parts in train'
    return f'One sample does not fit. Try {tried}; or share the weights among GPUs (FSDP)'


def first_line(error: BaseException) -> str:
    """Of its message, or its name if it has none."""
    return str(error).partition('\n')[0] or type(error).__name__

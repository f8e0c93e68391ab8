"""The files of OmniDrive: one JSON per keyframe in ``conv``, ``vqa``, ``desc`` and ``keywords``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparseoccvla_ros.world.questions.pair import Pair

#: Perception goes to ``conv``, what comes next and what to do to ``vqa``; other kinds have files of their own.
VQA_KINDS = frozenset(('future', 'path', 'counterfactual', 'plan', 'attention', 'trajectory'))


def omnidrive_files(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Documents by path, such as ``conv/train/<sample_token>.json``.

    ``conv`` and ``vqa`` hold lists of {question, answer}; ``desc`` {description, action}, where the action is the plan
    with its reason, '' if none was selected; ``keywords`` a short driving action, one string. A keyframe without pairs
    for a file has no such file.
    """
    actions = {pair.sample_token: pair.answer for pair in pairs if pair.kind == 'plan'}
    files: dict[str, Any] = {}
    for pair in pairs:
        name = f'{pair.split}/{pair.sample_token}.json'
        if pair.kind == 'scene':
            files[f'desc/{name}'] = {
                'description': pair.answer,
                'action': actions.get(pair.sample_token, ''),
            }
        elif pair.kind == 'behaviour':
            files[f'keywords/{name}'] = pair.answer
        else:
            folder = 'vqa' if pair.kind in VQA_KINDS else 'conv'
            files.setdefault(f'{folder}/{name}', []).append({'question': pair.question, 'answer': pair.answer})
    return files

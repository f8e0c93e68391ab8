"""Reader of the synthetic world's questions, ``<folder>/<split>.jsonl``: a pair a line, with its kind.

The kinds are the world's own (``count``, ``distance``, ``locate``, ...; docs/world.md). The world also writes the same
pairs in OmniDrive's and DriveLM's forms, which have no place for them.
"""

from __future__ import annotations

import json
from pathlib import Path

from sparseoccvla_ros.data.qa.pairs import QAError, QAPair, QuestionSet, text_in

SOURCE = 'world'
FIELDS = ('sample_token', 'scene_token', 'kind', 'question', 'answer')
ALL = 'all'
SPLITS = ('train', 'val', ALL)


def load_world(root: Path, split: str) -> QuestionSet:
    """Pairs of a split, in the order of the file.

    Args:
        root: holds the files.
        split: 'train' or 'val', which differ in scenes and wordings; or 'all'.

    Raises:
        QAError: a file is missing, or a line is not of its form.
    """
    if split not in SPLITS:
        raise QAError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
    questions = QuestionSet()
    for part in SPLITS[:-1] if split == ALL else (split,):
        path = root / f'{part}.jsonl'
        try:
            lines = path.read_text(encoding='utf-8').splitlines()
        except OSError as error:
            raise QAError(f'cannot read {path}: {error.strerror}') from error
        for number, line in enumerate(lines, start=1):
            where = f'{path}, line {number}'
            try:
                row = json.loads(line)
            except ValueError as error:
                raise QAError(f'{where} is not valid JSON: {error}') from error
            questions.add(QAPair(*(text_in(row, name, where) for name in FIELDS), SOURCE))
    return questions

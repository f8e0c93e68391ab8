"""Reader of OmniDrive-nuScenes. Source: NVlabs/OmniDrive (arXiv 2405.01533), its ``data_nusc`` and dataset pipeline.

One JSON file per keyframe, ``<folder>/<split>/<sample_token>.json``:

=========  ============================================  =====================================================
folder     content                                       becomes
=========  ============================================  =====================================================
keywords   a text: the driving action in short           :data:`ACTION_QUESTION` and the text
desc       {description, action}                         :data:`DESCRIPTION_QUESTION` and the description
conv       [{question, answer}]                          as they are
vqa        [{question, answer}]: attention, action,      as they are
           two counterfactuals
=========  ============================================  =====================================================

A keyframe may lack any of the files. OmniDrive draws the question for a description from twelve wordings; here it is
always the first, so that results do not depend on a random state. Questions that it makes up at run time from boxes and
lanes, and the planning trajectory, are not in these files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparseoccvla_ros.data.qa.pairs import QAError, QAPair, QuestionSet, described, mapping_of, read_json, text_in

SOURCE = 'omnidrive'
#: In the order in which OmniDrive asks them in its test pipeline.
FOLDERS = ('keywords', 'desc', 'conv', 'vqa')
SPLITS = ('train', 'val')
ACTION_QUESTION = 'Please shortly describe your driving action.'
DESCRIPTION_QUESTION = 'What can you tell about the current driving conditions from the images?'


def load_omnidrive(root: Path, split: str) -> QuestionSet:
    """Pairs of a split, keyframe by keyframe (sorted by token), each in the order of :data:`FOLDERS`.

    Args:
        root: holds the folders.
        split: 'train' or 'val'.

    Raises:
        QAError: no folder has this split, or a file is not of its form.
    """
    if split not in SPLITS:
        raise QAError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
    present = [folder for folder in FOLDERS if (root / folder / split).is_dir()]
    if not present:
        wanted = ', '.join(f'{folder}/{split}' for folder in FOLDERS)
        raise QAError(f'expected at least one of the folders {wanted} in {root}')
    questions = QuestionSet()
    files = {folder: {path.stem: path for path in (root / folder / split).glob('*.json')} for folder in present}
    for token in sorted(set().union(*files.values())):
        for folder in present:
            if token in files[folder]:
                path = files[folder][token]
                for question, answer in _pairs(folder, read_json(path), str(path)):
                    questions.add(QAPair(token, '', folder, question, answer, SOURCE))
    for folder in FOLDERS:
        if folder not in present:
            questions.skipped[f'folder {folder}/{split} is not there'] += 1
    return questions


def _pairs(folder: str, document: Any, where: str) -> Iterator[tuple[str, str]]:
    if folder == 'keywords':
        if not isinstance(document, str):
            raise QAError(f'{where}: expected a text, found {described(document)}')
        yield ACTION_QUESTION, document
    elif folder == 'desc':
        yield DESCRIPTION_QUESTION, text_in(document, 'description', where, may_be_empty=True)
    else:
        if not isinstance(document, list):
            raise QAError(f'{where}: expected a list of questions, found {described(document)}')
        for number, entry in enumerate(document):
            place = f'{where}, entry {number}'
            question = text_in(mapping_of(entry, place), 'question', place)
            yield question, text_in(entry, 'answer', place, may_be_empty=True)

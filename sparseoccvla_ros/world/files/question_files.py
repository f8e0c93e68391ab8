"""The questions of a data set in the forms of OmniDrive and DriveLM, and its split by scenes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseoccvla_ros.world.files.facts_json import facts_from_json, facts_to_json
from sparseoccvla_ros.world.labels.facts import KeyframeFacts
from sparseoccvla_ros.world.questions.balance import select
from sparseoccvla_ros.world.questions.drivelm import drivelm_document
from sparseoccvla_ros.world.questions.generate import candidates, split_of
from sparseoccvla_ros.world.questions.omnidrive import omnidrive_files
from sparseoccvla_ros.world.questions.pair import Pair

SPLITS = ('train', 'val')


@dataclass(frozen=True)
class SceneQuestions:
    """What may be asked about a scene: facts of its keyframes in order of time, candidates for questions, and by sample
    token and camera the path of the image.
    """

    facts: tuple[KeyframeFacts, ...]
    pairs: tuple[Pair, ...]
    image_paths: dict[str, dict[str, str]]

    @staticmethod
    def of(
        facts: list[KeyframeFacts], image_paths: dict[str, dict[str, str]], scene_index: int, seed: int
    ) -> SceneQuestions:
        """With all candidates."""
        return SceneQuestions(tuple(facts), tuple(candidates(facts, scene_index, seed)), image_paths)

    def to_json(self) -> str:
        """Text that ``from_json`` reads."""
        document = {
            'facts': [facts_to_json(item) for item in self.facts],
            'pairs': [pair.to_json() for pair in self.pairs],
            'image_paths': self.image_paths,
        }
        return json.dumps(document)

    @staticmethod
    def from_json(text: str) -> SceneQuestions:
        """The inverse of ``to_json``."""
        document = json.loads(text)
        return SceneQuestions(
            tuple(facts_from_json(item) for item in document['facts']), _pairs(document), document['image_paths']
        )


def write_questions(root: Path, scenes: int, seed: int, per_keyframe: int, read: Callable[[int], str]) -> int:
    """Choose questions among those of all scenes and write them below ``root``; returns their number.

    Args:
        root: folder of the data set: gets ``questions/omnidrive/<kind of file>/<split>/<sample token>.json``,
            ``questions/drivelm/<split>.json``, and ``questions/pairs/<split>.jsonl`` with what those forms have no
            place for (kind, template, wording, key), a pair a line.
        scenes: their number.
        seed: of the data set.
        per_keyframe: most of them about one keyframe.
        read: gives the text of ``SceneQuestions.to_json`` of scene ``index``; called twice for each, in order.
    """
    chosen: dict[int, list[Pair]] = {index: [] for index in range(scenes)}
    for pair in select((_pairs(json.loads(read(index))) for index in range(scenes)), seed, per_keyframe):
        chosen[pair.scene_index].append(pair)
    omnidrive, drivelm = root / 'questions' / 'omnidrive', root / 'questions' / 'drivelm'
    lines = root / 'questions' / 'pairs'
    for folder in (drivelm, lines):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        documents = {split: stack.enter_context((drivelm / f'{split}.json').open('w')) for split in SPLITS}
        plain = {split: stack.enter_context((lines / f'{split}.jsonl').open('w')) for split in SPLITS}
        separators = dict.fromkeys(SPLITS, '{\n')
        for index, pairs in chosen.items():
            split, questions = split_of(index), SceneQuestions.from_json(read(index))
            plain[split].writelines(json.dumps(pair.to_json()) + '\n' for pair in pairs)
            for name, document in omnidrive_files(pairs).items():
                _write(omnidrive / name, document)
            for token, document in drivelm_document(pairs, questions.facts, questions.image_paths).items():
                documents[split].write(f'{separators[split]}{json.dumps(token)}: {json.dumps(document)}')
                separators[split] = ',\n'
        for split, file in documents.items():
            file.write('{}\n' if separators[split] == '{\n' else '\n}\n')
    return sum(len(pairs) for pairs in chosen.values())


def write_splits(root: Path, scene_names: Iterable[str]) -> None:
    """Write ``splits.json``: names of the scenes to learn from (``train``) and of those to be judged on (``val``)."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for index, name in enumerate(scene_names):
        splits[split_of(index)].append(name)
    _write(root / 'splits.json', splits)


def _pairs(document: dict[str, Any]) -> tuple[Pair, ...]:
    return tuple(Pair.from_json(item) for item in document['pairs'])


def _write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))

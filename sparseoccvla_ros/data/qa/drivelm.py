"""Reader of DriveLM's question files. Source: OpenDriveLab/DriveLM (arXiv 2312.14150), forms v1_1_train and challenge.

``{scene_token: {scene_description, key_frames: {sample_token: {key_object_infos, QA, image_paths}}}}``, where QA has
lists of {Q, A, C, con_up, con_down, cluster, layer, tag} under four stages. The challenge's files have no
``key_object_infos`` and no ``scene_description``, those for training no ``tag``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sparseoccvla_ros.data.qa.pairs import (
    QAError,
    QAPair,
    QuestionSet,
    described,
    mapping_in,
    mapping_of,
    read_json,
    text_in,
)

SOURCE = 'drivelm'
STAGES = ('perception', 'prediction', 'planning', 'behavior')
TAGS = frozenset((0, 1, 2, 3))
_OBJECT = re.compile(r'<(?P<name>c\d+),(?P<camera>CAM_[A-Z_]+),(?P<x>-?\d+(\.\d+)?),(?P<y>-?\d+(\.\d+)?)>')


@dataclass(frozen=True)
class ObjectReference:
    """What ``<c1,CAM_FRONT,714.3,503.6>`` says: number, camera, and a point in pixels of the 1600x900 image."""

    name: str
    camera: str
    x_px: float
    y_px: float


@dataclass(frozen=True)
class KeyObject:
    """An object that matters for driving. ``tag`` is its reference as text; ``status`` is None for what cannot move;
    ``box_px`` is x0, y0, x1, y1.
    """

    tag: str
    reference: ObjectReference
    category: str
    status: str | None
    description: str
    box_px: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class DriveLMFrame:
    """A keyframe. ``image_paths`` are by camera, as in the file (``../nuscenes/samples/...``): :func:`image_file`."""

    sample_token: str
    scene_token: str
    key_objects: tuple[KeyObject, ...]
    image_paths: Mapping[str, str]


@dataclass
class DriveLMSet(QuestionSet):
    """Pairs, keyframes by sample token, and descriptions of scenes by scene token ('' where the file has none)."""

    frames: dict[str, DriveLMFrame] = field(default_factory=dict)
    scene_descriptions: dict[str, str] = field(default_factory=dict)


def load_drivelm(path: Path) -> DriveLMSet:
    """All pairs of a file, scene by scene, keyframe by keyframe, stage by stage.

    Raises:
        QAError: the file is not of this form.
    """
    questions = DriveLMSet()
    for scene_token, scene in mapping_of(read_json(path), str(path)).items():
        where = f'{path}, scene {scene_token}'
        description = mapping_of(scene, where).get('scene_description') or ''
        if not isinstance(description, str):
            raise QAError(f"{where}: expected a text 'scene_description', found {described(description)}")
        questions.scene_descriptions[scene_token] = description
        for sample_token, frame in mapping_in(scene, 'key_frames', where).items():
            where = f'{path}, key frame {sample_token}'
            if sample_token in questions.frames:
                raise QAError(f'{where} is there twice')
            questions.frames[sample_token] = _frame(frame, sample_token, scene_token, where)
            _add_pairs(questions, mapping_in(frame, 'QA', where), sample_token, scene_token, where)
    return questions


def object_references(text: str) -> list[ObjectReference]:
    """All object references in a question or answer, in order."""
    return [
        ObjectReference(found['name'], found['camera'], float(found['x']), float(found['y']))
        for found in _OBJECT.finditer(text)
    ]


def image_file(frame: DriveLMFrame, camera: str, dataroot: Path) -> Path:
    """The image of a keyframe in a nuScenes folder: what follows ``samples/`` in the file's own path.

    Raises:
        QAError: the keyframe has no such camera, or its path does not lead to an image under ``samples/``.
    """
    if camera not in frame.image_paths:
        raise QAError(
            f'key frame {frame.sample_token}: expected an image of {camera}, found {", ".join(frame.image_paths)}'
        )
    parts = PurePosixPath(frame.image_paths[camera]).parts
    inside = parts[parts.index('samples') :] if 'samples' in parts else ()
    if len(inside) < 2 or '..' in inside:
        raise QAError(
            f'key frame {frame.sample_token}: expected a path with samples/, found {frame.image_paths[camera]!r}'
        )
    return dataroot.joinpath(*inside)


def load_image_index(path: Path) -> dict[str, dict[str, Path]]:
    """Images by sample token and camera, from ``{sample_token: {camera: path relative to the index}}``.

    Raises:
        QAError: the file is not of this form, or an image is not there.
    """
    index: dict[str, dict[str, Path]] = {}
    for token, cameras in mapping_of(read_json(path), str(path)).items():
        index[token] = {}
        for camera in mapping_of(cameras, f'{path}, key frame {token}'):
            relative = PurePosixPath(text_in(cameras, camera, f'{path}, key frame {token}'))
            file = path.parent / relative
            if relative.is_absolute() or '..' in relative.parts or not file.is_file():
                raise QAError(f'{path}, key frame {token}: expected an image below {path.parent}, found {relative}')
            index[token][camera] = file
    return index


def _frame(frame: Any, sample_token: str, scene_token: str, where: str) -> DriveLMFrame:
    infos = mapping_in(frame, 'key_object_infos', where) if 'key_object_infos' in mapping_of(frame, where) else {}
    paths = mapping_in(frame, 'image_paths', where) if 'image_paths' in frame else {}
    return DriveLMFrame(
        sample_token,
        scene_token,
        tuple(_key_object(tag, info, where) for tag, info in infos.items()),
        {camera: text_in(paths, camera, where) for camera in paths},
    )


def _key_object(tag: str, info: Any, where: str) -> KeyObject:
    where = f'{where}, key object {tag}'
    if not _OBJECT.fullmatch(tag):
        raise QAError(f'{where}: expected a name like <c1,CAM_FRONT,714.3,503.6>')
    status = mapping_of(info, where).get('Status')
    if status is not None and not isinstance(status, str):
        raise QAError(f"{where}: expected a text or null 'Status', found {described(status)}")
    return KeyObject(
        tag,
        object_references(tag)[0],
        text_in(info, 'Category', where),
        status,
        text_in(info, 'Visual_description', where),
        _box_px(info.get('2d_bbox'), where),
    )


def _box_px(box: Any, where: str) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    numbers = isinstance(box, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box)
    if not numbers or len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise QAError(f"{where}: expected four numbers '2d_bbox', found {described(box)}")
    x0, y0, x1, y1 = map(float, box)
    return x0, y0, x1, y1


def _add_pairs(
    questions: DriveLMSet, stages: Mapping[str, Any], sample_token: str, scene_token: str, where: str
) -> None:
    unknown = sorted(set(stages) - set(STAGES))
    if unknown:
        raise QAError(f'{where}: expected stages {", ".join(STAGES)}, found {", ".join(unknown)}')
    for stage in STAGES:
        entries = stages.get(stage, [])
        if not isinstance(entries, list):
            raise QAError(f'{where}: expected a list {stage!r}, found {described(entries)}')
        for number, entry in enumerate(entries):
            place = f'{where}, {stage} {number}'
            # files with questions alone (the challenge's test set) have no A, or an empty one
            answer = text_in({'A': '', **mapping_of(entry, place)}, 'A', place, may_be_empty=True)
            questions.add(
                QAPair(
                    sample_token=sample_token,
                    scene_token=scene_token,
                    kind=stage,
                    question=text_in(entry, 'Q', place),
                    answer=answer,
                    source=SOURCE,
                    tags=_tags(entry.get('tag'), place),
                )
            )


def _tags(tags: Any, where: str) -> tuple[int, ...]:
    if tags is None:
        return ()
    if not isinstance(tags, list) or not all(type(tag) is int and tag in TAGS for tag in tags):
        raise QAError(f"{where}: expected a list of 0 to 3 as 'tag', found {described(tags)}")
    return tuple(tags)

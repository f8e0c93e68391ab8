"""The record that all question-answer sets are read into, and how their files are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class QAError(ValueError):
    """A file of questions is missing or not of its form: names the file, the token and what was expected."""


@dataclass(frozen=True)
class QAPair:
    """A question about a keyframe, and its reference answer.

    ``sample_token`` and ``scene_token`` are nuScenes' ('' where the file does not name the scene); ``kind`` is the
    set's own word for the type of question; ``source`` names the set; ``tags`` are DriveLM's: how it is scored.
    """

    sample_token: str
    scene_token: str
    kind: str
    question: str
    answer: str
    source: str
    tags: tuple[int, ...] = ()


@dataclass
class QuestionSet:
    """Pairs in the order of the files, and how many entries were left out for which reason."""

    pairs: list[QAPair] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, pair: QAPair) -> None:
        """Keep a pair, unless its answer is empty: it could not be scored, and is counted as left out."""
        if pair.answer.strip():
            self.pairs.append(pair)
        else:
            self.skipped['no answer in the file'] += 1

    def restrict(self, sample_tokens: Collection[str]) -> None:
        """Leave out, and count, the pairs of all other keyframes."""
        inside = [pair for pair in self.pairs if pair.sample_token in sample_tokens]
        if len(inside) < len(self.pairs):
            self.skipped['keyframe not asked for'] += len(self.pairs) - len(inside)
        self.pairs = inside

    def kinds(self) -> Counter[str]:
        """Number of pairs of each kind."""
        return Counter(pair.kind for pair in self.pairs)


def read_json(path: Path) -> Any:
    """The document in a file.

    Raises:
        QAError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise QAError(f'cannot read {path}: {error.strerror}') from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise QAError(f'{path} is not valid JSON: {error}') from error


def mapping_in(document: Any, key: str, where: str) -> Mapping[str, Any]:
    """The object under a key of an object.

    Raises:
        QAError: there is none; ``where`` (file and token) is part of the message.
    """
    value = mapping_of(document, where).get(key)
    if not isinstance(value, dict):
        raise QAError(f'{where}: expected an object {key!r}, found {described(value)}')
    return value


def mapping_of(document: Any, where: str) -> Mapping[str, Any]:
    """The document, if it is an object.

    Raises:
        QAError: it is something else.
    """
    if not isinstance(document, dict):
        raise QAError(f'{where}: expected an object, found {described(document)}')
    return document


def text_in(document: Any, key: str, where: str, *, may_be_empty: bool = False) -> str:
    """The text under a key of an object.

    Raises:
        QAError: there is none, or it is blank.
    """
    value = mapping_of(document, where).get(key)
    if not isinstance(value, str) or not (may_be_empty or value.strip()):
        raise QAError(f'{where}: expected a text {key!r}, found {described(value)}')
    return value


def described(value: Any) -> str:
    """A value in an error message, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f'{text[:57]}...'
